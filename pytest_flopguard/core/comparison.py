"""Two sets of measured numbers side by side: which tests got dearer or cheaper, came or went. Never formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from pytest_flopguard.core.baseline import Baseline, held_quantity, memory_amount, other_environment
from pytest_flopguard.core.baseline_verdict import CUDA_TOLERANCE
from pytest_flopguard.core.delta import Delta, delta_between, spread
from pytest_flopguard.core.expectation import UNITS, Quantity
from pytest_flopguard.core.memory_delta import HoldingDelta, memory_delta_between
from pytest_flopguard.core.units import parse_tolerance
from pytest_flopguard.core.workload import config_changes, input_changes

Verdict = Literal["regression", "changed", "undecided", "improvement", "new", "gone", "same"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
# A node id and a region, empty for the whole test.
Place = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One number before and now; ``device`` for memory. ``dearer`` is past what its device's tolerance allows."""

    quantity: Quantity
    before: int
    now: int
    device: str = ""

    @property
    def dearer(self) -> bool:
        """Whether it grew more than its tolerance."""
        slack = parse_tolerance(
            CUDA_TOLERANCE if self.device.startswith("cuda") else 0, self.before, UNITS[self.quantity]
        )
        return self.now > self.before + slack


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One test or region: its verdict, the numbers and modules that differ, and the reasons: changed inputs, a changed
    config, what could not be compared.

    ``memory`` has the modules that hold other bytes at the peak, for each device whose memory number differs.
    """

    nodeid: str
    region: str
    verdict: Verdict
    numbers: tuple[Number, ...] = ()
    delta: Delta = field(default_factory=Delta)
    memory: Mapping[str, tuple[HoldingDelta, ...]] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether it is worse, or nobody can tell: undecided never passes."""
        return self.verdict in ("regression", "changed", "undecided")


def compare(before: Mapping[Place, Baseline], now: Mapping[Place, Baseline]) -> tuple[Compared, ...]:
    """Compare what is in both, and list what is in one only; the worst first."""
    found = [_compared(place, before.get(place), now.get(place)) for place in sorted({*before, *now})]
    return tuple(sorted(found, key=lambda each: VERDICTS.index(each.verdict)))


def _compared(place: Place, before: Baseline | None, now: Baseline | None) -> Compared:
    nodeid, region = place
    if before is None or now is None:
        return Compared(nodeid=nodeid, region=region, verdict="new" if before is None else "gone")
    changed = input_changes(before.workload, now.workload)
    if before.attention != now.attention:
        changed.append(f"attention: counted {before.attention} before, {now.attention} now")
    numbers = tuple(each for each in _numbers(before, now) if each.before != each.now)
    unknown = tuple(_unknown(before, now))
    verdict: Verdict = "same"
    if changed:
        verdict = "changed"
    elif any(each.dearer for each in numbers):
        verdict = "regression"
    elif any(not each.startswith("memory") for each in unknown):
        verdict = "undecided"
    elif any(each.now < each.before for each in numbers):
        verdict = "improvement"
    return Compared(
        nodeid=nodeid,
        region=region,
        verdict=verdict,
        numbers=numbers,
        delta=delta_between(spread(before.modules), spread(now.modules)),
        memory={
            each.device: memory_delta_between(before.memory[each.device], now.memory[each.device])
            for each in numbers
            if each.device
        },
        reasons=(*changed, *config_changes(before.workload, now.workload), *unknown),
    )


def _numbers(before: Baseline, now: Baseline) -> Iterator[Number]:
    if before.total is not None and now.total is not None:
        yield Number(quantity="flops", before=before.total, now=now.total)
    old, new = before.parameters, now.parameters
    if old is not None and new is not None:
        yield Number(quantity="parameters", before=old.count, now=new.count)
        yield Number(quantity="parameter_bytes", before=old.bytes, now=new.bytes)
    for device in sorted(before.memory.keys() & now.memory.keys()):
        was, held = before.memory[device], now.memory[device]
        if not other_environment(was, held.torch, held.allocator):
            yield Number(
                quantity=held_quantity(device),
                before=memory_amount(was, device),
                now=memory_amount(held, device),
                device=device,
            )


def _unknown(before: Baseline, now: Baseline) -> Iterator[str]:
    """Yield what cannot be compared; memory of another environment is for a run there to decide."""
    for name, old, new in (("FLOPs", before.total, now.total), ("parameters", before.parameters, now.parameters)):
        if (old is None) != (new is None):
            yield f"{name}: known {'now' if old is None else 'before'} only"
    for device in sorted({*before.memory, *now.memory}):
        was, held = before.memory.get(device), now.memory.get(device)
        if was is None or held is None:
            yield f"memory of {device}: measured {'now' if was is None else 'before'} only"
        else:
            for what, (first, then) in other_environment(was, held.torch, held.allocator).items():
                yield f"memory of {device}: {what} {first} before, {then} now"
