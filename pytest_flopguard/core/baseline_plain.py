"""A baseline as plain tables, numbers and texts, and back: the same in baseline files and in report files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, TypeVar, get_args

from pytest_flopguard.core.baseline import Baseline, MemoryBaseline, OpWork
from pytest_flopguard.core.errors import nearest
from pytest_flopguard.core.measurement import PHASES, Attention, ParameterCount, Phase
from pytest_flopguard.core.workload import Size, Workload, WorkloadCall

Plain = dict[str, Any]
Path = tuple[str, ...]
T = TypeVar("T")
_KEYS = (
    "reason",
    "was",
    "muted_until",
    "muted_reason",
    "flops",
    "attention",
    "parameters",
    "workload",
    "memory",
    "modules",
)


class PlainError(ValueError):
    """What is written is no baseline; ``path`` leads to the key that is wrong."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{'.'.join(path)}: {reason}" if path else reason)


def baseline_to_plain(baseline: Baseline) -> Plain:
    """Return the keys that say something, in the order in which people read them."""
    plain: Plain = {}
    if baseline.reason:
        plain["reason"] = baseline.reason
    if baseline.was:
        plain["was"] = dict(baseline.was)
    if baseline.muted_until is not None:
        plain |= {"muted_until": baseline.muted_until.isoformat(), "muted_reason": baseline.muted_reason}
    if baseline.flops is not None:
        plain["flops"] = _phases(baseline.flops)
    if baseline.attention != "dense":
        plain["attention"] = baseline.attention
    if baseline.parameters is not None:
        plain["parameters"] = {"count": baseline.parameters.count, "bytes": baseline.parameters.bytes}
    if baseline.workload.calls:
        plain["workload"] = workload_to_plain(baseline.workload)
    if baseline.memory:
        plain["memory"] = {device: _memory_to_plain(each) for device, each in baseline.memory.items()}
    if baseline.modules:
        plain["modules"] = {
            path: {
                op: {"calls": work.calls, **_phases(work.flops), **({"masked": work.masked} if work.masked else {})}
                for op, work in ops.items()
            }
            for path, ops in baseline.modules.items()
        }
    return plain


def baseline_from_plain(plain: object) -> Baseline:
    """Rebuild a baseline; PlainError for an unknown key, a wrong value, or numbers that contradict each other."""
    found = _table(plain, (), _KEYS)
    modules = _each(found.get("modules", {}), ("modules",), _ops)
    flops = _flops(found["flops"], ("flops",)) if "flops" in found else None
    _agree(flops, modules)
    until, why = found.get("muted_until"), _text(found.get("muted_reason", ""), ("muted_reason",))
    if until is not None and not why:
        raise PlainError(("muted_until",), "says until when, and muted_reason must say why")
    return Baseline(
        flops=flops,
        attention=_attention(found.get("attention", "dense")),
        parameters=_parameters(found["parameters"]) if "parameters" in found else None,
        memory=_each(found.get("memory", {}), ("memory",), _memory),
        workload=workload_from_plain(found["workload"]) if "workload" in found else Workload(),
        modules=modules,
        reason=_text(found.get("reason", ""), ("reason",)),
        was=_each(found.get("was", {}), ("was",), _number),
        muted_until=None if until is None else _day(until, ("muted_until",)),
        muted_reason=why,
    )


def workload_to_plain(workload: Workload) -> Plain:
    """Return the calls as tables, and the hash of the rest where there is one."""
    calls = []
    for each in workload.calls:
        call: Plain = {"model": each.model, "inputs": each.inputs}
        if each.config:
            call["config"] = {
                key: value if isinstance(value, int) else list(value) for key, value in each.config.items()
            }
        calls.append(call)
    return {"calls": calls} | ({"rest": workload.rest} if workload.rest else {})


def workload_from_plain(plain: object) -> Workload:
    """Rebuild a workload."""
    path = ("workload",)
    found = _table(plain, path, ("calls", "rest"))
    calls = found.get("calls", [])
    if not isinstance(calls, list):
        raise PlainError((*path, "calls"), f"{calls!r} is no list")
    return Workload(
        calls=tuple(_call(each, (*path, "calls")) for each in calls),
        rest=_text(found.get("rest", ""), (*path, "rest")),
    )


def _memory_to_plain(memory: MemoryBaseline) -> Plain:
    plain: Plain = {"start": memory.start, "peak": memory.peak, "torch": memory.torch}
    if memory.allocator:
        plain["allocator"] = memory.allocator
    if memory.phase:
        plain["phase"] = memory.phase
    plain["held"] = dict(memory.held)
    if memory.modules:
        plain["modules"] = {path: dict(held) for path, held in memory.modules.items()}
    return plain


def _phases(flops: Mapping[Phase, int]) -> Plain:
    return {phase: flops[phase] for phase in PHASES if flops.get(phase)}


