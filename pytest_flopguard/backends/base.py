"""The seams of measuring: what a backend offers to a session, and what a session injects into it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pytest_flopguard.core.measurement import Attention, Cost, FlopTally, Kind, MemoryPeak, OpCall, ParameterCount
from pytest_flopguard.core.model_call import ModelCall
from pytest_flopguard.core.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """A backend that cannot be used here, and the reason in words a person can act on."""

    name: str
    reason: str


class CostModel(Protocol):
    """What op calls cost; injected, so that backends do not know the formulas.

    ``attention`` is the convention that tallies are to follow.
    """

    attention: Attention

    def kind(self, op: str, traits: frozenset[str]) -> Kind:
        """Classify an op by name (``"aten.mm"``) and traits (``"view"``, ``"pointwise"``, ...), not by shape."""

    def reads(self, op: str) -> frozenset[str]:
        """Return the names of an op's arguments whose values decide its work."""

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


@runtime_checkable
class ByteFollower(Protocol):
    """A FlopBackend that can also tell how many bytes op calls move."""

    def follow_bytes(self) -> None:
        """From now on add ``bytes_moved`` to tallies."""


@runtime_checkable
class ProgressTeller(Protocol):
    """A FlopBackend that can also tell that it is at work."""

    def tell(self, tick: Callable[[], None]) -> None:
        """From now on call ``tick`` after each op call."""


@runtime_checkable
class ModelNoter(Protocol):
    """A FlopBackend that can also tell which models were called, and with what."""

    def note_models(self) -> None:
        """From now on note the calls of models that have a config."""

    def model_calls(self, mark: Any) -> tuple[ModelCall, ...]:
        """Return the calls since the mark."""


@runtime_checkable
class WorkloadNoter(Protocol):
    """A FlopBackend that can also tell what the outermost modules were called with."""

    def workload(self, mark: Any) -> Workload:
        """Return the calls since the mark."""


@runtime_checkable
class RunsCompiled(Protocol):
    """A FlopBackend that can run compiled functions as they are written."""

    @property
    def ran_as_written(self) -> int:
        """How many calls of compiled functions ran as written since the entry."""

    def compile_for_real(self, wanted: bool) -> None:
        """Say whether compiled functions run compiled from the next entry on, unknown by name, or as written."""


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
class SiteRecorder(Protocol):
    """A MemoryBackend that can also tell which line of Python asked for memory."""

    def record_sites(self, root: Path | None) -> None:
        """From now on tell lines of code, their paths as seen from a folder; None stops it."""


@runtime_checkable
class SnapshotKeeper(Protocol):
    """A MemoryBackend that records an allocator's history where lines of code are recorded."""

    def keep_snapshot(self, folder: Path, nodeid: str) -> Path | None:
        """Write the history of the last outermost region to a file in a folder; None where there is none."""


@runtime_checkable
class WarmsUp(Protocol):
    """A MemoryBackend that can let libraries take what they keep for ever before it measures anything."""

    warms_up: bool


@runtime_checkable
class ModelTracer(Protocol):
    """A second, independent opinion: counts one forward call of a given module."""

    name: str

    def trace(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FlopTally | Unavailable:
        """Count ``model(*args, **kwargs)``, forward only, without changing the model."""
