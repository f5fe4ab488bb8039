"""Sparse patterns by content: closed forms, small models and transformers' Reformer, counted; growth with length."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import ReformerConfig, ReformerModel
from zoo.clustered import ClusteredAttention
from zoo.routing import RoutingAttention
from zoo.sinkhorn import SinkhornAttention

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.architectures.content_attention import (
    chunked_local,
    clustered,
    reformer,
    routing,
    sinkhorn,
)
from pytest_flopguard.formulas.architectures.mixer import projections

B, D, H = 2, 32, 4
LENGTHS = (64, 256, 1024)

ALL = {
    "reformer": reformer(batch=3, seq=20, width=7, chunk=5, hashes=2, buckets=6),
    "reformer, both sides": reformer(batch=3, seq=20, width=7, chunk=5, hashes=2, buckets=6, after=1),
    "local": chunked_local(batch=3, seq=20, width=7, chunk=5),
    "routing": routing(batch=3, seq=20, width=7, clusters=4),
    "routing, both ways": routing(batch=3, seq=20, width=7, clusters=4, causal=False),
    "clustered": clustered(batch=3, seq=20, width=8, heads=2, clusters=4, bits=5),
    "clustered, improved": clustered(batch=3, seq=20, width=8, heads=2, clusters=4, bits=5, top_keys=3),
    "sinkhorn": sinkhorn(batch=3, seq=20, width=7, blocks=4),
}


@pytest.mark.parametrize("name", ALL)
def test_equations(equations_hold, name):
    equations_hold(ALL[name])


def test_by_hand():
    # 2 rounds on 3 x 20 positions: 3 directions of 7 in each, 2*60*7*2*3 = 5,040; 10 keys each, 2*2*60*10*7 = 16,800.
    assert ALL["reformer"].by_name() == {"scores": 16_800, "values": 16_800, "hash": 5_040}
    # 8*n*c*d for each round and item.
    assert ALL["reformer"].forward - 5_040 == 8 * 20 * 5 * 7 * 2 * 3
    # One round, no hash.
    assert ALL["local"].forward == 16_800
    # 4 centroids: 2*60*4*7 = 3,360; 5 positions in each cluster: 4*60*5*7 = 8,400.
    assert ALL["routing"].by_name() == {"scores": 4_200, "values": 4_200, "hash": 3_360}
    assert ALL["routing, both ways"].by_name()["hash"] == 6_720
    # 5 bits: 2*60*5*8 = 4,800; 4 centroids on 20 keys, 8 wide: 2*3*4*20*8 = 3,840; 3 keys of one's own: 2*60*3*8.
    assert ALL["clustered"].by_name() == {"hash": 4_800, "scores": 3_840, "values": 3_840}
    assert ALL["clustered, improved"].forward == 4_800 + 2 * 3_840 + 2 * 2_880
    # 2*3*4*4*7 = 672 logits; [4, 4] @ [4, 35] twice: 2*2*3*4*20*7 = 6,720; 10 keys: 2*60*10*7 = 8,400, twice.
    assert ALL["sinkhorn"].by_name() == {"scores": 8_400, "values": 8_400, "sort": 6_720, "sort_logits": 672}


@pytest.mark.parametrize("causal", [True, False])
def test_routing(measured, tokens, causal):
    n, k = 64, 8
    form = projections(batch=B, seq=n, width=D, number=3 if causal else 4) + routing(
        batch=B, seq=n, width=D, clusters=k, causal=causal
    )
    mixer = RoutingAttention(D, H, k, causal=causal)
    run = measured(mixer, tokens(B, n, D))
    assert run == (form.forward, form.backward)
    # Routing passes no gradient: backward is not twice the whole forward.
    routed = form.by_name()["hash"]
    assert run.backward == 2 * (run.forward - routed)


@pytest.mark.parametrize("top_keys", [0, 4])
def test_clustered(measured, tokens, top_keys):
    n, clusters, bits = 64, 8, 6
    form = projections(batch=B, seq=n, width=D) + clustered(
        batch=B, seq=n, width=D, heads=H, clusters=clusters, bits=bits, top_keys=top_keys
    )
    run = measured(ClusteredAttention(D, H, clusters, bits, top_keys), tokens(B, n, D))
    assert run == (form.forward, form.backward)
    assert run.backward == 2 * (run.forward - form.by_name()["hash"])


def test_sinkhorn(measured, tokens):
    n, blocks = 64, 8
    form = projections(batch=B, seq=n, width=D) + sinkhorn(batch=B, seq=n, width=D, blocks=blocks)
    assert measured(SinkhornAttention(D, H, blocks), tokens(B, n, D)) == (form.forward, form.backward)


LAYERS = {
    "lsh": ["lsh", "lsh"],
    "local": ["local", "local"],
    "mixed": ["local", "lsh", "local"],
}


def reformer_model(n: int, layers: list[str], buckets, chunk: int, hashes: int, inner: int) -> ReformerModel:
    config = ReformerConfig(
        hidden_size=D, num_attention_heads=H, attention_head_size=D // H, feed_forward_size=inner, vocab_size=50,
        attn_layers=layers, num_hashes=hashes, num_buckets=buckets, lsh_attn_chunk_length=chunk,
        local_attn_chunk_length=chunk, max_position_embeddings=n, axial_pos_embds=False, is_decoder=True,
        hidden_dropout_prob=0.0, lsh_attention_probs_dropout_prob=0.0, local_attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return ReformerModel(config).train()


@pytest.mark.parametrize("buckets", [6, [4, 8]])
@pytest.mark.parametrize("layers", LAYERS)
def test_reformer_of_transformers(costs, layers, buckets):
    n, chunk, hashes, inner = 64, 8, 3, 48
    model = reformer_model(n, LAYERS[layers], buckets, chunk, hashes, inner)
    with DispatchFlops(costs) as engine:
        mark = engine.begin()
        model(torch.randint(4, 50, (B, n)), use_cache=False).last_hidden_state.sum().backward()
        tally = engine.end(mark)
    assert tally.unknown_ops == ()
    forward = hashed = 0
    for kind in LAYERS[layers]:
        if kind == "lsh":
            rotations = buckets if isinstance(buckets, int) else sum(buckets)
            mixer = reformer(batch=B, seq=n, width=D, chunk=chunk, hashes=hashes, buckets=rotations)
            hashed += mixer.by_name()["hash"]
        else:
            mixer = chunked_local(batch=B, seq=n, width=D, chunk=chunk)
        number = 3 if kind == "lsh" else 4
        forward += mixer.forward + projections(batch=B, seq=n, width=D, number=number).forward
        forward += 2 * 2 * B * n * D * inner
    # Reversible layers keep no activations: they run again, all but the hashes, and pass gradients only then.
    assert (tally.forward, tally.recompute) == (forward, forward - hashed)
    assert tally.backward == 2 * (forward - hashed)
    assert tally.total == 4 * forward - 3 * hashed


def test_growth(measured, tokens, slope):
    def fitted(build, number: int = 4) -> float:
        counts = [
            measured(build(n), tokens(1, n, D), backward=False).forward
            - projections(seq=n, width=D, number=number).forward
            for n in LENGTHS
        ]
        return slope(LENGTHS, counts)

    # sqrt(n) clusters: routing and attention both grow with n^1.5.
    assert fitted(lambda n: RoutingAttention(D, H, math.isqrt(n), causal=True), 3) == pytest.approx(1.5, abs=1e-9)
    assert fitted(lambda _: ClusteredAttention(D, H, 8, 6, 4)) == pytest.approx(1, abs=1e-9)
    # n/16 blocks: the soft permutation is a product with [n/16, n/16], quadratic for all its small factor.
    assert 1 < fitted(lambda n: SinkhornAttention(D, H, n // 16)) < 2
    sorted_only = [sinkhorn(seq=n, width=D, blocks=n // 16).by_name()["sort"] for n in LENGTHS]
    assert slope(LENGTHS, sorted_only) == pytest.approx(2, abs=1e-9)


def test_growth_of_reformer(measured, slope):
    inner = 8

    def mixing(n: int, buckets) -> int:
        """FLOPs of hashing and attention in one layer."""
        model = reformer_model(n, ["lsh"], buckets, 16, 1, inner)
        run = measured(lambda x: model(x, use_cache=False), torch.randint(4, 50, (B, n)), backward=False)
        return run.forward - projections(batch=B, seq=n, width=D, number=3).forward - 4 * B * n * D * inner

    def hashing(n: int, buckets) -> int:
        # With 8 buckets the hash is a product with 4 directions.
        return mixing(n, buckets) - (mixing(n, 8) - 2 * B * n * D * 4)

    lengths = (128, 512, 2048)
    assert slope(lengths, [mixing(n, 8) for n in lengths]) == pytest.approx(1, abs=1e-9)
    # n/8 buckets, twice the chunks as the paper has it: hashing alone is quadratic. In two factors it is n^1.5.
    assert slope(lengths, [hashing(n, n // 8) for n in lengths]) == pytest.approx(2, abs=1e-9)
    factored = [hashing(n, [math.isqrt(n // 8)] * 2) for n in lengths]
    assert slope(lengths, factored) == pytest.approx(1.5, abs=1e-9)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (lambda: reformer(seq=10, width=4, chunk=4, hashes=1, buckets=4), "a multiple of chunk = 4"),
        (lambda: reformer(seq=8, width=4, chunk=4, hashes=1, buckets=3), "buckets"),
        (lambda: reformer(seq=8, width=4, chunk=4, hashes=0, buckets=4), "hashes"),
        (lambda: chunked_local(seq=8, width=4, chunk=4, before=-1), "before"),
        (lambda: routing(seq=10, width=4, clusters=3), "a multiple of clusters = 3"),
        (lambda: clustered(seq=10, width=5, heads=2, clusters=3, bits=4), "a multiple of heads = 2"),
        (lambda: clustered(seq=10, width=4, heads=2, clusters=3, bits=4, top_keys=-1), "top_keys"),
        (lambda: sinkhorn(seq=10, width=4, blocks=3), "a multiple of blocks = 3"),
    ],
)
def test_bad_sizes(form, told):
    with pytest.raises(SizeError, match=told):
        form()
