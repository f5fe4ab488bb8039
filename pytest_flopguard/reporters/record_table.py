"""The table of a run: what each record measured, its limit and its verdict, laid out to fit a width."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pytest_flopguard.core.measurement import PHASES
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.standing import standings
from pytest_flopguard.reporters.record_cells import Cells, file_and_name, record_cells, without_unit
from pytest_flopguard.reporters.table import Column, Row, lay_out, shorten, table_width

_LEFT = ("test", "label", "verdict")
# A name cut below this tells too little: then each test gets a line of its own.
_LEAST_NAME = 36
_EMPTY = ("", "0", "-")
_Blocks = Sequence[Sequence[Cells]]
_Headers = Mapping[str, str]


def record_table(records: Sequence[Record], width: int, *, every_finding: bool) -> list[str]:
    """Return the table's lines: the fullest of a few layouts that fits, from one line a record down to a list.

    Columns without a number and the repeated unit give way first, then tests get lines of their own.
    """
    devices = {peak.device for record in records for peak in record.measurement.memory}
    one = len(devices) == 1
    blocks = [
        list(record_cells(record, standing, every_finding=every_finding, one_device=one))
        for record, standing in zip(records, standings(records), strict=True)
    ]
    headers = {name: name for name in ("test", "label", *PHASES, "memory", "limit", "used", "verdict")}
    headers["memory"] = "\n".join(["peak memory", *devices]) if one else "peak memory"
    full = _without(headers, _silent(blocks, ("label", "optimizer", "memory")))
    telling = _without(full, _silent(blocks, PHASES))
    short = {name: f"{text}\nFLOP" if name in PHASES else text for name, text in telling.items()}
    brief = [[without_unit(cells) for cells in block] for block in blocks]
    for head, body in ((full, blocks), (telling, blocks), (short, brief)):
        lines = _by_file(records, head, body, width)
        if lines:
            return lines
    for head, body in ((telling, blocks), (short, brief)):
        lines = _by_test(records, _without(head, ("test", "label")), body, width)
        if lines:
            return lines
    return list(_listed(records, _without(telling, ("test", "label")), blocks, width))


def _without(headers: _Headers, names: Sequence[str]) -> _Headers:
    return {name: text for name, text in headers.items() if name not in names}


def _silent(blocks: _Blocks, names: Sequence[str]) -> list[str]:
    """Return the columns that say nothing about any record."""
    return [name for name in names if all(cells[name] in _EMPTY for block in blocks for cells in block)]


def _by_file(records: Sequence[Record], headers: _Headers, blocks: _Blocks, width: int) -> list[str] | None:
    """Lay out one line per record under its file's name; None where the tests' names get too little room."""
    columns, rows = _laid(records, _without(headers, ("test",)), blocks, lambda record: file_and_name(record)[0])
    room = width - table_width(columns, rows) - 2
    if room < min(_LEAST_NAME, max(len(block[0]["test"]) for block in blocks)):
        return None
    cut = [[{**cells, "test": shorten(cells["test"], room)} for cells in block] for block in blocks]
    return lay_out(*_laid(records, headers, cut, lambda record: file_and_name(record)[0]), width)


def _by_test(records: Sequence[Record], headers: _Headers, blocks: _Blocks, width: int) -> list[str] | None:
    """Lay out each test's name on a line of its own, its numbers below; None where they do not fit."""
    columns, rows = _laid(records, headers, blocks, lambda record: _title(record, width))
    return lay_out(columns, rows, width) if table_width(columns, rows) <= width else None


def _listed(records: Sequence[Record], headers: _Headers, blocks: _Blocks, width: int) -> Iterator[str]:
    names = {name: " ".join(header.splitlines()) for name, header in headers.items()}
    widest = max((12, *map(len, names.values())))
    for record, block in zip(records, blocks, strict=True):
        yield _title(record, width)
        for cells in block:
            for name, header in names.items():
                if cells[name] not in _EMPTY:
                    yield f"  {header:<{widest}}  {cells[name]}"


def _laid(
    records: Sequence[Record], headers: _Headers, blocks: _Blocks, heading: Callable[[Record], str]
) -> tuple[list[Column], list[Row]]:
    """Return the table; a record whose heading is that of the record before it gets none."""
    columns = [Column(header=header, right=name not in _LEFT) for name, header in headers.items()]
    rows: list[Row] = []
    current = None
    for record, block in zip(records, blocks, strict=True):
        text = heading(record)
        for index, cells in enumerate(block):
            new = text if index == 0 and text != current else None
            rows.append(Row(cells=tuple(cells[name] for name in headers), heading=new))
        current = text
    return columns, rows


def _title(record: Record, width: int) -> str:
    label = f"  {record.measurement.label}" if record.measurement.label else ""
    return shorten(record.nodeid, width - len(label)) + label
