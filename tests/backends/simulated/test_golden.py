"""Every recording of real hardware under tests/golden/ is predicted here, without a GPU, and held against the goals.

Where none is there, the page that speaks of accuracy has to say so: the comparison is owed, and nothing hides that.
The comparison itself is tested on what the simulator writes as if it were a GPU.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pytest_flopguard.backends.simulated.history import History
from pytest_flopguard.backends.simulated.history_replay import replay

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
PAGE = ROOT / "docs" / "explanation" / "memory-accuracy.md"
OWED = "No prediction has been compared with a GPU of ours yet"
FOLDERS = sorted(path.parent for path in GOLDEN.glob("*/environment.json"))
# What a folder holds is judged by the library that its cases need, as each has its version.
PARTS = [
    pytest.param(folder, library, id=f"{folder.name}-{library or 'torch'}")
    for folder in FOLDERS
    for library in ("", "transformers")
]
MIB = 2**20


@pytest.fixture(scope="module")
def ground_truth() -> Any:
    """The modules of ``benchmarks/``, imported by their names, as its scripts do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        import memory_zoo
        from ground_truth import case_run, comparison, environment, recording

        yield SimpleNamespace(
            attempt=case_run.attempt,
            cases=memory_zoo.BY_NAME,
            comparison=comparison,
            environment=environment,
            recording=recording,
        )
        mine = ("ground_truth", "memory_zoo", "memory_cases")
        for name in [name for name in sys.modules if name.partition(".")[0] in mine]:
            del sys.modules[name]


def version_reason(environment: dict[str, Any], library: str, installed: str) -> str:
    """Say why a recording is not for the version that is installed, ``""`` where it is."""
    recorded = str(environment[library or "torch"]).partition("+")[0]
    installed = installed.partition("+")[0]
    same = recorded == installed
    return "" if same else f"recorded with {library or 'torch'} {recorded}, and {installed} is installed"


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "library"), PARTS or [pytest.param(None, "", id="none-recorded-yet")])
def test_predictions_meet_what_hardware_recorded(ground_truth, folder, library):
    if folder is None:
        assert OWED in PAGE.read_text(encoding="utf-8")
        return
    assert OWED not in PAGE.read_text(encoding="utf-8")
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    installed = torch.__version__ if not library else ground_truth.environment.version_of(library)
    reason = version_reason(environment, library, installed)
    if reason:
        pytest.skip(reason)
    recorded = {
        name: each
        for name, each in ground_truth.recording.load_folder(folder).items()
        if ground_truth.cases[each.case].library == library
    }
    predicted = {name: prediction(ground_truth, each, environment["gpu"]) for name, each in recorded.items()}
    explained = ground_truth.comparison.explanations(folder)
    mine = {name: why for name, why in explained.items() if name in recorded}
    assert ground_truth.comparison.compared(recorded, predicted, mine).missed() == []


def prediction(ground_truth, recorded, gpu):
    case = ground_truth.cases[recorded.case]
    return ground_truth.attempt(case, ground_truth.recording.PREDICTED, gpu, recorded.allocator)[0]


def test_another_version_than_the_recordings_is_told():
    environment = {"torch": "2.11.0+cu130", "transformers": "5.17.0"}
    assert version_reason(environment, "", "2.11.0+cpu") == ""
    assert version_reason(environment, "", "2.13.0") == "recorded with torch 2.11.0, and 2.13.0 is installed"
    said = "recorded with transformers 5.17.0, and 5.23.0 is installed"
    assert version_reason(environment, "transformers", "5.23.0") == said


# The comparison, on what the simulator writes as if it were a GPU.


@pytest.fixture(scope="module")
def recorded(ground_truth, tmp_path_factory):
    """A folder as a GPU would leave it, of three small cases."""
    folder = tmp_path_factory.mktemp("sim-1.0")
    for name, allocator in (
        ("mlp_tiny_sgd", ""),
        ("mlp_odd_sizes_momentum", ""),
        ("mlp_odd_sizes_momentum", "expandable_segments:True"),
    ):
        made, history = ground_truth.attempt(ground_truth.cases[name], "predicted", "h100", allocator)
        assert made.error == ""
        replace(made, source=ground_truth.recording.RECORDED).save(folder)
        history.save(folder / f"{made.name}.history.gz")
    return folder


def test_a_prediction_repeats_itself_to_the_byte(ground_truth, recorded):
    found = ground_truth.recording.load_folder(recorded)
    assert len(found) == 3
    predicted = {name: prediction(ground_truth, each, "h100") for name, each in found.items()}
    comparison = ground_truth.comparison.compared(found, predicted, {})
    assert comparison.missed() == []
    assert comparison.equal == 3


def test_a_tampered_recording_fails(ground_truth, recorded, tmp_path):
    found = ground_truth.recording.load_folder(recorded)
    name = "mlp_tiny_sgd"
    phases = list(found[name].phases)
    phases[-2] = replace(phases[-2], allocated_peak=phases[-2].allocated_peak + 100 * MIB)
    replace(found[name], phases=tuple(phases)).save(tmp_path)
    for other in found.values():
        if other.name != name:
            other.save(tmp_path)
    comparison = ground_truth.comparison.compare_folders(tmp_path, recorded)
    missed = comparison.missed()
    assert missed[0] == "allocated is equal to the byte in 2 of 3 cases, and the goal is 80%"
    assert any(each.startswith(f"{name}: allocated") and "more than 1% apart" in each for each in missed)
    assert f"{name}: differs, and explanations.json does not say why" in missed


