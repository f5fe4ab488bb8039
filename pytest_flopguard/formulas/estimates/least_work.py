"""The FLOPs that a step cannot do without, so that a time at the full peak is a lower bound for every implementation.

A closed form states what one implementation computes. Another one may compute logits of the last position only, leave
out what the causal mask hides, drop positions that no later layer reads, or absorb the projection of keys and values
into the queries. Each of these is taken here where it is cheaper, so the result is at most what any of them does.
Assumed are products in the usual way (Strassen's needs fewer multiplications), sequences that share no prefix, scores
for a query that has one key only, and that nothing but the cache is known from an earlier call.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_flopguard.formulas.architectures.block import Block
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.architectures.encoder import EncoderSizes
from pytest_flopguard.formulas.architectures.encoder_decoder import EncoderDecoderSizes
from pytest_flopguard.formulas.architectures.families import Sizes
from pytest_flopguard.formulas.architectures.models import closed_form
from pytest_flopguard.formulas.architectures.pairs import causal_pairs
from pytest_flopguard.formulas.architectures.vision_transformer import VisionSizes
from pytest_flopguard.formulas.architectures.whisper import WhisperSizes
from pytest_flopguard.formulas.estimates.asked import Workload

_FLOPS = 2  # of a multiply-add
_PHASES = 3  # forward, and two gradients of each product


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """One attention: queries at the last ``queries`` positions, which read ``keys`` new ones and ``past`` cached ones.

    ``pairs`` are those of a query and a new key, ``cached`` those of a query and a key of the cache.
    """

    queries: int
    keys: int
    pairs: int
    cached: int = 0

    def side(self, heads: int, size: int, source: int, projected: int) -> int:
        """Multiply-adds of scores, or of values, with their projection from ``source`` numbers of a position.

        ``projected`` are the elements of the projection. It is applied to each key, or absorbed into each query.
        """
        plain = self.keys * projected + heads * size * self.pairs
        absorbed = heads * source * (self.queries * size + self.pairs)
        return min(plain, absorbed) + heads * size * self.cached


def least_flops(sizes: Sizes, work: Workload) -> int:
    """Return a number of FLOPs that no implementation of the workload's step stays below, given the assumptions above.

    A training step has a loss at every token (once for an image) and gradients of every product; nothing is computed
    again. Without training only the result of one position is wanted: the last token, or an encoder's first.
    """
    every = work.train
    if isinstance(sizes, DecoderSizes):
        adds = _decoder(sizes, work, every)
    elif isinstance(sizes, EncoderSizes):
        adds = _layers(sizes.block, sizes.layers, work.seq, last=work.seq if every else 1)
    elif isinstance(sizes, VisionSizes):
        adds = _layers(sizes.block, sizes.layers, sizes.patches + sizes.tokens, last=1)
    elif isinstance(sizes, WhisperSizes):
        adds = _encoder_decoder(sizes.text, sizes.source_positions, work, every)
    else:
        adds = _encoder_decoder(sizes, work.seq, work, every)
    layers = _FLOPS * work.batch * adds * (_PHASES if every else 1)
    return layers + _ends(sizes, work)


def _ends(sizes: Sizes, work: Workload) -> int:
    """FLOPs outside the layers: what reads images and sound, and the heads of encoders and of images."""
    if isinstance(sizes, DecoderSizes | EncoderDecoderSizes) or (isinstance(sizes, WhisperSizes) and work.decode):
        return 0
    form = closed_form(sizes, batch=work.batch, seq=1)
    ends = [each for each in form if each.name in ("patch", "conv1", "conv2", "pooler", "classifier")]
    return sum(each.training_step if work.train else each.forward for each in ends)


def _decoder(sizes: DecoderSizes, work: Workload, every: bool) -> int:
    new, past = (1, work.past) if work.decode else (work.seq, 0)
    experts, wanted = sizes.expert_matrices(), new if every else 1
    plain, mixed = (sum(each.used * each.elements for each in found) for found in (sizes.mlp_matrices(), experts))
    adds = wanted * sizes.head_matrix().elements
    windows = sizes.windows or (0,) * sizes.layers
    for layer in reversed(range(sizes.layers)):
        window = windows[layer]
        before = new - wanted
        keys = min(new, wanted - 1 + window) if window else new
        pairs = causal_pairs(wanted, past + before, window)[0]
        # Those of the new keys alone: the same queries after an empty cache.
        own = causal_pairs(wanted, before, window)[0]
        read = _Read(queries=wanted, keys=keys, pairs=own, cached=pairs - own)
        adds += _attention(sizes, read)
        adds += wanted * (mixed if experts and layer not in sizes.dense_layers else plain)
        wanted = keys
    return adds


def _attention(sizes: DecoderSizes, read: _Read) -> int:
    h, a = sizes.width, sizes.heads
    if sizes.latent is None:
        d, kv = sizes.head_dim, sizes.kv_heads * sizes.head_dim
        return 2 * (read.queries * h * a * d + read.side(a, d, h, h * kv))
    n, r, v, c, q = (
        sizes.latent.nope, sizes.latent.rope, sizes.latent.value, sizes.latent.kv_rank, sizes.latent.q_rank,
    )  # fmt: skip
    queries = h * q + q * a * (n + r) if q else h * a * (n + r)
    return (
        read.queries * (queries + a * v * h)
        + read.keys * h * (c + r)
        + read.side(a, n, c, c * a * n)
        + a * r * (read.pairs + read.cached)
        + read.side(a, v, c, c * a * v)
    )


def _block(block: Block, read: _Read) -> int:
    """Multiply-adds of one attention without its MLP."""
    return 2 * (read.queries * block.width * block.inner + _sides(block, read))


def _sides(block: Block, read: _Read) -> int:
    return read.side(block.heads, block.head_dim, block.width, block.width * block.inner)


def _layers(block: Block, layers: int, positions: int, *, last: int) -> int:
    """Multiply-adds of layers in which all positions read each other; ``last`` positions of the last one are wanted."""
    return sum(
        _block(block, _Read(queries=queries, keys=positions, pairs=queries * positions)) + queries * block.mlp.elements
        for queries in (*(positions,) * (layers - 1), last)
    )


def _encoder_decoder(sizes: EncoderDecoderSizes, source: int, work: Workload, every: bool) -> int:
    new, past = (1, work.past) if work.decode else (work.seq, 0)
    # The decoder reads every position of the encoder, in every layer. A decode step has them in its cache.
    adds = 0 if work.decode else _layers(sizes.encoder, sizes.encoder_layers, source, last=source)
    block, wanted = sizes.decoder, new if every else 1
    adds += wanted * block.width * sizes.vocab
    for _ in range(sizes.decoder_layers):
        own = causal_pairs(wanted, new - wanted)[0]
        met = wanted * source
        itself = _Read(queries=wanted, keys=new, pairs=own, cached=wanted * past)
        cross = _Read(queries=wanted, keys=0 if work.decode else source, pairs=met)
        if work.decode:
            cross = _Read(queries=wanted, keys=0, pairs=0, cached=met)
        adds += _block(block, itself) + _block(block, cross) + wanted * block.mlp.elements
        wanted = new
    return adds
