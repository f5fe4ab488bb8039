"""Memory of a decoder-only transformer from the same sizes that its FLOPs come from."""

from __future__ import annotations

from dataclasses import replace

from pytest_flopguard.core.errors import SizeError, message, unknown_name
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes, Experts
from pytest_flopguard.formulas.memory.activations import RECOMPUTE
from pytest_flopguard.formulas.memory.byte_terms import ByteTerm, ByteTerms
from pytest_flopguard.formulas.memory.kv_cache import LayerCache, grouped, heads_on_device, kv_cache_bytes, latent
from pytest_flopguard.formulas.memory.saved_experts import mixtral_experts
from pytest_flopguard.formulas.memory.saved_tensors import checkpointed_layer, gpt_layer, llama_layer
from pytest_flopguard.formulas.sizes import divided, positive

# These are computed on positions, not on heads, so only sequence parallelism divides them.
_BY_POSITION = ("norms", "norm_statistics", "layer_input")


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
    experts: str = "grouped_mm",
    unfused_gelu: bool = False,
) -> ByteTerms:
    """Bytes that all layers keep for the backward on one of ``tensor`` devices; no dropout.

    Gated layers are ``llama_layer`` (with ``mixtral_experts`` for the MLP, run as ``experts`` says), others
    ``gpt_layer``, which can do without ``flash``. Tensor parallelism divides heads and f, and sequence parallelism
    what is kept per position. ``recompute="selective"`` drops the scores, ``"full"`` keeps e*sbh a layer, of any kind.
    What is kept outside the layers, logits above all, is ``saved_tensors.llama_edges``. SizeError for a layer that was
    not measured: latent attention, shared experts, other numbers of norms, gated without ``flash``.

    Sizes do not say whose code runs. Exact for transformers' Llama, Mistral, Qwen2, Qwen3, Mixtral, StarCoder2 and
    GPT-2 (its ``gelu_new`` is ``unfused_gelu``) with dropout 0 and SDPA; Gemma, Phi-3 and GPT-NeoX keep more.
    """
    if recompute not in RECOMPUTE:
        raise unknown_name("recompute", recompute, RECOMPUTE)
    shards = positive("tensor parallel size", tensor)
    if recompute == "full":
        layer = checkpointed_layer(batch=batch, sequence=sequence, width=sizes.width, dtype=dtype)
    elif sizes.gated or sizes.experts:
        _check_llama(sizes, flash=flash, tensor=shards)
        layer = _llama(sizes, batch, sequence, dtype, shards, norm, experts)
    else:
        layer = _gpt(sizes, batch, sequence, dtype, shards, flash, unfused_gelu)
    if recompute == "selective":
        layer = replace(layer, terms=tuple(each for each in layer if each.name != "attention_scores"))
    if sequence_parallel:
        divided("sequence", sequence, "tensor parallel size", shards)
        layer = replace(layer, terms=tuple(_split(each, shards) for each in layer))
    return sizes.layers * layer


def _split(term: ByteTerm, tensor: int) -> ByteTerm:
    if term.name not in _BY_POSITION:
        return term
    # The sequence divides by t, so what is per position does too.
    return ByteTerm(name=term.name, equation=f"{term.equation}/t", bytes=term.bytes // tensor)


def _refuse(name: str, value: object, rule: str) -> None:
    raise SizeError(message("bad-size", name=name, value=value, rule=f"{rule}: no other layer was measured"))


def _check_llama(sizes: DecoderSizes, *, flash: bool, tensor: int) -> None:
    _check_norms(sizes)
    mixture = sizes.experts
    if not flash:
        _refuse("flash", flash, "True for a gated MLP")
    if sizes.layer_extra not in (0, 2 * sizes.head_dim):
        _refuse("layer_extra", sizes.layer_extra, "0, or the norms of query and key heads")
    if mixture is not None and (mixture.shared_ff or not mixture.gated or sizes.dense_layers or sizes.layer_extra):
        _refuse("experts", mixture, "gated experts in all layers, none shared, no norms of heads")
    if mixture is not None and tensor > 1:
        _refuse("tensor parallel size", tensor, "1 with experts")


def _check_norms(sizes: DecoderSizes) -> None:
    if sizes.latent is not None:
        _refuse("latent", sizes.latent, "no latent attention")
    if sizes.layer_norms != 2:
        _refuse("layer_norms", sizes.layer_norms, "2")


def _llama(
    sizes: DecoderSizes, batch: int, sequence: int, dtype: str, tensor: int, norm: str, implementation: str
) -> ByteTerms:
    mixture = sizes.experts
    layer = llama_layer(
        batch=batch,
        sequence=sequence,
        width=sizes.width,
        heads=divided("heads", sizes.heads, "tensor parallel size", tensor),
        kv_heads=heads_on_device(sizes.kv_heads, tensor),
        head_dim=sizes.head_dim,
        ff=mixture.ff if mixture else divided("ff", sizes.ff, "tensor parallel size", tensor),
        dtype=dtype,
        norm=norm,
        head_norms=bool(sizes.layer_extra),
    )
    if mixture is None:
        return layer
    around = tuple(each for each in layer if each.name != "mlp")
    return replace(layer, terms=(*around, *_experts(sizes, mixture, batch, sequence, dtype, implementation)))


def _experts(
    sizes: DecoderSizes, mixture: Experts, batch: int, sequence: int, dtype: str, implementation: str
) -> tuple[ByteTerm, ...]:
    return mixtral_experts(
        batch=batch,
        sequence=sequence,
        width=sizes.width,
        ff=mixture.ff,
        experts=mixture.number,
        top_k=mixture.top_k,
        dtype=dtype,
        implementation=implementation,
    )


def _gpt(
    sizes: DecoderSizes, batch: int, sequence: int, dtype: str, tensor: int, flash: bool, unfused_gelu: bool
) -> ByteTerms:
    _check_norms(sizes)
    if sizes.layer_extra:
        _refuse("layer_extra", sizes.layer_extra, "0")
    return gpt_layer(
        batch=batch,
        sequence=sequence,
        width=sizes.width,
        heads=divided("heads", sizes.heads, "tensor parallel size", tensor),
        kv_heads=heads_on_device(sizes.kv_heads, tensor),
        head_dim=sizes.head_dim,
        ff=divided("ff", sizes.ff, "tensor parallel size", tensor),
        dtype=dtype,
        dropout="none",
        flash=flash,
        unfused_gelu=unfused_gelu,
    )