def test_a_recording_whose_peaks_are_edited_by_hand_is_refused(ground_truth, recorded, tmp_path):
    path = tmp_path / "mlp_tiny_sgd.json"
    plain = json.loads((recorded / path.name).read_text(encoding="utf-8"))
    plain["warm"]["allocated"] += 512
    path.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(ground_truth.recording.RecordingError, match="not those of its phases"):
        ground_truth.recording.Recording.load(path)


def test_the_history_of_a_recording_replays(ground_truth, recorded):
    for path in recorded.glob("*.history.gz"):
        history = History.load(path)
        report = replay(history)
        assert report.mismatches == ()
        assert report.allocations > 20
        # What was recorded phase by phase is the peak of the history.
        made = ground_truth.recording.Recording.load(path.with_name(path.name.replace(".history.gz", ".json")))
        peak = max(each.allocated_peak for each in made.phases)
        assert report.peaks["allocated_bytes"] == peak


def made_of(ground_truth, allocated: int, reserved: int = 40 * MIB, *, case: str = "a", **changes: Any) -> Any:
    """A recording of one step of these peaks."""
    rows = [
        ground_truth.recording.Phase(
            step=step, phase="forward", allocated=0, allocated_peak=allocated, requested_peak=1, reserved_peak=reserved
        )
        for step in (0, 1)
    ]
    return ground_truth.recording.Recording(case=case, source="recorded", steps=1, phases=tuple(rows), **changes)


def missed_by(ground_truth, real: Any, told: Any, why: str = "") -> list[str]:
    """What one differing case among many equal ones misses."""
    same = {f"same{number}": made_of(ground_truth, 1, case=f"same{number}") for number in range(9)}
    comparison = ground_truth.comparison.compared(
        {**same, "a": real}, {**same, "a": told}, {"a": why} if why else {}
    )  # fmt: skip
    return comparison.missed()


def test_one_percent_passes_with_an_explanation_and_one_byte_more_does_not(ground_truth):
    real = made_of(ground_truth, 100_000)
    assert missed_by(ground_truth, real, made_of(ground_truth, 101_000), "a workspace") == []
    (missed,) = missed_by(ground_truth, real, made_of(ground_truth, 101_001), "a workspace")
    assert "more than 1% apart" in missed


def test_reserved_may_be_one_segment_away(ground_truth):
    # A segment of the allocator for large blocks: 20 MiB.
    real = made_of(ground_truth, 100, 40 * MIB)
    assert missed_by(ground_truth, real, made_of(ground_truth, 100, 60 * MIB), "order") == []
    (missed,) = missed_by(ground_truth, real, made_of(ground_truth, 100, 60 * MIB + 1), "order")
    assert "reserved" in missed
    assert missed.endswith("more than 20 MiB apart")


@pytest.mark.parametrize(("cases", "met"), [(5, True), (4, False)])
def test_four_fifths_have_to_be_equal(ground_truth, cases, met):
    recorded = {str(number): made_of(ground_truth, 100_000, case=str(number)) for number in range(cases)}
    predicted = recorded | {"0": made_of(ground_truth, 100_001, case="0")}
    missed = ground_truth.comparison.compared(recorded, predicted, {"0": "why"}).missed()
    assert (missed == []) is met


def test_every_difference_needs_its_name_and_no_other_has_one(ground_truth):
    real = made_of(ground_truth, 100_000)
    (missed,) = missed_by(ground_truth, real, made_of(ground_truth, 100_001))
    assert missed == "a: differs, and explanations.json does not say why"
    (missed,) = missed_by(ground_truth, real, real, "a workspace")
    assert missed == "a: is equal, and explanations.json still explains a difference"
    with pytest.raises(ValueError, match=r"explains \['b'\]"):
        ground_truth.comparison.compared({"a": real}, {"a": real}, {"b": "why"})


def test_what_has_no_figures_is_no_success(ground_truth):
    real = made_of(ground_truth, 100_000)
    lost = ground_truth.recording.Recording(case="a", source="predicted", error="no end within 240 seconds")
    assert missed_by(ground_truth, real, lost)[-1] == "a: predicted: no end within 240 seconds"
    assert missed_by(ground_truth, lost, real)[-1] == "a: recorded: no end within 240 seconds"
    again = made_of(ground_truth, 100_000, retries=1)
    assert missed_by(ground_truth, again, real)[-1] == "a: recorded: ran out of memory and tried again"
    comparison = ground_truth.comparison.compared({"a": real}, {}, {})
    assert comparison.missed()[-1] == "a: predicted: not predicted"


def test_the_table_says_equal_only_of_equal_bytes(ground_truth):
    real = made_of(ground_truth, 10**12)
    near = made_of(ground_truth, 10**12 + 1)
    assert "equal" in ground_truth.comparison.compared({"a": real}, {"a": real}, {}).table()
    assert "+0.000 %" in ground_truth.comparison.compared({"a": real}, {"a": near}, {}).table()


def test_a_folder_without_recordings_is_an_error(ground_truth, tmp_path):
    (tmp_path / "environment.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ground_truth.recording.RecordingError, match="no recordings"):
        ground_truth.recording.load_folder(tmp_path)
