"""Hidden memory of sorts, scans and of what sums rows by index: buffers of torch, and temporary storage of cub.

Sources, under aten/src/ATen/native/cuda: Indexing.cu (index_put_with_sort_kernel), Embedding.cu
(embedding_dense_backward_cuda), EmbeddingBackwardKernel.cu, Sort.cpp (sort_stable_cuda), ScanUtils.cuh, TensorTopK.cu.
cub's storage for a radix sort of 64-bit pairs is fitted to public recordings: 16 bytes a pair and 6,655 more for 4,096
of them, 1 byte for what fits in one tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

from pytest_flopguard.backends.simulated.hidden_memory import Call, Entry, Hidden, UnknownWorkspace, copies

_WORD = 8
_ROWS_PER_THREAD = 10
# A sort of as many fits into one thread block, or into one tile of cub.
_SMALL_SORT = 4096
_ONE_TILE = 2048


def _radix_sort_bytes(pairs: int) -> int:
    return 1 if pairs <= _ONE_TILE else 2 * _WORD * pairs + 6_655


def _index_put(call: Call) -> Hidden:
    """accumulate=True: linear and sorted indices, their order, and copies of them, five int64 each, and a sort."""
    if not call.argument(3, "accumulate", False):
        return ()
    indices = [each for each in call.args[1] if isinstance(each, torch.Tensor)]
    number = max((each.numel() for each in indices), default=0)
    return (*[_WORD * number] * 5, _radix_sort_bytes(number)) if number else ()


def _embedding_backward(call: Call) -> Hidden:
    """Up to 3072 indices none; beyond, a sort and the partial sums of the rows of every segment."""
    grad, indices, rows, by_frequency = call.args[0], call.args[1], call.args[2], call.args[4]
    copied = copies(grad)
    number, word = indices.numel(), indices.element_size()
    if number <= 3072 and not by_frequency:
        return (*copied, *copies(indices))
    segments = min(number, rows)
    parts = number // _ROWS_PER_THREAD + segments
    item = 4 if grad.element_size() == 2 else grad.element_size()
    known = (
        *copied,
        *[word * number] * (4 if by_frequency else 3),  # sorted, original and segment starts (and counts)
        *[word * segments] * 2,
        word * parts,
        item * parts * grad.shape[-1],
    )
    return UnknownWorkspace(reason=f"cub's storage for sorting {number} indices of an embedding", known=known)


def _sort(call: Call) -> Hidden:
    """Small sorts run in place of their output."""
    x, dim = call.args[0], call.argument(len(call.args) - 2 if len(call.args) > 1 else 1, "dim", -1)
    dim = dim if isinstance(dim, int) and not isinstance(dim, bool) else -1
    size = x.shape[dim] if x.dim() else 1
    if size <= _SMALL_SORT:
        return ()
    return UnknownWorkspace(reason=f"cub's storage for sorting rows of {size}")


def _top_k(call: Call) -> Hidden:
    """One block of threads takes a row, unless rows are few and long (should_use_mbtopk)."""
    x, dim = call.args[0], call.argument(2, "dim", -1)
    size = x.shape[dim] if x.dim() else 1
    if size <= 20_000:
        return ()
    return UnknownWorkspace(reason=f"the storage of topk over {x.numel() // size} rows of {size}")


def _scan(call: Call) -> Hidden:
    """Scans along a dim of several rows need nothing; one row goes to cub."""
    x, dim = call.args[0], call.argument(1, "dim", 0)
    if x.dim() == 0 or x.numel() != x.shape[dim]:
        return copies(x)
    return UnknownWorkspace(reason=f"cub's storage for a scan over {x.numel()}", known=copies(x))


ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
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
