"""Regions of a test: what is measured of them, in which order backends are asked, and what a record says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pytest_flopguard import builtin
from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.scripted import ScriptedFlops, ScriptedMemory, ScriptedTracer
from pytest_flopguard.backends.select import Backends
from pytest_flopguard.budgets.settings import load_settings
from pytest_flopguard.core.errors import FlopguardError
from pytest_flopguard.core.expectation import Expectation, Origin
from pytest_flopguard.core.measurement import FlopTally, MemoryPeak, OpCount, ParameterCount, UnknownOp
from pytest_flopguard.formulas.registry import Registry, default_registry
from pytest_flopguard.session import Region, Session

NODE = "tests/test_model.py::test_forward"
ORIGIN = Origin(path="tests/test_model.py", line=3)
PARAMETERS = ParameterCount(count=3, bytes=12)
CPU = MemoryPeak(device="cpu", backend="scripted", start_bytes=10, peak_bytes=100)
GPU = MemoryPeak(device="cuda:sm90", backend="scripted", start_bytes=10, peak_bytes=1000)
UNKNOWN = UnknownOp(op="mylib.fused", call="mylib.fused()", module="", phase="forward", calls=1, reason="no formula")
Make = Callable[..., Session]


def tally(flops: int, *unknown: UnknownOp, engine: str = "counting") -> FlopTally:
    count = OpCount(op="aten.mm", module="", phase="forward", kind="counted", calls=1, flops=flops)
    return FlopTally(counts=(count,), engine=engine, unknown_ops=unknown)


def limit(high: int, quantity: Any = "flops") -> Expectation:
    return Expectation(quantity=quantity, high=high, origin=ORIGIN)


@pytest.fixture
def session(tmp_path: Path) -> Make:
    """Build a session whose backends replay what they are given."""

    def session(
        flops: Any = None,
        *memories: Any,
        checks: tuple[ScriptedTracer, ...] = (),
        pyproject: str = "",
    ) -> Session:
        (tmp_path / "pyproject.toml").write_text(f"[tool.flopguard]\n{pyproject}")
        backends = Backends()
        names = []
        for each in checks:
            backends.engine(each.name, lambda costs, each=each: each)
            names.append(each.name)
        backends.engine("dispatch", lambda costs: ScriptedFlops([tally(1)] * 9) if flops is None else flops)
        for number, memory in enumerate(memories):
            backends.memory(f"memory{number}", lambda costs, engine, memory=memory: memory)
        settings = load_settings(tmp_path, {"cross-check": names} if names else {})
        return Session(settings, Registry(), backends)

    return session


def test_the_numbers_of_a_region_can_be_read_after_it(session: Make) -> None:
    made = session(ScriptedFlops([tally(7)], [PARAMETERS]), ScriptedMemory([(CPU,)]), ScriptedMemory([(GPU,)]))
    with made.measure(NODE, "forward") as region, pytest.raises(FlopguardError, match="'forward' has not ended"):
        _ = region.flops
    assert region.flops.total == 7
    # The largest first.
    assert region.memory == (GPU, CPU)
    assert region.parameters == PARAMETERS
    assert (region.measurement.label, region.measurement.unavailable) == ("forward", {})
    assert region.output is None


def test_backends_are_entered_once_and_left_in_reverse(session: Make) -> None:
    flops, memory = ScriptedFlops([tally(1), tally(2), tally(3)]), ScriptedMemory([(CPU,)] * 3)
    memory.events = flops.events
    made = session(flops, memory)
    with made.measure(NODE) as outer, made.measure(NODE, "inner") as inner:
        pass
    assert (outer.flops.total, inner.flops.total) == (1, 2)
    # The FLOP backend goes in first; each asked twice.
    assert flops.events == [
        *("enter", "enter"),
        *("begin 0", "begin 0", "begin 1", "begin 1"),
        *("end 1", "end 1", "end 0", "end 0"),
        *("exit", "exit"),
    ]
    flops.events.clear()
    with made.measure(NODE):
        pass
    assert flops.events == ["enter", "enter", "begin 2", "begin 2", "end 2", "end 2", "exit", "exit"]


def test_an_exception_ends_regions_with_what_was_seen(session: Make) -> None:
    flops = ScriptedFlops([tally(1), tally(2), tally(3)])
    made = session(flops)
    regions: list[Region] = []

    def program() -> None:
        with made.measure(NODE) as outer:
            regions.append(outer)
            with made.measure(NODE, "inner") as inner:
                regions.append(inner)
                raise KeyError("the user's own")

    with pytest.raises(KeyError, match="the user's own"):
        program()
    assert [each.flops.total for each in regions] == [1, 2]
    assert flops.events[-1] == "exit"
    with made.measure(NODE) as again:
        pass
    assert again.flops.total == 3


def test_a_backend_that_cannot_be_entered_leaves_the_others(session: Make) -> None:
    class Failing(ScriptedMemory):
        def __enter__(self) -> object:
            raise OSError("no device")

    flops = ScriptedFlops([tally(1)])
    made = session(flops, Failing([]))
    for _ in range(2):
        with pytest.raises(OSError, match="no device"), made.measure(NODE):
            pass
    assert flops.events == ["enter", "exit", "enter", "exit"]


def test_a_memory_that_was_not_measured_has_its_reason(session: Make) -> None:
    made = session(None, ScriptedMemory([Unavailable(name="live", reason="sparse tensors")]), ScriptedMemory([(GPU,)]))
    with made.measure(NODE) as region:
        pass
    assert region.memory == (GPU,)
    assert region.measurement.unavailable == {"memory": "sparse tensors"}


def test_an_engine_that_cannot_be_used_has_its_reason(session: Make) -> None:
    made = session(Unavailable(name="dispatch", reason="no torch here"), ScriptedMemory([(CPU,)]))
    with made.measure(NODE, "forward", [limit(5), limit(5, "parameters")]) as region:
        pass
    with pytest.raises(FlopguardError, match="no FLOPs for 'forward': no torch here"):
        _ = region.flops
    assert (region.memory, region.parameters) == ((CPU,), None)
    assert [(each.status, each.reason) for each in region.record().findings] == [("undecided", "no torch here")] * 2


def test_a_record_holds_every_expectation_against_the_region(session: Make) -> None:
    made = session(ScriptedFlops([tally(7)], [PARAMETERS]), ScriptedMemory([(CPU,)]))
    limits = [limit(7), limit(6), limit(100, "peak_memory"), limit(2, "parameters")]
    with made.measure(NODE, "forward", limits) as region:
        pass
    record = region.record()
    assert (record.nodeid, record.measurement) == (NODE, region.measurement)
    found = {(each.expectation.quantity, each.expectation.high): each.code for each in record.findings}
    assert found == {
        ("flops", 7): "within-budget",
        ("flops", 6): "over-budget",
        ("peak_memory", 100): "within-budget",
        ("parameters", 2): "over-budget",
    }
    assert record.outcome == "failed"


@pytest.mark.parametrize(
    ("written", "severity", "outcome"), [("error", "error", "failed"), ("warn", "warn", "undecided")]
)
def test_unknown_ops_are_as_bad_as_the_setting_says(session: Make, written: str, severity: str, outcome: str) -> None:
    made = session(ScriptedFlops([tally(7, UNKNOWN), tally(7)]), pyproject=f'unknown-ops = "{written}"')
    expectation = made.no_unknown_ops()
    assert (expectation.severity, expectation.high, str(expectation.origin)) == (severity, 0, "pyproject.toml:2")
    regions = []
    for _ in range(2):
        with made.measure(NODE, "", [expectation]) as region:
            regions.append(region)
    assert [each.record().outcome for each in regions] == [outcome, "passed"]


# check


def test_a_check_calls_the_model_once_and_asks_each_tracer(session: Make) -> None:
    flops, tracer = ScriptedFlops([tally(7)]), ScriptedTracer([tally(7)], "fvcore")
    made = session(flops, checks=(tracer,))
    called = []

    def model(x: int, *, y: int) -> int:
        called.append((x, y))
        return x + y

    region = made.check(NODE, model, (1,), {"y": 2}, "forward", [limit(7)])
    assert (called, region.output, region.flops.total) == ([(1, 2)], 3, 7)
    assert tracer.traced == [(model, (1,), {"y": 2})]
    # The tracer runs the model itself: that goes by unseen.
    assert flops.events == ["enter", "begin 0", "end 0", "exit", "pause", "resume"]
    assert region.measurement.other_tallies == (tally(7),)
    codes = [(each.code, each.expectation.source) for each in region.record().findings]
    assert codes == [("within-budget", "budget"), ("within-budget", "cross-check")]


@pytest.mark.parametrize(
    ("opinion", "code", "status", "reason"),
    [
        (tally(8, engine="fvcore"), "cross-check", "broken", ""),
        (tally(6, engine="fvcore"), "cross-check", "broken", ""),
        (tally(7, UNKNOWN, engine="fvcore"), "not-measured", "undecided", "fvcore has no formula for mylib.fused"),
        (Unavailable(name="fvcore", reason="cannot be traced"), "not-measured", "undecided", "cannot be traced"),
    ],
)
def test_a_second_opinion_that_differs_or_is_silent_fails(
    session: Make, opinion: Any, code: str, status: str, reason: str
) -> None:
    made = session(ScriptedFlops([tally(7)]), checks=(ScriptedTracer([opinion], "fvcore"),))
    region = made.check(NODE, lambda: None, (), {}, "forward")
    (finding,) = region.record().findings
    assert (finding.code, finding.status, finding.reason) == (code, status, reason)
    assert (finding.expectation.source, finding.expectation.origin.text) == ("cross-check", "fvcore")
    assert region.record().outcome == "failed"


def test_a_tracer_as_the_engine_counts_checks_only(session: Make) -> None:
    tracer = ScriptedTracer([tally(7, UNKNOWN), Unavailable(name="dispatch", reason="cannot be traced")])
    made = session(tracer)
    assert not made.counts_regions
    region = made.check(NODE, lambda: 5, (), {}, "forward")
    assert (region.flops.at_least, region.output) == (7, 5)
    assert "flops" not in region.measurement.unavailable
    assert "does not see which models ran" in region.measurement.unavailable["parameters"]
    # No other region can tell that an op was unknown.
    assert [each.expectation.quantity for each in region.record().findings] == ["unknown_ops"]
    refused = made.check(NODE, lambda: 5, (), {}, "forward")
    with pytest.raises(FlopguardError, match="cannot be traced"):
        _ = refused.flops
    with made.measure(NODE) as outside:
        pass
    with pytest.raises(FlopguardError, match="counts only the forward call of"):
        _ = outside.flops
    assert session().counts_regions


# The real backends


@pytest.fixture
def real(tmp_path: Path) -> Make:
    """Build a session with the package's own backends."""

    def real(**options: Any) -> Session:
        backends = Backends()
        builtin.pytest_flopguard_backends(backends)
        return Session(load_settings(tmp_path, options), default_registry(), backends)

    return real


