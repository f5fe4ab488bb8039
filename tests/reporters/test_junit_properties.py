"""Properties of a test: exact integers as texts, and no number where an op is unknown."""

from __future__ import annotations

from types import SimpleNamespace

from pytest_flopguard.core.measurement import Measurement, MemoryPeak, ParameterCount
from pytest_flopguard.core.record import Record
from pytest_flopguard.reporters.junit_properties import properties


def peak(device: str, start: int, peak: int, index: int = 0) -> MemoryPeak:
    return MemoryPeak(device=device, backend="x", start_bytes=start, peak_bytes=peak, index=index)


def test_every_number_is_there_to_the_last_digit(build: SimpleNamespace) -> None:
    big = 123_456_789_012_345_678_901
    seen = Measurement(
        flops=build.tally([build.counted("aten.mm", "a", big), build.counted("aten.mm", "a", 1, "backward")]),
        memory=(peak("cuda:sm90", 100, 350), peak("cuda:sm90", 0, 7, index=1), peak("cpu", 0, 12)),
        parameters=ParameterCount(count=3, bytes=12),
    )
    assert properties([build.record("t.py::test_x", seen, build.limit("flops", "1 FLOP", "a.py:1"))]) == [
        ("flopguard.outcome", "failed"),
        ("flopguard.codes", "over-budget"),
        ("flopguard.flops", "123456789012345678902"),
        ("flopguard.forward_flops", "123456789012345678901"),
        ("flopguard.backward_flops", "1"),
        ("flopguard.recompute_flops", "0"),
        ("flopguard.optimizer_flops", "0"),
        ("flopguard.peak_memory[cpu]", "12"),
        ("flopguard.memory_growth[cpu]", "12"),
        ("flopguard.peak_memory[cuda:sm90]", "350"),
        ("flopguard.memory_growth[cuda:sm90]", "250"),
        ("flopguard.peak_memory[cuda:sm90 #1]", "7"),
        ("flopguard.memory_growth[cuda:sm90 #1]", "7"),
        ("flopguard.parameters", "3"),
        ("flopguard.parameter_bytes", "12"),
    ]


def test_behind_an_unknown_op_there_is_only_a_lower_bound(build: SimpleNamespace) -> None:
    seen = Measurement(flops=build.tally([build.counted("aten.mm", "a", 5)], build.fused_mlp(calls=2)))
    found = dict(properties([build.record("t.py::test_x", seen)]))
    assert "flopguard.flops" not in found
    assert found["flopguard.flops_at_least"] == "5"
    assert found["flopguard.forward_flops_at_least"] == "5"
    assert found["flopguard.backward_flops"] == "0"
    assert found["flopguard.unknown_ops"] == "mylib.fused_mlp"


def test_regions_have_names_of_their_own() -> None:
    labels = ["", "step", "step", "a\x00b\n<c>"]
    records = [Record(nodeid="t.py::test_x", measurement=Measurement(label=label)) for label in labels]
    assert properties(records) == [
        ("flopguard.outcome", "passed"),
        ("flopguard[step].outcome", "passed"),
        ("flopguard[step #2].outcome", "passed"),
        ("flopguard[a?b?<c>].outcome", "passed"),
    ]
