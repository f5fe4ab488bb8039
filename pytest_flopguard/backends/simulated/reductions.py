"""Buffers of reductions that several thread blocks share: partial results, and a semaphore for each output block.

Source: aten/src/ATen/native/cuda/Reduce.cuh (setReduceConfig, ReduceConfig, gpu_reduce_kernel) over the dimensions as
TensorIterator.cpp reorders, coalesces and splits them. Sizes are in bytes, strides in elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

from pytest_flopguard.backends.simulated.gpus import Gpu

_WARP = 32
_MAX_THREADS = 512
_LEAST_VALUES, _MOST_VALUES = 16, 256
_INT32_MAX = 2**31 - 1


class Axis(NamedTuple):
    """One dimension of an input: its size, its stride, and the stride of the output there (0 where it is reduced)."""

    size: int
    stride: int
    out_stride: int


class Reduction(NamedTuple):
    """How a kernel reduces: bytes of one partial result and of one input element, and inputs a thread loads at once.

    ``keeps_partial`` says that the output cannot hold partial results: it is as narrow as a 16-bit input.
    """

    partial_size: int
    item_size: int
    input_vector: int = 4
    keeps_partial: bool = False
    max_threads: int = _MAX_THREADS


def axes(sizes: Sequence[int], strides: Sequence[int], reduced: Iterable[int]) -> tuple[list[Axis], list[Axis]]:
    """Return the reduced axes by stride and the kept ones by the output's stride, merged where they lie in a row.

    As TensorIterator does (reorder_dimensions, coalesce_dimensions); axes of size 1 are left out.
    """
    gone = set(reduced)
    out_strides = {}
    step = 1
    for dim in reversed(range(len(sizes))):
        if dim not in gone:
            out_strides[dim] = step
            step *= sizes[dim]
    found = [Axis(sizes[d], strides[d], out_strides.get(d, 0)) for d in range(len(sizes)) if sizes[d] > 1]
    gathered = sorted((axis for axis in found if not axis.out_stride), key=lambda axis: axis.stride)
    rest = sorted((axis for axis in found if axis.out_stride), key=lambda axis: axis.out_stride)
    return _merged(gathered), _merged(rest)


def _merged(sorted_axes: Iterable[Axis]) -> list[Axis]:
    merged: list[Axis] = []
    for axis in sorted_axes:
        last = merged[-1] if merged else None
        if (
            last is not None
            and last.size * last.stride == axis.stride
            and last.size * last.out_stride == axis.out_stride
        ):
            merged[-1] = Axis(last.size * axis.size, last.stride, last.out_stride)
        else:
            merged.append(axis)
    return merged


def reduction_bytes(
    reduced: list[Axis], kept: list[Axis], kind: Reduction, gpu: Gpu, offset: int = 0
) -> tuple[int, ...]:
    """Return the buffers of one reduction: partial results and semaphores, or none where one block does an output.

    An input beyond 32-bit offsets is cut into halves that run one after another: the largest half's buffers, and the
    buffer of all their partial results where the output cannot hold them. ``offset`` is the input's storage offset.
    """
    halves = list(_halves(reduced, kept, kind.item_size))
    buffers = [_buffers(part, rest, kind, gpu, offset) for part, rest in halves]
    largest = max(buffers, key=sum)
    if len(halves) > 1 and kind.keeps_partial:
        return (prod(axis.size for axis in kept) * kind.partial_size, *largest)
    return largest


def _halves(reduced: list[Axis], kept: list[Axis], item_size: int) -> Iterable[tuple[list[Axis], list[Axis]]]:
    every = [*reduced, *kept]
    extent = 1 + sum((axis.size - 1) * axis.stride * item_size for axis in every)
    if extent <= _INT32_MAX and prod(axis.size for axis in every) <= _INT32_MAX:
        yield reduced, kept
        return
    longest = max(every, key=lambda axis: (axis.size - 1) * axis.stride)
    for size in (longest.size // 2, longest.size - longest.size // 2):
        half = longest._replace(size=size)
        yield from _halves(
            [half if axis is longest else axis for axis in reduced],
            [half if axis is longest else axis for axis in kept],
            item_size,
        )


def _buffers(reduced: list[Axis], kept: list[Axis], kind: Reduction, gpu: Gpu, offset: int) -> tuple[int, ...]:
    inputs, outputs = prod(axis.size for axis in reduced), prod(axis.size for axis in kept)
    along = not kept or (bool(reduced) and reduced[0].stride < kept[0].stride)
    fastest = (reduced if along else kept)[:1]
    width, height = (inputs, outputs) if along else (outputs, inputs)
    vector = 1
    if not fastest or fastest[0].stride == 1:
        if along and width >= 128 and len(reduced) == 1:
            width //= kind.input_vector
        elif not along:
            vector = _output_vector(reduced, kept, offset)
            width //= vector
    block_x, block_y = _block(width, height, kind.max_threads // vector)
    step_in, step_out = (block_x, 1) if along else (1, block_x)
    if _ceil(inputs, step_in) < min(block_y * _LEAST_VALUES, _MOST_VALUES):
        return ()
    values = _ceil(inputs, step_in * block_y)
    grid = _ceil(outputs // vector, step_out)
    target = gpu.multiprocessors * (gpu.threads_per_multiprocessor // (block_x * block_y))
    if values < _MOST_VALUES or grid > target:
        return ()
    blocks = max(min(_ceil(target, grid), _ceil(values, _LEAST_VALUES)), _ceil(values, _MOST_VALUES))
    if blocks <= 1:
        return ()
    partial = kind.partial_size * outputs * blocks * (1 if along else block_x * vector)
    return partial, 4 * grid


def _output_vector(reduced: list[Axis], kept: list[Axis], offset: int) -> int:
    """Return how many outputs one thread loads at once: 4, 2 or 1, as alignment allows (``get_output_vec_size``)."""
    vector = 4
    for number in (offset, kept[0].size, *(axis.stride for axis in (*reduced, *kept[1:]))):
        while number % vector:
            vector //= 2
    return vector


def _block(width: int, height: int, threads: int) -> tuple[int, int]:
    """Return the threads of a block along and across (``set_block_dimension``)."""
    most_x = _power_of_2(width) if width < threads else threads
    most_y = _power_of_2(height) if height < threads else threads
    block_y = min(most_y, threads // min(most_x, _WARP))
    return min(most_x, threads // block_y), block_y


def _power_of_2(number: int) -> int:
    """Return the largest power of two up to a number, and 1 for 0."""
    return 1 << (max(number, 1).bit_length() - 1)


def _ceil(number: int, by: int) -> int:
    return -(-number // by)
