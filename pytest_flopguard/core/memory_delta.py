"""What the modules held at a peak, against what they held at that of a baseline, with equal layers folded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_flopguard.core.baseline import MemoryBaseline, held_by_module
from pytest_flopguard.core.folding import fold, in_layer_order, unfold
from pytest_flopguard.core.measurement import MemoryPeak

# Layer numbers of a path, folded ones too: parts of digits alone.
_NUMBERS = re.compile(r"(?<=[.#])\d[\d,-]*(?=[.#]|$)")
_Held = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingDelta:
    """Bytes of one category in ``modules`` modules together, before and now; ``path`` is folded."""

    category: str
    path: str
    modules: int
    before: int
    now: int

    @property
    def bytes(self) -> int:
        """Bytes more than before."""
        return self.now - self.before


def memory_delta(accepted: MemoryBaseline, peak: MemoryPeak) -> tuple[HoldingDelta, ...]:
    """Compare the owners of a peak with those of a baseline's: first what explains the direction of the change.

    Growth comes first where the modules use more memory in all, and savings where they use less, the largest first.
    Empty where the modules of either side are not known.
    """
    return _between(accepted.modules, held_by_module(peak))


def memory_delta_between(before: MemoryBaseline, now: MemoryBaseline) -> tuple[HoldingDelta, ...]:
    """Compare the modules of two baselines."""
    return _between(before.modules, _spread(now.modules))


def without_moves(delta: Sequence[HoldingDelta]) -> tuple[HoldingDelta, ...]:
    """Leave out what one layer holds in place of another: no more of a category in paths that differ in numbers alone.

    A peak within the last of four layers is one within the last of five, once there are five.
    """
    more: dict[tuple[str, str], int] = {}
    for each in delta:
        more[_kind(each)] = more.get(_kind(each), 0) + each.bytes
    return tuple(each for each in delta if more[_kind(each)])


def _kind(delta: HoldingDelta) -> tuple[str, str]:
    return delta.category, _NUMBERS.sub("*", delta.path)


def _between(folded: _Held, now: _Held) -> tuple[HoldingDelta, ...]:
    if not folded or not now:
        return ()
    before = _spread(folded)
    categories = sorted({category for held in (*before.values(), *now.values()) for category in held})
    found = []
    for category in categories:
        pairs = {
            path: (before.get(path, {}).get(category, 0), now.get(path, {}).get(category, 0))
            for path in sorted({*before, *now}, key=in_layer_order)
        }
        for path, members, (old, new) in fold({path: pair for path, pair in pairs.items() if pair[0] != pair[1]}):
            number = len(members)
            found.append(
                HoldingDelta(category=category, path=path, modules=number, before=old * number, now=new * number)
            )
    more = sum(each.bytes for each in found) >= 0
    return tuple(
        sorted(found, key=lambda each: ((each.bytes > 0) is not more, -abs(each.bytes), each.category, each.path))
    )


def _spread(folded: _Held) -> dict[str, Mapping[str, int]]:
    """Give every module of a folded path its share; a path whose bytes do not divide was never folded."""
    found: dict[str, Mapping[str, int]] = {}
    for path, held in folded.items():
        members = unfold(path)
        if any(size % len(members) for size in held.values()):
            members = [path]
        share = {category: size // len(members) for category, size in held.items()}
        found |= dict.fromkeys(members, share)
    return found
