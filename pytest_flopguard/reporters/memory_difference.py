"""Why a peak moved: what was alive then, against the baseline, by category and by module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_flopguard.core.baseline import MemoryBaseline, held_quantity, memory_amount
from pytest_flopguard.core.measurement import MemoryPeak
from pytest_flopguard.core.memory_delta import HoldingDelta, memory_delta, without_moves
from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.reporters.amounts import exact, peak_text, percent, quantity_name, signed_amount
from pytest_flopguard.reporters.module_costs import OUTSIDE
from pytest_flopguard.reporters.owners_table import owner_lines

_TOP = 10
_START = "already there at the start"
_PHASES = {"forward": "forward", "backward": "backward", "recompute": "recompute", "optimizer": "the optimizer's step"}


def memory_lines(accepted: MemoryBaseline, device: str, peak: MemoryPeak, *, verbosity: int) -> Iterator[str]:
    """Yield what differs and then all that was alive; nothing where the number that is held is as before."""
    quantity = held_quantity(device)
    old, new = memory_amount(accepted, device), _amount(peak, device)
    if old == new:
        return
    yield (
        f"What {device} held at its peak: {quantity_name(quantity)} {format_amount(old, Unit.BYTE)} -> "
        f"{format_amount(new, Unit.BYTE)} ({signed_amount(new - old, Unit.BYTE)})"
    )
    moved = _moved(accepted, peak)
    if moved:
        yield f"  {moved}"
    for name, size in _categories(accepted, peak).items():
        before = accepted.start if name == _START else accepted.held.get(name, 0)
        told = f"{_words(name)}, before {format_amount(before, Unit.BYTE)}"
        yield f"  {signed_amount(size, Unit.BYTE):>13}  {percent(abs(size), old):>7}  {told}"
    every = memory_delta(accepted, peak)
    delta = every if verbosity > 1 else without_moves(every)
    if every:
        yield "  by module"
        yield from (f"  {line}" for line in holding_lines(delta, old, verbosity=verbosity))
    if len(delta) < len(every):
        yield f"  {'':13}  {moves(len(every) - len(delta))} (-vv shows them)"
    if peak.owners:
        yield f"  all {peak_text(peak)} that were alive then, by category and module"
        yield from owner_lines(peak, verbosity=verbosity)


def holding_lines(delta: Sequence[HoldingDelta], whole: int, *, verbosity: int = 0) -> Iterator[str]:
    """Yield the ten largest differences and what is left, for verbosity 2 all of them and exactly."""
    rows = delta if verbosity > 1 else delta[:_TOP]
    for each in rows:
        before = exact(each.before, Unit.BYTE) if verbosity > 1 else format_amount(each.before, Unit.BYTE)
        yield (
            f"{signed_amount(each.bytes, Unit.BYTE):>13}  {percent(abs(each.bytes), whole):>7}  {place(each)}"
            f", before {before}"
        )
    rest = delta[len(rows) :]
    if rest:
        total = sum(each.bytes for each in rest)
        yield f"{signed_amount(total, Unit.BYTE):>13}  in {len(rest)} more places (-vv shows them)"


def memory_cause(accepted: MemoryBaseline, device: str, peak: MemoryPeak) -> str:
    """Return the main cause of a changed peak in a few words, empty where the peak is as before.

    It is the category that changed most in the direction of the peak, and the phase if the peak moved to another.
    """
    change = _amount(peak, device) - memory_amount(accepted, device)
    if not change:
        return ""
    name, size = next(iter(_categories(accepted, peak).items()), ("", 0))
    moved = _moved(accepted, peak)
    if not size or (size > 0) is not (change > 0):
        text = f"{quantity_name(held_quantity(device))} on {device}: {signed_amount(change, Unit.BYTE)}"
        return f"{text}, {moved}" if moved else text
    text = f"{_words(name)} on {device}: {signed_amount(size, Unit.BYTE)}"
    if size != change:
        text += f" ({signed_amount(change, Unit.BYTE)} in all)"
    first = next((each for each in without_moves(memory_delta(accepted, peak)) if each.category == name), None)
    if first is not None and (first.bytes > 0) is (change > 0):
        part = "all" if first.bytes == size else signed_amount(first.bytes, Unit.BYTE)
        text += f", {part} of it in {first.path or OUTSIDE}"
    return f"{text}; {moved}" if moved else text


def moves(number: int) -> str:
    """Tell how many differences were left out as moves."""
    return f"{number:,} more in which one layer stands for another"


def place(delta: HoldingDelta) -> str:
    """Name the category and the modules of a difference."""
    times = f"  x{delta.modules}" if delta.modules > 1 else ""
    return f"{_words(delta.category)}  {delta.path or OUTSIDE}{times}"


def _categories(accepted: MemoryBaseline, peak: MemoryPeak) -> dict[str, int]:
    """Return bytes more than before of each category that differs: first what has the direction of the sum."""
    names = dict.fromkeys((*accepted.held, *peak.by_category))
    rows = {name: peak.by_category.get(name, 0) - accepted.held.get(name, 0) for name in names}
    if not names:
        rows = {_START: peak.start_bytes - accepted.start}
    more = sum(rows.values()) >= 0
    order = sorted(rows.items(), key=lambda pair: ((pair[1] > 0) is not more, -abs(pair[1]), pair[0]))
    return {name: size for name, size in order if size}


def _amount(peak: MemoryPeak, device: str) -> int:
    return peak.amount(growth=held_quantity(device) == "memory_growth")


def _moved(accepted: MemoryBaseline, peak: MemoryPeak) -> str:
    """Say that the peak is reached in another phase than before, empty if it is not."""
    if accepted.phase is None or peak.phase is None or accepted.phase == peak.phase:
        return ""
    return f"the peak moved from {_PHASES[accepted.phase]} to {_PHASES[peak.phase]}"


def _words(category: str) -> str:
    return category.replace("_", " ")
