"""Bytes that autograd keeps of a mixture of experts in place of the MLP, as transformers' Mixtral runs it.

T = k*s*b pairs of a token and an expert, h width, f the width of an expert, E experts, e element size. No routing
changes the sums: each token meets k experts, whichever they are.
"""

from __future__ import annotations

from pytest_flopguard.core.errors import unknown_name
from pytest_flopguard.formulas.dtypes import dtype_bytes
from pytest_flopguard.formulas.memory.byte_terms import ByteTerm
from pytest_flopguard.formulas.sizes import positive

# transformers' experts_implementation; batched_mm copies weights for every pair and has no formula here.
IMPLEMENTATIONS = ("grouped_mm", "eager")


def mixtral_experts(
    *,
    batch: int,
    sequence: int,
    width: int,
    ff: int,
    experts: int,
    top_k: int,
    dtype: str,
    implementation: str = "grouped_mm",
) -> tuple[ByteTerm, ...]:
    """Terms of gated experts and their router.

    grouped_mm: T(2e*h + 4e*f + 40) + sb(4E + 4) + 4E: input and output of each pair, gate, up, activation and product,
    and 40 bytes of indices and weights; router probabilities and their sum; the groups' ends.
    eager: T(3e*h + 4e*f + 20) + sb(4E + 12k + 4), the weighted output once more and other indices.
    """
    if implementation not in IMPLEMENTATIONS:
        raise unknown_name("experts implementation", implementation, IMPLEMENTATIONS)
    sb, k = positive("batch", batch) * positive("sequence", sequence), positive("top_k", top_k)
    h, f, count, e = positive("width", width), positive("ff", ff), positive("experts", experts), dtype_bytes(dtype)
    pairs = k * sb
    mlp = ByteTerm(name="mlp", equation="4*e*k*s*b*f", bytes=4 * e * pairs * f)
    if implementation == "eager":
        return (
            ByteTerm(name="expert_rows", equation="3*e*k*s*b*h", bytes=3 * e * pairs * h),
            mlp,
            ByteTerm(name="routing", equation="20*k*s*b + (4*E + 12*k + 4)*s*b", bytes=(4 * count + 32 * k + 4) * sb),
        )
    routing = (4 * count + 40 * k + 4) * sb + 4 * count
    return (
        ByteTerm(name="expert_rows", equation="2*e*k*s*b*h", bytes=2 * e * pairs * h),
        mlp,
        ByteTerm(name="routing", equation="40*k*s*b + (4*E + 4)*s*b + 4*E", bytes=routing),
    )
