"""Bytes of activations that one transformer layer keeps for its backward, as Korthikanti et al. count them.

"Reducing Activation Recomputation in Large Transformer Models", 2022 (arXiv 2205.05198), sections 4 and 5, table 2.
A layer of multi-head attention, a 2-matrix MLP of width 4h with GELU, two LayerNorms and three dropouts; activations
of 2 bytes, dropout masks of 1 byte; LayerNorm statistics and biases left out. Symbols: s sequence, b microbatch,
h width, a heads, t tensor-parallel size. All byte counts are exact: what does not divide by t is a SizeError.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_flopguard.core.errors import unknown_name
from pytest_flopguard.formulas.memory.byte_terms import ByteTerm, ByteTerms
from pytest_flopguard.formulas.sizes import divided, positive

SOURCE = "Korthikanti et al. 2022 (arXiv 2205.05198), table 2"
RECOMPUTE = ("none", "selective", "full")


def layer_activations(
    *,
    batch: int,
    sequence: int,
    width: int,
    heads: int,
    tensor: int = 1,
    sequence_parallel: bool = False,
    recompute: str = "none",
    flash: bool = False,
) -> ByteTerms:
    """Bytes that one layer keeps on each tensor-parallel device.

    none sbh(10 + 24/t + 5as/(ht)); with sequence parallelism sbh/t (34 + 5as/h). ``recompute="selective"`` computes
    the attention core again and drops 5as^2b/t: sbh(10 + 24/t), or 34sbh/t. ``"full"`` keeps the layer's input only:
    2sbh, and every device keeps all of it unless the caller divides. A ``flash`` kernel never keeps the 5as^2b either;
    it keeps one float32 log-sum-exp per head and position instead, 4asb/t, which the paper does not have.
    """
    if recompute not in RECOMPUTE:
        raise unknown_name("recompute", recompute, RECOMPUTE)
    b, s, h = positive("batch", batch), positive("sequence", sequence), positive("width", width)
    a, t = positive("heads", heads), positive("tensor parallel size", tensor)
    divided("width", h, "heads", a)
    own_heads = divided("heads", a, "tensor parallel size", t)
    if sequence_parallel:
        divided("sequence", s, "tensor parallel size", t)
    if recompute == "full":
        terms: tuple[ByteTerm, ...] = (ByteTerm(name="layer_input", equation="2*s*b*h", bytes=2 * s * b * h),)
    else:
        # Width divides by the heads and the heads by t, so s*b*h/t is whole.
        terms = (
            *_around(s * b * h, t, sequence_parallel),
            *_core(s, b, own_heads, keeps_scores=recompute == "none" and not flash, flash=flash),
        )
    return ByteTerms(name="layer", terms=terms, source=SOURCE)


def _around(sbh: int, t: int, sequence_parallel: bool) -> Iterator[ByteTerm]:
    """Yield all but the attention core: 24 sbh is always split, 10 sbh by sequence parallelism only."""
    shared, symbol = (sbh // t, "*s*b*h/t") if sequence_parallel else (sbh, "*s*b*h")
    yield ByteTerm(name="attention_input", equation=f"2{symbol}", bytes=2 * shared)
    yield ByteTerm(name="qkv", equation="6*s*b*h/t", bytes=6 * sbh // t)
    yield ByteTerm(name="attention_output", equation="2*s*b*h/t", bytes=2 * sbh // t)
    yield ByteTerm(name="attention_dropout_mask", equation=f"1{symbol}", bytes=shared)
    yield ByteTerm(name="mlp_input", equation=f"2{symbol}", bytes=2 * shared)
    yield ByteTerm(name="mlp_inner", equation="16*s*b*h/t", bytes=16 * sbh // t)
    yield ByteTerm(name="mlp_dropout_mask", equation=f"1{symbol}", bytes=shared)
    yield ByteTerm(name="norm_inputs", equation=f"4{symbol}", bytes=4 * shared)


def _core(s: int, b: int, own_heads: int, *, keeps_scores: bool, flash: bool) -> Iterator[ByteTerm]:
    if keeps_scores:
        # Softmax output 2, dropout mask 1, dropout output 2.
        yield ByteTerm(name="attention_scores", equation="5*a*s*s*b/t", bytes=5 * own_heads * s * s * b)
    if flash:
        yield ByteTerm(name="log_sum_exp", equation="4*a*s*b/t", bytes=4 * own_heads * s * b)


def starcoder_layer(*, batch: int, sequence: int, width: int, heads: int) -> int:
    """Bytes of a multi-query layer: sbh(30 + 4/a + 5as/h), keys and values of one head (StarCoder fine-tuning post)."""
    sb, h, a = positive("batch", batch) * positive("sequence", sequence), positive("width", width), heads
    return 30 * sb * h + 4 * sb * divided("width", h, "heads", a) + 5 * a * sequence * sb


def starcoder_lora_layer(*, batch: int, sequence: int, width: int, heads: int, rank: int) -> int:
    """Bytes of a multi-query layer under LoRA of rank r: sbh(18 + 2/a + 6r/h), flash attention (the same post)."""
    sb, h = positive("batch", batch) * positive("sequence", sequence), positive("width", width)
    return 18 * sb * h + 2 * sb * divided("width", h, "heads", heads) + 6 * positive("rank", rank) * sb
