"""Who held memory at a peak, and what stands behind a peak that was predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

# Between a line of code and the one that called it.
CALLED_BY = " < "
# What a prediction tells of an allocator that nobody has set.
DEFAULT_ALLOCATOR = "defaults"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Blocks that were alive at the peak and are alike: what for, in which module, made by which op, and where.

    ``module`` is the innermost module path, ``""`` outside of any; ``site`` the line of Python that asked for them and
    those that called it (``"model.py:41 in forward < test_model.py:9 in test_step"``), ``""`` where stacks were not
    recorded. ``bytes`` is their sum.
    """

    category: str
    module: str
    op: str
    site: str
    bytes: int
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a predicted peak stands on: the GPU, torch and allocator settings that it is for.

    ``device`` is the key that the peak would have if it were measured there (``"cuda:sm90"``). ``assumed`` are
    statements that a run on the GPU may prove wrong, ``unknown`` the memory that it leaves out. Where there is any, the
    peak is a lower bound, and ``at_most`` an upper one, in bytes; None where there is none.
    """

    gpu: str
    device: str
    torch: str
    allocator: str
    assumed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    at_most: int | None = None


def merged(owners: Iterable[Owner]) -> tuple[Owner, ...]:
    """Sum owners that are alike, the largest first."""
    sums: dict[tuple[str, str, str, str], list[int]] = {}
    for each in owners:
        total = sums.setdefault((each.category, each.module, each.op, each.site), [0, 0])
        total[0] += each.bytes
        total[1] += each.blocks
    found = [
        Owner(category=category, module=module, op=op, site=site, bytes=size, blocks=blocks)
        for (category, module, op, site), (size, blocks) in sums.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.bytes, each.category, each.module, each.op, each.site)))


def summed(owners: Iterable[Owner], key: Callable[[Owner], str]) -> dict[str, int]:
    """Return bytes by what ``key`` names, the largest first."""
    found: dict[str, int] = {}
    for each in owners:
        found[key(each)] = found.get(key(each), 0) + each.bytes
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
