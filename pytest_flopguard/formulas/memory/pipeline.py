"""Activations of a whole model on its fullest device, the first pipeline stage.

Korthikanti et al. 2022 (arXiv 2205.05198), section 4.2.3 and appendix; s sequence, b microbatch, h width, v vocabulary,
L layers, t tensor-parallel size, p pipeline stages, m interleaved chunks of each stage.
"""

from __future__ import annotations

from pytest_flopguard.formulas.memory.activations import SOURCE
from pytest_flopguard.formulas.memory.byte_terms import ByteTerm, ByteTerms
from pytest_flopguard.formulas.sizes import divided, positive


def stored_layers(layers: int, *, pipeline: int = 1, interleave: int = 1) -> int:
    """Layers' worth of activations that the first stage keeps at once.

    One forward, one backward keeps L/p layers of p microbatches: L. With m > 1 interleaved chunks it is
    L(1 + (p-1)/(pm)), whole because each chunk has L/(pm) layers.
    """
    count, p, m = positive("layers", layers), positive("pipeline stages", pipeline), positive("interleave", interleave)
    chunk = divided("layers", count, "pipeline stages * interleave", p * m)
    return count if m == 1 else chunk * (p * m + p - 1)


def edge_activations(
    *, batch: int, sequence: int, width: int, vocabulary: int, tensor: int = 1, pipeline: int = 1
) -> ByteTerms:
    """Bytes before and after the layers: the embedding's dropout masks, and with one stage the head.

    sbhp/t of masks for the p microbatches that are under way; with p = 1 also 4sbh/t(1 + v/h): the last LayerNorm's
    input 2, the head's input 2, and float32 logits 4sbv. Sequence parallelism is on.
    """
    t, p = positive("tensor parallel size", tensor), positive("pipeline stages", pipeline)
    own = positive("batch", batch) * divided("sequence", sequence, "tensor parallel size", t)
    h, v = positive("width", width), positive("vocabulary", vocabulary)
    terms = [ByteTerm(name="embedding_dropout_masks", equation="s*b*h*p/t", bytes=own * h * p)]
    if p == 1:
        terms.append(ByteTerm(name="last_norm_and_head_inputs", equation="4*s*b*h/t", bytes=4 * own * h))
        terms.append(ByteTerm(name="logits", equation="4*s*b*v/t", bytes=4 * own * v))
    return ByteTerms(name="edges", terms=tuple(terms), source=SOURCE)


def output_tensors(*, batch: int, sequence: int, width: int, pipeline: int) -> int:
    """Bytes of a stage's outputs of p microbatches, 2sbhp, that deallocating them after the send saves (appendix B)."""
    tokens = positive("batch", batch) * positive("sequence", sequence)
    return 2 * tokens * positive("width", width) * positive("pipeline stages", pipeline)
