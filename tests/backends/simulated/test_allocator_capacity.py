"""What the caching allocator does when the device is full, worked by hand."""

from __future__ import annotations

import pytest

from pytest_flopguard.backends.simulated.allocator import Allocator, OutOfMemory
from pytest_flopguard.backends.simulated.allocator_settings import AllocatorSettings

MIB = 1024 * 1024


def allocator(settings: str = "", capacity: int | None = None) -> Allocator:
    return Allocator(AllocatorSettings.parse(settings), capacity, record=True)


def actions(model: Allocator) -> list[tuple[str, int]]:
    """The segment events as (action, MiB)."""
    assert model.events is not None
    return [(action, size // MIB) for action, _, size, _ in model.events if action.startswith("segment")]


def test_the_capacity_can_be_filled_to_the_last_byte() -> None:
    model = allocator(capacity=30 * MIB)
    model.malloc(10 * MIB)
    model.malloc(20 * MIB)
    assert model.stats.reserved.current == 30 * MIB
    assert model.stats.alloc_retries == 0


def test_cached_segments_are_given_back_before_a_retry() -> None:
    # 32 MiB in all: 10 + 20 are cached and free, 24 MiB fit in neither and in 2 MiB: both go, and then it works.
    model = allocator(capacity=32 * MIB)
    first, second = model.malloc(10 * MIB), model.malloc(20 * MIB)
    model.free(first)
    model.free(second)
    model.malloc(24 * MIB)
    assert actions(model)[2:] == [("segment_free", 10), ("segment_free", 20), ("segment_alloc", 24)]
    assert model.stats.reserved.current == 24 * MIB
    assert model.stats.reserved.peak == 30 * MIB
    assert (model.stats.alloc_retries, model.stats.ooms) == (1, 0)


def test_a_retry_waits_for_other_streams() -> None:
    model = allocator(capacity=10 * MIB)
    block = model.malloc(10 * MIB)
    model.record_stream(block, 1)
    model.free(block)
    model.malloc(10 * MIB)
    assert model.stats.alloc_retries == 1
    assert model.stats.active.current == 10 * MIB


def test_out_of_memory_tells_every_figure() -> None:
    # 20 MiB are reserved for 3 MiB that live. 17 MiB - 1 on another stream want a segment of 18 MiB, and 33 leave 13.
    model = allocator(capacity=33 * MIB)
    model.malloc(3 * MIB)
    with pytest.raises(OutOfMemory) as raised:
        model.malloc(17 * MIB - 1, stream=1)
    error = raised.value
    assert (error.requested, error.wanted) == (17 * MIB - 1, 18 * MIB)
    assert (error.allocated, error.reserved, error.capacity) == (3 * MIB, 20 * MIB, 33 * MIB)
    assert str(error) == (
        f"out of memory: tried to allocate {18 * MIB} bytes for a request of {17 * MIB - 1}; of {33 * MIB} bytes "
        f"{20 * MIB} are reserved, {3 * MIB} of them allocated"
    )
    assert (model.stats.alloc_retries, model.stats.ooms) == (1, 1)


def test_after_out_of_memory_the_program_can_go_on() -> None:
    model = allocator(capacity=20 * MIB)
    block = model.malloc(20 * MIB)
    with pytest.raises(OutOfMemory):
        model.malloc(1)
    model.free(block)
    model.malloc(1)
    assert model.stats.reserved.current == 2 * MIB
    assert model.stats.alloc_retries == 2


@pytest.mark.parametrize(("limit", "fits"), [(20 * MIB, True), (20 * MIB - 1, False)])
def test_one_byte_decides(limit: int, fits: bool) -> None:
    model = allocator(capacity=limit)
    if fits:
        assert model.malloc(2 * MIB).size == 2 * MIB
    else:
        with pytest.raises(OutOfMemory):
            model.malloc(2 * MIB)


class TestFraction:
    def test_it_limits_what_is_reserved(self) -> None:
        # Half of 100 MiB: 30 MiB and a second 20 MiB fit, 2 MiB more do not.
        model = allocator("per_process_memory_fraction:0.5", 100 * MIB)
        model.malloc(30 * MIB)
        model.malloc(20 * MIB)
        with pytest.raises(OutOfMemory) as raised:
            model.malloc(1)
        assert raised.value.capacity == 50 * MIB

    def test_the_whole_device_is_no_limit(self) -> None:
        assert allocator("per_process_memory_fraction:1", 100 * MIB).allowed is None
        assert allocator("per_process_memory_fraction:0.5").allowed is None

    def test_it_can_be_set_later(self) -> None:
        model = allocator(capacity=100 * MIB)
        model.set_memory_fraction(0.25)
        model.malloc(24 * MIB)
        with pytest.raises(OutOfMemory):
            model.malloc(2 * MIB)


class TestOversize:
    """With ``max_split_size_mb`` larger blocks are not split, and are given back first."""

    def test_a_block_of_the_limit_is_not_split(self) -> None:
        # 40 MiB are over the limit of 32: the 40 MiB segment is not split for 38.5 MiB, and costs 40.
        model = allocator("max_split_size_mb:32")
        model.free(model.malloc(40 * MIB))
        assert model.malloc(38 * MIB + MIB // 2).size == 40 * MIB
        assert model.stats.reserved.current == 40 * MIB

    def test_a_smaller_request_does_not_take_it(self) -> None:
        model = allocator("max_split_size_mb:32")
        model.free(model.malloc(32 * MIB))
        model.malloc(32 * MIB - 512)
        assert model.stats.reserved.current == 64 * MIB

    @pytest.mark.parametrize(("free", "reserved"), [(58, 58), (60, 100)])
    def test_less_than_twenty_mebibytes_may_be_wasted(self, free: int, reserved: int) -> None:
        # 40 MiB asked: 58 waste 18, 60 would waste 20 and stay, so that 60 + 40 are reserved.
        model = allocator("max_split_size_mb:32")
        model.free(model.malloc(free * MIB))
        model.malloc(40 * MIB)
        assert model.stats.reserved.current == reserved * MIB

    def test_more_may_be_wasted_where_it_is_set(self) -> None:
        model = allocator("max_split_size_mb:32,max_non_split_rounding_mb:30")
        model.free(model.malloc(68 * MIB))
        model.malloc(40 * MIB)
        assert model.stats.reserved.current == 68 * MIB
        model.malloc(40 * MIB)
        model.free(model.malloc(70 * MIB))
        model.malloc(40 * MIB)
        # 70 = 40 + 30 is one too large.
        assert model.stats.reserved.current == 68 * MIB + 40 * MIB + 70 * MIB + 40 * MIB

    def test_one_that_is_large_enough_goes_first(self) -> None:
        # 100 MiB: 32, 40 and 10 are free. 38 MiB of stream 1 need room: the smallest on its stream that suffices goes.
        model = allocator("max_split_size_mb:32", 100 * MIB)
        blocks = [model.malloc(size * MIB, 1) for size in (10, 32, 42)]
        for block in blocks:
            model.free(block)
        model.malloc(20 * MIB, 1)
        assert actions(model)[3:] == [("segment_free", 32), ("segment_alloc", 20)]
        assert model.stats.alloc_retries == 0

    def test_several_go_from_the_largest_down(self) -> None:
        # 34, 36 and 38 are free of 110 MiB. 70 MiB: 38 and 36 go (74 suffices), and 34 stays.
        model = allocator("max_split_size_mb:32", 110 * MIB)
        blocks = [model.malloc(size * MIB) for size in (34, 36, 38)]
        for block in blocks:
            model.free(block)
        model.malloc(70 * MIB)
        assert actions(model)[3:] == [("segment_free", 38), ("segment_free", 36), ("segment_alloc", 70)]
        assert model.stats.alloc_retries == 0

    def test_too_few_bytes_and_everything_goes(self) -> None:
        # 34 of 60 MiB are free and oversize, 56 are wanted: giving 34 back is not enough by itself, so all goes.
        model = allocator("max_split_size_mb:32", 60 * MIB)
        blocks = [model.malloc(size * MIB) for size in (34, 12, 10)]
        for block in blocks:
            model.free(block)
        model.malloc(56 * MIB)
        assert actions(model)[3:] == [
            ("segment_free", 34),
            ("segment_free", 10),
            ("segment_free", 12),
            ("segment_alloc", 56),
        ]
        assert model.stats.alloc_retries == 1


class TestGarbageCollection:
    def test_only_with_a_fraction_below_the_whole(self) -> None:
        # Torch looks at the threshold only where a process has a limit.
        model = allocator("garbage_collection_threshold:0.1", 2000 * MIB)
        model.free(model.malloc(500 * MIB))
        model.malloc(501 * MIB)
        assert [action for action, _ in actions(model)] == ["segment_alloc", "segment_alloc"]

    @staticmethod
    def aged(model: Allocator) -> None:
        """Leave 20, 22 and 24 MiB free at the fourth, fifth and sixth search, and 12 MiB live."""
        blocks = [model.malloc(size * MIB) for size in (20, 22, 24)]
        kept = model.malloc(12 * MIB)
        for block in blocks:
            model.free(block)
            if block is not blocks[-1]:
                model.free(kept)
                kept = model.malloc(12 * MIB)

    def test_those_of_average_age_go(self) -> None:
        # Allowed are 100 MiB, so 75 is the threshold, and 78 are 3 too many. At the seventh search, for 30 MiB, the
        # ages are 3, 2 and 1, on average 2: 20 and 22 MiB go, though 20 would do, and 24 stay.
        model = allocator("per_process_memory_fraction:0.5,garbage_collection_threshold:0.75", 200 * MIB)
        self.aged(model)
        model.malloc(30 * MIB)
        assert actions(model)[4:] == [("segment_free", 20), ("segment_free", 22), ("segment_alloc", 30)]
        assert model.stats.alloc_retries == 0

    def test_and_younger_ones_where_that_is_not_enough(self) -> None:
        # Now 42 MiB are allowed, the threshold is 31.5, and 46.5 are too many: 20 + 22 = 42 do not do, so 24 go too.
        model = allocator("per_process_memory_fraction:0.5,garbage_collection_threshold:0.75", 200 * MIB)
        self.aged(model)
        model.set_memory_fraction(0.21)
        model.malloc(30 * MIB)
        assert [size for action, size in actions(model) if action == "segment_free"] == [20, 22, 24]
        assert model.stats.reserved.current == 42 * MIB
        assert model.stats.alloc_retries == 0

    def test_a_segment_in_use_stays(self) -> None:
        # 80 of 100 MiB are reserved, all with a live block: nothing can go, and 20 MiB more fit.
        model = allocator("per_process_memory_fraction:0.5,garbage_collection_threshold:0.5", 200 * MIB)
        model.malloc(80 * MIB)
        model.malloc(20 * MIB)
        assert [action for action, _ in actions(model)] == ["segment_alloc", "segment_alloc"]

    def test_nothing_goes_at_the_threshold(self) -> None:
        # 60 of 100 allowed MiB are reserved: not above the threshold of 60 MiB, so nothing is collected.
        model = allocator("per_process_memory_fraction:0.5,garbage_collection_threshold:0.6", 200 * MIB)
        model.free(model.malloc(60 * MIB))
        model.malloc(30 * MIB, stream=1)
        assert [action for action, _ in actions(model)] == ["segment_alloc", "segment_alloc"]
        # Now 90 MiB are, and the 60 MiB are the only free ones.
        model.malloc(10 * MIB, stream=1)
        assert actions(model)[2:] == [("segment_free", 60), ("segment_alloc", 10)]
