"""The seams of measuring: what a backend offers to a session, and what a session injects into it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pytest_flopguard.core.measurement import Cost, FlopTally, Kind, MemoryPeak, OpCall, ParameterCount


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """A backend that cannot be used here, and the reason in words a person can act on."""

    name: str
    reason: str


class CostModel(Protocol):
    """What op calls cost; injected, so that backends do not know the formulas."""

    def kind(self, op: str, traits: frozenset[str]) -> Kind:
        """Classify an op by name (``"aten.mm"``) and traits (``"view"``, ``"pointwise"``, ...), not by shape."""

    def cost(self, call: OpCall) -> Cost:
        """Cost one call of an op whose kind is ``"counted"``, or explain an unknown one."""


@runtime_checkable
class FlopBackend(Protocol):
    """Counts FLOPs of whatever runs while it is entered. Regions nest: each ``begin`` has its ``end``."""

    name: str

    def __enter__(self) -> object:
        """Install. Leaves nothing behind after ``__exit__``, also when the watched code raised."""

    def __exit__(self, *exc: object) -> bool | None:
        """Remove everything that ``__enter__`` installed."""

    def begin(self) -> Any:
        """Open a region and return its mark."""

    def end(self, mark: Any) -> FlopTally:
        """Close the region of a mark and return what ran in it."""

    def paused(self) -> AbstractContextManager[object]:
        """Let what runs in the block go by unseen."""

    def parameters(self, mark: Any) -> ParameterCount | None:
        """Return the distinct parameters of the models that ran since the mark; None if none did."""


class MemoryBackend(Protocol):
    """Measures memory peaks, one per device, of whatever runs while it is entered. Regions nest."""

    name: str

    def __enter__(self) -> object:
        """Install."""

    def __exit__(self, *exc: object) -> bool | None:
        """Remove everything that ``__enter__`` installed."""

    def begin(self) -> Any:
        """Open a region (reset peaks) and return its mark."""

    def end(self, mark: Any) -> tuple[MemoryPeak, ...] | Unavailable:
        """Close the region of a mark and return the peaks of the devices that it used."""


@runtime_checkable
class ModelTracer(Protocol):
    """A second, independent opinion: counts one forward call of a given module."""

    name: str

    def trace(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FlopTally | Unavailable:
        """Count ``model(*args, **kwargs)``, forward only, without changing the model."""
