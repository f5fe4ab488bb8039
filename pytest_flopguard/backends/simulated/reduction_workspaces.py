"""Hidden memory of reduction ops: shared buffers of thread blocks, and copies in the type that is summed.

Sources: aten/src/ATen/native/ReduceOps.cpp and ReduceOpsUtils.h (make_reduction) for copies; the kernels under
aten/src/ATen/native/cuda (ReduceSumProdKernel.cu, ReduceMomentKernel.cu, ReduceNormKernel.cu, ReduceMaxValuesKernel.cu,
ReduceArgMaxKernel.cu, TensorCompare.cu, ReduceLogicKernel.cu) for the type of a partial result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch

from pytest_flopguard.backends.simulated.gpus import Gpu
from pytest_flopguard.backends.simulated.hidden_memory import Call, Entry, Hidden, size_of
from pytest_flopguard.backends.simulated.reductions import Reduction, axes, reduction_bytes

_HALF = (torch.float16, torch.bfloat16)
# A value and where it was: thrust::pair of at most eight bytes and an int64.
_PAIR_BYTES = 16


def _accumulated(dtype: torch.dtype) -> int:
    """Bytes of the type that a type is accumulated in (``opmath_type``): 16-bit floats in float32."""
    return 4 if dtype in _HALF else dtype.itemsize


def _welford(dtype: torch.dtype) -> int:
    """WelfordData: mean, sum of squares and a float count in the accumulated type, and an int32 count."""
    return 32 if dtype == torch.float64 else 16


def _plain(dtype: torch.dtype) -> int:
    """MaxNanFunctor of the type itself; ReduceMaxValuesKernel.cu widens float16 alone."""
    return 4 if dtype == torch.float16 else dtype.itemsize


def _pair(dtype: torch.dtype) -> int:
    return _PAIR_BYTES


def _flag(dtype: torch.dtype) -> int:
    """A bool."""
    return 1


def reduce_over(
    x: torch.Tensor, dims: Sequence[int] | int | None, partial: int, gpu: Gpu, out_dtype: torch.dtype, vector: int = 4
) -> tuple[int, ...]:
    """Return the buffers of reducing a tensor over dims (None or empty: over all), partial results of so many bytes."""
    if x.numel() == 0:
        return ()
    chosen = range(x.dim()) if dims is None or dims == () or dims == [] else [dims] if isinstance(dims, int) else dims
    reduced, kept = axes(x.shape, x.stride(), (dim % x.dim() for dim in chosen if x.dim()))
    kind = Reduction(
        partial_size=partial,
        item_size=x.element_size(),
        input_vector=vector,
        keeps_partial=x.dtype in _HALF and out_dtype in _HALF,
        max_threads=256 if x.dtype == torch.complex128 else 512,
    )
    return reduction_bytes(reduced, kept, kind, gpu, int(x.storage_offset()))


def _reduction(partial: Callable[[torch.dtype], int], dim_at: int = 1, casts: bool = False, vector: int = 0) -> Entry:
    """Build the entry of a reduction; ``casts`` where its input is first copied in the type of the output."""

    def entry(call: Call) -> Hidden:
        x, dims = call.args[0], call.argument(dim_at, "dim")
        out = call.out[0] if isinstance(call.out, (tuple, list)) else call.out
        if not isinstance(dims, (int, list, tuple)) or isinstance(dims, bool):
            dims = None
        copy: tuple[int, ...] = ()
        dtype = x.dtype
        # A 16-bit float summed in float32 is widened within the kernel.
        if casts and dtype != out.dtype and not (dtype in _HALF and out.dtype == torch.float32):
            copy, dtype = (x.numel() * out.dtype.itemsize,), out.dtype
        lanes = vector or (8 if dtype in _HALF else 4)
        return (*copy, *reduce_over(x, dims, partial(dtype), call.gpu, out.dtype, lanes))

    return entry


def _of_the_other(call: Call) -> Hidden:
    """Max and min: over all, along a dim, or elementwise with another tensor."""
    other = call.argument(1, "other")
    if isinstance(other, torch.Tensor):
        return ()
    return (_ARG if other is not None or "dim" in call.kwargs else _VALUES)(call)


def _logsumexp(call: Call) -> Hidden:
    """logsumexp_out_impl: the maxima, the input less them, and what their own reductions take."""
    x, dims, out = call.args[0], call.argument(1, "dim"), call.out
    maxima = reduce_over(x, dims, _plain(x.dtype), call.gpu, x.dtype)
    sums = reduce_over(x, dims, _accumulated(x.dtype), call.gpu, out.dtype, 8 if x.dtype in _HALF else 4)
    return (size_of(out), size_of(x), *max(maxima, sums, key=sum))


def _count_nonzero(call: Call) -> Hidden:
    """count_nonzero_cuda: ``(self != 0).sum(dim)``, a mask and its copy in int64."""
    x, dims = call.args[0], call.argument(1, "dim")
    return (x.numel(), 8 * x.numel(), *reduce_over(x, dims, 8, call.gpu, torch.int64))


_ARG = _reduction(_pair)
_VALUES = _reduction(_plain)
_SUM = _reduction(_accumulated, casts=True)

ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        "aten::sum": _SUM,
        "aten::nansum": _SUM,
        "aten::prod": _reduction(_accumulated, casts=True, vector=4),
        "aten::mean": _reduction(_accumulated),
        "aten::var": _reduction(_welford, vector=2),
        "aten::std": _reduction(_welford, vector=2),
        "aten::var_mean": _reduction(_welford, vector=2),
        "aten::std_mean": _reduction(_welford, vector=2),
        "aten::max": _of_the_other,
        "aten::min": _of_the_other,
        "aten::amax": _VALUES,
        "aten::amin": _VALUES,
        "aten::aminmax": _reduction(lambda dtype: 2 * _plain(dtype)),
        "aten::argmax": _ARG,
        "aten::argmin": _ARG,
        "aten::any": _reduction(_flag),
        "aten::all": _reduction(_flag),
        "aten::norm": _reduction(_accumulated, dim_at=2),
        "aten::linalg_vector_norm": _reduction(_accumulated, dim_at=2),
        "aten::logsumexp": _logsumexp,
        "aten::count_nonzero": _count_nonzero,
    }
)
