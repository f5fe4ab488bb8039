"""What a number should be: an integer interval, and where a person wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from pytest_flopguard.core.measurement import PHASES, Phase
from pytest_flopguard.core.units import Unit

Quantity = Literal[
    "flops",
    "forward_flops",
    "backward_flops",
    "recompute_flops",
    "optimizer_flops",
    "peak_memory",
    "memory_growth",
    "parameters",
    "parameter_bytes",
    "unknown_ops",
]
Severity = Literal["error", "warn"]
Source = Literal["budget", "formula", "baseline", "cross-check", "setting"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

UNITS: Mapping[Quantity, Unit] = MappingProxyType(
    {
        "flops": Unit.FLOP,
        "forward_flops": Unit.FLOP,
        "backward_flops": Unit.FLOP,
        "recompute_flops": Unit.FLOP,
        "optimizer_flops": Unit.FLOP,
        "peak_memory": Unit.BYTE,
        "memory_growth": Unit.BYTE,
        "parameters": Unit.COUNT,
        "parameter_bytes": Unit.BYTE,
        "unknown_ops": Unit.COUNT,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an expectation is written: file, 1-based line (None if unknown), and the text as it stands there."""

    path: str
    line: int | None = None
    text: str = ""

    def __str__(self) -> str:
        return self.path if self.line is None else f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One named part of a number that a closed form expects: its equation, its FLOPs, and the modules that do it.

    ``modules`` is a regular expression of module paths, empty where the form does not say.
    """

    name: str
    equation: str
    flops: int
    modules: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """``low <= quantity <= high`` (an open end is None); ``device`` keys memory limits, best match wins.

    ``low`` and ``high`` are the enforced bounds: a tolerance is already inside them. ``parts`` are what the number of a
    closed form is made of. With ``derive`` the bounds are still to come, from the closed form of what will have run.
    With ``predict`` a limit for a GPU is also held against the peak that is predicted for it. ``attention`` is the
    convention of a closed form, empty where it does not say.
    """

    quantity: Quantity
    low: int | None = None
    high: int | None = None
    origin: Origin
    severity: Severity = "error"
    device: str | None = None
    source: Source = "budget"
    parts: tuple[Part, ...] = ()
    derive: Literal["", "auto"] = ""
    predict: bool = False
    attention: Literal["", "dense", "causal"] = ""

    @property
    def unit(self) -> Unit:
        """The unit of the interval."""
        return UNITS[self.quantity]


def phase_of(quantity: Quantity) -> Phase | None:
    """Return the one phase that a quantity is about, None for the total."""
    return next((phase for phase in PHASES if quantity == f"{phase}_flops"), None)


def matches_device(key: str, device: str) -> bool:
    """Whether a limit's device key applies to a measured device: equal, or a leading part of it.

    ``"cuda"`` matches ``"cuda:sm90"``; ``"cuda:sm90"`` does not match ``"cuda:sm80"``.
    """
    return device == key or device.startswith(f"{key}:")
