"""The shape of a report file, format_version 1, for readers that must not trust the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from pytest_flopguard.core.expectation import SEVERITIES, UNITS, Source
from pytest_flopguard.core.measurement import PHASES, Attention, Kind
from pytest_flopguard.core.record import Outcome, TestOutcome
from pytest_flopguard.core.verdict import Status

# A type, several shapes in a tuple, allowed texts in a frozenset, [shape] for a list of any length and [shape, shape]
# for one of this length, {str: shape} for a table with any keys, and a dict with names for an object with exactly these
# keys.
Shape = Any

_MAYBE_INT = (int, type(None))
_MAYBE_TEXT = (str, type(None))
_AMOUNTS = {str: int}
_PHASE = frozenset(PHASES)

_UNKNOWN_OP: Shape = {
    "op": str,
    "call": str,
    "module": str,
    "phase": _PHASE,
    "calls": int,
    "reason": str,
    "dense_flops": _MAYBE_INT,
}
_COUNT: Shape = {
    "op": str,
    "module": str,
    "phase": _PHASE,
    "kind": frozenset(get_args(Kind)),
    "calls": int,
    "flops": _MAYBE_INT,
    "kernel_recompute": int,
    "masked_flops": int,
    "at_most": str,
}
_BYTES: Shape = {
    "total": _MAYBE_INT,
    "at_least": int,
    "by_module": _AMOUNTS,
    "unknown": [str],
    "counts": [{"module": str, "phase": _PHASE, "read": int, "written": int}],
}
_TALLY: Shape = {
    "attention": frozenset(get_args(Attention)),
    "total": _MAYBE_INT,
    "dense_total": _MAYBE_INT,
    "at_least": int,
    **dict.fromkeys(PHASES, _MAYBE_INT),
    "kernel_recompute": int,
    "unknown_ops": [_UNKNOWN_OP],
    "by_module": _AMOUNTS,
    "by_op": _AMOUNTS,
    "engine": str,
    "bytes_moved": (_BYTES, type(None)),
    "counts": [_COUNT],
}
_PREDICTION: Shape = {
    "gpu": str,
    "device": str,
    "torch": str,
    "allocator": str,
    "assumed": [str],
    "unknown": [str],
    "at_most_bytes": _MAYBE_INT,
}
_PEAK: Shape = {
    "device": str,
    "index": int,
    "backend": str,
    "start_bytes": int,
    "peak_bytes": int,
    "growth_bytes": int,
    "is_lower_bound": bool,
    "by_category": _AMOUNTS,
    "detail": _AMOUNTS,
    "owners": [{"category": str, "module": str, "op": str, "site": str, "bytes": int, "blocks": int}],
    "timeline": [[int, int]],
    "prediction": (_PREDICTION, type(None)),
    "peak_phase": (_PHASE, type(None)),
}
_FINDING: Shape = {
    "quantity": frozenset(UNITS),
    "observed": _MAYBE_INT,
    "low": _MAYBE_INT,
    "high": _MAYBE_INT,
    "origin": {"path": str, "line": _MAYBE_INT, "text": str},
    "status": frozenset(get_args(Status)),
    "code": str,
    "severity": frozenset(SEVERITIES),
    "source": frozenset(get_args(Source)),
    "parts": [{"name": str, "equation": str, "flops": int, "modules": str}],
    "derive": frozenset({"", "auto"}),
    "predict": bool,
    "convention": frozenset({"", *get_args(Attention)}),
    "limit_device": _MAYBE_TEXT,
    "device": _MAYBE_TEXT,
    "reason": str,
}
_RECORD: Shape = {
    "nodeid": str,
    "label": str,
    "outcome": frozenset(get_args(Outcome)),
    "flops": (_TALLY, type(None)),
    "memory": (_PEAK, type(None)),
    "other_memory": [_PEAK],
    "parameters": ({"count": int, "bytes": int}, type(None)),
    "cross_checks": [_TALLY],
    "workload": {str: object},
    "unavailable": {str: str},
    "complete": bool,
    "test": frozenset(get_args(TestOutcome)),
    # Of its optional keys its own reader knows; what follows from it must be what is there.
    "baseline": ({str: object}, type(None)),
    "findings": [_FINDING],
}
REPORT: Shape = {
    "format_version": int,
    "tool": {str: object},
    "environment": {str: object},
    "records": [_RECORD],
    "notes": [str],
}
# Keys that reports of earlier releases lack, with what their absence means there, given the rest of the table.
_LATER: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "at_most": lambda count: "",
    "at_most_bytes": lambda prediction: None,
    "is_lower_bound": lambda peak: bool(peak["prediction"] and peak["prediction"]["unknown"]),
    "derive": lambda finding: "",
    "predict": lambda finding: False,
    "peak_phase": lambda peak: None,
    "convention": lambda finding: "",
}


def with_later_keys(value: object, shape: Shape) -> Any:
    """Return a value that has its shape with the keys that an earlier release did not write."""
    if isinstance(shape, tuple):
        return None if value is None else with_later_keys(value, shape[0])
    if isinstance(shape, list) and isinstance(value, list):
        return [with_later_keys(each, shape[index % len(shape)]) for index, each in enumerate(value)]
    if not isinstance(shape, dict) or not isinstance(value, dict) or str in shape:
        return value
    found = {key: with_later_keys(each, shape[key]) for key, each in value.items()}
    return found | {key: _LATER[key](found) for key in shape.keys() - found.keys()}


def check_shape(value: object, shape: Shape, where: str = "the report") -> None:
    """Raise ValueError with the place of the first part that is not of its shape; ``object`` takes anything."""
    if isinstance(shape, tuple):
        # Only None is ever an alternative, so the other shape tells what is wrong.
        if value is not None:
            check_shape(value, shape[0], where)
    elif isinstance(shape, type):
        # Exactly the type: true is no count, and 1.5e12 is no exact number.
        if shape is not object and type(value) is not shape:
            raise ValueError(f"{where} is {_shown(value)}, expected {shape.__name__}")
    elif isinstance(shape, frozenset):
        if not isinstance(value, str) or value not in shape:
            raise ValueError(f"{where} is {_shown(value)}, expected one of {', '.join(sorted(shape))}")
    elif isinstance(shape, list):
        check_shape(value, list, where)
        assert isinstance(value, list)
        if len(shape) > 1 and len(value) != len(shape):
            raise ValueError(f"{where} has {len(value)} entries, expected {len(shape)}")
        for index, each in enumerate(value):
            check_shape(each, shape[index % len(shape)], f"{where}[{index}]")
    else:
        _check_table(value, shape, where)


def _check_table(value: object, shape: dict[Any, Shape], where: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {_shown(value)}, expected a table")
    if str in shape:
        for key, each in value.items():
            check_shape(each, shape[str], f"{where}[{key!r}]")
        return
    missing, strange = sorted(shape.keys() - value.keys() - _LATER.keys()), sorted(value.keys() - shape.keys())
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    if strange:
        raise ValueError(f"{where} holds {', '.join(strange)}, which this version does not know")
    for key, each in value.items():
        check_shape(each, shape[key], f"{where}.{key}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
