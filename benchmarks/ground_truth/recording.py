"""One case as it ran, on a GPU or on the simulator: its peaks, phase by phase, as a small JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FORMAT = "flopguard-memory-recording"
VERSION = 1
RECORDED, PREDICTED = "recorded", "predicted"
FIGURES = ("allocated", "requested", "reserved")
PHASES = ("step", "phase", "allocated", "allocated_peak", "requested_peak", "reserved_peak")


class RecordingError(ValueError):
    """A file is no recording that this program reads: the text says what was seen and what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase of a step (step 0 builds the model): bytes allocated at its end, and the peaks during it."""

    step: int
    phase: str
    allocated: int
    allocated_peak: int
    requested_peak: int
    reserved_peak: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A case as it ran. ``allocator`` are its settings as text; ``error`` says why there are no figures.

    ``retries`` counts how often the allocator had to empty its cache to get memory: such peaks are not the case's own.
    ``assumed`` and ``unknown`` are what a prediction says of itself.
    """

    case: str
    source: str
    allocator: str = ""
    steps: int = 0
    phases: tuple[Phase, ...] = ()
    retries: int = 0
    seconds: float = 0.0
    error: str = ""
    assumed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The case with its allocator settings, as files are called."""
        return variant_name(self.case, self.allocator)

    @property
    def usable(self) -> bool:
        """Whether its peaks are the case's own."""
        return not self.error and not self.retries and bool(self.phases)

    def fresh(self) -> dict[str, int]:
        """Peaks of a fresh process up to the end of the first step, by the names of FIGURES."""
        return self._peaks(lambda step: step <= 1)

    def warm(self) -> dict[str, int]:
        """Peaks of the last step, by the names of FIGURES."""
        return self._peaks(lambda step: step == self.steps)

    def _peaks(self, chosen: Any) -> dict[str, int]:
        rows = [each for each in self.phases if chosen(each.step)]
        return {name: max(getattr(each, f"{name}_peak") for each in rows) for name in FIGURES}

    def save(self, folder: Path) -> None:
        """Write it into a folder under its name, one phase a line."""
        plain = {"format": FORMAT, "version": VERSION, **asdict(self), "columns": list(PHASES)}
        if self.usable:
            plain |= {"fresh": self.fresh(), "warm": self.warm()}
        plain["phases"] = "@"
        rows = ",\n".join("  " + json.dumps([getattr(each, name) for name in PHASES]) for each in self.phases)
        text = json.dumps(plain, indent=1).replace('"@"', f"[\n{rows}\n ]" if rows else "[]")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read what ``save`` wrote; raise RecordingError for anything else, changed peaks included."""
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RecordingError(f"{path}: not JSON: {error}") from error
        if not isinstance(plain, dict) or (plain.get("format"), plain.get("version")) != (FORMAT, VERSION):
            raise RecordingError(f"{path}: not a {FORMAT} of version {VERSION}")
        try:
            found = cls(
                case=str(plain["case"]),
                source=str(plain["source"]),
                allocator=str(plain["allocator"]),
                steps=int(plain["steps"]),
                phases=tuple(Phase(**dict(zip(PHASES, row, strict=True))) for row in plain["phases"]),
                retries=int(plain["retries"]),
                seconds=float(plain["seconds"]),
                error=str(plain["error"]),
                assumed=tuple(plain["assumed"]),
                unknown=tuple(plain["unknown"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RecordingError(f"{path}: broken: {type(error).__name__}: {error}") from error
        if path.name != f"{found.name}.json":
            raise RecordingError(f"{path}: holds {found.name!r}, which its name does not say")
        if found.usable and (plain.get("fresh"), plain.get("warm")) != (found.fresh(), found.warm()):
            raise RecordingError(f"{path}: its peaks are not those of its phases")
        return found


def variant_name(case: str, allocator: str) -> str:
    """Name a case under these settings: ``"case"``, or ``"case+setting-value"``."""
    setting = "".join(each if each.isalnum() or each == "_" else "-" for each in allocator)
    return f"{case}+{setting}" if setting else case


def load_folder(folder: Path) -> dict[str, Recording]:
    """Read every recording of a folder, by its name; raise RecordingError where there is none."""
    paths = [path for path in sorted(folder.glob("*.json")) if is_recording(path)]
    if not paths:
        raise RecordingError(f"{folder}: no recordings: expected one JSON file a case")
    return {each.name: each for each in map(Recording.load, paths)}


def is_recording(path: Path) -> bool:
    """Whether a file of a folder is one case, and not what is told of them all."""
    return path.name not in ("environment.json", "explanations.json", "calibration.json", "counters.json")


def peaks_of(phases: Iterable[Phase]) -> tuple[int, ...]:
    """Return the highest of FIGURES over some phases."""
    rows = list(phases)
    return tuple(max(getattr(each, f"{name}_peak") for each in rows) for name in FIGURES)
