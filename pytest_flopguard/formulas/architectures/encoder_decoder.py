"""Encoder-decoder transformers: the original one, T5, and the text half of Whisper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from pytest_flopguard.formulas.architectures.block import Block
from pytest_flopguard.formulas.architectures.pairs import causal_pairs, convention, dense_pairs
from pytest_flopguard.formulas.breakdown import Breakdown, Term
from pytest_flopguard.formulas.sizes import positive, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderDecoderSizes:
    """Sizes of an encoder-decoder. ``encoder`` and ``decoder`` are their blocks, of one width.

    ``relative_buckets`` are rows of a table of relative positions in each half (T5), ``positions`` rows of learned
    ones; ``outer_norms`` are norms outside the blocks.
    """

    name: str = "encoder-decoder"
    encoder: Block
    decoder: Block
    encoder_layers: int
    decoder_layers: int
    vocab: int
    tied: bool = True
    relative_buckets: int = 0
    outer_norms: int = 2

    def __post_init__(self) -> None:
        for name in ("encoder_layers", "decoder_layers", "vocab"):
            positive(name, getattr(self, name))
        for name in ("relative_buckets", "outer_norms"):
            whole(name, getattr(self, name))


def encoder_decoder(
    sizes: EncoderDecoderSizes,
    *,
    batch: int = 1,
    source: int,
    target: int,
    past: int = 0,
    keys: int = 0,
    attention: str = "dense",
    encode: bool = True,
    cross_cached: bool = False,
    source_gradient: bool = True,
    logits: int | None = None,
    modules: Mapping[str, str] | None = None,
) -> Breakdown:
    """FLOPs of an encoder-decoder: ``source`` tokens encoded, ``target`` new tokens decoded after ``past`` ones.

    Encoder layer: 2*B*S*(4*h*a*d + {2,3}*h*f) + 4*B*a*d*S^2. Decoder layer: 2*B*s*(4*h*a*d + {2,3}*h*f) + 4*B*a*d*pairs
    of its own, and over the encoder's output q and out 4*B*s*h*a*d, k and v 4*B*S*h*a*d, scores and values 4*B*a*d*s*S.
    Logits 2*B*s*h*V.

    Symbols: B batch, S source tokens, s target tokens, t = past + s keys, h width, a heads, d head width, f MLP width,
    V vocabulary. Conventions: 1 multiply-add = 2 FLOPs; lookups, biases, norms, softmax and activations are left out.
    ``attention="causal"`` halves the decoder's own attention only. ``encode=False`` leaves the encoder out, and with
    ``source_gradient=False`` the output that is given in its place gets no gradient,
    ``cross_cached=True`` the keys and values of its output, as in every decoding step but the first. ``keys`` overrides
    the dense number of keys of the decoder's own attention. ``target=0`` is the encoder alone.

    Source: Vaswani et al. 2017 (arXiv 1706.03762) section 3.2.3; Raffel et al. 2019 (arXiv 1910.10683) for T5.
    """
    positive("batch", batch)
    positive("source", source)
    whole("target", target)
    terms: list[Term] = []
    if encode:
        terms += encoder_terms(sizes.encoder, batch, source, sizes.encoder_layers)
    if target:
        seen = keys or past + target
        pairs = causal_pairs(target, past) if convention(attention) == "causal" else dense_pairs(target, seen)
        block, layers = sizes.decoder, sizes.decoder_layers
        terms += block.self_attention(batch, target, seen, pairs, layers)
        terms += block.cross_attention(
            batch, target, source, layers, cached=cross_cached, source_gradient=source_gradient
        )
        terms.append(block.mlp.term(batch * target, "B*s", times=layers))
        positions = target if logits is None else whole("logits", logits)
        if positions:
            symbol = "B*s" if positions == target else f"B*{positions}"
            each = 2 * batch * positions * block.width * sizes.vocab
            terms.append(Term(name="lm_head", equation=f"2*{symbol}*h*V", each=each))
    symbols = {"B": batch, "S": source, "s": target, "t": keys or past + target, "p": past, "V": sizes.vocab}
    return Breakdown(
        name=sizes.name,
        terms=tuple(replace(each, modules=(modules or {}).get(each.name, "")) for each in terms),
        symbols=MappingProxyType(symbols | _symbols(sizes)),
        source="Vaswani et al. 2017, arXiv 1706.03762, section 3.2.3; Raffel et al. 2019, arXiv 1910.10683",
        attention=convention(attention),
    )


def encoder_terms(block: Block, batch: int, source: int, layers: int) -> list[Term]:
    """Return the terms of an encoder's blocks on ``source`` positions, with names and symbols of their own."""
    terms = [
        *block.self_attention(batch, source, source, (source * source, "S*S"), layers),
        block.mlp.term(batch * source, "B*s", times=layers),
    ]
    return [
        replace(
            each,
            name=f"encoder_{each.name}",
            equation=each.equation.replace("*s*", "*S*").replace("*f", "*F"),
        )
        for each in terms
    ]


def encoder_decoder_parameters(sizes: EncoderDecoderSizes) -> dict[str, int]:
    """Parameters of an encoder-decoder by part, exact, shared ones once.

    T5: V*h, a table of relative positions for each half, blocks of 4*h*a*d + {2,3}*h*f + 2*h (decoder 8*h*a*d and 3*h),
    two norms, and V*h more where the head is not tied.
    """
    h = sizes.encoder.width
    norm = h * (2 if sizes.encoder.norm_bias else 1)
    found = {
        "embedding": sizes.vocab * h,
        "relative_positions": sizes.relative_buckets * (sizes.encoder.heads + sizes.decoder.heads),
        "encoder": sizes.encoder_layers * sizes.encoder.parameters(),
        "decoder": sizes.decoder_layers * sizes.decoder.parameters(attentions=2),
        "norms": sizes.outer_norms * norm,
        "lm_head": 0 if sizes.tied else sizes.vocab * h,
    }
    return {name: number for name, number in found.items() if number}


def _symbols(sizes: EncoderDecoderSizes) -> dict[str, int]:
    return {**sizes.decoder.symbols, "F": sizes.encoder.ff}
