"""``[tool.flopguard.gpus.NAME]``: GPUs that a project describes itself."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_flopguard.budgets.draft import Draft
from pytest_flopguard.core.described_gpu import CAPABILITIES, DescribedGpu
from pytest_flopguard.core.errors import nearest
from pytest_flopguard.core.gpu_names import ALIASES, gpu_name
from pytest_flopguard.core.units import AmountError, Unit, parse_amount

_KEYS = ("capability", "multiprocessors", "memory", "l2-cache")
_WANTED = f"a table with {', '.join(_KEYS)}"


def read_gpus(draft: Draft, value: object) -> Mapping[str, DescribedGpu]:
    """Read the tables by name; everything that is wrong goes to the draft."""
    if not isinstance(value, Mapping):
        draft.complain_value((), value, "a table of GPUs by name")
        return {}
    found = {name: _read(draft, str(name), table) for name, table in value.items()}
    return {name: each for name, each in found.items() if each is not None}


def _read(draft: Draft, name: str, table: object) -> DescribedGpu | None:
    if gpu_name(name) in ALIASES:
        draft.complain_value((name,), name, "a name that no built-in GPU has", f"; it spells {gpu_name(name)!r}")
        return None
    if not isinstance(table, Mapping):
        draft.complain_value((name,), table, _WANTED)
        return None
    before = len(draft.problems)
    for key in [each for each in table if each not in _KEYS]:
        draft.complain("unknown-setting", (name, key), name=f"gpus.{name}.{key}", hint=nearest(str(key), _KEYS))
    missing = [each for each in _KEYS if each not in table]
    if missing:
        draft.complain_value((name,), dict(table), _WANTED, f"; missing: {', '.join(missing)}")
    capability = table.get("capability")
    if "capability" in table and not (isinstance(capability, str) and capability in CAPABILITIES):
        draft.complain_value((name, "capability"), capability, f"one of {', '.join(map(repr, CAPABILITIES))}")
    processors = table.get("multiprocessors")
    if "multiprocessors" in table and (type(processors) is not int or processors < 1):
        draft.complain_value((name, "multiprocessors"), processors, "a whole number above 0")
    sizes = {key: _bytes(draft, name, key, table[key]) for key in ("memory", "l2-cache") if key in table}
    if len(draft.problems) > before:
        return None
    return DescribedGpu(
        name=name,
        capability=CAPABILITIES[str(capability)],
        multiprocessors=int(str(processors)),
        memory=sizes["memory"],
        l2_cache=sizes["l2-cache"],
    )


def _bytes(draft: Draft, name: str, key: str, value: object) -> int:
    wanted = 'an amount of bytes above 0, such as "24 GiB"'
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        draft.complain_value((name, key), value, wanted)
        return 0
    try:
        size = parse_amount(value, Unit.BYTE)
    except AmountError as error:
        draft.complain("bad-amount", (name, key), name=f"gpus.{name}.{key}", value=value, reason=error)
        return 0
    if size < 1:
        draft.complain_value((name, key), value, wanted)
    return size
