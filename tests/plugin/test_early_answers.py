"""What a program decides before a test runs: on a simulated GPU it is that GPU's answer, or the test fails by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo.config

# Runs in this process must not import the rest of torch anew, nor what fake tensors import.
import pytest_flopguard.backends.simulated.memory  # noqa: F401

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]

MIB = 2**20
SIM = ("--flop-budget", "--flop-device=sim:h100")
# What keeps an answer: objects, decorators, constants, skip marks.
KEEPERS = """
from torch.cuda import is_available

AMP = torch.autocast("cuda", dtype=torch.bfloat16)
SCALER = torch.amp.GradScaler("cuda")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
ACCELERATOR = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
COUNT = torch.cuda.device_count()

class Net(nn.Linear):
    @torch.autocast("cuda", dtype=torch.bfloat16)
    def forward(self, x):
        return super().forward(x)

@pytest.fixture(scope="module")
def amp():
    return torch.autocast(DEVICE, dtype=torch.bfloat16)

def result(context, kind=nn.Linear):
    x, layer = torch.zeros(1024, 1024, device="cuda"), kind(1024, 4096, device="cuda")
    with context:
        return layer(x)
"""
# float32: the input of 1024 x 1024 takes 4 MiB, the weight 16 MiB and the bias 16 KiB. In bfloat16: the two again in
# half, 2 MiB + 8 MiB, and 8 KiB for the bias; the output of 1024 x 4096 takes 8 MiB, the workspace of cuBLAS 32 MiB.
PEAK = 4 * MIB + 16 * MIB + 2**14 + 2 * MIB + 8 * MIB + 2**13 + 8 * MIB + 32 * MIB


@pytest.fixture(autouse=True)
def _cublas_keeps_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_CUBLAS_WORKSPACE_CACHE", "1")


@pytest.fixture(autouse=True)
def _torch_is_as_it_was() -> Any:
    before = torch.cuda.is_available, torch.accelerator.is_available, torch.cuda.device_count
    yield
    assert before == (torch.cuda.is_available, torch.accelerator.is_available, torch.cuda.device_count)


def test_a_constant_and_an_autocast_object(project: Project, run_both: Run) -> None:
    project(
        """
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
AMP = torch.autocast("cuda", dtype=torch.bfloat16)

@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_it(flopguard):
    layer = nn.Linear(8, 8, device=DEVICE)
    with AMP:
        assert layer(torch.zeros(8, 8, device="cuda")).dtype == torch.bfloat16
"""
    )
    run_both(*SIM).assert_outcomes(passed=1)


@pytest.mark.slow
def test_a_run_on_a_simulated_gpu_decides_as_on_that_gpu_while_it_imports(
    project: Project, run: Run, report: Callable[[], dict[str, Any]]
) -> None:
    pytester = project(
        KEEPERS
        + """
def test_constants(flopguard):
    assert (DEVICE, DTYPE, COUNT, ACCELERATOR) == ("cuda", torch.bfloat16, 1, torch.device("cuda"))
    assert SCALER.is_enabled() and is_available()

def test_object(flopguard):
    assert result(AMP).dtype == torch.bfloat16

def test_decorator(flopguard):
    assert result(torch.no_grad(), Net).dtype == torch.bfloat16

def test_shared_fixture(flopguard, amp):
    assert result(amp).dtype == torch.bfloat16

@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_skipif(flopguard):
    pass

@pytest.mark.skipif("not torch.cuda.is_available()")
def test_skipif_as_text(flopguard):
    pass

@pytest.mark.gpu
def test_skipped_by_a_hook(flopguard):
    pass
""",
        '[tool.pytest.ini_options]\nmarkers = ["gpu: needs a GPU"]\n',
    )
    pytester.makeconftest(
        """
import pytest, torch

HERE = torch.cuda.is_available()

def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("gpu") and not (HERE and torch.cuda.is_available()):
            item.add_marker(pytest.mark.skip(reason="no GPU"))
"""
    )
    result = run(*SIM, "--flop-report=report.json")
    result.assert_outcomes(passed=7)
    peaks = {each["nodeid"].partition("::")[2]: each.get("memory") for each in report()["records"]}
    assert peaks["test_object"]["peak_bytes"] == peaks["test_shared_fixture"]["peak_bytes"] == PEAK


def test_a_test_that_alone_is_simulated_fails_by_name_where_the_machine_answered(project: Project, run: Run) -> None:
    pytester = project(
        """
AMP = torch.autocast("cuda", dtype=torch.bfloat16)

@pytest.mark.flop_budget(device="sim:h100")
def test_simulated(flopguard):
    assert False, "never runs"

@pytest.mark.flop_budget(device="sim:h100")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_skipped(flopguard):
    pass

@pytest.mark.flop_budget(device="sim:h100")
@pytest.mark.skip(reason="for now")
def test_skipped_always(flopguard):
    pass

def test_on_what_there_is(flopguard):
    assert not torch.cuda.is_available()
"""
    )
    pytester.makepyfile(
        test_other="""
import pytest, torch

@pytest.mark.flop_budget(device="sim:h100")
def test_elsewhere(flopguard):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert torch.zeros(4, device=device).is_cuda
"""
    )
    result = run("--flop-budget", "-v")
    result.assert_outcomes(passed=2, failed=1, errors=1, skipped=1)
    # MODEL of conftest.py has eight lines, so AMP is in line 9. Conditions of skip marks concern the skipped test only.
    result.stdout.fnmatch_lines(
        [
            "*before it ran, test_model.py:9 (AMP = *) got False from torch.cuda.is_available() and not True*skipif*",
            "*before it ran, test_model.py:9 (AMP = *) got False from torch.cuda.is_available() and not True; ask*",
        ]
    )


def test_a_test_that_alone_runs_on_what_there_is_fails_by_name(project: Project, run: Run) -> None:
    project(
        """
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

@pytest.mark.flop_budget(device="auto")
def test_real(flopguard):
    pass

@pytest.mark.flop_budget(measure="off")
def test_alone():
    assert not torch.cuda.is_available()
    torch.zeros(3).numpy()
"""
    )
    result = run(*SIM)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_model.py:9 (*) got True from torch.cuda.is_available() and not False*"])


@pytest.mark.parametrize("where", ["import", "fixture"])
def test_memory_of_the_gpu_before_a_test_is_refused_by_name(project: Project, run: Run, where: str) -> None:
    use = "torch.zeros(3, device='cuda')"
    shared = {
        "import": f"shared = {use}\n\n@pytest.fixture\ndef value():\n    pass\n",
        "fixture": f"@pytest.fixture(scope='module')\ndef value():\n    return {use}\n",
    }
    project(f"{shared[where]}\ndef test_it(value, flopguard):\n    pass\n")
    result = run(*SIM)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_model.py:*it uses the GPU before a test runs*"])


def test_ordinary_modules_ask_nothing(project: Project, run: Run) -> None:
    project(
        """
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
MODEL = nn.TransformerEncoderLayer(8, 2)
LOADER = DataLoader(TensorDataset(torch.zeros(4, 8)), batch_size=2, pin_memory=True)
OPTIMIZER = torch.optim.AdamW(MODEL.parameters())
CPU = torch.autocast("cpu", dtype=torch.bfloat16)
with torch.random.fork_rng(devices=()):
    nn.functional.scaled_dot_product_attention(*[torch.randn(1, 2, 4, 8)] * 3)

@pytest.mark.flop_budget(device="sim:h100")
def test_simulated(flopguard):
    pass
"""
    )
    run("--flop-budget").assert_outcomes(passed=1)
