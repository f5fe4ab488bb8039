"""Bytes that torch's autograd really keeps of one layer: unique storages saved for backward, parameters excluded.

These hold for eager torch on a CPU, where the tests measure them with ``saved_tensors_hooks``; e is the element size
in bytes. They are no peak of an allocator: what lives for a moment only is not among them.
"""

from __future__ import annotations

from pytest_flopguard.core.errors import unknown_name
from pytest_flopguard.formulas.dtypes import dtype_bytes
from pytest_flopguard.formulas.memory.byte_terms import ByteTerm, ByteTerms
from pytest_flopguard.formulas.sizes import divided, positive

SOURCE = "measured with torch.autograd.graph.saved_tensors_hooks"
# What each dropout keeps: a bool, or on a CPU a mask of the activations' own dtype.
DROPOUTS = ("none", "bool-mask", "own-dtype-mask")
# What an unfused RMSNorm keeps beside its output: float32 copies, or one float32 copy and one in the weights' dtype.
RMS_NORMS = ("torch", "transformers")


def gpt_layer(
    *,
    batch: int,
    sequence: int,
    width: int,
    heads: int,
    dtype: str,
    dropout: str = "bool-mask",
    flash: bool = False,
) -> ByteTerms:
    """Bytes of a pre-norm layer with multi-head attention and a GELU MLP of 4h, three dropouts of mask size m.

    16e*sbh + 2m*sbh + (2e + m)as^2b + 4e*sb, the last for two LayerNorms' mean and rstd. Without dropout m = 0 and the
    scores are e*as^2b; with ``flash`` (which has no dropout here) they are a float32 log-sum-exp, 4asb. At 2 bytes
    and bool masks that is Korthikanti's 34sbh + 5as^2b plus the 8sb that the paper leaves out.
    """
    if dropout not in DROPOUTS:
        raise unknown_name("dropout", dropout, DROPOUTS)
    sb, h, a = positive("batch", batch) * positive("sequence", sequence), positive("width", width), heads
    divided("width", h, "heads", a)
    e = dtype_bytes(dtype)
    mask = {"none": 0, "bool-mask": 1, "own-dtype-mask": e}["none" if flash else dropout]
    pairs = a * sequence * sb
    if flash:
        core = ByteTerm(name="log_sum_exp", equation="4*a*s*b", bytes=4 * a * sb)
    elif mask:
        core = ByteTerm(name="attention_scores", equation="(2*e + m)*a*s*s*b", bytes=(2 * e + mask) * pairs)
    else:
        core = ByteTerm(name="attention_scores", equation="e*a*s*s*b", bytes=e * pairs)
    terms = (
        ByteTerm(name="activations", equation="16*e*s*b*h", bytes=16 * e * sb * h),
        ByteTerm(name="dropout_masks", equation="2*m*s*b*h", bytes=2 * mask * sb * h),
        core,
        ByteTerm(name="norm_statistics", equation="4*e*s*b", bytes=4 * e * sb),
    )
    return ByteTerms(name="layer", terms=terms, source=SOURCE)


def llama_layer(
    *,
    batch: int,
    sequence: int,
    width: int,
    heads: int,
    kv_heads: int,
    ff: int,
    dtype: str,
    head_dim: int | None = None,
    norm: str = "torch",
) -> ByteTerms:
    """Bytes of a Llama layer with scaled_dot_product_attention: grouped heads, SwiGLU, two RMSNorms, no dropout.

    2n*sbh + 2e*sbh + 2e*sb*a*d + 2e*sb*kv + 4e*sb*ff + 4asb + 8sb: what the norms keep (n = 8 bytes for
    ``torch``'s own, 4 + e for ``transformers``'), their outputs, queries and attention output, keys and values, the
    MLP's gate, up, activation and product, the log-sum-exp and the norms' rstd. kv = kv_heads * head_dim.
    """
    if norm not in RMS_NORMS:
        raise unknown_name("norm", norm, RMS_NORMS)
    sb, h, a = positive("batch", batch) * positive("sequence", sequence), positive("width", width), heads
    d = divided("width", h, "heads", a) if head_dim is None else positive("head_dim", head_dim)
    divided("heads", a, "kv_heads", kv_heads)
    e = dtype_bytes(dtype)
    kept = 8 if norm == "torch" else 4 + e
    terms = (
        ByteTerm(name="norms", equation="2*n*s*b*h", bytes=2 * kept * sb * h),
        ByteTerm(name="norm_outputs", equation="2*e*s*b*h", bytes=2 * e * sb * h),
        ByteTerm(name="queries_and_output", equation="2*e*s*b*a*d", bytes=2 * e * sb * a * d),
        ByteTerm(name="keys_and_values", equation="2*e*s*b*kv", bytes=2 * e * sb * kv_heads * d),
        ByteTerm(name="mlp", equation="4*e*s*b*f", bytes=4 * e * sb * positive("ff", ff)),
        ByteTerm(name="log_sum_exp", equation="4*a*s*b", bytes=4 * a * sb),
        ByteTerm(name="norm_statistics", equation="8*s*b", bytes=8 * sb),
    )
    return ByteTerms(name="layer", terms=terms, source=SOURCE)


def checkpointed_layer(*, batch: int, sequence: int, width: int, dtype: str) -> ByteTerms:
    """Bytes of a fully checkpointed layer: its input, e*sbh."""
    kept = dtype_bytes(dtype, positive("batch", batch) * positive("sequence", sequence) * positive("width", width))
    return ByteTerms(name="layer", terms=(ByteTerm(name="layer_input", equation="e*s*b*h", bytes=kept),), source=SOURCE)
