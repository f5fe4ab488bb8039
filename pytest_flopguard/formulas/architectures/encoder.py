"""Encoders such as BERT: every position meets every other, and a head for the task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from pytest_flopguard.formulas.architectures.block import Block
from pytest_flopguard.formulas.architectures.pairs import dense_pairs
from pytest_flopguard.formulas.breakdown import Breakdown, Term
from pytest_flopguard.formulas.sizes import positive, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSizes:
    """Sizes of an encoder. ``positions`` and ``types`` are rows of learned tables.

    Its heads: ``pooler``, a matrix on the first position; ``masked_lm``, a matrix and the tied logits on all
    positions; ``labels`` on the first or, with ``each_position``, on all of them.
    """

    name: str = "encoder"
    block: Block
    layers: int
    vocab: int
    positions: int
    types: int = 0
    pooler: bool = False
    masked_lm: bool = False
    labels: int = 0
    each_position: bool = False

    def __post_init__(self) -> None:
        for name in ("layers", "vocab"):
            positive(name, getattr(self, name))
        for name in ("positions", "types", "labels"):
            whole(name, getattr(self, name))


def encoder(sizes: EncoderSizes, *, batch: int = 1, seq: int, modules: Mapping[str, str] | None = None) -> Breakdown:
    """FLOPs of an encoder on ``batch`` sequences of ``seq`` tokens.

    Each layer: qkv 2*B*s*3*h*a*d, scores and values 2*B*a*d*s*s each, out 2*B*s*a*d*h, MLP 2*B*s*2*h*f; with a*d = h
    and f = 4*h that is 24*B*s*h^2 + 4*B*s^2*h. Heads: pooler 2*B*h^2 (the first position only), masked language model
    2*B*s*(h^2 + h*V), labels 2*B*h*c or 2*B*s*h*c.

    Symbols: B batch, s tokens, h width, L layers, a heads, d head width, f MLP width, V vocabulary, c labels.
    Conventions: 1 multiply-add = 2 FLOPs; attention is dense, there is no causal form; embedding lookups are free;
    biases, norms, softmax and activations are left out.

    Source: Vaswani et al. 2017 (arXiv 1706.03762) section 3; Devlin et al. 2018 (arXiv 1810.04805) for the heads.
    """
    positive("batch", batch)
    positive("seq", seq)
    block, h, V = sizes.block, sizes.block.width, sizes.vocab
    terms = [
        *block.self_attention(batch, seq, seq, dense_pairs(seq, seq), sizes.layers),
        block.mlp.term(batch * seq, "B*s", times=sizes.layers),
    ]
    if sizes.pooler:
        terms.append(Term(name="pooler", equation="2*B*h*h", each=2 * batch * h * h))
    if sizes.masked_lm:
        terms.append(Term(name="transform", equation="2*B*s*h*h", each=2 * batch * seq * h * h))
        terms.append(Term(name="lm_head", equation="2*B*s*h*V", each=2 * batch * seq * h * V))
    if sizes.labels:
        places, symbol = (batch * seq, "B*s") if sizes.each_position else (batch, "B")
        terms.append(Term(name="classifier", equation=f"2*{symbol}*h*c", each=2 * places * h * sizes.labels))
    symbols = {"B": batch, "s": seq, "t": seq, "L": sizes.layers, "V": V, **block.symbols}
    return Breakdown(
        name=sizes.name,
        terms=tuple(replace(each, modules=(modules or {}).get(each.name, "")) for each in terms),
        symbols=MappingProxyType(symbols | ({"c": sizes.labels} if sizes.labels else {})),
        source="Vaswani et al. 2017, arXiv 1706.03762, section 3; Devlin et al. 2018, arXiv 1810.04805",
    )


def encoder_parameters(sizes: EncoderSizes) -> dict[str, int]:
    """Parameters of an encoder by part, exact: tables, a norm after them, blocks, heads.

    BERT: (V + positions + types)*h + 2*h + L*(12*h^2 + 13*h) + h^2 + h.
    """
    block, h = sizes.block, sizes.block.width
    found = {
        "embedding": sizes.vocab * h,
        "positions": sizes.positions * h,
        "types": sizes.types * h,
        "norms": (1 + sizes.layers * block.norms) * h * (2 if block.norm_bias else 1),
        "attention": sizes.layers * block.attention_parameters(),
        "mlp": sizes.layers * block.mlp.parameters,
        "pooler": (h * h + h) * sizes.pooler,
        # The logits share the embedding, and have a bias.
        "lm_head": (h * h + 3 * h + sizes.vocab) * sizes.masked_lm,
        "classifier": (h + 1) * sizes.labels,
    }
    return {name: number for name, number in found.items() if number}
