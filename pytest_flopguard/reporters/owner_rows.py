"""What was alive at a memory peak: by module, op and line of Python, with equal layers folded into one row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_flopguard.core.folding import fold
from pytest_flopguard.core.owners import Owner
from pytest_flopguard.reporters.module_costs import OUTSIDE


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerRow:
    """Bytes in ``blocks`` blocks of ``modules`` modules together; ``path`` holds ranges where several are folded."""

    category: str
    path: str
    modules: int
    op: str
    site: str
    bytes: int
    blocks: int

    @property
    def origin(self) -> str:
        """What made the blocks, and where: ``aten.mm, model.py:41 in forward``."""
        return ", ".join(each for each in (self.op, self.site) if each)


def owner_rows(owners: Iterable[Owner]) -> list[OwnerRow]:
    """Fold owners that differ in one layer number and hold as much, the largest first; the sum stays."""
    kinds: dict[tuple[str, str, str], dict[str, tuple[int, int]]] = {}
    for each in owners:
        places = kinds.setdefault((each.category, each.op, each.site), {})
        size, blocks = places.get(each.module, (0, 0))
        places[each.module] = (size + each.bytes, blocks + each.blocks)
    rows = [
        OwnerRow(
            category=category.replace("_", " "),
            path=path or OUTSIDE,
            modules=len(members),
            op=op,
            site=site,
            bytes=size * len(members),
            blocks=blocks * len(members),
        )
        for (category, op, site), places in kinds.items()
        for path, members, (size, blocks) in fold(places)
    ]
    return sorted(rows, key=lambda each: (-each.bytes, each.category, each.path, each.op, each.site))
