"""Tests on a simulated GPU: built, trained and judged there, with no GPU anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch._dynamo.config  # noqa: F401

# Runs in this process must not import the rest of torch anew, nor what fake tensors import.
import pytest_flopguard.backends.simulated.memory  # noqa: F401

# 1,000,000 bytes and 4,000 bytes rounded up to 512; the product of 250 x 1000 floats; a workspace of cuBLAS of 32 MiB.
LAYER = """
def layer(flopguard):
    return nn.Linear(250, 1000, device=flopguard.device)

"""
WEIGHT, BIAS, OUT, CUBLAS = 1_000_448, 4_096, 1_000_448, 32 * 2**20


@pytest.fixture(autouse=True)
def _cublas_keeps_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    # Up to torch 2.14 it always does; with this later releases do too, so that one number holds for all.
    monkeypatch.setenv("TORCH_CUBLAS_WORKSPACE_CACHE", "1")


Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]


def test_a_body_runs_on_the_gpu_that_the_command_line_names(
    project: Project, run_both: Run, report: Callable[[], dict[str, Any]]
) -> None:
    project(
        LAYER
        + """
def test_forward(flopguard):
    assert flopguard.device == "cuda" and flopguard.simulated
    assert torch.cuda.get_device_capability() == (9, 0)
    with torch.no_grad():
        layer(flopguard)(torch.zeros(250, 250, device="cuda"))
"""
    )
    result = run_both("--flop-budget", "--flop-device=sim:h100", "--flop-report=report.json")
    result.assert_outcomes(passed=1)
    record = report()["records"][0]
    memory = record["memory"]
    assert memory["device"] == "sim:h100"
    # The input of 250 x 250 floats is 250,000 bytes: 250,368.
    assert memory["peak_bytes"] == WEIGHT + BIAS + 250_368 + OUT + CUBLAS
    assert sum(each["bytes"] for each in memory["owners"]) == memory["peak_bytes"]
    assert memory["prediction"]["gpu"] == "h100"
    assert memory["prediction"]["device"] == "cuda:sm90"
    # 2 x 250 x 250 x 1000 FLOPs, the same number as on any device.
    assert record["flops"]["total"] == 125_000_000
    result.stdout.fnmatch_lines(["*predicted, not measured: h100, torch *, allocator defaults"])


@pytest.mark.slow
def test_a_baseline_is_held_with_the_allocator_settings_that_it_was_predicted_for(
    project: Project, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    pytester = project(LAYER + "def test_forward(flopguard): layer(flopguard)(torch.zeros(250, 250, device='cuda'))\n")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    run("--flop-device=sim:h100", "--flop-update=new").assert_outcomes(passed=1)
    kept = (pytester.path / "__flopguard__" / "test_model.toml").read_text()
    assert 'allocator = "expandable_segments:True"' in kept
    assert "baseline-environment" not in run("--flop-device=sim:h100", "--flop-budget").stdout.str()
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
    plain = run("--flop-device=sim:h100", "--flop-budget")
    plain.assert_outcomes(passed=1)
    plain.stdout.fnmatch_lines(
        ["undecided: *", "*allocator settings expandable_segments:True*", "1 measured: 1 undecided"]
    )
    run("--flop-device=sim:h100", "--flop-budget", "--flop-strict").assert_outcomes(failed=1)
    accepted = run("--flop-device=sim:h100", "--flop-update=changed", "--flop-reason=the usual settings")
    accepted.assert_outcomes(passed=1)
    # The usual settings are not written down.
    assert "allocator" not in (pytester.path / "__flopguard__" / "test_model.toml").read_text()
    run("--flop-device=sim:h100", "--flop-budget", "--flop-strict").assert_outcomes(passed=1)


@pytest.mark.slow
def test_fixtures_of_a_test_build_on_its_gpu_and_others_do_not(project: Project, run: Run) -> None:
    project(
        LAYER
        + """
@pytest.fixture(scope="module")
def shared():
    return torch.ones(3)

@pytest.fixture
def model(flopguard, shared):
    assert flopguard.simulated
    return layer(flopguard)

@pytest.mark.flop_budget(device="sim")
def test_simulated(flopguard, model, shared):
    assert next(model.parameters()).is_cuda
    model(torch.zeros(250, 250, device=flopguard.device)).sum().backward()
    assert torch.cuda.max_memory_allocated() > 32 * 2**20

