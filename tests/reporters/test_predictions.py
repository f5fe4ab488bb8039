from __future__ import annotations

from pytest_flopguard.core.measurement import Measurement, MemoryPeak
from pytest_flopguard.core.owners import Prediction
from pytest_flopguard.core.record import Record
from pytest_flopguard.reporters.predictions import prediction_lines


def predicted(
    nodeid: str, gpu: str = "h100", *, assumed: tuple[str, ...] = (), unknown: tuple[str, ...] = ()
) -> Record:
    ground = Prediction(
        gpu=gpu, device="cuda:sm90", torch="2.13.0", allocator="defaults", assumed=assumed, unknown=unknown
    )
    peak = MemoryPeak(device=f"sim:{gpu}", backend="simulated", start_bytes=0, peak_bytes=512, prediction=ground)
    return Record(nodeid=nodeid, measurement=Measurement(memory=(peak,)))


def test_nothing_is_told_of_what_was_measured() -> None:
    peak = MemoryPeak(device="cpu", backend="live-storage", start_bytes=0, peak_bytes=8)
    assert list(prediction_lines([Record(nodeid="t", measurement=Measurement(memory=(peak,)))])) == []


def test_the_ground_of_a_prediction_is_told_once_for_all_tests() -> None:
    records = [predicted("a", unknown=("cuDNN",)), predicted("b", assumed=("finite",), unknown=("cuDNN",))]
    assert list(prediction_lines(records)) == [
        "predicted, not measured: h100, torch 2.13.0, allocator defaults",
        "  assumed: finite",
        "  unknown and left out: cuDNN",
    ]


def test_each_gpu_has_its_own() -> None:
    lines = list(prediction_lines([predicted("a"), predicted("b", "a100-80gb")]))
    assert [line.split()[3] for line in lines] == ["h100,", "a100-80gb,"]


def test_five_are_named_unless_all_are_asked_for() -> None:
    records = [predicted("a", unknown=tuple(f"op {number}" for number in range(6)))]
    assert list(prediction_lines(records))[-1] == "  unknown and left out: 1 more (all with -vv)"
    assert list(prediction_lines(records, every=True))[-1] == "  unknown and left out: op 5"
