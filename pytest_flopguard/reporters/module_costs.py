"""What each module cost, dearest first, with equal layers of one model folded into one line."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_flopguard.core.folding import fold, in_layer_order
from pytest_flopguard.core.measurement import FlopTally, Phase

OUTSIDE = "(outside any module)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleCost:
    """FLOPs of ``modules`` modules together; ``path`` holds ranges where several are folded: ``h.0-11.mlp``."""

    path: str
    modules: int
    flops: int


def module_costs(tally: FlopTally, phase: Phase | None = None) -> dict[str, int]:
    """Return the FLOPs of every module that has any in a phase (None: in all of them), dearest first."""
    found: dict[str, int] = {}
    for each in tally.counts:
        flops = tally.amount(each)
        if flops and (phase is None or each.phase == phase):
            found[each.module] = found.get(each.module, 0) + flops
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], in_layer_order(pair[0]))))


def folded(costs: dict[str, int]) -> list[ModuleCost]:
    """Fold modules that differ in one layer number and cost the same; dearest first, and the sum stays.

    Layers of unequal cost stay apart: the odd one out is what a reader looks for.
    """
    found = [
        ModuleCost(path=path or OUTSIDE, modules=len(members), flops=flops * len(members))
        for path, members, flops in fold(costs)
    ]
    return sorted(found, key=lambda each: (-each.flops, each.path))
