"""What holds of the caching allocator after every step, whatever a program does and however little there is."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.backends.simulated.allocator import Allocator, OutOfMemory
from pytest_flopguard.backends.simulated.allocator_settings import AllocatorSettings
from pytest_flopguard.backends.simulated.blocks import Block

MIB = 1024 * 1024
SETTINGS = [
    "",
    "expandable_segments:True",
    "max_split_size_mb:20",
    "roundup_power2_divisions:4,large_segment_size_mb:12",
    "expandable_segments:True,max_split_size_mb:20",
    "per_process_memory_fraction:0.8,garbage_collection_threshold:0.5",
]
STEPS = st.one_of(
    st.tuples(st.just("malloc"), st.integers(1, 3 * MIB), st.integers(0, 1)),
    st.tuples(st.just("malloc"), st.integers(1, 60 * MIB), st.integers(0, 1)),
    st.tuples(st.just("free"), st.integers(0, 1000), st.booleans()),
    st.tuples(st.just("synchronize"), st.just(0), st.just(0)),
    st.tuples(st.just("empty"), st.just(0), st.just(0)),
)


def run(model: Allocator, steps: list[tuple[str, int, int]]) -> list[Block]:
    """Run the steps, hold the laws after each, and return what lives at the end."""
    live: list[Block] = []
    for action, number, more in steps:
        if action == "malloc":
            try:
                live.append(model.malloc(number, more))
            except OutOfMemory as error:
                refused(model, error)
        elif action == "free" and live:
            block = live.pop(number % len(live))
            if more:
                model.record_stream(block, 9)
            model.free(block)
        elif action == "synchronize":
            model.synchronize()
        elif action == "empty":
            model.empty_cache()
        hold(model, live)
    return live


def refused(model: Allocator, error: OutOfMemory) -> None:
    """Check what an error says, right after it was raised."""
    stats = model.stats
    assert (error.allocated, error.reserved) == (stats.allocated.current, stats.reserved.current)
    if not model.settings.expandable_segments:
        # Pages of an expandable segment may want more than the request.
        assert error.reserved + error.wanted > error.capacity


def hold(model: Allocator, live: list[Block]) -> None:
    """Check the state of the allocator against what lives."""
    stats = model.stats
    assert stats.reserved.current >= stats.active.current >= stats.allocated.current
    assert stats.active.current >= stats.requested.current
    assert stats.allocated.current == sum(block.size for block in live)
    for stat in (stats.reserved, stats.active, stats.allocated, stats.requested):
        assert stat.peak >= stat.current >= 0
    segments: list[Any] = model.snapshot()
    assert sum(segment["total_size"] for segment in segments) == stats.reserved.current == model.device.in_use
    ranges = []
    for segment in segments:
        at = segment["address"]
        for block in segment["blocks"]:
            assert block["address"] == at
            assert block["size"] > 0
            assert block["size"] % 512 == 0
            at += block["size"]
        ranges.append((segment["address"], at))
        states = [block["state"] for block in segment["blocks"]]
        assert ("inactive", "inactive") not in pairwise(states)
    assert all(one[1] <= other[0] for one, other in pairwise(ranges))
    shown = {
        block["address"] for segment in segments for block in segment["blocks"] if block["state"] == "active_allocated"
    }
    assert shown == {block.address for block in live}


@pytest.mark.parametrize("text", SETTINGS)
@hypothesis.settings(deadline=None, max_examples=60)
@given(steps=st.lists(STEPS, max_size=40), capacity=st.sampled_from([None, 60 * MIB, 200 * MIB]))
def test_the_laws_hold(text: str, steps: list[tuple[str, int, int]], capacity: int | None) -> None:
    model = Allocator(AllocatorSettings.parse(text), capacity)
    live = run(model, steps)
    if capacity is not None:
        assert model.stats.reserved.peak <= capacity
    for block in live:
        model.free(block)
    model.empty_cache()
    hold(model, [])
    assert model.stats.reserved.current == 0
    assert model.stats.requested.current == 0
    assert model.snapshot() == []


@given(steps=st.lists(STEPS, max_size=40))
@hypothesis.settings(deadline=None, max_examples=30)
def test_what_is_asked_for_is_given_at_least(steps: list[tuple[str, int, int]]) -> None:
    for block in run(Allocator(AllocatorSettings()), steps):
        # A large block keeps a rest of up to 1 MiB, a small one less than 512 bytes.
        assert block.requested <= block.size
        assert block.size - block.requested < (MIB + 512 if block.size > MIB else 512)


@pytest.mark.parametrize("text", SETTINGS)
@hypothesis.settings(deadline=None, max_examples=20)
@given(steps=st.lists(STEPS, max_size=30))
def test_the_same_steps_give_the_same_events(text: str, steps: list[tuple[str, int, int]]) -> None:
    first, second = (Allocator(AllocatorSettings.parse(text), 200 * MIB, record=True) for _ in range(2))
    run(first, steps)
    run(second, steps)
    assert first.events == second.events
