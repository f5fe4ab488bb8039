"""Facts about torch's C++ classes, read from the headers that its wheel ships: virtual-table slots and enum values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


class FactMissing(Exception):
    """A header, class, method or symbol that is not there, or not once; the text says which."""


def virtual_slots(header: Path, cls: str, base: Iterable[str] = ()) -> dict[str, int]:
    """Return the slot of each virtual method that a class adds to the virtual table of its first base.

    Slots go on after those of ``base``, and follow the Itanium C++ ABI: declaration order, two for a destructor (its
    second one is called ``"~Name (deleting)"``). Raises FactMissing if the class is not there or overloads a method.
    """
    known = list(base)
    slots: dict[str, int] = {}
    for name in _virtual_methods(_body(_read(header), cls, header), known):
        if name in slots:
            raise FactMissing(f"{header.name}: {cls} declares {name} twice")
        slots[name] = len(known) + len(slots)
        if name.startswith("~"):
            slots[f"{name} (deleting)"] = len(known) + len(slots)
    return slots


def enum_values(header: Path, enum: str) -> dict[str, int]:
    """Return the names and values of an enum whose every value is written out. Raises FactMissing."""
    body = _body(_read(header), enum, header)
    return {name: int(value) for name, value in re.findall(r"(\w+)\s*=\s*(\d+)", body)}


def data_members(header: Path, cls: str) -> list[str]:
    """Return the members of a class that take room in its objects: none for one without state. Raises FactMissing."""
    body = _body(_read(header), cls, header)
    while "{" in body:
        body, count = re.subn(r"{[^{}]*}", ";", body)
        if count == 0:
            raise FactMissing(f"{header.name}: {cls} has unequal braces")
    statements = (re.sub(r"\b(?:public|protected|private)\s*:", "", part).strip() for part in body.split(";"))
    plain = (part for part in statements if part and "(" not in part)
    return [part for part in plain if not re.search(r"\b(?:static|using|typedef|friend|enum|struct|class)\b", part)]


def _read(header: Path) -> str:
    try:
        source = header.read_text(encoding="utf-8")
    except OSError as error:
        raise FactMissing(f"{header}: {error.strerror}") from None
    source = re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.DOTALL)
    # Methods that only the ROCm build has would shift every slot after them.
    return re.sub(r"#\s*ifdef\s+USE_ROCM\b.*?#\s*endif", "", source, flags=re.DOTALL)


def _body(source: str, name: str, header: Path) -> str:
    opening = re.search(rf"\b(?:struct|class)\s[^;{{}}()]*?\b{name}\b[^;{{}}]*{{", source)
    if opening is None:
        raise FactMissing(f"{header.name} has no {name}")
    depth = 1
    for end in range(opening.end(), len(source)):
        depth += {"{": 1, "}": -1}.get(source[end], 0)
        if depth == 0:
            return source[opening.end() : end]
    raise FactMissing(f"{header.name}: {name} has no end")


def _virtual_methods(body: str, base: list[str]) -> list[str]:
    # An override keeps the slot that its base gave it, whether or not it says "virtual" again.
    names: list[str] = re.findall(r"\bvirtual\s+[^;{()]*?(~?\w+)\s*\(", body)
    return [name for name in names if name not in base]
