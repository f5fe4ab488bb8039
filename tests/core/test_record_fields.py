"""Every field of every class that a report is made of survives JSON: a new field that is forgotten there fails here."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import date
from itertools import count
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from pytest_flopguard.core.baseline import Baseline, MemoryBaseline, OpWork
from pytest_flopguard.core.measurement import PHASES
from pytest_flopguard.core.record import RunReport, run_from_json, run_to_json
from pytest_flopguard.core.record_shape import REPORT, check_shape
from pytest_flopguard.core.traffic import ByteTally

_NUMBERS = count(1)


def instance(owner: type) -> Any:
    """Build an instance in which each field has a value of its own that is not the field's default."""
    hints = get_type_hints(owner, localns={"ByteTally": ByteTally})
    values = {each.name: value_of(hints[each.name], default_of(each)) for each in fields(owner)}
    if owner is Baseline:
        # A baseline file's numbers must agree with each other: the modules below sum to the phases.
        flops = {phase: next(_NUMBERS) for phase in PHASES}
        work = OpWork(calls=next(_NUMBERS), flops=flops, masked=next(_NUMBERS))
        values |= {"flops": flops, "modules": {"layers.0-3": {"aten.mm": work}}}
    if owner is MemoryBaseline:
        held = {"activations": next(_NUMBERS), "parameters": next(_NUMBERS)}
        values |= {"held": held, "modules": {"layers.0-3": held}}
    return owner(**values)


def value_of(hint: Any, default: object) -> Any:
    """Return a value of a type that is neither empty nor the default."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return value_of(next(each for each in args if each is not type(None)), default)
    if origin is Literal:
        return next(each for each in args if each != default)
    if origin is tuple:
        parts = args[:1] * 2 if args[-1] is Ellipsis else args
        return tuple(value_of(each, MISSING) for each in parts)
    if origin is not None and issubclass(origin, Mapping):
        return {value_of(args[0], MISSING): value_of(args[1], MISSING)}
    if is_dataclass(hint):
        return instance(hint)  # type: ignore[arg-type]
    simple: dict[Any, Any] = {bool: default is False, date: date(2030, 1, 31), int: next(_NUMBERS)}
    return simple.get(hint, f"text {next(_NUMBERS)}")


def default_of(field: Field[Any]) -> object:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every dataclass below a value with its path."""
    if is_dataclass(value):
        yield path, value
        for each in fields(value):
            yield from parts(getattr(value, each.name), f"{path}.{each.name}")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from parts(inner, f"{path}[{key!r}]")
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            yield from parts(inner, f"{path}[{index}]")


RUN: RunReport = instance(RunReport)
TEXT = json.loads(json.dumps(run_to_json(RUN)))
BACK = run_from_json(TEXT)
FIELDS = [
    pytest.param(value, other, each.name, id=f"{path}.{each.name}")
    for (path, value), (_, other) in zip(parts(RUN, "run"), parts(BACK, "run"), strict=True)
    for each in fields(value)
]


def test_the_instance_reaches_every_class_of_a_report() -> None:
    found = {type(value).__name__ for _, value in parts(RUN, "run")}
    assert found == {
        "RunReport", "Record", "Measurement", "FlopTally", "OpCount", "UnknownOp", "ByteTally", "ByteCount",
        "MemoryPeak", "Owner", "Prediction", "ParameterCount", "Workload", "WorkloadCall", "Finding", "Expectation",
        "Origin", "Part", "Baseline", "MemoryBaseline", "OpWork",
    }  # fmt: skip


@pytest.mark.parametrize(("value", "other", "name"), FIELDS)
def test_a_field_survives_json(value: Any, other: Any, name: str) -> None:
    field = next(each for each in fields(value) if each.name == name)
    assert getattr(value, name) != default_of(field), "the instance must not leave a field at its default"
    assert getattr(other, name) == getattr(value, name)


def test_the_shape_takes_every_field() -> None:
    check_shape(TEXT, REPORT)
