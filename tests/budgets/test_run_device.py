"""Where a test is to run, and which limits ask for a prediction: what may be written, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_flopguard.budgets.declared import Budget, read_marker
from pytest_flopguard.budgets.marker_origin import MarkerOrigin
from pytest_flopguard.budgets.resolve import resolve
from pytest_flopguard.budgets.settings import Settings
from pytest_flopguard.core.expectation import Origin
from pytest_flopguard.core.measurement import Measurement, MemoryPeak
from pytest_flopguard.core.owners import Prediction
from pytest_flopguard.core.verdict import judge

Load = Callable[..., Settings]
WHERE = MarkerOrigin(origin=Origin(path="tests/t.py", line=7))
KIB = 1024


def marker(**kwargs: object) -> Budget:
    budget, problems = read_marker((), kwargs, WHERE, {})
    assert problems == ()
    return budget


def complaints(**kwargs: object) -> list[str]:
    return [str(each) for each in read_marker((), kwargs, WHERE, {})[1]]


@pytest.mark.parametrize("device", ["auto", "sim", "sim:h100", "sim: a100"])
def test_devices(load: Load, device: str) -> None:
    assert load(f"[tool.flopguard]\ndevice = '{device}'\n").device == device
    assert marker(device=device).device == device


@pytest.mark.parametrize("device", ["cuda", "sim:", "simulated", 1, True, None])
def test_what_is_no_device(device: object) -> None:
    [told] = complaints(device=device)
    assert told.startswith("tests/t.py:7: device = ")
    assert "expected 'auto', 'sim', or 'sim:' and a GPU" in told


def test_the_closest_budget_that_says_so_places_a_test(load: Load) -> None:
    glob = "[tool.flopguard.budgets.'t.py::*']\ndevice = 'sim:l4'\nflops = 1\n"
    declared = load(f"{glob}[tool.flopguard.default-budget]\ndevice = 'sim'\n").budgets
    assert resolve("t.py::f", [marker(flops=1)], declared).device == "sim:l4"
    assert resolve("t.py::f", [marker(device="auto")], declared).device == "auto"
    assert resolve("other.py::f", [], declared).device == "sim"
    assert resolve("other.py::f", [], ()).device == ""


def test_limits_of_cuda_may_ask_for_a_prediction() -> None:
    written = marker(peak_memory={"cuda": {"limit": "1 KiB", "predict": True}, "cpu": "1 KiB"})
    assert [(each.device, each.predict) for each in written.expectations] == [("cuda", True), ("cpu", False)]
    whole = marker(peak_memory={"cuda": "1 KiB", "sim": "1 KiB"}, predict=True, flops=1)
    assert [(each.device, each.predict) for each in whole.expectations] == [
        ("cuda", True),
        ("sim", False),
        (None, False),
    ]


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"peak_memory": {"cuda": {"limit": 1, "predict": "yes"}}}, "expected true or false"),
        ({"peak_memory": 1, "predict": 1}, "expected true or false"),
        ({"peak_memory": {"cpu": {"limit": 1, "predict": True}}}, "a limit of memory for 'cuda'"),
        ({"flops": {"limit": 1, "predict": True}}, "a limit of memory for 'cuda'"),
    ],
)
def test_what_cannot_be_predicted(limits: dict[str, object], told: str) -> None:
    assert any(told in each for each in complaints(**limits))


def predicted(size: int, device: str = "cuda:sm90") -> Measurement:
    ground = Prediction(gpu="h100", device=device, torch="2.13.0", allocator="defaults")
    peak = MemoryPeak(device="sim:h100", backend="simulated", start_bytes=0, peak_bytes=size, prediction=ground)
    return Measurement(memory=(peak,))


def test_a_prediction_is_held_to_the_limit_that_asks_for_it() -> None:
    limits = marker(peak_memory={"cuda:sm90": {"limit": "1 KiB", "predict": True}}).expectations
    assert [each.status for each in judge(predicted(KIB), limits)] == ["met"]
    assert [each.status for each in judge(predicted(KIB + 1), limits)] == ["broken"]
    [elsewhere] = judge(predicted(KIB + 1, "cuda:sm80"), limits)
    assert (elsewhere.status, elsewhere.code) == ("undecided", "device-absent")


def test_a_limit_for_simulated_gpus_comes_before_one_for_real_ones() -> None:
    limits = marker(peak_memory={"sim": "2 KiB", "cuda": {"limit": "1 KiB", "predict": True}}).expectations
    [found] = judge(predicted(KIB + 1), limits)
    assert (found.status, found.expectation.device) == ("met", "sim")


def test_a_limit_that_does_not_ask_is_left_to_a_gpu() -> None:
    [found] = judge(predicted(KIB + 1), marker(peak_memory={"cuda": "1 KiB"}).expectations)
    assert found.code == "device-absent"