def _agree(flops: Mapping[Phase, int] | None, modules: Mapping[str, Mapping[str, OpWork]]) -> None:
    # A number changed by hand would loosen the gate without a trace; a file that was cut short is seen here too.
    for phase in PHASES:
        parts = sum(work.flops.get(phase, 0) for ops in modules.values() for work in ops.values())
        whole = 0 if flops is None else flops.get(phase, 0)
        if parts != whole:
            raise PlainError(("flops",), f"{phase} is {whole}, and the modules below sum to {parts}")


def _call(value: object, path: Path) -> WorkloadCall:
    found = _table(value, path, ("model", "inputs", "config"))
    return WorkloadCall(
        model=_text(found.get("model", ""), (*path, "model")),
        inputs=_text(found.get("inputs", ""), (*path, "inputs")),
        config=_each(found.get("config", {}), (*path, "config"), _size),
    )


def _ops(value: object, path: Path) -> dict[str, OpWork]:
    return _each(value, path, _work)


def _work(value: object, path: Path) -> OpWork:
    found = _table(value, path, ("calls", *PHASES, "masked"))
    return OpWork(
        calls=_number(found.get("calls"), (*path, "calls")),
        flops={phase: _number(found[phase], (*path, phase)) for phase in PHASES if phase in found},
        masked=_number(found.get("masked", 0), (*path, "masked")),
    )


def _flops(value: object, path: Path) -> dict[Phase, int]:
    found = _table(value, path, PHASES)
    return {phase: _number(found[phase], (*path, phase)) for phase in PHASES if phase in found}


def _parameters(value: object) -> ParameterCount:
    path = ("parameters",)
    found = _table(value, path, ("count", "bytes"))
    return ParameterCount(
        count=_number(found.get("count"), (*path, "count")), bytes=_number(found.get("bytes"), (*path, "bytes"))
    )


def _memory(value: object, path: Path) -> MemoryBaseline:
    found = _table(value, path, ("start", "peak", "torch", "allocator", "phase", "held", "modules"))
    held = _each(found.get("held", {}), (*path, "held"), _number)
    modules = _each(found.get("modules", {}), (*path, "modules"), _sizes)
    for category in dict.fromkeys((*held, *(each for sizes in modules.values() for each in sizes))) if modules else ():
        parts = sum(sizes.get(category, 0) for sizes in modules.values())
        if parts != held.get(category, 0):
            told = f"{category} is {held.get(category, 0)}, and the modules below sum to {parts}"
            raise PlainError((*path, "held"), told)
    return MemoryBaseline(
        start=_number(found.get("start"), (*path, "start")),
        peak=_number(found.get("peak"), (*path, "peak")),
        torch=_text(found.get("torch"), (*path, "torch")),
        allocator=_text(found.get("allocator", ""), (*path, "allocator")),
        held=held,
        modules=modules,
        phase=_phase(found["phase"], (*path, "phase")) if "phase" in found else None,
    )


def _sizes(value: object, path: Path) -> dict[str, int]:
    return _each(value, path, _number)


def _each(value: object, path: Path, read: Callable[[object, Path], T]) -> dict[str, T]:
    if not isinstance(value, Mapping):
        raise PlainError(path, f"{value!r} is no table")
    return {str(key): read(inner, (*path, str(key))) for key, inner in value.items()}


def _table(value: object, path: Path, keys: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise PlainError(path, f"{value!r} is no table")
    for key in value:
        if key not in keys:
            raise PlainError((*path, str(key)), f"no key of a baseline{nearest(str(key), keys)}")
    return value


def _number(value: object, path: Path) -> int:
    if type(value) is not int or value < 0:
        raise PlainError(path, f"{value!r} is no whole number of at least 0" if value is not None else "is missing")
    return value


def _size(value: object, path: Path) -> Size:
    if isinstance(value, list) and all(type(each) is int for each in value):
        return tuple(value)
    if type(value) is int:
        return value
    raise PlainError(path, f"{value!r} is no whole number, nor a list of such")


def _text(value: object, path: Path) -> str:
    if not isinstance(value, str):
        raise PlainError(path, f"{value!r} is no text" if value is not None else "is missing")
    return value


def _phase(value: object, path: Path) -> Phase:
    for each in PHASES:
        if value == each:
            return each
    raise PlainError(path, f"{value!r} is none of {', '.join(PHASES)}")


def _attention(value: object) -> Attention:
    for each in get_args(Attention):
        if value == each:
            return each  # type: ignore[no-any-return]
    raise PlainError(("attention",), f"{value!r} is neither 'dense' nor 'causal'")


def _day(value: object, path: Path) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise PlainError(path, f"{value!r} is no day such as 2026-12-31") from None
