"""Narayanan et al. 2021, "Efficient Large-Scale Language Model Training on GPU Clusters" (arXiv 2104.04473).

Dense attention, full recomputation. l layers, h width, V vocabulary, s sequence, B batch.
"""

from __future__ import annotations

from pytest_flopguard.formulas.rates import above_zero
from pytest_flopguard.formulas.sizes import positive


def parameters(*, layers: int, width: int, vocabulary: int, sequence: int) -> int:
    """P = 12*l*h^2*(1 + 13/(12h) + (V + s)/(12lh)) = 12*l*h^2 + 13*l*h + (V + s)*h; equation 2."""
    count, h = positive("layers", layers), positive("width", width)
    table = positive("vocabulary", vocabulary) + positive("sequence", sequence)
    return 12 * count * h * h + 13 * count * h + table * h


def iteration_flops(*, layers: int, width: int, vocabulary: int, sequence: int, batch: int) -> int:
    """F = 96*B*s*l*h^2*(1 + s/(6h) + V/(16lh)) = 96*B*s*l*h^2 + 16*B*s^2*l*h + 6*B*s*h*V; equation 3.

    Forward, backward and a second forward of the layers, and the logits without a second forward.
    """
    count, h, s = positive("layers", layers), positive("width", width), positive("sequence", sequence)
    tokens = positive("batch", batch) * s
    return (
        96 * tokens * count * h * h + 16 * tokens * s * count * h + 6 * tokens * h * positive("vocabulary", vocabulary)
    )


def training_seconds(*, parameters: int, tokens: int, gpus: int, achieved: float) -> float:
    """8*T*P / (n*X): seconds for T tokens at X FLOP/s on each of n GPUs; equation 4. A float."""
    work = 8 * positive("tokens", tokens) * positive("parameters", parameters)
    return work / (positive("GPUs", gpus) * above_zero("achieved FLOP/s", achieved))
