"""Sparse patterns by position: closed forms, small models and transformers' own, counted; growth with length."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BigBirdConfig, BigBirdModel, LongformerConfig, LongformerModel
from zoo.blockwise import BlockwiseAttention
from zoo.linformer import LinformerAttention
from zoo.sparse_transformer import GatheredAttention, MaskedAttention, fixed_mask, strided_mask

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.architectures.mixer import projections
from pytest_flopguard.formulas.architectures.sparse_attention import (
    bigbird,
    blockwise,
    linformer,
    longformer,
    sliding_window,
    softmax,
    sparse_fixed,
    sparse_strided,
)

B, D, H = 2, 32, 4
LENGTHS = (64, 256, 1024)

ALL = {
    "softmax": softmax(batch=3, seq=10, width=7, keys=5),
    "strided": sparse_strided(batch=3, seq=20, width=7, stride=5),
    "strided, causal": sparse_strided(batch=3, seq=20, width=7, stride=5, causal=True),
    "fixed": sparse_fixed(batch=3, seq=20, width=7, stride=5, summary=2),
    "fixed, causal": sparse_fixed(batch=3, seq=20, width=7, stride=5, summary=2, causal=True),
    "blockwise": blockwise(batch=3, seq=20, width=7, blocks=4),
    "window": sliding_window(batch=3, seq=20, width=7, window=2),
    "longformer": longformer(batch=3, seq=20, width=7, window=2, global_tokens=3),
    "bigbird": bigbird(batch=3, seq=40, width=7, block=2, random_blocks=3),
    "bigbird, short": bigbird(batch=3, seq=22, width=7, block=2, random_blocks=3),
    "linformer": linformer(batch=3, seq=20, width=7, rank=4),
}


@pytest.mark.parametrize("name", ALL)
def test_equations(equations_hold, name):
    equations_hold(ALL[name])


def test_by_hand():
    # 3 x 10 queries x 5 keys, 7 wide: 2*3*10*5*7 = 2100 for scores and for values.
    assert ALL["softmax"].by_name() == {"scores": 2100, "values": 2100}
    # 20 positions in 4 blocks of 5: 5 + 5 near and 4 far keys each: 2*3*7*20*14 = 11,760, twice.
    assert ALL["strided"].forward == 2 * 11_760
    # 5 near keys and 2 of each of 4 blocks: 2*3*7*20*13 = 10,920, twice.
    assert ALL["fixed"].forward == 2 * 10_920
    # Blocks of 5: 2*3*7*20*5 = 4,200, twice.
    assert ALL["blockwise"].forward == 2 * 4_200
    assert ALL["window"].forward == 2 * 4_200
    # 8*3*2*18*7 + 6*3*20*2*7 = 6,048 + 5,040; 4 products of 3 global tokens with all: 4 * 2*3*3*20*7 = 10,080;
    # projections of 3 + 20 + 20 positions: 2*3*43*7*7 = 12,642.
    assert ALL["longformer"].forward == 6_048 + 5_040 + 10_080 + 12_642
    # 20 blocks of 2: 4 * (2*20 + 2*7 + 16*8) = 728 pairs, 2*3*7 FLOPs each, twice.
    assert ALL["bigbird"].forward == 2 * 42 * 728
    # 22 positions = 11 blocks, not more than 5 + 2*3: dense.
    assert ALL["bigbird, short"].forward == 2 * 42 * 22 * 22
    assert ALL["linformer"].forward == 4 * 2 * 3 * 20 * 4 * 7


@pytest.mark.parametrize(("length", "stride"), [(4, 4), (8, 4), (12, 4), (36, 6), (64, 8), (10, 1)])
def test_causal_pairs_are_those_of_the_mask(length, stride):
    strided = sparse_strided(seq=length, width=1, stride=stride, causal=True)
    assert strided.forward == 4 * int(strided_mask(length, stride).sum())
    fixed = sparse_fixed(seq=length, width=1, stride=stride, causal=True)
    assert fixed.forward == 4 * int(fixed_mask(length, stride, 1).sum())
    assert strided.forward < sparse_strided(seq=length, width=1, stride=stride).forward
    assert fixed.forward < sparse_fixed(seq=length, width=1, stride=stride).forward


def around(mixer, length: int):
    return projections(batch=B, seq=length, width=D) + mixer


@pytest.mark.parametrize("summary", [None, 1, 2])
def test_a_mask_saves_nothing(measured, tokens, summary):
    n, s = 64, 8
    mask = strided_mask(n, s) if summary is None else fixed_mask(n, s, summary)
    masked, gathered = MaskedAttention(D, H, mask), GatheredAttention(D, H, s, summary)
    gathered.load_state_dict(masked.state_dict())
    torch.testing.assert_close(masked(tokens(B, n, D)), gathered(tokens(B, n, D)))
    full = around(softmax(batch=B, seq=n, width=D), n)
    # Masked: 4*B*n*n*d beside the projections, as if nothing were sparse.
    assert measured(masked, tokens(B, n, D)) == (full.forward, full.backward)
    assert full.forward == 8 * B * n * D * D + 4 * B * n * n * D
    if summary is None:
        sparse = around(sparse_strided(batch=B, seq=n, width=D, stride=s), n)
    else:
        sparse = around(sparse_fixed(batch=B, seq=n, width=D, stride=s, summary=summary), n)
    assert measured(gathered, tokens(B, n, D)) == (sparse.forward, sparse.backward)


def test_blockwise(measured, tokens):
    n, blocks = 64, 4
    mixer = BlockwiseAttention(D, H, blocks)
    form = around(blockwise(batch=B, seq=n, width=D, blocks=blocks), n)
    assert measured(mixer, tokens(B, n, D)) == (form.forward, form.backward)
    # One block is plain attention.
    assert blockwise(seq=n, width=D, blocks=1).forward == softmax(seq=n, width=D).forward


def test_linformer(measured, tokens):
    n, k = 96, 8
    form = around(linformer(batch=B, seq=n, width=D, rank=k), n)
    assert measured(LinformerAttention(D, H, n, k), tokens(B, n, D)) == (form.forward, form.backward)


def encoder_linear(length: int, width: int, inner: int) -> int:
    """Projections and the two matrices of the MLP."""
    return 2 * B * length * (4 * width * width + 2 * width * inner)


def longformer_model(layers: int, n: int, w: int) -> LongformerModel:
    config = LongformerConfig(
        hidden_size=D, num_hidden_layers=layers, num_attention_heads=H, intermediate_size=64, vocab_size=50,
        attention_window=2 * w, max_position_embeddings=n + 2, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return LongformerModel(config, add_pooling_layer=False)


def bigbird_model(layers: int, n: int, block: int, random_blocks: int) -> BigBirdModel:
    config = BigBirdConfig(
        hidden_size=D, num_hidden_layers=layers, num_attention_heads=H, intermediate_size=64, vocab_size=70,
        block_size=block, num_random_blocks=random_blocks, max_position_embeddings=n, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BigBirdModel(config, add_pooling_layer=False)


@pytest.mark.parametrize("global_tokens", [0, 1, 3])
def test_longformer_of_transformers(measured, global_tokens):
    layers, n, w = 2, 64, 8
    model = longformer_model(layers, n, w)
    marked = torch.zeros(B, n, dtype=torch.long)
    marked[:, :global_tokens] = 1
    mixer = layers * longformer(batch=B, seq=n, width=D, window=w, global_tokens=global_tokens)
    forward = layers * encoder_linear(n, D, 64) + mixer.forward
    run = measured(model, torch.randint(4, 50, (B, n)), global_attention_mask=marked)
    assert run == (forward, 2 * forward)
    # Chunks cost about 14*n*w*d where the paper's windows would cost 4*n*d*(2w + 1).
    assert mixer.forward > layers * sliding_window(batch=B, seq=n, width=D, window=w).forward


@pytest.mark.parametrize("length", [40, 44, 64])
def test_bigbird_of_transformers(measured, length):
    layers, block, random_blocks = 2, 4, 3
    # (5 + 2*3) * 4 = 44: up to there, transformers computes every score.
    mixer = layers * bigbird(batch=B, seq=length, width=D, block=block, random_blocks=random_blocks)
    full = layers * softmax(batch=B, seq=length, width=D)
    assert (mixer.forward == full.forward) == (length <= 44)
    forward = layers * encoder_linear(length, D, 64) + mixer.forward
    model = bigbird_model(layers, 64, block, random_blocks)
    assert measured(model, torch.randint(4, 50, (B, length))) == (forward, 2 * forward)


def grown(measured, tokens, lengths, build) -> list[int]:
    """Forward FLOPs of the mixer alone, without its projections."""
    return [
        measured(build(n), tokens(1, n, D), backward=False).forward - projections(seq=n, width=D).forward
        for n in lengths
    ]


def test_growth(measured, tokens, slope):
    def root(n: int) -> int:
        return round(n**0.5)

    def fitted(build) -> float:
        return slope(LENGTHS, grown(measured, tokens, LENGTHS, build))

    # Every term of these has the same power of n, so the fit is exact but for float logarithms.
    assert fitted(lambda n: MaskedAttention(D, H, strided_mask(n, root(n)))) == pytest.approx(2, abs=1e-9)
    assert fitted(lambda n: GatheredAttention(D, H, root(n))) == pytest.approx(1.5, abs=1e-9)
    assert fitted(lambda n: GatheredAttention(D, H, root(n), 1)) == pytest.approx(1.5, abs=1e-9)
    assert fitted(lambda _: BlockwiseAttention(D, H, 4)) == pytest.approx(2, abs=1e-9)
    assert fitted(lambda n: LinformerAttention(D, H, n, 16)) == pytest.approx(1, abs=1e-9)


def test_growth_of_transformers_models(measured, slope):
    # Both lose something at the ends only, less and less of the whole: the slope comes to 1 from above.
    lengths = (512, 1024, 2048)

    def fitted(build) -> float:
        counts = [
            measured(build(n), torch.randint(4, 50, (B, n)), backward=False).forward - encoder_linear(n, D, 64)
            for n in lengths
        ]
        return slope(lengths, counts)

    assert fitted(lambda n: longformer_model(1, n, 8)) == pytest.approx(1, abs=0.01)
    assert fitted(lambda n: bigbird_model(1, n, 4, 3)) == pytest.approx(1, abs=0.01)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 64))
def test_a_pattern_never_has_more_pairs_than_all(stride, blocks, width):
    length = stride * blocks
    every = softmax(seq=length, width=width).forward
    assert sparse_strided(seq=length, width=width, stride=stride, causal=True).forward <= every
    assert sparse_fixed(seq=length, width=width, stride=stride, causal=True).forward <= every
    assert blockwise(seq=length, width=width, blocks=blocks).forward <= every


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (lambda: softmax(seq=0, width=4), "seq"),
        (lambda: softmax(seq=4, width=4, batch=1.0), "batch"),
        (lambda: sparse_strided(seq=10, width=4, stride=4), "a multiple of stride = 4"),
        (lambda: sparse_fixed(seq=10, width=4, stride=4), "a multiple of stride = 4"),
        (lambda: blockwise(seq=10, width=4, blocks=3), "a multiple of blocks = 3"),
        (lambda: longformer(seq=24, width=4, window=8), r"a multiple of 2 \* window = 16"),
        (lambda: longformer(seq=16, width=4, window=8, global_tokens=-1), "global_tokens"),
        (lambda: bigbird(seq=10, width=4, block=4, random_blocks=3), "a multiple of block = 4"),
        (lambda: linformer(seq=10, width=4, rank=0), "rank"),
    ],
)
def test_bad_sizes(form, told):
    with pytest.raises(SizeError, match=told):
        form()
