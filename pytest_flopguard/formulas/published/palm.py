"""Chowdhery et al. 2022, "PaLM" (arXiv 2204.02311), appendix B: FLOPs per token for MFU and HFU.

Dense attention, forward and backward. N all parameters, L layers, H heads, Q head size, T sequence.
"""

from __future__ import annotations

from fractions import Fraction

from pytest_flopguard.core.errors import SizeError, message
from pytest_flopguard.formulas.sizes import positive


def token_flops(parameters: int, *, layers: int, heads: int, head_size: int, sequence: int) -> int:
    """6N + 12*L*H*Q*T: what the model asks for, for MFU."""
    return 6 * positive("parameters", parameters) + 12 * _attention(layers, heads, head_size, sequence)


def hardware_token_flops(
    parameters: int,
    *,
    layers: int,
    heads: int,
    head_size: int,
    sequence: int,
    recomputed: Fraction = Fraction(0),
) -> int:
    """``token_flops`` and what recomputation adds, for HFU: 4*L*H*Q*T of attention and a share of the 2N forward.

    The share is 0 in the 8B and 62B models and 3/4 in the 540B one; these reproduce the paper's table.
    SizeError for a share that leaves a fraction of a FLOP, or is not from 0 to 1.
    """
    again = recomputed * 2 * positive("parameters", parameters)
    if not 0 <= recomputed <= 1 or again.denominator != 1:
        rule = "a share from 0 to 1 that leaves whole FLOPs"
        raise SizeError(message("bad-size", name="recomputed", value=str(recomputed), rule=rule))
    model = token_flops(parameters, layers=layers, heads=heads, head_size=head_size, sequence=sequence)
    return model + again.numerator + 4 * _attention(layers, heads, head_size, sequence)


def _attention(layers: int, heads: int, head_size: int, sequence: int) -> int:
    size = positive("heads", heads) * positive("head size", head_size)
    return positive("layers", layers) * size * positive("sequence", sequence)
