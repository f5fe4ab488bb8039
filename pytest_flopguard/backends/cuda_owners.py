"""Whose the blocks are that lived at a CUDA peak: the allocator's history joined with what op calls showed.

Both count allocations: a storage that an op returned when ``number`` allocations had been made holds the last of them
at its address. So no clock is needed, and an address that is used again is no riddle.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_flopguard.backends.code_sites import CodeSites
from pytest_flopguard.backends.cuda_history import Block, HistoryPeak
from pytest_flopguard.backends.storage_roles import Role
from pytest_flopguard.core.owners import Owner, merged

# What the allocator's own figure has beyond the blocks that were asked for.
ROUNDING = "(rounded up by the allocator)"


class Shown(NamedTuple):
    """A storage that op calls showed: how many allocations there had been, its address, and what it is for."""

    number: int
    address: int
    role: Role


class Ran(NamedTuple):
    """An op call that allocated: how many allocations there had been at its end, and the role of what it made."""

    number: int
    role: Role


def owners_of(
    peak: HistoryPeak, peak_bytes: int, shown: Iterable[Shown], ran: Sequence[Ran], sites: CodeSites
) -> tuple[Owner, ...]:
    """Return the owners of ``peak_bytes``, to which they sum; none where the history holds more than that.

    A block that no op returned is a workspace of the op that ran when it was taken. One from before anybody looked,
    which no op used since, is ``other``.
    """
    rest = peak_bytes - peak.bytes
    if rest < 0:
        return ()
    roles = dict(_by_block(shown, peak.numbers))
    ends = [each.number for each in ran]
    found = [_owner(block, roles, ran, ends, sites) for block in peak.blocks]
    if rest:
        found.append(Owner(category="other", module="", op=ROUNDING, site="", bytes=rest, blocks=0))
    return merged(found)


def _by_block(shown: Iterable[Shown], numbers: Mapping[int, Sequence[int]]) -> Iterator[tuple[tuple[int, int], Role]]:
    for each in shown:
        taken = numbers.get(each.address, ())
        at = bisect_right(taken, each.number) - 1
        if at >= 0:
            yield (each.address, taken[at]), each.role


def _owner(
    block: Block,
    roles: Mapping[tuple[int, int], Role],
    ran: Sequence[Ran],
    ends: Sequence[int],
    sites: CodeSites,
) -> Owner:
    role = roles.get((block.address, block.number))
    if role is None:
        at = bisect_left(ends, block.number)
        inside = block.number > 0 and at < len(ran)
        role = ran[at].role.as_category("workspaces", None) if inside else Role("other")
    owner = role.owner(block.bytes)
    if owner.site or not block.frames:
        return owner
    site = sites.tell((each["filename"], each["line"], each["name"]) for each in block.frames)
    return Owner(
        category=owner.category, module=owner.module, op=owner.op, site=site, bytes=owner.bytes, blocks=owner.blocks
    )
