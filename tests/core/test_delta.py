"""What differs from a baseline: by module, folded, the sums kept; and two sets of baselines side by side."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.baseline import Baseline, MemoryBaseline, OpWork, baseline_of, op_work
from pytest_flopguard.core.comparison import Verdict, compare
from pytest_flopguard.core.delta import delta_between, delta_of, spread
from pytest_flopguard.core.folding import fold, unfold
from pytest_flopguard.core.measurement import PHASES, FlopTally, Measurement, OpCount, ParameterCount, Phase
from pytest_flopguard.core.workload import Workload, WorkloadCall, config_changes, input_changes, workload_of

PART = st.sampled_from(["h", "mlp", "mlp#2", "0", "1", "2", "10", "03"])
PATHS = st.lists(PART, min_size=1, max_size=4).map(".".join)


def mm(calls: int, masked: int = 0, **flops: int) -> dict[str, OpWork]:
    return {"aten.mm": OpWork(calls=calls, flops=flops, masked=masked)}  # type: ignore[arg-type]


@st.composite
def measurements(draw: st.DrawFn) -> Measurement:
    row = st.builds(
        OpCount,
        op=st.sampled_from(["aten.mm", "aten.bmm"]),
        module=PATHS,
        phase=st.sampled_from(PHASES),
        kind=st.just("counted"),
        calls=st.integers(1, 3),
        flops=st.integers(0, 9),
    )
    return Measurement(flops=FlopTally(counts=tuple(draw(st.lists(row, max_size=12))), engine="dispatch"))


@given(st.dictionaries(PATHS, st.integers(0, 2)))
def test_unfolding_gives_back_what_was_folded(values: dict[str, int]) -> None:
    for path, members, _ in fold(values):
        assert sorted(unfold(path)) == sorted(members)


@pytest.mark.parametrize("path", ["", "h.0.mlp", "h.03", "3-1", "0-99999999999", "a-b", "h.1-", "h.,2"])
def test_a_path_that_nobody_folded_stays(path: str) -> None:
    assert unfold(path) == [path]


@given(measurements())
def test_a_measurement_does_not_differ_from_its_own_baseline(seen: Measurement) -> None:
    kept = baseline_of(seen, "2.13.0")
    assert spread(kept.modules) == op_work(seen)
    found = delta_of(kept, seen)
    assert (found.modules, found.phases, dict(found.added), dict(found.gone)) == ((), {}, {}, {})


@given(measurements(), measurements())
def test_differences_sum_to_the_difference(before: Measurement, now: Measurement) -> None:
    found = delta_of(baseline_of(before, "2.13.0"), now)
    assert before.flops is not None
    assert now.flops is not None
    assert sum(each.flops for each in found.modules) == now.flops.at_least - before.flops.at_least
    for phase in PHASES:
        assert found.phases.get(phase, 0) == now.flops.at_least_in(phase) - before.flops.at_least_in(phase)
    sizes = [abs(each.flops) for each in found.modules]
    assert sizes == sorted(sizes, reverse=True)


def test_alike_layers_stand_in_one_row_also_where_they_differ_elsewhere() -> None:
    # Only layer 1 has a backward; what changed is the forward of both.
    before = {"h.0": mm(1, forward=10), "h.1": mm(2, forward=10, backward=7)}
    now = {"h.0": mm(1, forward=15), "h.1": mm(2, forward=15, backward=7)}
    [found] = delta_between(before, now).modules
    assert (found.path, found.modules, found.flops, found.phases) == ("h.0-1", 2, 10, {"forward": 10})
    [op] = found.ops
    assert (op.before.calls, op.now.calls, op.before.flops) == (3, 3, {"forward": 20})


def test_what_came_or_went_as_a_whole_is_named_by_its_outermost_path() -> None:
    before = {"net.h.0.mlp": mm(1, forward=10), "net.old": mm(1, forward=3)}
    now = {
        "net.h.0.mlp": mm(1, forward=10),
        "net.h.1.mlp": mm(1, forward=10),
        "net.h.1.attn.q": mm(1, forward=2),
        "net.h.2.mlp": mm(1, forward=10),
        "net.h.2.attn.q": mm(1, forward=2),
    }
    found = delta_between(before, now)
    assert dict(found.added) == {"net.h.1-2": 24}
    assert dict(found.gone) == {"net.old": 3}


def test_numbers_that_do_not_divide_were_never_folded() -> None:
    # A module may be called "0-1" by its writer; two layers of 5 FLOPs together there are not.
    assert list(spread({"h.0-1": mm(2, forward=5)})) == ["h.0-1"]
    assert spread({"h.0-1": mm(2, forward=6)}) == {"h.0": mm(1, forward=3), "h.1": mm(1, forward=3)}


def call(inputs: str, model: str = "Net", **config: int) -> WorkloadCall:
    return WorkloadCall(model=model, inputs=inputs, config=config)


def test_workloads_tell_how_they_differ() -> None:
    one = workload_of([call("a", layers=2), call("a", layers=2), call("b")])
    assert [each.inputs for each in one.calls] == ["a", "b"]
    assert input_changes(one, one) == config_changes(one, one) == []
    other = workload_of([call("a", layers=3), call("c")])
    assert input_changes(one, other) == ["inputs of Net: b before, c now"]
    assert config_changes(one, other) == ["config layers: 2 before, 3 now"]
    assert input_changes(one, workload_of([call("a", layers=2)])) == ["no longer called: Net(b)"]
    assert input_changes(workload_of([call("a")]), workload_of([call("a"), call("b")])) == ["called besides: Net(b)"]
    listed = replace(call("a"), config={"depths": (2, 2)})
    deeper = replace(call("a"), config={"depths": (2, 3)})
    assert config_changes(Workload(calls=(listed,)), Workload(calls=(deeper,))) == [
        "config depths: [2, 2] before, [2, 3] now"
    ]


def test_a_loop_of_many_shapes_is_kept_short_and_told_apart() -> None:
    long = workload_of(call(f"float32[{n}]") for n in range(1000))
    assert (len(long.calls), long.rest.partition(" more ")[0]) == (8, "992")
    other = workload_of(call(f"float32[{n}]") for n in (*range(999), 7777))
    [told] = input_changes(long, other)
    assert told.startswith("later calls: 992 more ")


BASE = Baseline(
    flops={"forward": 100},
    parameters=ParameterCount(count=10, bytes=40),
    memory={"cpu": MemoryBaseline(start=0, peak=1000, torch="2.13")},
    workload=workload_of([call("float32[1]")]),
    modules={"Net": mm(1, forward=100)},
)


def flops(number: int, phase: Phase = "forward") -> Baseline:
    return replace(BASE, flops={phase: number}, modules={"Net": mm(1, **{phase: number})})


def cuda(growth: int) -> Baseline:
    return replace(BASE, memory={"cuda:sm90": MemoryBaseline(start=5, peak=5 + growth, torch="2.13")})


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (BASE, BASE, "same"),
        (BASE, flops(101), "regression"),
        (BASE, flops(99), "improvement"),
        (BASE, replace(BASE, parameters=ParameterCount(count=11, bytes=40)), "regression"),
        # Dearer in one number is dearer.
        (BASE, replace(flops(99), parameters=ParameterCount(count=11, bytes=40)), "regression"),
        (BASE, replace(BASE, workload=workload_of([call("float32[2]")])), "changed"),
        (BASE, replace(BASE, attention="causal"), "changed"),
        (BASE, replace(BASE, parameters=None), "undecided"),
        (replace(BASE, flops=None, modules={}), BASE, "undecided"),
        (cuda(1000), cuda(1020), "same"),
        (cuda(1000), cuda(1021), "regression"),
        (BASE, cuda(1000), "same"),
        (None, BASE, "new"),
        (BASE, None, "gone"),
    ],
)
def test_two_baselines_of_a_test(before: Baseline | None, now: Baseline | None, verdict: Verdict) -> None:
    place = ("tests/test_a.py::test_a", "")
    [found] = compare(
        {} if before is None else {place: before},
        {} if now is None else {place: now},
    )
    assert found.verdict == verdict
    assert found.fails == (verdict in ("regression", "changed", "undecided"))


def test_memory_of_another_environment_is_told_and_not_compared() -> None:
    def predicted(peak: int, torch: str = "2.13", allocator: str = "") -> Baseline:
        memory = MemoryBaseline(start=0, peak=peak, torch=torch, allocator=allocator)
        return replace(BASE, memory={"sim:h100": memory})

    place = ("tests/test_a.py::test_a", "")
    [found] = compare({place: predicted(1000)}, {place: predicted(1001)})
    assert (found.verdict, found.reasons) == ("regression", ())
    [found] = compare({place: predicted(1000)}, {place: predicted(1001, "2.14", "expandable_segments:True")})
    assert (found.verdict, found.numbers) == ("same", ())
    assert found.reasons == (
        "memory of sim:h100: torch 2.13 before, 2.14 now",
        "memory of sim:h100: allocator settings defaults before, expandable_segments:True now",
    )


def test_the_worst_comes_first() -> None:
    before = {(name, ""): BASE for name in "abcd"}
    now = {("a", ""): BASE, ("b", ""): flops(99), ("c", ""): flops(101), ("e", ""): BASE}
    assert [(each.nodeid, each.verdict) for each in compare(before, now)] == [
        ("c", "regression"),
        ("b", "improvement"),
        ("e", "new"),
        ("d", "gone"),
        ("a", "same"),
    ]
