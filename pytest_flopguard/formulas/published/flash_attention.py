"""The FlashAttention repository's benchmark formula: FLOPs of the attention core, scores and values.

Dao et al. 2022 (arXiv 2205.14135) and the benchmark of the repository. b batch, s sequence, a heads, d head size.
"""

from __future__ import annotations

from pytest_flopguard.core.errors import unknown_name
from pytest_flopguard.formulas.sizes import positive

MODES = ("forward", "backward", "both")


def core_flops(
    *, batch: int, sequence: int, heads: int, head_size: int, causal: bool = False, mode: str = "forward"
) -> int:
    """4*b*s^2*a*d forward, halved if causal; backward 2.5 times that (five products), both 3.5 times.

    The half of causal attention is s^2/2 here, not s(s + 1)/2. Always a whole number.
    """
    forward = 4 * positive("batch", batch) * positive("sequence", sequence) ** 2
    forward *= positive("heads", heads) * positive("head size", head_size)
    forward //= 2 if causal else 1
    if mode not in MODES:
        raise unknown_name("mode", mode, MODES)
    return {"forward": forward, "backward": forward * 5 // 2, "both": forward * 7 // 2}[mode]
