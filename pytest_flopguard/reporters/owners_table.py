"""Who held memory at a peak: by category and module, with equal layers of one model folded into one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pytest_flopguard.core.folding import fold
from pytest_flopguard.core.measurement import MemoryPeak
from pytest_flopguard.core.owners import CALLED_BY, Owner
from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.reporters.amounts import exact, peak_text, percent
from pytest_flopguard.reporters.module_costs import OUTSIDE

_TOP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Bytes of one category in ``modules`` modules together; ``path`` holds ranges where several are folded.

    ``made`` is the op and the line of code of the largest part; where makers stand apart, its callers too.
    """

    category: str
    path: str
    modules: int
    made: str
    bytes: int
    blocks: int


def holdings(owners: Iterable[Owner], *, each_maker: bool = False) -> list[Holding]:
    """Sum owners by category and module, the largest first, and fold modules that differ in one layer number only.

    With ``each_maker`` what different ops or lines made stays apart.
    """
    groups: dict[tuple[str, str], dict[str, list[Owner]]] = {}
    for owner in owners:
        key = (owner.category, _made(owner, True) if each_maker else "")
        groups.setdefault(key, {}).setdefault(owner.module, []).append(owner)
    found = []
    for (category, _), modules in groups.items():
        alike = {
            module: (sum(each.bytes for each in held), sum(each.blocks for each in held), _made(held[0], each_maker))
            for module, held in modules.items()
        }
        for path, members, (size, blocks, made) in fold(alike):
            number = len(members)
            found.append(
                Holding(
                    category=category,
                    path=path or OUTSIDE,
                    modules=number,
                    made=made,
                    bytes=size * number,
                    blocks=blocks * number,
                )
            )
    return sorted(found, key=lambda each: (-each.bytes, each.category, each.path, each.made))


def peak_lines(peak: MemoryPeak, when: str = "", *, verbosity: int = 0) -> Iterator[str]:
    """Yield what a device held at its peak: by category, and the largest by category and module."""
    yield f"What {peak.device} held at its peak of {peak_text(peak)}{when}"
    parts = sorted(peak.by_category.items(), key=lambda pair: -pair[1])
    for name, size in [*parts, ("already there at the start", peak.start_bytes)]:
        if size:
            share = percent(size, peak.peak_bytes)
            yield f"  {share:>7}  {format_amount(size, Unit.BYTE):>13}  {_words(name)}"
    if peak.owners:
        yield "Where it was held"
        yield from owner_lines(peak, verbosity=verbosity)


def top_lines(peak: MemoryPeak) -> Iterator[str]:
    """Yield the ten largest holdings of a peak and what is left; nothing where its owners are not known."""
    found = holdings(peak.owners)
    for each in found[:_TOP]:
        times = f"  x{each.modules}" if each.modules > 1 else ""
        made = f"  {each.made}" if each.made else ""
        share, amount = percent(each.bytes, peak.peak_bytes), format_amount(each.bytes, Unit.BYTE)
        yield f"  {share:>7}  {amount:>13}  {_words(each.category)}  {each.path}{times}{made}"
    if len(found) > _TOP:
        rest = sum(each.bytes for each in found[_TOP:])
        share, amount = percent(rest, peak.peak_bytes), format_amount(rest, Unit.BYTE)
        yield f"  {share:>7}  {amount:>13}  in {sum(each.modules for each in found[_TOP:])} more (-vv shows them)"


def all_lines(peak: MemoryPeak) -> Iterator[str]:
    """Yield every holding of a peak exactly, those of different ops and lines of code apart."""
    found = holdings(peak.owners, each_maker=True)
    width = max((len(exact(each.bytes, Unit.BYTE)) for each in found), default=0)
    for each in found:
        times = f"  x{each.modules}" if each.modules > 1 else ""
        blocks = f"{each.blocks:,} block{'s' if each.blocks > 1 else ''}"
        made = f"  {each.made}" if each.made else ""
        share = percent(each.bytes, peak.peak_bytes)
        yield (
            f"    {exact(each.bytes, Unit.BYTE):>{width}}  {share:>7}  {_words(each.category)}  {each.path}{times}"
            f"  {blocks}{made}"
        )


def owner_lines(peak: MemoryPeak, *, verbosity: int) -> Iterator[str]:
    """Yield the ten largest holdings of a peak, for verbosity 2 all of them."""
    yield from all_lines(peak) if verbosity > 1 else top_lines(peak)


def largest(peak: MemoryPeak) -> str:
    """Return the largest holding in a few words, empty where owners are not known."""
    if not peak.owners:
        return ""
    first = holdings(peak.owners)[0]
    return f"most of it {_words(first.category)} in {first.path} ({percent(first.bytes, peak.peak_bytes)})"


def _made(owner: Owner, callers: bool) -> str:
    site = owner.site if callers else owner.site.partition(CALLED_BY)[0]
    return "  ".join(each for each in (owner.op, site) if each)


def _words(category: str) -> str:
    return category.replace("_", " ")
