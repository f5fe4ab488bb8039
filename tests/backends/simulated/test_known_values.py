"""Values of small tensors on a simulated GPU: right, or an error, and never stale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pytest_flopguard.backends.simulated.cuda_kernels import NotSimulated
from pytest_flopguard.backends.simulated.machine import Machine
from pytest_flopguard.backends.simulated.value_reads import ValueRead

pytestmark = pytest.mark.usefixtures("running")


def test_integers_and_masks_have_values() -> None:
    ids = torch.arange(6, device="cuda").reshape(2, 3)
    assert ids.sum().item() == 15
    assert (ids > 3).nonzero().tolist() == [[1, 1], [1, 2]]
    assert ids[ids > 3].shape == (2,)
    assert torch.equal(ids, ids.clone())
    assert not torch.equal(ids, ids + 1)
    assert torch.allclose(torch.ones(3, device="cuda"), torch.ones(3, device="cuda"))
    with pytest.raises(ValueRead, match="allclose"):
        torch.allclose(torch.randn(40, device="cuda"), torch.randn(40, device="cuda"))


def test_they_come_from_the_cpu_and_go_back() -> None:
    lengths = torch.tensor([3, 1, 2]).to("cuda")
    assert lengths.cpu().tolist() == [3, 1, 2]
    assert torch.ones(2, 3, device="cuda", dtype=torch.bool).all()


def test_activations_have_none_and_the_error_names_the_line() -> None:
    loss = torch.randn(4, 64, device="cuda").sum()
    with pytest.raises(ValueRead, match=r"test_known_values\.py:\d+ in test_activations.*value-read"):
        loss.item()


def test_a_shape_that_follows_from_unknown_values_is_an_error() -> None:
    with pytest.raises(ValueRead, match="nonzero"):
        torch.randn(4, 64, device="cuda").nonzero()


def test_memory_that_nobody_has_written_has_no_values() -> None:
    with pytest.raises(ValueRead):
        torch.empty(3, dtype=torch.long, device="cuda").tolist()


def test_what_is_written_over_has_values_again() -> None:
    filled = torch.empty(3, dtype=torch.long, device="cuda")
    filled.fill_(7)
    assert filled.tolist() == [7, 7, 7]
    filled[1] = 2
    assert filled.tolist() == [7, 2, 7]


def test_unknown_values_written_through_a_view_make_the_whole_unknown() -> None:
    known = torch.zeros(2, 3, dtype=torch.long, device="cuda")
    assert known.sum().item() == 0
    known[0].copy_(torch.randn(3, 64, device="cuda").argmax(1))
    with pytest.raises(ValueRead):
        known.sum().item()


def test_an_alias_sees_what_was_written() -> None:
    base = torch.zeros(4, dtype=torch.long, device="cuda")
    view = base[1:3]
    view.add_(5)
    assert base.tolist() == [0, 5, 5, 0]


def test_large_tensors_have_none() -> None:
    # 2**22 bytes are kept, one element more is not.
    for dtype, most in ((torch.bool, 2**22), (torch.long, 2**19)):
        assert not torch.zeros(most, dtype=dtype, device="cuda").any().item()
        with pytest.raises(ValueRead):
            torch.zeros(most + 1, dtype=dtype, device="cuda").any().item()


@pytest.mark.slow
def test_constants_have_values_and_random_numbers_have_few() -> None:
    # A mask that is kept as floats decides like any other.
    mask = torch.ones(4, 512, device="cuda")
    mask[:, 500:] = 0
    assert not (mask > 0).all().item()
    assert mask.sum().item() == 2000
    assert torch.ones(2**16, device="cuda").bool().all().item()
    assert len(torch.rand(16, device="cuda").tolist()) == len(torch.empty(16, device="cuda").normal_().tolist()) == 16
    for unknown in (
        lambda: torch.ones(2**16 + 1, device="cuda"),
        lambda: torch.rand(17, device="cuda"),
        lambda: torch.empty(17, device="cuda").normal_(),
        lambda: torch.ones(17, device="cuda").bernoulli_(),
        lambda: F.dropout(torch.ones(17, device="cuda")),
    ):
        with pytest.raises(ValueRead):
            unknown().tolist()


@pytest.mark.parametrize(
    ("made", "values"),
    [
        (lambda x: torch.ones_like(x, dtype=torch.long), [[1] * 64] * 2),
        (lambda x: torch.zeros_like(x, dtype=torch.bool), [[False] * 64] * 2),
        (lambda x: torch.full_like(x, 3, dtype=torch.int32), [[3] * 64] * 2),
        (lambda x: x.new_zeros(2, dtype=torch.long), [0, 0]),
        (lambda x: x.new_ones(2), [1.0, 1.0]),
        (lambda x: x.new_full((2,), 5, dtype=torch.long), [5, 5]),
    ],
)
def test_what_takes_a_shape_alone_needs_no_values(made: Callable[[torch.Tensor], torch.Tensor], values: object) -> None:
    assert made(torch.randn(2, 64, device="cuda")).tolist() == values


def unknown(dtype: torch.dtype = torch.bool) -> torch.Tensor:
    return (torch.randn(4, 64, device="cuda").argmax(1) > 3).to(dtype)


def all_of(value: bool, dtype: torch.dtype = torch.bool) -> torch.Tensor:
    return torch.full((4,), value, dtype=dtype, device="cuda")


def test_one_side_may_decide_alone() -> None:
    yes, no = [True] * 4, [False] * 4
    assert (all_of(True) | unknown()).tolist() == (unknown() | all_of(True)).tolist() == yes
    assert (all_of(False) & unknown()).tolist() == torch.logical_and(unknown(), all_of(False)).tolist() == no
    assert (unknown(torch.long) & all_of(False)).tolist() == [0] * 4
    assert torch.logical_or(unknown(torch.long), all_of(True, torch.long)).tolist() == yes
    done = all_of(True)
    done |= unknown()
    assert done.tolist() == yes
    # What generation does: it is over at the greatest length, whatever tokens there are.
    assert ((torch.ones(4, dtype=torch.long, device="cuda") & ~(all_of(True) | unknown())).max() == 0).item() is True


@pytest.mark.parametrize(
    "undecided",
    [
        lambda: all_of(False) | unknown(),
        lambda: all_of(True) & unknown(),
        lambda: all_of(True, torch.long) | unknown(torch.long),
        lambda: torch.tensor([True, False, True, True], device="cuda") | unknown(),
    ],
)
def test_or_it_does_not(undecided: Callable[[], torch.Tensor]) -> None:
    with pytest.raises(ValueRead):
        undecided().tolist()


def test_random_numbers_of_a_shape_are_drawn() -> None:
    shape = torch.randn(2, 64, device="cuda")
    torch.manual_seed(5)
    on_cpu = torch.rand(4, device="cpu").tolist()
    torch.manual_seed(5)
    drawn = torch.randint_like(shape, 9, dtype=torch.long).flatten().tolist()
    assert 0 <= min(drawn) <= max(drawn) < 9
    # The CPU's own numbers are where they were.
    assert torch.rand(4, device="cpu").tolist() == on_cpu


def test_a_library_s_check_of_unknown_values_is_an_assumption_that_is_told(machine: Machine) -> None:
    scaler = torch.amp.GradScaler("cuda")
    weight = torch.randn(64, 64, device="cuda", requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scaler.scale((weight * weight).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert machine.assumed == ("no gradient overflows under GradScaler",)


@pytest.mark.parametrize("foreach", [False, True])
def test_adafactor_s_norms_scale_numbers_alone(machine: Machine, foreach: bool) -> None:
    weight = torch.randn(64, 32, device="cuda", requires_grad=True)
    bias = torch.randn(32, device="cuda", requires_grad=True)
    optimizer = torch.optim.Adafactor([weight, bias], foreach=foreach)
    for _ in range(2):
        (torch.randn(4, 64, device="cuda") @ weight + bias).sum().backward()
        optimizer.step()
    # State: a row of 64, a column of 32 and the variance of the bias, a block of 512 each, with weight, bias and their
    # gradients of 8192 and 512 bytes, and two workspaces of cuBLAS. Steps are on the CPU.
    assert machine.allocator.stats.allocated.current == 3 * 512 + 2 * (8192 + 512) + 2 * 32 * 2**20
    assert machine.assumed == (
        "the norms of Adafactor's weights and updates are 0, which changes numbers and no memory",
    )


def test_who_asks_a_library_s_question_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_flopguard.backends.simulated.lifetimes._MOST_ANSWERS", 3)
    namespace: dict[str, Any] = {"wait": None}
    exec(compile("def wait(done):\n    while not done.any():\n        pass\n", "/site/timm/wait.py", "exec"), namespace)
    with pytest.raises(ValueRead, match="asks for one value time and again"):
        namespace["wait"](torch.randn(64, device="cuda") > 0)


def test_tensors_are_made_of_lists_of_tensors() -> None:
    ids = torch.arange(6, device="cuda").reshape(2, 3)
    assert torch.tensor([ids[0].max(), ids[1].max(), 7], device="cuda").tolist() == [2, 5, 7]
    nested = torch.as_tensor([[ids[1, 2]], [ids[0, 1]]])
    assert (nested.tolist(), nested.dtype) == ([[5], [1]], torch.long)
    with torch.device("cuda"):
        assert torch.tensor([ids[1, 2]]).is_cuda
    half = torch.tensor([torch.tensor(0.1, dtype=torch.float64, device="cuda")])
    assert (half.tolist(), half.dtype) == ([0.1], torch.float64)
    with pytest.raises(ValueRead, match=r"test_known_values\.py:\d+ in test_tensors"):
        torch.tensor([torch.randn(64, device="cuda").sum()])


def test_an_op_that_needs_data_is_an_error_that_names_it() -> None:
    with pytest.raises(NotSimulated, match=r"aten\.multi_margin_loss"):
        torch.nn.functional.multi_margin_loss(
            torch.randn(4, 8, device="cuda", requires_grad=True), torch.zeros(4, dtype=torch.long, device="cuda")
        ).backward()


def test_an_array_has_the_values_or_is_an_error() -> None:
    assert torch.arange(3, device="cuda").cpu().numpy().tolist() == [0, 1, 2]
    with pytest.raises(ValueRead, match="asks for the values"):
        torch.randn(4, 64, device="cuda").cpu().numpy()


def test_an_op_that_runs_programs_is_refused_by_name() -> None:
    with pytest.raises(NotSimulated, match="cond: it runs other programs"):
        torch.ops.higher_order.cond(True, torch.sin, torch.cos, (torch.randn(4, 64, device="cuda"),))
