"""Decoder-only transformers: GPT, Llama, Mixtral, DeepSeek and their kin, from one set of sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from pytest_flopguard.core.errors import SizeError, message
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.architectures.pairs import causal_pairs, convention, dense_pairs
from pytest_flopguard.formulas.breakdown import Breakdown, Term
from pytest_flopguard.formulas.sizes import positive, whole

SOURCE = "Korthikanti et al. 2022, arXiv 2205.05198, eq. 7; DeepSeek-V2, arXiv 2405.04434, section 2.1"


def decoder(
    sizes: DecoderSizes,
    *,
    batch: int = 1,
    seq: int,
    past: int = 0,
    attention: str = "dense",
    logits: int | None = None,
    keys: Sequence[int] = (),
    latents: Sequence[int] = (),
    modules: Mapping[str, str] | None = None,
) -> Breakdown:
    """FLOPs of a decoder-only transformer on ``batch`` sequences of ``seq`` new tokens.

    Each layer: qkv 2*B*s*h*(a*d + 2*g*d), attention scores and values 2*B*a*d*pairs each, out 2*B*s*a*d*h, and an MLP
    of 2 or (gated) 3 matrices 2*B*s*{2,3}*h*f, or a router 2*B*s*h*E and k experts 2*B*s*k*{2,3}*h*e. Latent attention:
    2*B*s*(h*q + q*a*(n + r) + h*(c + r) + c*a*(n + v) + a*v*h), scores over n + r and values over v dimensions.
    Then logits 2*B*s*h*V. With multi-head attention, f = 4*h and no gate the dense sum is B*L*(24*s*h^2 + 4*s^2*h)
    + 2*B*s*h*V.

    Symbols: B batch, s new tokens, t keys, h width, L layers, a heads, g key heads, d head width, f MLP width,
    V vocabulary. Conventions: 1 multiply-add = 2 FLOPs; the embedding lookup is free; biases, norms, softmax,
    positions and activations are left out. ``attention="dense"`` counts every query with every key, windows
    or not, as masked kernels compute it; ``"causal"`` only the pairs that the mask leaves: s*(s + 1)/2, and s*w
    - w*(w - 1)/2 under a window of w keys. ``past`` tokens lie in the cache; that of latent attention holds latents,
    and keys and values of all t positions are rebuilt from them (as transformers does, with nothing absorbed into the
    queries). ``logits`` are the positions of each sequence that get logits, all by default. ``keys`` overrides the
    dense number of keys layer by layer, ``latents`` that of positions rebuilt from latents. ``modules`` are regular
    expressions of module paths by term name.

    Sources: Kaplan et al. 2020 (arXiv 2001.08361) section 2.1 for the terms, Narayanan et al. 2021 (arXiv 2104.04473)
    eq. 3 and Korthikanti et al. 2022 (arXiv 2205.05198) eq. 7 for the sum, Harm de Vries 2023 for the causal count,
    DeepSeek-V2 (arXiv 2405.04434) section 2.1 for latent attention.
    """
    positive("batch", batch)
    positive("seq", seq)
    whole("past", past)
    positions = seq if logits is None else whole("logits", logits)
    for name, lengths in (("keys", keys), ("latents", latents)):
        if lengths and len(lengths) != sizes.layers:
            rule = f"one for each of layers = {sizes.layers}"
            raise SizeError(message("bad-size", name=name, value=f"{len(lengths)} lengths", rule=rule))
    terms = [
        *_projections(sizes, batch, seq, past, latents or keys),
        *_core(sizes, batch, seq, past, attention, keys),
        *_mixing(sizes, batch * seq),
    ]
    if positions:
        symbol = "B*s" if positions == seq else ("B" if positions == 1 else f"B*{positions}")
        terms.append(sizes.head_matrix().term(batch * positions, symbol))
    symbols = {"B": batch, "s": seq, "t": past + seq} | ({"p": past} if past else {}) | sizes.symbols
    return Breakdown(
        name=sizes.name,
        terms=tuple(replace(each, modules=(modules or {}).get(each.name, "")) for each in terms),
        symbols=MappingProxyType(symbols),
        source=SOURCE,
        attention=convention(attention),
    )


def decode_token(sizes: DecoderSizes, *, past: int, batch: int = 1, attention: str = "dense") -> Breakdown:
    """FLOPs of one new token after ``past`` tokens that lie in the cache: ``decoder`` with s = 1.

    Close to 2*N + 4*L*a*d*t for N matrix parameters and t = past + 1 keys (Pope et al. 2022, arXiv 2211.05102).
    """
    return decoder(sizes, batch=batch, seq=1, past=past, attention=attention)


def _projections(sizes: DecoderSizes, batch: int, seq: int, past: int, latents: Sequence[int]) -> Iterator[Term]:
    for matrix in sizes.attention_matrices():
        if matrix.name != "kv_up":
            yield matrix.term(batch * seq, "B*s", times=sizes.layers)
            continue
        # The cache holds latents: keys and values of all positions are rebuilt from them.
        for length, layers in Counter(latents or (past + seq,) * sizes.layers).items():
            yield matrix.term(batch * length, "B*t" if length == past + seq else f"B*{length}", times=layers)


def _mixing(sizes: DecoderSizes, tokens: int) -> Iterator[Term]:
    dense = sizes.layers - sizes.expert_layers
    if dense:
        yield from (matrix.term(tokens, "B*s", times=dense) for matrix in sizes.mlp_matrices())
    if sizes.expert_layers:
        yield from (matrix.term(tokens, "B*s", times=sizes.expert_layers) for matrix in sizes.expert_matrices())


def _core(sizes: DecoderSizes, batch: int, seq: int, past: int, attention: str, keys: Sequence[int]) -> Iterator[Term]:
    """Yield scores and values for each number of pairs that some layers have."""
    found: Counter[tuple[int, str]] = Counter()
    windows = sizes.windows or (0,) * sizes.layers
    for layer, window in enumerate(windows):
        if convention(attention) == "causal":
            found[causal_pairs(seq, past, window)] += 1
        elif keys and keys[layer] != past + seq:
            found[dense_pairs(seq, keys[layer])[0], f"s*{keys[layer]}"] += 1
        else:
            found[dense_pairs(seq, past + seq)] += 1
    score, value = ("(n + r)", "v") if sizes.latent else ("d", "d")
    for name, symbol, size in (
        ("attention_scores", score, sizes.query_width),
        ("attention_values", value, sizes.value_width),
    ):
        for (pairs, equation), layers in found.items():
            each = 2 * batch * sizes.heads * size * pairs
            yield Term(name=name, equation=f"2*B*a*{symbol}*{equation}", each=each, times=layers)