def test_a_training_step_region_by_region(real: Make) -> None:
    made = real()
    model = nn.Linear(8, 16)
    with made.measure(NODE) as whole:
        with made.measure(NODE, "forward") as forward:
            loss = model(torch.ones(4, 8, requires_grad=True)).sum()
        with made.measure(NODE, "backward") as backward:
            loss.backward()
    # [4, 8] @ [8, 16]: 2*4*8*16, and two gradients as large.
    assert (forward.flops.total, backward.flops.total, whole.flops.total) == (1024, 2048, 3072)
    assert (backward.flops.forward, backward.flops.backward) == (0, 2048)
    # 128 weights and 16 biases.
    assert forward.parameters == whole.parameters == ParameterCount(count=144, bytes=576)
    assert backward.parameters is None
    (peak,) = whole.memory
    assert peak.device == "cpu"
    # The model was there before.
    assert peak.start_bytes == 576


def test_two_engines_agree_on_a_model(real: Make) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 5))
    region = real(**{"cross-check": ["fvcore"]}).check(NODE, model, (torch.ones(2, 3, 6, 6),), {}, "forward")
    # 4*3*3*3 weights at 2*4*4 places, and [2, 64] @ [64, 5].
    assert region.flops.total == 2 * 108 * 32 + 2 * 2 * 64 * 5
    assert [each.status for each in region.record().findings] == ["met"]
    assert region.output.shape == (2, 5)


def test_fvcore_alone_counts_a_check_and_memory_is_measured_beside_it(real: Make) -> None:
    model = nn.Linear(8, 16)
    made = real(engine="fvcore")
    region = made.check(NODE, model, (torch.ones(4, 8),), {}, "forward")
    assert region.flops.total == 1024
    assert region.flops.engine == "fvcore"
    (peak,) = region.memory
    # Weights and biases, input and output.
    assert peak.peak_bytes == 576 + 128 + 256
