"""CTC loss on a simulated GPU: which kernel, and every byte of torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from pytest_flopguard.backends.simulated import ctc_loss
from pytest_flopguard.backends.simulated.machine import Machine
from pytest_flopguard.backends.simulated.value_reads import ValueRead

pytestmark = pytest.mark.usefixtures("running")

STEPS, BATCH, LABELS, LONGEST = 50, 4, 20, 10
INPUTS, TARGETS = [50, 50, 40, 50], [10, 3, 7, 1]


class Seen(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


def log_probs(steps: int = STEPS, batch: int = BATCH, labels: int = LABELS, **more: Any) -> Tensor:
    return torch.randn(steps, batch, labels, device="cuda", requires_grad=True, **more)


def labels(*shape: int, device: str = "cuda", dtype: torch.dtype = torch.long) -> Tensor:
    return torch.ones(*shape, dtype=dtype, device=device)


def blocks(*sizes: int) -> int:
    """Bytes of blocks of these sizes, each in multiples of 512."""
    return sum(-(-size // 512) * 512 for size in sizes)


def taken(machine: Machine, loss: Any) -> tuple[Any, int, int]:
    """Return what a call returns, and the memory that it takes: what it keeps, and its peak."""
    stats = machine.allocator.stats.allocated
    before = stats.current
    machine.allocator.reset_peaks()
    out = loss()
    return out, stats.current - before, stats.peak - before


@pytest.mark.parametrize("lengths", ["numbers", "tensors", "tensors on the GPU"])
def test_the_alphas_are_as_long_as_the_longest_target(machine: Machine, lengths: str) -> None:
    probs, targets = log_probs(), labels(BATCH, 12)
    inputs, sizes = INPUTS, TARGETS
    if lengths != "numbers":
        inputs, sizes = (torch.tensor(each, device="cuda" if "GPU" in lengths else "cpu") for each in (INPUTS, TARGETS))  # type: ignore[assignment]
    loss, kept, peak = taken(
        machine, lambda: F.ctc_loss(probs, targets, inputs, sizes, reduction="none", zero_infinity=False)
    )
    assert loss.shape == (BATCH,)
    # alphas: 4 x 50 x (2 x 10 + 1) floats, 16,800 bytes; four losses; while it runs three rows of four int64.
    assert kept == blocks(16_800, 16)
    assert peak == kept + blocks(32, 32, 32)
    assert machine.unknown == ()


def test_targets_of_another_type_are_copied(machine: Machine) -> None:
    probs, targets = log_probs(), labels(BATCH, 12, dtype=torch.int32)
    _, kept, _ = taken(machine, lambda: F.ctc_loss(probs, targets, INPUTS, TARGETS, reduction="none"))
    # As before, and the targets as int64, which backward needs: 4 x 12 x 8 = 384 bytes.
    assert kept == blocks(16_800, 16, 384)


def test_backward_of_a_small_problem_takes_the_betas(machine: Machine) -> None:
    probs, targets = log_probs(), labels(sum(TARGETS))
    loss = F.ctc_loss(probs, targets, INPUTS, TARGETS, reduction="sum")
    # 2 x 50 + 24 x 4 / 10 + 2 x 20 / 10 = 113: small.
    _, _, peak = taken(machine, lambda: torch.autograd.grad(loss, probs))
    # The first of the gradients, a float that is expanded; 50 x 4 x 20 floats; betas; lengths.
    assert peak == blocks(4, 16_000, 16_800, 32, 32, 32)


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_backward_of_a_large_problem_sums_over_blanks(machine: Machine, zero_infinity: bool) -> None:
    steps, batch, number = 200, 8, 1000
    probs, targets = log_probs(steps, batch, number), labels(batch, 30)
    loss = F.ctc_loss(probs, targets, [steps] * batch, [30] * batch, reduction="none", zero_infinity=zero_infinity)
    grad = torch.ones(batch, device="cuda")
    # 2 x 200 + 24 x 8 / 10 + 2 x 1000 / 10 = 619: large.
    _, _, peak = taken(machine, lambda: torch.autograd.grad(loss, probs, grad))
    # The gradient of 200 x 8 x 1000 floats, betas of 8 x 200 x 61, three rows of eight int64.
    always = blocks(6_400_000, 390_400, 64, 64, 64)
    if zero_infinity:
        # A second gradient without those of infinite losses, a mask of eight and a zero. The derivative of torch.where
        # before it makes the gradient that goes in, and gives its mask back, a block of 512 each.
        assert peak == always + blocks(6_400_000, 8, 4)
    else:
        # 8 x 200 x 31 blanks are summed (198,400 bytes), and again less their maxima; maxima and sums: 6,400 bytes.
        assert peak == always + blocks(198_400, 198_400, 6_400, 6_400)


@pytest.mark.parametrize(
    ("case", "kernel"),
    [
        ({}, "_cudnn_ctc_loss"),
        ({"on": "cuda"}, "_ctc_loss"),
        ({"of": torch.long}, "_ctc_loss"),
        ({"dtype": torch.float64}, "_ctc_loss"),
        ({"blank": 3}, "_ctc_loss"),
        ({"inputs": INPUTS}, "_ctc_loss"),
        # Targets of 255 are cuDNN's, those of 256 not, nor those that are longer than their inputs.
        ({"steps": 300, "targets": [255] * BATCH}, "_cudnn_ctc_loss"),
        ({"steps": 300, "targets": [256] * BATCH}, "_ctc_loss"),
        ({"steps": 9}, "_ctc_loss"),
        ({"enabled": False}, "_ctc_loss"),
    ],
    ids=str,
)
def test_which_kernel_runs(case: dict[str, Any], kernel: str) -> None:
    steps, sizes = case.get("steps", STEPS), case.get("targets", TARGETS)
    probs = log_probs(steps, dtype=case.get("dtype", torch.float32))
    targets = labels(sum(sizes), device=case.get("on", "cpu"), dtype=case.get("of", torch.int32))
    inputs = case.get("inputs", [steps] * BATCH)
    with torch.backends.cudnn.flags(enabled=case.get("enabled", True)), Seen() as seen:
        F.ctc_loss(probs, targets, inputs, sizes, blank=case.get("blank", 0)).backward()
    assert kernel in seen.names
    assert probs.grad is not None
    assert probs.grad.shape == probs.shape


def test_cudnn_s_workspace_is_told_as_unknown(machine: Machine) -> None:
    F.ctc_loss(log_probs(), labels(21, device="cpu", dtype=torch.int32), [STEPS] * 4, TARGETS).backward()
    assert [each for each in machine.unknown if "CTC" in each] == [
        "cuDNN's workspace for CTC loss over 50x4x20 float32 and 21 int32"
    ]


def test_lengths_that_nobody_knows_are_an_error() -> None:
    sizes = torch.randn(BATCH, 100, device="cuda").argmax(1)
    with pytest.raises(ValueRead, match=r"test_ctc_loss\.py:\d+ in test_lengths"):
        F.ctc_loss(log_probs(), labels(BATCH, 12), torch.tensor(INPUTS), sizes)


def test_lengths_that_are_no_integers_are_refused_as_on_a_gpu() -> None:
    with pytest.raises(RuntimeError, match="target_lengths must be integral"):
        F.ctc_loss(log_probs(), labels(BATCH, 12), torch.tensor(INPUTS), torch.ones(BATCH))


@pytest.mark.parametrize("inference", [False, True])
def test_one_sequence(inference: bool) -> None:
    with torch.inference_mode(inference):
        probs = torch.randn(STEPS, LABELS, device="cuda")
        for reduction in ("none", "sum", "mean"):
            loss = F.ctc_loss(probs, labels(9), torch.tensor(STEPS), torch.tensor(9), reduction=reduction)
            assert loss.shape == ()


@pytest.mark.parametrize("overload", ["IntList", "Tensor"])
@pytest.mark.parametrize("reduction", [0, 1, 2])
@pytest.mark.parametrize("zero_infinity", [False, True])
def test_it_computes_what_torch_computes(overload: str, reduction: int, zero_infinity: bool) -> None:
    (ours,) = [route for op, route in ctc_loss.ROUTES if op._overloadname == overload]
    with _disable_current_modes(), unset_fake_temporarily():
        probs = torch.randn(5, 4, 20, generator=torch.Generator().manual_seed(1)).log_softmax(2)
        # The last target is longer than its input: an infinite loss.
        lengths: Any = [5, 4, 5, 3], [2, 3, 1, 4]
        if overload == "Tensor":
            lengths = tuple(map(torch.tensor, lengths))
        args = (probs, torch.arange(10) % 19 + 1, *lengths, 0, reduction, zero_infinity)
        torch.testing.assert_close(ours(*args), torch.ctc_loss(*args))
