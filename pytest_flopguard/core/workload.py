"""What a test asked of its models: the inputs of every outermost call, and the sizes in a model's config."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

# A decoding loop makes thousands of calls that differ in one size; so many are told apart by name.
_TOLD = 8
Size = int | tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadCall:
    """A call of an outermost module: its class, its tensors as ``float32[16, 8]``, and the whole numbers in its config.

    Names inside a nested config are joined by dots.
    """

    model: str
    inputs: str
    config: Mapping[str, Size] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The distinct calls in their order, how often each was made aside; of very many the rest is a hash."""

    calls: tuple[WorkloadCall, ...] = ()
    rest: str = ""


def workload_of(calls: Iterable[WorkloadCall]) -> Workload:
    """Keep each distinct call once."""
    distinct: dict[tuple[str, str, str], WorkloadCall] = {}
    for each in calls:
        distinct.setdefault((each.model, each.inputs, repr(sorted(each.config.items()))), each)
    told, rest = list(distinct.values())[:_TOLD], list(distinct)[_TOLD:]
    digest = sha256("\n".join(inputs for _, inputs, _ in rest).encode()).hexdigest()[:16] if rest else ""
    return Workload(calls=tuple(told), rest=f"{len(rest)} more {digest}" if rest else "")


def input_changes(before: Workload, after: Workload) -> list[str]:
    """Return how the inputs of two workloads differ, empty if they are the same. The name of a class does not count."""
    found = list(_inputs(before, after))
    if not found and before.rest != after.rest:
        found.append(f"later calls: {before.rest or 'none'} before, {after.rest or 'none'} now")
    return list(dict.fromkeys(found))


def config_changes(before: Workload, after: Workload) -> list[str]:
    """Return how the configs of the models differ: the cause of other numbers, and not another workload.

    Only fields that both have are compared: a new release of a library that adds a field changes nothing.
    """
    found = [
        f"config {name}: {_shown(old.config[name])} before, {_shown(new.config[name])} now"
        for old, new in zip(before.calls, after.calls, strict=False)
        for name in sorted(old.config.keys() & new.config.keys())
        if old.config[name] != new.config[name]
    ]
    return list(dict.fromkeys(found))


def _inputs(before: Workload, after: Workload) -> Iterator[str]:
    old, new = [each.inputs for each in before.calls], [each.inputs for each in after.calls]
    if len(old) == len(new):
        for was, now, call in zip(old, new, after.calls, strict=True):
            if was != now:
                yield f"inputs of {call.model}: {was or 'none'} before, {now or 'none'} now"
        return
    # Only what is new or gone: other calls stand in both.
    for call in before.calls:
        if call.inputs not in new:
            yield f"no longer called: {call.model}({call.inputs})"
    for call in after.calls:
        if call.inputs not in old:
            yield f"called besides: {call.model}({call.inputs})"


def _shown(size: Size) -> str:
    return str(size) if isinstance(size, int) else f"[{', '.join(map(str, size))}]"
