"""The file of a recorded history, and what becomes of a snapshot of torch."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_flopguard.backends.simulated.allocator import Allocator
from pytest_flopguard.backends.simulated.allocator_settings import AllocatorSettings
from pytest_flopguard.backends.simulated.history import History, HistoryError, RecordedSegment
from pytest_flopguard.backends.simulated.history_replay import replay
from pytest_flopguard.backends.simulated.recording import history_of

MIB = 1024 * 1024
BASE = 0x7F12_3460_0000


def entry(action: str, address: int, size: int, stream: int = 0, **more: object) -> dict[str, object]:
    """An entry of a trace as torch shows it, with what a history leaves out."""
    frames = [{"name": "forward", "filename": "/home/someone/secret/model.py", "line": 41}]
    return {"action": action, "addr": address, "size": size, "stream": stream, "frames": frames, "time_us": 7, **more}


def segment(address: int, blocks: list[tuple[int, int, str]], **more: object) -> dict[str, object]:
    """A segment as torch shows it; blocks as (bytes, bytes asked for, state)."""
    total = sum(block[0] for block in blocks)
    plain = [{"size": size, "requested_size": asked, "state": state, "frames": []} for size, asked, state in blocks]
    return {
        "device": 0,
        "address": address,
        "total_size": total,
        "stream": 0,
        "segment_type": "small" if total == 2 * MIB else "large",
        "segment_pool_id": (0, 0),
        "is_expandable": False,
        "blocks": plain,
        **more,
    }


def snapshot(**more: object) -> dict[str, object]:
    """700 bytes live in a segment of 2 MiB, asked for after 600 were freed again."""
    return {
        "segments": [segment(BASE, [(1024, 700, "active_allocated"), (2 * MIB - 1024, 88, "inactive")])],
        "device_traces": [
            [
                entry("segment_alloc", BASE, 2 * MIB),
                entry("alloc", BASE, 600),
                entry("free_requested", BASE, 600),
                entry("free_completed", BASE, 600),
                entry("alloc", BASE, 700),
                entry("snapshot", 0, 1024),
            ]
        ],
        "allocator_settings": {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"},
        **more,
    }


def test_a_snapshot_becomes_numbers() -> None:
    history = history_of(snapshot())
    assert history == History(
        settings="max_split_size_mb:64",
        initial=(),
        events=(
            ("segment_alloc", BASE, 2 * MIB, 0),
            ("alloc", BASE, 600, 0),
            ("free_requested", BASE, 600, 0),
            ("free_completed", BASE, 600, 0),
            ("alloc", BASE, 700, 0),
            ("snapshot", 0, 1024, 0),
        ),
        final=(
            RecordedSegment(
                address=BASE,
                stream=0,
                small=True,
                expandable=False,
                blocks=((1024, 700, 1), (2 * MIB - 1024, 0, 0)),
            ),
        ),
    )
    assert replay(history).mismatches == ()


def test_the_file_has_numbers_from_the_lowest_address_on() -> None:
    history = replace(history_of(snapshot()), peaks=(1, 2, 3, 4))
    assert history.to_plain() == {
        "format": "flopguard-allocator-history",
        "version": 1,
        "settings": "max_split_size_mb:64",
        "assumed": 0,
        "peaks": [1, 2, 3, 4],
        "initial": [],
        "events": [[3, 0, 2 * MIB, 0], [0, 0, 600, 0], [1, 0, 600, 0], [2, 0, 600, 0], [0, 0, 700, 0], [7, 0, 1024, 0]],
        "final": [[0, 0, 1, 0, [[1024, 700, 1], [2 * MIB - 1024, 0, 0]]]],
    }


@pytest.mark.parametrize("name", ["one.history.json", "one.history.json.gz"])
def test_a_file_comes_back_and_is_the_same_each_time(tmp_path: Path, name: str) -> None:
    history = history_of(snapshot())
    paths = [tmp_path / name, tmp_path / f"again.{name}"]
    for path in paths:
        history.save(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    read = History.load(paths[0])
    # Addresses count from the lowest: that is all that is lost.
    assert read.events[1] == ("alloc", 0, 600, 0)
    assert History.from_plain(read.to_plain()) == read
    assert replay(read).equal
    text = gzip.decompress(paths[0].read_bytes()) if name.endswith(".gz") else paths[0].read_bytes()
    assert b"secret" not in text
    assert b"forward" not in text


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"nothing", "not JSON"),
        (b"[]", "not a recorded history: expected the format 'flopguard-allocator-history'"),
        (b'{"format": "other"}', "not a recorded history"),
        (b'{"format": "flopguard-allocator-history", "version": 2}', "version 2, and this release reads 1"),
        (b'{"format": "flopguard-allocator-history", "version": 1}', "broken: KeyError: 'settings'"),
    ],
)
def test_another_file_is_refused_with_its_name(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(HistoryError) as raised:
        History.load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert told in str(raised.value)


@pytest.mark.parametrize(
    "broken",
    [
        {"events": [[99, 0, 1, 0]]},
        {"events": [[0, 0, 1]]},
        {"events": [0]},
        {"final": [[0, 0, 1, 0]]},
        {"final": [[0, 0, 1, 0, 5]]},
        {"final": [[None, 0, 1, 0, []]]},
        {"initial": [[0, 0, 1, 0, [[1, 2]]]]},
        {"peaks": 5},
        {"assumed": None},
    ],
)
def test_a_broken_file_is_refused(broken: dict[str, object]) -> None:
    plain = json.loads(json.dumps(history_of(snapshot()).to_plain()))
    with pytest.raises(HistoryError, match=r"^history: broken: "):
        History.from_plain({**plain, **broken})


def test_a_cut_gzip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.json.gz"
    history_of(snapshot()).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(HistoryError, match="not JSON"):
        History.load(path)


@pytest.mark.parametrize("device", [1, 5])
def test_a_device_without_a_trace_is_told(device: int) -> None:
    with pytest.raises(HistoryError, match=f"no trace of device {device}: record it with"):
        history_of(snapshot(device_traces=[[entry("alloc", BASE, 1)], []]), device=device)


def test_only_one_device_is_taken() -> None:
    both = snapshot()
    other = segment(BASE + 99 * MIB, [(20 * MIB, 5, "inactive")], device=1)
    both["segments"] = [*both["segments"], other]  # type: ignore[misc]
    assert len(history_of(both).final) == 1


def test_private_pools_are_left_out() -> None:
    # A CUDA graph's pool: torch tells it of every event, older releases of its segment only.
    plain = snapshot()
    place = BASE + 64 * MIB
    pool = segment(place, [(20 * MIB, 20 * MIB, "active_allocated")], segment_pool_id=(0, 1))
    plain["segments"] = [*plain["segments"], pool]  # type: ignore[misc]
    told = [entry("segment_alloc", place, 20 * MIB, pool_id=(0, 1)), entry("alloc", place, 20 * MIB, pool_id=(0, 1))]
    gone = [entry("segment_alloc", BASE + 999 * MIB, 20 * MIB, pool_id=(0, 1))]
    untold = [entry("alloc", place + 512, 20 * MIB)]
    plain["device_traces"] = [[*told, *gone, *untold, *plain["device_traces"][0]]]  # type: ignore[index]
    assert history_of(plain) == history_of(snapshot())


def test_streams_become_small_numbers_in_the_order_of_their_handles() -> None:
    far = 0x5588_0000_1000
    plain = snapshot()
    plain["segments"] = [
        *plain["segments"],  # type: ignore[misc]
        segment(BASE + 64 * MIB, [(20 * MIB, 20 * MIB, "active_allocated")], stream=far + 512),
    ]
    more = [
        entry("segment_alloc", BASE + 64 * MIB, 20 * MIB, far + 512),
        entry("alloc", BASE + 64 * MIB, 20 * MIB, far + 512),
        entry("oom", 0, 1, far, device_free=4321),
    ]
    plain["device_traces"] = [[*plain["device_traces"][0], *more]]  # type: ignore[index]
    history = history_of(plain)
    assert history.events[-1] == ("oom", 4321, 1, 1)
    assert {segment.stream for segment in history.final} == {0, 2}
    assert History.from_plain(history.to_plain()).events[-1] == ("oom", 4321, 1, 1)
    assert replay(history).equal


def test_an_action_of_a_later_release_is_passed_over() -> None:
    plain = snapshot()
    plain["device_traces"] = [[*plain["device_traces"][0], entry("user_defined", 0, 0)]]  # type: ignore[index]
    assert history_of(plain) == history_of(snapshot())


@pytest.mark.parametrize(
    ("events", "told"),
    [
        # A segment was taken that the end does not have, and a block lived where nothing is reserved.
        ([entry("segment_alloc", BASE + 99 * MIB, 20 * MIB)], "the end does not have them"),
        ([entry("free_requested", BASE + 99 * MIB, 700)], "is in no segment of the start"),
        # Two blocks at the start in the same bytes.
        (
            [entry("free_requested", BASE, 700), entry("free_requested", BASE + 512, 700)],
            "two blocks at the start share the bytes",
        ),
    ],
)
def test_a_trace_that_contradicts_its_end_is_told(events: list[dict[str, object]], told: str) -> None:
    end = [segment(BASE, [(2 * MIB, 0, "inactive")])]
    with pytest.raises(HistoryError, match=told):
        history_of({"segments": end, "device_traces": [events]})


def test_torchs_own_peaks_are_kept() -> None:
    names = ("allocated_bytes", "active_bytes", "requested_bytes", "reserved_bytes")
    stats = {f"{name}.all.peak": 1024 * (at + 1) for at, name in enumerate(names)}
    assert history_of(snapshot(), stats={**stats, "num_ooms": 0}).peaks == (1024, 2048, 3072, 4096)


def test_the_model_can_be_recorded_too() -> None:
    # What the recorder does with a real device, done with the simulated one.
    model = Allocator(AllocatorSettings(), record=True)
    kept = [model.malloc(size, stream) for size, stream in [(700, 0), (3 * MIB, 0), (44 * MIB, 3)]]
    model.free(kept.pop())
    model.empty_cache()
    assert model.events is not None
    trace = [entry(*event) for event in model.events]
    history = history_of({"segments": model.snapshot(), "device_traces": [trace]})
    report = replay(history)
    assert report.mismatches == ()
    assert report.segment_decisions == 4
    assert report.peaks["reserved_bytes"] == model.stats.reserved.peak
