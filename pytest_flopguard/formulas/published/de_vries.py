"""Harm de Vries, "In the long (context) run" (2023): what a longer context adds to training.

FLOPs per token, forward and backward, of one layer with a 2-matrix MLP of 4d; causal attention; embeddings, positions,
logits and elementwise work left out. d width, n context.
"""

from __future__ import annotations

from fractions import Fraction

from pytest_flopguard.formulas.sizes import positive


def layer_flops(*, width: int, context: int) -> dict[str, int]:
    """FLOPs per token and layer by part: MLP 48d^2, projections 24d^2, attention 6d(n + 1)."""
    d, n = positive("width", width), positive("context", context)
    return {"mlp": 48 * d * d, "projections": 24 * d * d, "attention": 6 * d * (n + 1)}


def attention_overhead(*, width: int, context: int) -> Fraction:
    """Attention over all else: (n + 1) / (12d), exact. LLaMA-7B (d 4096): 8 % at 4K."""
    parts = layer_flops(width=width, context=context)
    return Fraction(parts["attention"], parts["mlp"] + parts["projections"])
