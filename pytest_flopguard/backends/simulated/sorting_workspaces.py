"""Hidden memory of sorts, scans and of what sums rows by index: buffers of torch, and temporary storage of cub.

Sources, under aten/src/ATen/native/cuda: Indexing.cu (index_put_with_sort_kernel), Embedding.cu
(embedding_dense_backward_cuda), EmbeddingBackwardKernel.cu, Sort.cpp (sort_stable_cuda), ScanUtils.cuh, TensorTopK.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod
from types import MappingProxyType

import torch

from pytest_flopguard.backends.simulated.gpus import Gpu
from pytest_flopguard.backends.simulated.hidden_memory import (
    Call,
    Entry,
    Hidden,
    UnknownWorkspace,
    copies,
    few_arrays,
    size_of,
)

_WORD = 8
_ROWS_PER_THREAD = 10
# A sort of as many fits into one thread block.
_SMALL_SORT = 4096
# cub, dispatch_radix_sort.cuh: bits of one pass, alignment of what it stores, and how many pairs of two 64-bit words
# one block takes: all of them (256 threads of 9), or one of several (384 threads of 10; of 12 from sm90 on).
_PASS_BITS, _ALIGNED = 8, 256
_ONE_BLOCK, _BLOCK, _HOPPER_BLOCK = 256 * 9, 384 * 10, 384 * 12
# TensorTopK.cpp, should_use_multiblock: so many rows, and the length from which several blocks share a row.
_SHARED_ROWS = ((20, 20_000), (40, 10_000), (80, 8_000), (199, 5_000), (799, 3_000), (4_000, 800), (None, 400))


def radix_sort_bytes(pairs: int, highest_key: int, gpu: Gpu) -> int:
    """Return cub's storage for sorting pairs of 64-bit words by keys of so many bits (DispatchRadixSort, one sweep).

    Counts of every digit and pass, counts of every digit and block, a counter a pass, and, where there are several
    passes, a copy of keys and values. A public recording of 4,096 pairs with keys up to 9,999 shows 72,191 bytes.
    """
    if pairs <= _ONE_BLOCK:
        return 1
    passes = ceil(max(highest_key.bit_length(), 1) / _PASS_BITS)
    blocks = ceil(pairs / (_HOPPER_BLOCK if gpu.capability >= (9, 0) else _BLOCK))
    digits = 1 << _PASS_BITS
    parts = [_WORD * digits * passes, 4 * digits * blocks, 4 * passes]
    if passes > 1:
        parts += [_WORD * pairs] * 2
    return sum(ceil(each / _ALIGNED) * _ALIGNED for each in parts) + _ALIGNED - 1


def _moved(*tensors: object) -> tuple[int, ...]:
    """Copies on the GPU of indices, and of a single value, that lie on the CPU (expandTensors, _index_put_impl_)."""
    return tuple(
        size_of(each)
        for each in tensors
        if isinstance(each, torch.Tensor) and each.device.type == "cpu" and each.numel()
    )


def _index(call: Call) -> Hidden:
    return _moved(*call.args[1])


def _index_put(call: Call) -> Hidden:
    """accumulate=True: linear and sorted indices, their order, and copies of them, five int64 each, and a sort."""
    moved = _moved(*call.args[1], call.args[2])
    return (*moved, *_accumulated(call)) if call.argument(3, "accumulate", False) else moved


def _accumulated(call: Call) -> tuple[int, ...]:
    x, values = call.args[0], call.args[2]
    indices = {at: each for at, each in enumerate(call.args[1]) if isinstance(each, torch.Tensor)}
    number = prod(torch.broadcast_shapes(*(each.shape for each in indices.values()))) if indices else 0
    rest = prod(size for at, size in enumerate(x.shape) if at not in indices)
    copied = copies(x)
    if values.numel() != number * rest or not values.is_contiguous():
        copied = (*copied, number * rest * values.element_size())
    if not number or not rest:
        return copied
    first, last = min(indices), max(indices)
    behind = prod(x.shape[last + 1 :])
    if last - first + 1 != len(indices):
        # Indexed dims are moved to the front, in a copy.
        copied, behind = (*copied, x.numel() * x.element_size()), rest
    sort = radix_sort_bytes(number, (x.numel() - 1) // behind, call.gpu)
    return (*copied, *[_WORD * number] * 5, sort)


def _embedding_backward(call: Call) -> Hidden:
    """Up to 3072 indices none; beyond, a sort, and then the sums of every part of every row's indices."""
    grad, indices, rows, by_frequency = call.args[0], call.args[1], call.args[2], call.args[4]
    copied = copies(grad)
    number, word, width = indices.numel(), indices.element_size(), grad.shape[-1]
    if number <= 3072 and not by_frequency:
        return (*copied, *copies(indices))
    segments = min(number, rows)
    parts = number // _ROWS_PER_THREAD + segments
    item = max(4, grad.element_size())
    # Sorted and original indices, and counts; each segment's start; its parts, their starts; their number; the sums.
    ordered = [word * number] * (3 if by_frequency else 2)
    starts = [word * number, _WORD, word * segments, word * segments, _WORD, word * parts]
    sums = (*copied, *ordered, *starts, item * parts * width)
    if parts > 4 * segments:
        reason = f"how {number} indices of {rows} rows of an embedding are summed"
        return UnknownWorkspace(reason=reason, known=sums, most=few_arrays(grad, indices))
    sort = (*copied, *ordered[:2], word * number, radix_sort_bytes(number, rows, call.gpu))
    return max(sort, sums, key=sum)


def _sort(call: Call) -> Hidden:
    """Small sorts run in place of their output."""
    x, dim = call.args[0], call.argument(len(call.args) - 2 if len(call.args) > 1 else 1, "dim", -1)
    dim = dim if isinstance(dim, int) and not isinstance(dim, bool) else -1
    size = x.shape[dim] if x.dim() else 1
    if size <= _SMALL_SORT:
        return ()
    return UnknownWorkspace(reason=f"cub's storage for sorting rows of {size}", most=few_arrays(x))


def _top_k(call: Call) -> Hidden:
    """One block of threads takes a row, unless rows are long for their number."""
    x, dim = call.args[0], call.argument(2, "dim", -1)
    size = x.shape[dim] if x.dim() else 1
    rows = x.numel() // size if size else 0
    shared_from = next(length for most, length in _SHARED_ROWS if most is None or rows <= most)
    if size < shared_from:
        return ()
    return UnknownWorkspace(reason=f"the storage of topk over {rows} rows of {size}", most=few_arrays(x))


def _scan(call: Call) -> Hidden:
    """Scans along a dim of several rows need nothing; one row goes to cub."""
    x, dim = call.args[0], call.argument(1, "dim", 0)
    if x.dim() == 0 or x.numel() != x.shape[dim]:
        return copies(x)
    return UnknownWorkspace(reason=f"cub's storage for a scan over {x.numel()}", known=copies(x), most=few_arrays(x))


ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        "aten::index": _index,
        "aten::index_put": _index_put,
        "aten::_index_put_impl": _index_put,
        "aten::_unsafe_index_put": _index_put,
        "aten::embedding_dense_backward": _embedding_backward,
        "aten::sort": _sort,
        "aten::argsort": _sort,
        "aten::topk": _top_k,
        "aten::cumsum": _scan,
        "aten::cumprod": _scan,
        "aten::logcumsumexp": _scan,
    }
)
