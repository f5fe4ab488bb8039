"""Memory of a decoder-only transformer from the same sizes that its FLOPs come from."""

from __future__ import annotations

from dataclasses import replace

from pytest_flopguard.core.errors import SizeError, message, unknown_name
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.memory.activations import RECOMPUTE
from pytest_flopguard.formulas.memory.byte_terms import ByteTerm, ByteTerms
from pytest_flopguard.formulas.memory.kv_cache import LayerCache, grouped, heads_on_device, kv_cache_bytes, latent
from pytest_flopguard.formulas.memory.saved_tensors import checkpointed_layer, gpt_layer, llama_layer
from pytest_flopguard.formulas.sizes import divided, positive

# These are computed on positions, not on heads, so only sequence parallelism divides them.
_BY_POSITION = ("norms", "norm_statistics")


def decoder_caches(sizes: DecoderSizes) -> tuple[LayerCache, ...]:
    """Return the cache of each layer: 2*g*d elements per token within its window, or c + r for latent attention."""
    if sizes.latent is not None:
        return (latent(kv_rank=sizes.latent.kv_rank, rope_dim=sizes.latent.rope),) * sizes.layers
    windows = sizes.windows or (0,) * sizes.layers
    return tuple(grouped(kv_heads=sizes.kv_heads, head_dim=sizes.head_dim, window=window or None) for window in windows)


def decoder_kv_cache(sizes: DecoderSizes, *, tokens: int, dtype: str, batch: int = 1, tensor: int = 1) -> int:
    """Bytes of the KV cache of ``tokens`` tokens of ``batch`` sequences on one of ``tensor`` devices."""
    return kv_cache_bytes(decoder_caches(sizes), tokens=tokens, dtype=dtype, batch=batch, tensor=tensor)


def decoder_activations(
    sizes: DecoderSizes,
    *,
    batch: int,
    sequence: int,
    dtype: str,
    recompute: str = "none",
    flash: bool = True,
    tensor: int = 1,
    sequence_parallel: bool = False,
    norm: str = "transformers",
) -> ByteTerms:
    """Bytes that all layers keep for the backward on one of ``tensor`` devices; no dropout.

    What is kept outside the layers, logits above all, is ``saved_tensors.llama_edges``.

    Gated layers are ``llama_layer``, others ``gpt_layer`` (which can do without ``flash``). Tensor parallelism divides
    heads and f, and with sequence parallelism what is kept per position too. ``recompute="selective"`` drops the
    scores, ``"full"`` keeps e*sbh a layer. SizeError for mixtures of experts and latent attention, whose saved
    tensors depend on the kernel, and for gated layers without ``flash``: there is no formula that we have measured.
    """
    if recompute not in RECOMPUTE:
        raise unknown_name("recompute", recompute, RECOMPUTE)
    layer = _layer(sizes, batch, sequence, dtype, flash, positive("tensor parallel size", tensor), norm)
    if recompute == "full":
        layer = checkpointed_layer(batch=batch, sequence=sequence, width=sizes.width, dtype=dtype)
    elif recompute == "selective":
        layer = replace(layer, terms=tuple(each for each in layer if each.name != "attention_scores"))
    if sequence_parallel:
        divided("sequence", sequence, "tensor parallel size", tensor)
        layer = replace(layer, terms=tuple(_split(each, tensor) for each in layer))
    return sizes.layers * layer


def _split(term: ByteTerm, tensor: int) -> ByteTerm:
    if term.name not in (*_BY_POSITION, "layer_input"):
        return term
    # The sequence divides by t, so what is per position does too.
    return ByteTerm(name=term.name, equation=f"{term.equation}/t", bytes=term.bytes // tensor)


def _layer(
    sizes: DecoderSizes, batch: int, sequence: int, dtype: str, flash: bool, tensor: int, norm: str
) -> ByteTerms:
    for name, value in (("experts", sizes.experts), ("latent", sizes.latent)):
        if value is not None:
            rule = f"none: what a layer with {name} keeps depends on its kernels"
            raise SizeError(message("bad-size", name=name, value=value, rule=rule))
    if sizes.gated and not flash:
        rule = "true for a gated MLP: what unfused grouped attention keeps was not measured"
        raise SizeError(message("bad-size", name="flash", value=flash, rule=rule))
    heads = divided("heads", sizes.heads, "tensor parallel size", tensor)
    groups = heads_on_device(sizes.kv_heads, tensor)
    ff = divided("ff", sizes.ff, "tensor parallel size", tensor)
    if sizes.gated:
        return llama_layer(
            batch=batch,
            sequence=sequence,
            width=sizes.width,
            heads=heads,
            kv_heads=groups,
            head_dim=sizes.head_dim,
            ff=ff,
            dtype=dtype,
            norm=norm,
        )
    return gpt_layer(
        batch=batch,
        sequence=sequence,
        width=sizes.width,
        heads=heads,
        kv_heads=groups,
        head_dim=sizes.head_dim,
        ff=ff,
        dtype=dtype,
        dropout="none",
        flash=flash,
    )
