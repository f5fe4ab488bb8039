"""The text of a baseline file: one table for each entry, sorted, so that two pull requests seldom meet in one place."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from pytest_flopguard.budgets.baseline_file import END, FORMAT_VERSION, BaselineFile, Block, read_entries
from pytest_flopguard.core.baseline import Baseline
from pytest_flopguard.core.baseline_plain import baseline_to_plain

if TYPE_CHECKING:
    from tomlkit.items import Table

_HEAD = f"""\
# What the last accepted run of these tests measured. Written by pytest --flop-update, reviewed as code.
format_version = {FORMAT_VERSION}
"""


def file_text(before: BaselineFile, entries: Mapping[Block, Baseline]) -> str:
    """Return the whole file; an entry that stays keeps its own text, with what people wrote around it."""
    blocks = []
    for block in sorted(entries):
        kept = before.entries.get(block) == entries[block] and _stands_alone(before, block)
        blocks.append(before.texts[block] if kept else entry_text(block, entries[block]))
    return "\n".join([_HEAD, *blocks, END]) + "\n"


def entry_text(block: Block, baseline: Baseline) -> str:
    """Return one entry: short tables on a line, memory and modules below with one line for each."""
    import tomlkit

    name, region = block
    plain = baseline_to_plain(baseline)
    if baseline.muted_until is not None:
        plain["muted_until"] = baseline.muted_until
    entry = tomlkit.table()
    for key, value in plain.items():
        if key == "workload":
            entry[key] = _workload(value)
        elif key == "memory":
            memory = tomlkit.table(is_super_table=True)
            for device, each in value.items():
                memory[device] = _lines({name: held for name, held in each.items() if name != "modules"})
                if "modules" in each:
                    memory[device]["modules"] = _lines(each["modules"])
            entry[key] = memory
        elif key == "modules":
            entry[key] = _lines(value)
        else:
            entry[key] = _short(value)
    document = tomlkit.document()
    test, outer = tomlkit.table(is_super_table=True), tomlkit.table(is_super_table=True)
    if region:
        regions = tomlkit.table(is_super_table=True)
        regions[_quoted(region)] = entry
        outer["region"] = regions
    test[_quoted(name)] = outer if region else entry
    document["test"] = test
    return tomlkit.dumps(document)


def _quoted(name: str) -> Any:
    # All names alike, so that they sort and are found alike.
    import tomlkit
    from tomlkit.items import KeyType, SingleKey

    return SingleKey(name, KeyType.Basic) if name.isprintable() and not set('"\\') & set(name) else tomlkit.key(name)


def _lines(values: Mapping[str, Any]) -> Table:
    """Return a table of its own, each value on a line."""
    import tomlkit

    found = tomlkit.table()
    for key, value in values.items():
        found[key] = _short(value)
    return found


def _workload(workload: Mapping[str, Any]) -> Table:
    import tomlkit

    found, calls = tomlkit.table(), tomlkit.array()
    for each in workload["calls"]:
        calls.append(_short(each))
    found["calls"] = calls.multiline(True)
    if "rest" in workload:
        found["rest"] = workload["rest"]
    return found


def _short(value: Any) -> Any:
    """Return a value that stands on one line."""
    import tomlkit

    if not isinstance(value, Mapping):
        return tomlkit.item(value) if not isinstance(value, date) else tomlkit.date(value.isoformat())
    found = tomlkit.inline_table()
    for key, inner in value.items():
        found[key] = _short(inner)
    return found


def _stands_alone(file: BaselineFile, block: Block) -> bool:
    """Whether an entry's text says all of the entry and nothing else; a person may have written it in other ways."""
    return block in file.texts and read_entries(file.texts[block]) == {block: file.entries[block]}
