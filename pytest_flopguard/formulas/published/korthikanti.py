"""Korthikanti et al. 2022, "Reducing Activation Recomputation" (arXiv 2205.05198), equations 7 and 8.

Dense attention. B batch, L layers, s sequence, h width, v vocabulary; forward and backward of one iteration.
"""

from __future__ import annotations

from pytest_flopguard.formulas.sizes import positive


def model_flops(*, layers: int, width: int, vocabulary: int, sequence: int, batch: int) -> int:
    """72*B*L*s*h^2*(1 + s/(6h) + v/(12hL)) = 72*B*L*s*h^2 + 12*B*L*s^2*h + 6*B*s*h*v; equation 7."""
    h, pairs, linear = _parts(layers, width, sequence, batch)
    return 72 * linear + 12 * pairs + 6 * batch * sequence * h * positive("vocabulary", vocabulary)


def hardware_flops(*, layers: int, width: int, vocabulary: int, sequence: int, batch: int) -> int:
    """Return ``model_flops`` and one more forward of the attention core, 4*B*L*s^2*h, as the text says.

    72*B*L*s*h^2*(1 + 2s/(9h) + v/(12hL)).
    """
    _, pairs, _ = _parts(layers, width, sequence, batch)
    model = model_flops(layers=layers, width=width, vocabulary=vocabulary, sequence=sequence, batch=batch)
    return model + 4 * pairs


def hardware_flops_as_printed(*, layers: int, width: int, vocabulary: int, sequence: int, batch: int) -> int:
    """72*B*L*s*h^2*(1 + s/(3h) + v/(12hL)), equation 8 as printed: it counts the core attention twice over.

    The paper's HFU column follows this one, and is 0.5 to 1.3 points higher than ``hardware_flops`` would have it.
    """
    _, pairs, _ = _parts(layers, width, sequence, batch)
    model = model_flops(layers=layers, width=width, vocabulary=vocabulary, sequence=sequence, batch=batch)
    return model + 12 * pairs


def _parts(layers: int, width: int, sequence: int, batch: int) -> tuple[int, int, int]:
    count, h, s = positive("layers", layers), positive("width", width), positive("sequence", sequence)
    tokens = positive("batch", batch) * s
    return h, count * tokens * s * h, count * tokens * h * h
