"""LitGPT's ``estimate_flops`` (litgpt/utils.py), and the same without its double count of attention.

The tool adds the attention of a sequence once for trainable and once for frozen parameters, also where there are
none: 5 forwards of attention in training and 2 in inference, in place of 3 and 1. Dense; N with embeddings.
"""

from __future__ import annotations

from pytest_flopguard.formulas.sizes import positive, whole


def sequence_flops(parameters: int, *, layers: int, width: int, sequence: int) -> int:
    """Return ``flops_per_param``: 2*N*s + 4*L*h*s^2, the forward of one sequence."""
    s = positive("sequence", sequence)
    return 2 * whole("parameters", parameters) * s + 4 * positive("layers", layers) * positive("width", width) * s * s


def estimated_flops(
    *, trainable: int, frozen: int, layers: int, width: int, sequence: int, training: bool = True
) -> int:
    """Return what the tool says for one sequence: 3x the trainable and 2x the frozen part, each with all attention."""
    steps, frozen_steps = (3, 2) if training else (1, 1)
    first = sequence_flops(trainable, layers=layers, width=width, sequence=sequence)
    second = sequence_flops(frozen, layers=layers, width=width, sequence=sequence)
    return steps * first + frozen_steps * second


def double_count(*, layers: int, width: int, sequence: int, training: bool = True) -> int:
    """FLOPs that ``estimated_flops`` has too many: the attention of the frozen part, 2 or 1 forwards of it."""
    return (2 if training else 1) * sequence_flops(0, layers=layers, width=width, sequence=sequence)


def corrected_flops(
    *, trainable: int, frozen: int, layers: int, width: int, sequence: int, training: bool = True
) -> int:
    """``estimated_flops`` less ``double_count``: 6*N_trainable*s + 4*N_frozen*s + 12*L*h*s^2 in training."""
    estimate = estimated_flops(
        trainable=trainable, frozen=frozen, layers=layers, width=width, sequence=sequence, training=training
    )
    return estimate - double_count(layers=layers, width=width, sequence=sequence, training=training)
