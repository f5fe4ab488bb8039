"""From what ``torch.cuda.memory._snapshot()`` returns to a recorded history in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_flopguard.backends.simulated.allocator_settings import VARIABLES, AllocatorSettings
from pytest_flopguard.backends.simulated.history import (
    ACTIONS,
    FREE,
    LIVE,
    PEAKS,
    WAITING,
    Event,
    History,
    HistoryError,
    RecordedSegment,
)
from pytest_flopguard.backends.simulated.history_start import start_of

Plain = Mapping[str, Any]

_STATES = {"inactive": FREE, "active_allocated": LIVE, "active_pending_free": WAITING, "active_awaiting_free": WAITING}
_DEFAULT_POOL = (0, 0)


def history_of(
    snapshot: Plain, *, device: int = 0, start: Sequence[Plain] | None = None, stats: Plain | None = None
) -> History:
    """Return the history of a device from a snapshot taken while the memory history was recorded.

    ``start`` are the segments of a snapshot taken when the recording began; without it the state at the start is
    rebuilt from the end. ``stats`` is ``torch.cuda.memory_stats()``, its peaks reset when the recording began. Private
    pools are left out. Raise HistoryError where the snapshot has no trace of the device, or contradicts itself.
    """
    traces = snapshot.get("device_traces") or []
    if device >= len(traces) or not traces[device]:
        raise HistoryError(f"no trace of device {device}: record it with torch.cuda.memory._record_memory_history()")
    told = snapshot.get("allocator_settings") or {}
    settings = next((str(told[name]) for name in VARIABLES if told.get(name)), "")
    segments = [each for each in snapshot["segments"] if each.get("device", device) == device]
    events = _events(traces[device], segments)
    final = recorded_segments(segments)
    if start is None:
        initial, assumed = start_of(final, events, AllocatorSettings.parse(settings))
    else:
        initial, assumed = recorded_segments([each for each in start if each.get("device", device) == device]), 0
    number = _stream_numbers(events, [*initial, *final])
    return History(
        settings=settings,
        initial=tuple(replace(segment, stream=number[segment.stream]) for segment in initial),
        events=tuple((action, address, size, number[stream]) for action, address, size, stream in events),
        final=tuple(replace(segment, stream=number[segment.stream]) for segment in final),
        assumed=assumed,
        peaks=None if stats is None else tuple(int(stats[f"{name}.all.peak"]) for name in PEAKS),
    )


def recorded_segments(segments: Sequence[Plain]) -> tuple[RecordedSegment, ...]:
    """Return the segments of the default pools by address, free blocks without what was asked for them last."""
    found = []
    for segment in segments:
        if tuple(segment.get("segment_pool_id", _DEFAULT_POOL)) != _DEFAULT_POOL:
            continue
        blocks = []
        for block in segment["blocks"]:
            state = _STATES[block["state"]]
            size = int(block["size"])
            blocks.append((size, int(block.get("requested_size", size)) if state != FREE else 0, state))
        found.append(
            RecordedSegment(
                address=int(segment["address"]),
                stream=int(segment["stream"]),
                small=segment["segment_type"] == "small",
                expandable=bool(segment.get("is_expandable", False)),
                blocks=tuple(blocks),
            )
        )
    return tuple(sorted(found, key=lambda segment: segment.address))


def _events(trace: Sequence[Plain], segments: Sequence[Plain]) -> list[Event]:
    """Return the events outside private pools; older releases of torch tell the pool of a segment only."""
    private = [
        range(int(each["address"]), int(each["address"]) + int(each["total_size"]))
        for each in segments
        if tuple(each.get("segment_pool_id", _DEFAULT_POOL)) != _DEFAULT_POOL
    ]
    events = []
    for entry in trace:
        action = str(entry["action"])
        if action not in ACTIONS:
            continue
        address = int(entry["device_free"] if action == "oom" else entry.get("addr", 0))
        if tuple(entry.get("pool_id", _DEFAULT_POOL)) != _DEFAULT_POOL:
            continue
        if action != "oom" and any(address in each for each in private):
            continue
        events.append((action, address, int(entry["size"]), int(entry["stream"])))
    return events


def _stream_numbers(events: Sequence[Event], segments: Sequence[RecordedSegment]) -> dict[int, int]:
    """Number the streams by their handles, the order in which the allocator walks them."""
    handles = {0, *(event[3] for event in events), *(segment.stream for segment in segments)}
    return {handle: number for number, handle in enumerate(sorted(handles))}
