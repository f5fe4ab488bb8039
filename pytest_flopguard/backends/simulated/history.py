"""What a real allocator did, recorded in numbers: the state at the start, every event, the state at the end.

The format is JSON (gzip where the name ends in ``.gz``): streams as small numbers in the order of their handles,
addresses in units of 512 bytes from the lowest one, sizes in bytes. No names, paths or stacks.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_flopguard.backends.simulated.blocks import ROUNDING
from pytest_flopguard.core.errors import FlopguardError

FORMAT = "flopguard-allocator-history"
VERSION = 1

# The words of ``TraceEntry::Action`` (c10/core/CachingDeviceAllocator.h); the place in this tuple is what is written.
ACTIONS = (
    "alloc",
    "free_requested",
    "free_completed",
    "segment_alloc",
    "segment_free",
    "segment_map",
    "segment_unmap",
    "snapshot",
    "oom",
)
# A recording of a whole training step has some megabytes.
_MOST_BYTES = 256 << 20
# What a block is: inactive, live, or freed and waiting for another stream.
FREE, LIVE, WAITING = 0, 1, 2
# The statistics of torch.cuda.memory_stats that a history may carry the peaks of, in this order.
PEAKS = ("allocated_bytes", "active_bytes", "requested_bytes", "reserved_bytes")

Event = tuple[str, int, int, int]
RecordedBlock = tuple[int, int, int]


class HistoryError(FlopguardError, ValueError):
    """A recorded history cannot be read or followed: the text says what was seen and what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSegment:
    """A segment, or a run of mapped pages of an expandable one, with its blocks as (bytes, bytes asked for, state)."""

    address: int
    stream: int
    small: bool
    expandable: bool
    blocks: tuple[RecordedBlock, ...]

    @property
    def size(self) -> int:
        """Bytes of the whole segment."""
        return sum(block[0] for block in self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One device's recording: ``settings`` as text, ``initial`` and ``final`` by address, ``events`` in order.

    An event is (action, address, bytes, stream), the bytes as asked for where the action is of a block. ``assumed``
    counts the blocks whose size at the start could not be told for certain. ``peaks`` are torch's own, of the names in
    PEAKS, where they were taken.
    """

    settings: str
    initial: tuple[RecordedSegment, ...]
    events: tuple[Event, ...]
    final: tuple[RecordedSegment, ...]
    assumed: int = 0
    peaks: tuple[int, ...] | None = None

    def save(self, path: Path) -> None:
        """Write the history, the same bytes for the same history."""
        text = json.dumps(self.to_plain(), separators=(",", ":")).encode()
        path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)

    @classmethod
    def load(cls, path: Path) -> History:
        """Read a history that ``save`` wrote; raise HistoryError for anything else."""
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                raise HistoryError(f"{path}: more than {_MOST_BYTES >> 20} MiB of JSON")
            plain = json.loads(content)
        except (EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
            if isinstance(error, HistoryError):
                raise
            raise HistoryError(f"{path}: not JSON: {error}") from error
        except RecursionError as error:
            raise HistoryError(f"{path}: not a recorded history: it is nested too deeply") from error
        except OSError as error:
            raise HistoryError(f"{path}: {error.strerror or error}") from error
        return cls.from_plain(plain, str(path))

    def to_plain(self) -> dict[str, object]:
        """Return the history as JSON has it."""
        segments = (*self.initial, *self.final)
        starts = [segment.address for segment in segments]
        starts += [event[1] for event in self.events if event[0] not in ("snapshot", "oom")]
        base = min(starts, default=0)
        return {
            "format": FORMAT,
            "version": VERSION,
            "settings": self.settings,
            "assumed": self.assumed,
            "peaks": None if self.peaks is None else list(self.peaks),
            "initial": [_plain_segment(segment, base) for segment in self.initial],
            "events": [_plain_event(event, base) for event in self.events],
            "final": [_plain_segment(segment, base) for segment in self.final],
        }

    @classmethod
    def from_plain(cls, plain: object, where: str = "history") -> History:
        """Build the history from its JSON; raise HistoryError where it is another format or version."""
        if not isinstance(plain, Mapping) or plain.get("format") != FORMAT:
            raise HistoryError(f"{where}: not a recorded history: expected the format {FORMAT!r}")
        if plain.get("version") != VERSION:
            raise HistoryError(f"{where}: version {plain.get('version')!r}, and this release reads {VERSION}")
        try:
            return cls(
                settings=_text(plain["settings"]),
                assumed=_number(plain["assumed"]),
                peaks=None if plain["peaks"] is None else tuple(_number(peak) for peak in plain["peaks"]),
                initial=tuple(_segment_of(each) for each in plain["initial"]),
                events=tuple(_event_of(*each) for each in plain["events"]),
                final=tuple(_segment_of(each) for each in plain["final"]),
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise HistoryError(f"{where}: broken: {type(error).__name__}: {error}") from error


def _plain_event(event: Event, base: int) -> list[int]:
    action, address, size, stream = event
    # Out of memory keeps the free bytes of the device where others keep an address.
    place = address if action in ("oom", "snapshot") else (address - base) // ROUNDING
    return [ACTIONS.index(action), place, size, stream]


def _event_of(action: object, place: object, size: object, stream: object) -> Event:
    name = ACTIONS[_number(action)]
    # torch takes no block for an allocation of no bytes, and so records none.
    amount = _number(size, least=1 if name == "alloc" else 0)
    return name, _number(place) * (1 if name in ("oom", "snapshot") else ROUNDING), amount, _number(stream)


def _number(value: object, least: int = 0, most: int = 2**63 - 1) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{str(value)[:40]!r}: expected a whole number from {least} to {most}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r}: expected a text")
    return value


def _plain_segment(segment: RecordedSegment, base: int) -> list[object]:
    place = (segment.address - base) // ROUNDING
    blocks = [list(block) for block in segment.blocks]
    return [place, segment.stream, int(segment.small), int(segment.expandable), blocks]


def _segment_of(plain: Sequence[object]) -> RecordedSegment:
    place, stream, small, expandable, blocks = plain
    if not isinstance(blocks, list):
        raise TypeError(f"a segment with the blocks {str(blocks)[:40]!r}")
    return RecordedSegment(
        address=_number(place) * ROUNDING,
        stream=_number(stream),
        small=bool(_number(small, most=1)),
        expandable=bool(_number(expandable, most=1)),
        blocks=tuple(
            (_number(size), _number(requested), _number(state, most=WAITING)) for size, requested, state in blocks
        ),
    )
