"""Buffers of reductions that blocks of threads share, against setReduceConfig worked by hand.

An H100 holds 132 * 2048 / 512 = 528 blocks of 512 threads at once.
"""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.backends.simulated.gpus import gpu_named
from pytest_flopguard.backends.simulated.reductions import Axis, Reduction, axes, reduction_bytes

H100, T4 = gpu_named("h100"), gpu_named("t4")
FLOATS = Reduction(partial_size=4, item_size=4)
MAXIMA = Reduction(partial_size=16, item_size=4)


def buffers(shape: tuple[int, ...], dims: tuple[int, ...], kind: Reduction = FLOATS, gpu=H100) -> tuple[int, ...]:  # type: ignore[no-untyped-def]
    strides = tuple(prod(shape[at + 1 :]) for at in range(len(shape)))
    return reduction_bytes(*axes(shape, strides, dims), kind, gpu)


def test_a_sum_over_all() -> None:
    # 2^20 floats to one: a block of 512 x 1 threads, each of 2048 values; one output block. 528 blocks would fill the
    # GPU, 2048 / 16 = 128 leave every thread 16 values, 2048 / 256 = 8 give it at most 256: min(528, 128) = 128.
    # Partial sums: 4 B * 1 * 128; semaphores: 4 B * 1.
    assert buffers((1 << 20,), (0,)) == (512, 4)


def test_a_sum_over_the_last_of_two() -> None:
    # 8192 rows of 3072: width 3072 / 4 = 768, height 8192: 32 x 16 threads, 96 values each, under min(16 * 16, 256):
    # a warp a row, nothing shared.
    assert buffers((8192, 3072), (1,)) == ()


def test_a_sum_over_the_first_of_two() -> None:
    # 3072 columns over 8192 rows: 4 outputs at once, so at most 128 threads a block: width 3072 / 4 = 768, 32 x 4
    # threads. 8192 values >= min(4 * 16, 256): divided by 4, 2048 each. Output blocks: 768 / 32 = 24. Blocks of 128
    # threads that fill the GPU: 132 * 16 = 2112; per output min(2112 / 24, 2048 / 16) = 88.
    # Partial sums: 4 B * 3072 * 88 * (32 * 4); semaphores: 4 B * 24.
    assert buffers((8192, 3072), (0,)) == (4 * 3072 * 88 * 128, 96)


def test_a_smaller_gpu_shares_less() -> None:
    # A T4 fills with 40 * (1024 / 128) = 320 blocks of 128 threads: 320 / 24 = 14 a column block.
    assert buffers((8192, 3072), (0,), gpu=T4) == (4 * 3072 * 14 * 128, 96)


def test_the_maximum_over_classes_of_a_language_model() -> None:
    # 10,000 classes of 4096 tokens, classes first: a value and its index of 16 B each. Width 4096 / 4 = 1024, 32 x 4
    # threads, 10000 / 4 = 2500 values each, 1024 / 32 = 32 output blocks: min(2112 / 32, 2500 / 16) = min(66, 157).
    # 16 B * 4096 * 66 * 128 = 528 MiB; a public recording of an H100 shows as much for a maximum over 10,000 classes.
    assert buffers((10_000, 4096), (0,), MAXIMA) == (528 << 20, 128)


def test_little_work_is_not_shared() -> None:
    # 65,536 floats to one: 512 threads of 128 values, under 256.
    assert buffers((1 << 16,), (0,)) == ()
    # Twice as many: 256 values each, min(528, 16) blocks.
    assert buffers((1 << 17,), (0,)) == (4 * 16, 4)


def test_neighbours_that_are_reduced_alike_become_one() -> None:
    assert buffers((64, 128, 3072), (0, 1)) == buffers((8192, 3072), (0,))
    assert axes((64, 128, 3072), (128 * 3072, 3072, 1), (0, 1)) == (
        [Axis(8192, 3072, 0)],
        [Axis(3072, 1, 1)],
    )


def test_axes_of_one_do_not_count() -> None:
    assert buffers((8192, 1, 3072), (0, 1)) == buffers((8192, 3072), (0,))


def test_odd_sizes_load_fewer_outputs_at_once() -> None:
    # 3070 columns: 2 at once, 256 threads at most: 1535 wide, 32 x 8 threads, 8192 / 8 = 1024 values, 1535 / 32 = 48
    # output blocks, 132 * 8 = 1056 blocks: min(22, 64) = 22. 4 B * 3070 * 22 * (32 * 2).
    assert buffers((8192, 3070), (0,)) == (4 * 3070 * 22 * 64, 192)


def test_more_than_two_gibibytes_are_cut_in_halves() -> None:
    # 2^30 floats are 4 GiB: two halves of 2^29, one after the other. The last offset of a half is 2^31 - 4, which 31
    # bits hold. 2^29 / 512 = 2^20 values a thread: max(min(528, 65536), 4096) = 4096 blocks.
    assert buffers((1 << 30,), (0,)) == (4 * 4096, 4)
    # A 16-bit result cannot hold partial sums: 4 B of each output are kept besides.
    halves = Reduction(partial_size=4, item_size=2, input_vector=8, keeps_partial=True)
    whole = reduction_bytes(*axes((1 << 31, 8), (8, 1), (0,)), halves, H100)
    assert whole[0] == 4 * 8
    assert len(whole) == 3


@given(
    shape=st.lists(st.integers(1, 3000), min_size=1, max_size=3).map(tuple),
    dim=st.integers(0, 2),
    gpu=st.sampled_from([H100, T4]),
)
def test_buffers_are_none_or_two(shape: tuple[int, ...], dim: int, gpu) -> None:  # type: ignore[no-untyped-def]
    found = buffers(shape, (dim % len(shape),), gpu=gpu)
    outputs = prod(shape) // shape[dim % len(shape)]
    assert len(found) in (0, 2)
    if found:
        # At least two blocks have a partial result for every output.
        assert found[0] % 4 == 0
        assert found[0] >= 2 * 4 * outputs


@pytest.mark.parametrize("dims", [(0,), (1,), (0, 1)])
def test_an_empty_axis_list_is_no_reduction(dims: tuple[int, ...]) -> None:
    assert buffers((1, 1), dims) == ()
