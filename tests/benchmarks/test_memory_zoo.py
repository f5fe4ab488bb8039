"""The memory zoo: enough of every kind, and programs that run on the simulator as they would on a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FAMILIES = {
    "mlp", "lstm", "transformer", "lookups", "resnet", "unet", "diffusion", "detection", "bert", "t5", "vit", "gpt2",
    "llama", "mixtral", "mamba",
}  # fmt: skip


@pytest.fixture(scope="session")
def zoo(benchmarks):
    import memory_zoo

    return memory_zoo


def test_there_are_enough_cases_of_every_family(zoo):
    assert len(zoo.CASES) == len(zoo.BY_NAME) >= 30
    assert {each.family for each in zoo.CASES} == FAMILIES
    assert all(each.steps >= 2 for each in zoo.CASES)


def test_most_cases_need_torch_alone_and_listing_them_imports_nothing_else():
    alone = "sum(not each.library for each in memory_zoo.CASES)"
    code = f"import sys, memory_zoo; print('transformers' in sys.modules, {alone})"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    )  # fmt: skip
    imported, alone = result.stdout.split()
    assert imported == "False"
    assert int(alone) >= 30


def test_variants_are_of_cases_that_exist(zoo):
    from gpu_ground_truth import VARIANTS

    assert {name for names in VARIANTS.values() for name in names} <= set(zoo.BY_NAME)


def test_second_opinions_are_of_cases_that_exist(zoo):
    from ground_truth.second_opinions import FORMS, closed_form

    assert set(FORMS) <= set(zoo.BY_NAME)
    assert all(closed_form(name) for name in FORMS)
    assert closed_form("mlp_tiny_sgd") is None


@pytest.mark.slow
def test_without_a_gpu_recording_says_so_and_writes_nothing(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    script = str(BENCHMARKS / "gpu_ground_truth.py")
    result = subprocess.run(
        [sys.executable, script, "record", "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "no CUDA device" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_predict_writes_what_compare_reads(tmp_path):
    script = str(BENCHMARKS / "gpu_ground_truth.py")
    predict = [
        sys.executable,
        script,
        "predict",
        "--jobs",
        "1",
        "--no-extras",
        "--case",
        "mlp_tiny",
        "--out",
        str(tmp_path),
    ]
    subprocess.run(predict, check=True, capture_output=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mlp_tiny_sgd.history.gz", "mlp_tiny_sgd.json"]
    compare = [sys.executable, script, "compare", str(tmp_path), str(tmp_path)]
    result = subprocess.run(compare, check=True, capture_output=True, text=True)
    assert "1 of 1 equal to the byte" in result.stdout


def test_a_single_operation_tells_what_its_kernel_takes(benchmarks):
    from ground_truth.calibration import GROUPS, one
    from ground_truth.worlds import SimulatedGpu

    operations = dict(GROUPS["layers"]())
    world = SimulatedGpu("h100", "")
    with world.running():
        found = one(operations["index_put accumulate 1024"], world)
    # Its result: 1024 rows of 256 floats; the same of ones; the gradient: 10000 rows of 256; then what sorts the rows.
    rows, table = 1024 * 256 * 4, 10000 * 256 * 4
    assert found["events"][:3] == [rows, rows, table]
    assert len(found["events"]) % 2 == 0
    assert sum(found["events"]) == 0
    assert found["requested"] >= 2 * rows + table
    assert found["allocated"] >= found["requested"]


def test_counters_of_ncu_are_summed_over_kernels(benchmarks):
    from ground_truth.counters import OPERATIONS, summed

    metric = OPERATIONS[0]
    table = f'==PROF== Connected\n"ID","Kernel Name","{metric}"\n"","",""\n"0","gemm","1,000"\n"1","gemm","24"\n'
    assert summed(table)[metric] == 1024