def test_real(flopguard, shared):
    assert not flopguard.simulated and not torch.cuda.is_available()
    weight = torch.ones(3, requires_grad=True)
    (weight * shared * 2).sum().backward()
    assert weight.grad.tolist() == [2.0, 2.0, 2.0]

@pytest.mark.flop_budget(device="sim")
def test_simulated_again(flopguard, model):
    assert torch.cuda.memory_allocated() == 1_000_448 + 4_096
"""
    )
    run("--flop-budget").assert_outcomes(passed=3)


@pytest.mark.slow
def test_fixtures_of_a_test_are_torn_down_on_its_gpu_and_others_are_not(project: Project, run: Run) -> None:
    project(
        LAYER
        + """
seen = []

@pytest.fixture(scope="module", autouse=True)
def shared():
    yield
    seen.append(("shared", torch.cuda.is_available()))

@pytest.fixture
def model(flopguard, request):
    request.addfinalizer(lambda: seen.append(("finalizer", torch.cuda.memory_allocated())))
    model = layer(flopguard)
    yield model
    seen.append(("model", torch.cuda.memory_allocated()))
    assert not model.cpu().weight.is_cuda
    torch.cuda.empty_cache()
    seen.append(("emptied", torch.cuda.memory_allocated()))

@pytest.fixture
def broken(flopguard):
    yield
    seen.append(("broken", torch.cuda.is_available()))
    raise ZeroDivisionError

class TestMethods:
    def teardown_method(self):
        seen.append(("method", torch.cuda.is_available()))

    @pytest.mark.flop_budget(device="sim")
    def test_simulated(self, model, monkeypatch):
        # It is set back to what it was here, not to what it was for the test.
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 7)
        model(torch.zeros(250, 250, device="cuda"))

@pytest.mark.flop_budget(device="sim")
def test_broken(broken):
    pass

def test_real(flopguard):
    assert not flopguard.simulated and not torch.cuda.is_available() and torch.cuda.device_count() == 0
    # The 32 MiB of cuBLAS are there as long as the GPU.
    assert dict(seen) == {
        "method": True,
        "model": 1_000_448 + 4_096 + 32 * 2**20,
        "emptied": 32 * 2**20,
        "finalizer": 32 * 2**20,
        "broken": True,
    }

@pytest.fixture(scope="session", autouse=True)
def whole():
    yield
    assert dict(seen)["shared"] is False
"""
    )
    run("--flop-budget").assert_outcomes(passed=3, errors=1)


@pytest.mark.parametrize("written", ['device = "sim:t4"', '[tool.flopguard.default-budget]\ndevice = "sim:t4"'])
def test_a_project_may_run_all_its_tests_there(project: Project, run: Run, written: str) -> None:
    project(
        """
def test_forward(flopguard):
    assert torch.cuda.get_device_capability() == (7, 5)
""",
        f"[tool.flopguard]\n{written}\n",
    )
    run("--flop-budget").assert_outcomes(passed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ('{"sim": "30 MiB"}', "peak memory on sim:h100: 34.15 MiB, over the limit of 30 MiB*over-budget*"),
        ('{"sim:NVIDIA H100 80GB HBM3": "30 MiB"}', "peak memory on sim:h100: *over the limit of 30 MiB*over-budget*"),
        ('{"sim:h100": "30 MiB", "sim": "1 TiB"}', "peak memory on sim:h100: *over the limit of 30 MiB*over-budget*"),
        ('{"cuda": "30 MiB"}, predict=True', "peak memory on sim:h100: *over the limit of 30 MiB*over-budget*"),
        ('{"cuda:sm80": {"limit": "1 MiB", "predict": True}}', "peak memory on sim:a100*over the limit of 1 MiB*"),
    ],
)
def test_limits_are_held_against_the_prediction(project: Project, run: Run, limit: str, told: str) -> None:
    device = "" if "cuda" in limit else ', device="sim"'
    project(
        LAYER
        + f"""
@pytest.mark.flop_budget(peak_memory={limit}{device})
def test_forward(flopguard):
    with torch.no_grad():
        layer(flopguard)(torch.zeros(250, 250, device=flopguard.device))
