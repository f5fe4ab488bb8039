"""The backends that replay what was written down."""

from __future__ import annotations

import pytest

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.scripted import ScriptedFlops, ScriptedMemory, ScriptedTracer
from pytest_flopguard.core.errors import FlopguardError
from pytest_flopguard.core.measurement import FlopTally, MemoryPeak, ParameterCount

FIRST, SECOND = FlopTally(counts=(), engine="first"), FlopTally(counts=(), engine="second")
PARAMETERS = ParameterCount(count=3, bytes=12)


def test_regions_are_answered_in_the_order_of_their_beginnings() -> None:
    flops = ScriptedFlops([FIRST, SECOND], [PARAMETERS])
    with flops:
        outer, inner = flops.begin(), flops.begin()
        with flops.paused():
            assert flops.end(inner) is SECOND
        assert flops.end(outer) is FIRST
    assert (flops.parameters(outer), flops.parameters(inner)) == (PARAMETERS, None)
    assert flops.events == ["enter", "begin 0", "begin 1", "pause", "end 1", "resume", "end 0", "exit"]


def test_a_region_that_the_script_does_not_know_is_an_error() -> None:
    memory = ScriptedMemory([()])
    memory.begin()
    with pytest.raises(FlopguardError, match=r"answers for 1 region\(s\), and one more began"):
        memory.begin()


def test_a_memory_script_may_say_that_there_is_no_number() -> None:
    peaks = (MemoryPeak(device="cpu", backend="scripted", start_bytes=1, peak_bytes=2),)
    unavailable = Unavailable(name="scripted", reason="sparse")
    memory = ScriptedMemory([peaks, unavailable])
    assert [memory.end(memory.begin()) for _ in range(2)] == [peaks, unavailable]


def test_a_tracer_keeps_what_it_was_given() -> None:
    tracer = ScriptedTracer([FIRST, Unavailable(name="tracer", reason="no graph")], name="tracer")
    assert tracer.trace("model", (1,), {"a": 2}) is FIRST
    assert isinstance(tracer.trace("other", (), {}), Unavailable)
    assert (tracer.name, tracer.traced) == ("tracer", [("model", (1,), {"a": 2}), ("other", (), {})])
