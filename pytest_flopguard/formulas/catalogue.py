"""Every closed form, as ``flopguard formulas`` lists it: found by its module, told by its docstring."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import MappingProxyType, ModuleType
from typing import Any

from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.formulas.architectures import presets
from pytest_flopguard.formulas.architectures.families import from_config
from pytest_flopguard.formulas.architectures.models import parameters
from pytest_flopguard.formulas.architectures.presets import PRESETS
from pytest_flopguard.formulas.hardware import datasheets
from pytest_flopguard.formulas.hardware.datasheets import GPUS
from pytest_flopguard.formulas.memory import optimizers, recipes
from pytest_flopguard.formulas.memory.optimizers import OPTIMIZERS
from pytest_flopguard.formulas.memory.recipes import RECIPES
from pytest_flopguard.formulas.registry import Entry, default_registry
from pytest_flopguard.formulas.scaling import kaplan_loss, parametric_loss
from pytest_flopguard.formulas.scaling.kaplan_loss import KAPLAN_FITS
from pytest_flopguard.formulas.scaling.parametric_loss import FITS

_HOME = "pytest_flopguard.formulas"
_PACKAGE = Path(__file__).parent.parent
# The rooms of formulas, by the kind that theirs are listed under.
KINDS: Mapping[str, str] = MappingProxyType(
    {
        "architectures": "closed form",
        "memory": "memory",
        "scaling": "scaling",
        "hardware": "hardware",
        "published": "published",
    }
)
# Modules and functions that formulas are made of, and that are none themselves.
_PARTS = frozenset(
    {
        "block", "called", "called_checkpointing", "decoder_sizes", "families", "matrix", "models", "pairs", "presets",
        "byte_terms", "footprint", "recipes", "datasheets", "gpus", "linear_elements",
        "mixer.breakdown", "whisper.frames_heard",
    }
)  # fmt: skip
# What a function of these rooms returns where it is a formula; others look something up or make a description.
_RESULTS = (
    "Breakdown", "ByteTerms", "Footprint", "Roofline", "Point", "int", "float", "Fraction", "bool",
    "dict[str, int]", "tuple[int, int]", "tuple[Point, ...]", "tuple[LayerCache, ...]", "LayerCache",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the catalogue, and what is told of it by itself.

    ``place`` is ``file:line``, ``signature`` what it is called with, ``text`` its docstring: equation, symbols,
    assumptions and source. ``context`` is what its module says of all its formulas.
    """

    name: str
    kind: str
    summary: str
    defined: str
    place: str = ""
    signature: str = ""
    text: str = ""
    context: str = ""


def catalogue() -> Iterator[Row]:
    """Yield every closed form, every row of the tables that have names, and every op with a formula or a class."""
    for room, kind in KINDS.items():
        for module in modules(room):
            yield from (_formula(module, function, kind) for function in formulas_of(module))
    yield from (_model(name) for name in PRESETS)
    yield from _tables()
    yield from (_op(entry) for entry in default_registry().entries())


def modules(room: str) -> Iterator[ModuleType]:
    """Yield the modules of a room that have formulas, by name."""
    package = import_module(f"{_HOME}.{room}")
    for found in iter_modules(package.__path__):
        if found.name not in _PARTS and not found.name.startswith("config_"):
            yield import_module(f"{package.__name__}.{found.name}")


def formulas_of(module: ModuleType) -> Iterator[Callable[..., Any]]:
    """Yield the public functions of a module that return a number, a breakdown or bytes, in the order of its text."""
    for name, value in vars(module).items():
        if name.startswith("_") or not inspect.isfunction(value) or value.__module__ != module.__name__:
            continue
        if _name(value) not in _PARTS and value.__annotations__.get("return") in _RESULTS:
            yield value


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def _formula(module: ModuleType, function: Callable[..., Any], kind: str) -> Row:
    text = inspect.getdoc(function) or ""
    return Row(
        name=_name(function),
        kind=kind,
        summary=text.partition("\n")[0],
        defined=f"{module.__name__}.{function.__name__}",
        place=_place(function),
        signature=_signature(function),
        text=text,
        context=inspect.getdoc(module) or "",
    )


def _model(name: str) -> Row:
    config = PRESETS[name]
    sizes = from_config(config)
    count = parameters(sizes)
    lines = "\n".join(f"{field} = {value}" for field, value in config.items())
    return Row(
        name=name,
        kind="model",
        summary=f"{config['model_type']}, {format_amount(count, Unit.COUNT)} parameters",
        defined=f"{_HOME}.architectures.presets",
        place=_line(presets, name),
        text=f"{count:,} parameters, from the config\n\n{lines}",
    )


def _tables() -> Iterator[Row]:
    """Yield fits, training recipes, optimizers and GPUs, which options take by name."""
    for name, law in FITS.items():
        yield _row(parametric_loss, name, "fit", law, f"L = E + A/N^alpha + B/D^beta; {law.source}")
    for name, power in KAPLAN_FITS.items():
        summary = f"L = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D; {power.source}"
        yield _row(kaplan_loss, name, "fit", power, summary)
    for name, recipe in RECIPES.items():
        yield _row(recipes, name, "recipe", recipe, f"{recipe.total} bytes per parameter; {recipe.source}")
    for name, state in OPTIMIZERS.items():
        yield _row(optimizers, name, "optimizer", state, f"{state.moments} moments of the parameters' shape")
    for name, row in GPUS.items():
        yield _row(datasheets, name, "gpu", row, f"{row.memory_bytes // 10**9} GB; {row.source}")


def _row(module: ModuleType, name: str, kind: str, row: Any, summary: str) -> Row:
    return Row(
        name=name,
        kind=kind,
        summary=summary,
        defined=module.__name__,
        place=_line(module, name),
        text="\n".join(f"{each.name} = {getattr(row, each.name)}" for each in fields(row)),
        context=inspect.getdoc(module) or "",
    )


def _line(module: ModuleType, name: str) -> str:
    """Return ``file:line`` of the row of a table: the first line of its module that has the name as a text."""
    lines, _ = inspect.getsourcelines(module)
    number = next((at for at, line in enumerate(lines, start=1) if f'"{name}"' in line), 1)
    return f"{_file(Path(module.__file__ or ''))}:{number}"


def _op(entry: Entry) -> Row:
    function = entry.formula
    return Row(
        name=entry.op,
        kind=entry.kind,
        summary=entry.summary,
        defined=entry.source,
        place="" if function is None else _place(function),
        signature="" if function is None else _signature(function),
        text=entry.summary if function is None else inspect.getdoc(function) or "",
        context="" if function is None else inspect.getdoc(inspect.getmodule(function)) or "",
    )


def _signature(function: Callable[..., Any]) -> str:
    # Annotations are kept as text, and would stand in quotation marks.
    return str(inspect.signature(function)).replace("'", "")


def _place(function: Callable[..., Any]) -> str:
    """Return ``file:line`` of a function, the file as it stands in the package."""
    code = inspect.unwrap(function).__code__
    return f"{_file(Path(code.co_filename))}:{code.co_firstlineno}"


def _file(path: Path) -> str:
    home = _PACKAGE.parent
    return (path.relative_to(home) if path.is_relative_to(home) else path).as_posix()