"""
    )
    result = run("--flop-budget")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([told])


@pytest.mark.slow
def test_a_broken_limit_names_the_line_that_took_the_memory(project: Project, run: Run) -> None:
    project(
        """
@pytest.mark.flop_budget(peak_memory={"sim": "1 MiB"}, device="sim")
def test_forward(flopguard):
    kept = torch.empty(2**22, dtype=torch.uint8, device="cuda")
"""
    )
    result = run("--flop-budget")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*inputs*aten.empty  test_model.py:11 in test_forward"])


def test_a_cuda_limit_asks_for_no_prediction_by_itself(project: Project, run: Run) -> None:
    project(
        LAYER
        + """
@pytest.mark.flop_budget(peak_memory={"cuda": "1 MiB"})
def test_forward(flopguard):
    assert flopguard.device == "cpu"
    layer(flopguard)(torch.zeros(250, 250))
"""
    )
    run("--flop-budget").assert_outcomes(passed=1)


@pytest.mark.slow
def test_values_that_nobody_knows_are_an_error_at_their_line(project: Project, run: Run) -> None:
    project(
        LAYER
        + """
def test_reads(flopguard):
    out = layer(flopguard)(torch.zeros(250, 250, device=flopguard.device))
    assert out.sum().item() < 10
"""
    )
    result = run("--flop-budget", "--flop-device=sim")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_model.py:* in test_reads: the test asks for a value of a simulated tensor*"])


@pytest.mark.slow
def test_out_of_memory_is_a_failure_that_shows_who_held_it_and_the_next_test_starts_clean(
    project: Project, run: Run
) -> None:
    project(
        """
@pytest.mark.flop_budget(device="sim:l4")
def test_too_much(flopguard):
    kept = [torch.empty(2**30, dtype=torch.uint8, device=flopguard.device) for _ in range(100)]

@pytest.mark.flop_budget(device="sim:l4")
def test_next(flopguard):
    assert torch.cuda.memory_allocated() == 0
"""
    )
    result = run("--flop-budget")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*CUDA out of memory. Tried to allocate 1.00 GiB. GPU 0 (l4, simulated)*"])


@pytest.mark.parametrize("device", ["sim:h1000", "sim:"])
def test_a_gpu_that_does_not_exist_is_told_before_any_test_runs(project: Project, run: Run, device: str) -> None:
    project(f'@pytest.mark.flop_budget(device="{device}")\ndef test_nothing():\n    raise AssertionError\n')
    result = run("--flop-budget")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_model.py:*"])


def test_an_unknown_gpu_on_the_command_line_is_told_with_the_nearest(project: Project, run: Run) -> None:
    project("def test_nothing():\n    raise AssertionError\n")
    result = run("--flop-budget", "--flop-device=sim:h101")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*'h101'*did you mean 'h100'*"])


def test_where_no_gpu_can_be_simulated_the_verdict_is_undecided_and_the_body_does_not_run(
    project: Project, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_flopguard.backends.base import Unavailable
    from pytest_flopguard.backends.simulated import machine

    monkeypatch.setattr(machine, "check", lambda: Unavailable(name="simulated", reason="it crashed here"))
    project(
        """
@pytest.mark.flop_budget(peak_memory={"sim": "1 GiB"}, device="sim")
def test_limited():
    raise AssertionError

@pytest.mark.flop_budget(device="sim")
def test_plain():
    raise AssertionError

def test_of_which_nothing_is_expected():
    raise AssertionError
"""
    )
    result = run("--flop-budget", "--flop-device=sim")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        ["*not measured, it crashed here*", "this test cannot run on a simulated GPU: it crashed here*not-simulated*"]
    )
    assert "AssertionError" not in result.stdout.str()


@pytest.mark.slow
def test_a_baseline_of_the_simulated_peak_is_kept_by_its_gpu(
    project: Project, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)  # where nothing is written
    made = project(
        LAYER
        + """
@pytest.mark.flop_budget(device="sim:a100")
def test_forward(flopguard):
    with torch.no_grad():
        layer(flopguard)(torch.zeros(250, 250, device=flopguard.device))
"""
    )
    run("--flop-update=new").assert_outcomes(passed=1)
    assert '"sim:a100-80gb"' in (made.path / "__flopguard__" / "test_model.toml").read_text()
    result = run("--flop-budget", "--flop-strict")
    result.assert_outcomes(passed=1)
