"""Bytes that torch's autograd really keeps of one layer: unique storages saved for backward, parameters excluded.

These hold for eager torch on a CPU, where the tests measure them with ``saved_tensors_hooks``; e is the element size
in bytes, f the MLP's width, kv = kv_heads * d. They are no peak of an allocator: what lives for a moment only is not
among them. A tensor-parallel shard is the same layer with its own heads and its own part of f.
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
    kv_heads: int | None = None,
    head_dim: int | None = None,
    ff: int | None = None,
    dropout: str = "bool-mask",
    flash: bool = False,
    unfused_gelu: bool = False,
) -> ByteTerms:
    """Bytes of a pre-norm layer with two LayerNorms, attention, a 2-matrix GELU MLP and three dropouts of mask size m.

    4e*sbh + 2e*sb*(a*d + kv) + 2e*sb*f + 2m*sbh + (2e + m)*as^2b + 4e*sb, the last for the norms' mean and rstd.
    Without dropout m = 0 and the scores are e*as^2b; with ``flash`` (which has no dropout here) they are a float32
    log-sum-exp, 4asb. With f = 4h, kv = a*d = h, 2 bytes and bool masks that is Korthikanti's 34sbh + 5as^2b plus the
    8sb that the paper leaves out. ``unfused_gelu`` is transformers' ``gelu_new``, written out in Python: it keeps
    3e*sb*f more. Without ``flash`` shared keys and values are kept once for each head: kv = a*d.
    """
    if dropout not in DROPOUTS:
        raise unknown_name("dropout", dropout, DROPOUTS)
    sb, h, a = positive("batch", batch) * positive("sequence", sequence), positive("width", width), heads
    d = divided("width", h, "heads", a) if head_dim is None else positive("head_dim", head_dim)
    groups = a if kv_heads is None else kv_heads
    divided("heads", a, "kv_heads", groups)
    e, f = dtype_bytes(dtype), 4 * h if ff is None else positive("ff", ff)
    mask = {"none": 0, "bool-mask": 1, "own-dtype-mask": e}["none" if flash else dropout]
    pairs = a * sequence * sb
    if flash:
        core = ByteTerm(name="log_sum_exp", equation="4*a*s*b", bytes=4 * a * sb)
    elif mask:
        core = ByteTerm(name="attention_scores", equation="(2*e + m)*a*s*s*b", bytes=(2 * e + mask) * pairs)
    else:
        core = ByteTerm(name="attention_scores", equation="e*a*s*s*b", bytes=e * pairs)
    kv = (groups if flash else a) * d
    kept = 5 if unfused_gelu else 2
    mlp = ByteTerm(name="mlp", equation=f"{kept}*e*s*b*f", bytes=kept * e * sb * f)
    terms = (
        ByteTerm(name="norms", equation="4*e*s*b*h", bytes=4 * e * sb * h),
        ByteTerm(name="queries_and_output", equation="2*e*s*b*a*d", bytes=2 * e * sb * a * d),
        ByteTerm(name="keys_and_values", equation="2*e*s*b*kv", bytes=2 * e * sb * kv),
        mlp,
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
    head_norms: bool = False,
) -> ByteTerms:
    """Bytes of a Llama layer with scaled_dot_product_attention: grouped heads, SwiGLU, two RMSNorms, no dropout.

    (2n + 2e)*sbh + 2e*sb*(a*d + kv) + 4e*sb*f + 4asb + 8sb: what the norms keep (n = 8 bytes for ``torch``'s own,
    4 + e for ``transformers``') and their outputs, queries and attention output, keys and values, the MLP's gate, up,
    activation and product, the log-sum-exp and the norms' rstd. ``head_norms`` adds norms of each query and key head,
    as Qwen3 has them: n*sb*(a*d + kv) + 4sb*(a + g).
    """
    sb, h, a = positive("batch", batch) * positive("sequence", sequence), positive("width", width), heads
    d = divided("width", h, "heads", a) if head_dim is None else positive("head_dim", head_dim)
    divided("heads", a, "kv_heads", kv_heads)
    e = dtype_bytes(dtype)
    n = _norm_bytes(norm, e)
    terms = [
        ByteTerm(name="norms", equation="(2*n + 2*e)*s*b*h", bytes=2 * (n + e) * sb * h),
        ByteTerm(name="queries_and_output", equation="2*e*s*b*a*d", bytes=2 * e * sb * a * d),
        ByteTerm(name="keys_and_values", equation="2*e*s*b*kv", bytes=2 * e * sb * kv_heads * d),
        ByteTerm(name="mlp", equation="4*e*s*b*f", bytes=4 * e * sb * positive("ff", ff)),
        ByteTerm(name="log_sum_exp", equation="4*a*s*b", bytes=4 * a * sb),
        ByteTerm(name="norm_statistics", equation="8*s*b", bytes=8 * sb),
    ]
    if head_norms:
        kept = (n * d + 4) * sb * (a + kv_heads)
        terms.append(ByteTerm(name="head_norms", equation="n*s*b*(a*d + kv) + 4*s*b*(a + g)", bytes=kept))
    return ByteTerms(name="layer", terms=tuple(terms), source=SOURCE)


def llama_edges(
    *,
    batch: int,
    sequence: int,
    width: int,
    head_dim: int,
    vocab: int,
    dtype: str,
    norm: str = "transformers",
) -> ByteTerms:
    """Bytes that a Llama of transformers keeps outside its layers, with the loss taken inside the model.

    The last norm (n + e)*sbh + 4sb, float32 log-probabilities 4sb*V, token ids and labels 16sb, the tables of the
    rotation 2e*s*d, and the loss's one float32 weight.
    """
    s, sb = positive("sequence", sequence), positive("batch", batch) * sequence
    e = dtype_bytes(dtype)
    last = (_norm_bytes(norm, e) + e) * sb * positive("width", width) + 4 * sb
    terms = (
        ByteTerm(name="last_norm", equation="(n + e)*s*b*h + 4*s*b", bytes=last),
        ByteTerm(name="log_probabilities", equation="4*s*b*V", bytes=4 * sb * positive("vocab", vocab)),
        ByteTerm(name="ids_and_labels", equation="16*s*b", bytes=16 * sb),
        ByteTerm(name="rotation", equation="2*e*s*d", bytes=2 * e * s * positive("head_dim", head_dim)),
        ByteTerm(name="loss_weight", equation="4", bytes=4),
    )
    return ByteTerms(name="edges", terms=terms, source=SOURCE)


def _norm_bytes(norm: str, e: int) -> int:
    if norm not in RMS_NORMS:
        raise unknown_name("norm", norm, RMS_NORMS)
    return 8 if norm == "torch" else 4 + e


def checkpointed_layer(*, batch: int, sequence: int, width: int, dtype: str) -> ByteTerms:
    """Bytes of a fully checkpointed layer: its input, e*sbh."""
    kept = dtype_bytes(dtype, positive("batch", batch) * positive("sequence", sequence) * positive("width", width))
    return ByteTerms(name="layer", terms=(ByteTerm(name="layer_input", equation="e*s*b*h", bytes=kept),), source=SOURCE)
