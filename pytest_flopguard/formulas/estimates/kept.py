"""What a training step keeps of its forward for its backward, where a formula was measured or published."""

from __future__ import annotations

from collections.abc import Callable

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.core.figure import Figure, unknown
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.dtypes import dtype_bits
from pytest_flopguard.formulas.estimates.asked import Subject, Workload
from pytest_flopguard.formulas.memory.activations import layer_activations
from pytest_flopguard.formulas.memory.decoder import decoder_activations
from pytest_flopguard.formulas.memory.pipeline import edge_activations
from pytest_flopguard.formulas.memory.saved_tensors import llama_edges

_SIXTEEN = 16
# The model types whose whole training forward was measured, layers and edges.
_MEASURED = ("llama", "mistral", "qwen2", "qwen3", "mixtral")


def activations(
    subject: Subject, work: Workload, batch: int, tensor: int = 1, *, sequence_parallel: bool = False
) -> Figure:
    """Return the bytes that the backward needs of the forward, where a formula was measured or published."""
    sizes = subject.sizes
    if not isinstance(sizes, DecoderSizes):
        return unknown("no formula for what this architecture keeps for its backward")
    slides = any(0 < window < work.seq for window in sizes.windows)
    if sizes.name in _MEASURED and not slides and dtype_bits(work.dtype) >= _SIXTEEN:
        return known(lambda: _llama_activations(sizes, work, batch, tensor, sequence_parallel))
    plain = sizes.kv_heads == sizes.heads and sizes.ff == 4 * sizes.width and not sizes.gated
    if plain and sizes.experts is None and dtype_bits(work.dtype) == _SIXTEEN:
        return known(lambda: _gpt_activations(sizes, work, batch, tensor, sequence_parallel))
    windows = " and windows shorter than the sequence" if slides else ""
    return unknown(
        f"no formula for what {sizes.name} in {work.dtype}{windows} keeps for its backward: there is one for "
        f"{', '.join(_MEASURED)} of 16 bits or more without such windows, and for 16-bit decoders with as many key "
        "heads as heads and a plain MLP of 4*h"
    )


def _llama_activations(sizes: DecoderSizes, work: Workload, batch: int, tensor: int, sequence_parallel: bool) -> Figure:
    layers = decoder_activations(
        sizes,
        batch=batch,
        sequence=work.seq,
        dtype=work.dtype,
        recompute=work.recompute,
        tensor=tensor,
        sequence_parallel=sequence_parallel,
    )
    edges = llama_edges(
        batch=batch,
        sequence=work.seq,
        width=sizes.width,
        head_dim=sizes.head_dim,
        vocab=sizes.vocab,
        dtype=work.dtype,
    )
    how = f"saved for backward by transformers' {sizes.name} on torch, fused attention"
    whole = "head" if sequence_parallel else "norms and head"
    how += f"; {whole} whole on each GPU" if tensor > 1 else ""
    return Figure(value=layers.total + edges.total, unit="B", how=how)


def _gpt_activations(sizes: DecoderSizes, work: Workload, batch: int, tensor: int, sequence_parallel: bool) -> Figure:
    layer = layer_activations(
        batch=batch,
        sequence=work.seq,
        width=sizes.width,
        heads=sizes.heads,
        tensor=tensor,
        sequence_parallel=sequence_parallel,
        recompute=work.recompute,
    )
    edges = edge_activations(batch=batch, sequence=work.seq, width=sizes.width, vocabulary=sizes.vocab, tensor=tensor)
    parallel = ", sequence parallel" if sequence_parallel else ""
    return Figure(
        value=sizes.layers * layer.total + edges.total,
        unit="B",
        how=f"Korthikanti et al. 2022, table 2 and section 4.3: dropout, unfused attention{parallel}",
    )


def known(make: Callable[[], Figure]) -> Figure:
    """Return a figure, or the rule that its formula refuses these sizes by as the reason why there is none."""
    try:
        return make()
    except SizeError as error:
        return unknown(str(error))
