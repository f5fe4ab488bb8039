"""Calls answered from memory, held against torch's own mode of fake tensors, which is asked each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch._subclasses.fake_tensor as fake_tensor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from pytest_flopguard.backends.simulated import cuda_abi, repeated_calls
from pytest_flopguard.backends.simulated.world import SimulatedTensors

aten = torch.ops.aten


class Asked(FakeTensorMode):
    """Torch's own mode with its own memory switched off."""

    @property
    def avoid_device_init(self) -> bool:
        return True

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.cache_enabled = False


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(repeated_calls, "_results", {})
    with cuda_abi.active():
        monkeypatch.setattr(fake_tensor, "init_gpu_context", lambda *_: None)
        yield


def made(size: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(size, dtype=dtype, device="cuda")


def seen(results: Any, given: tuple[torch.Tensor, ...]) -> Any:
    """Everything that tells one result from another, and which of the given tensors it is or looks at."""
    if isinstance(results, (list, tuple)):
        return tuple(seen(each, given) for each in results)
    if not isinstance(results, torch.Tensor):
        return results
    memory = results.untyped_storage()._cdata
    return (
        type(results),
        tuple(results.shape),
        results.stride(),
        results.storage_offset(),
        results.dtype,
        results.device,
        results.requires_grad,
        results.grad_fn is None,
        results.is_inference(),
        results.is_conj(),
        results.is_neg(),
        results.untyped_storage().nbytes(),
        [each is results for each in given],
        [each.untyped_storage()._cdata == memory for each in given],
    )


def answers(mode: FakeTensorMode, program: Callable[[], Iterator[Any]]) -> list[Any]:
    with mode:
        return list(program())


def same_twice(program: Callable[[], Iterator[Any]]) -> None:
    """Run a program that tells what it saw, asked and from memory, which has everything the second time."""
    asked = answers(Asked(), program)
    mode = SimulatedTensors()
    assert answers(mode, program) == asked
    assert answers(mode, program) == asked
    assert answers(SimulatedTensors(), program) == asked


def calls(*which: Callable[..., Any], size: tuple[int, ...] = (4, 6)) -> Callable[[], Iterator[Any]]:
    def program() -> Iterator[Any]:
        for call in which:
            given = made(size), made(size)
            yield seen(call(*given), given)

    return program


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "a new tensor": lambda x, y: x + y,
    "a new tensor of another dtype": lambda x, y: x > y,
    "an integer": lambda x, y: aten.mul.Tensor(x.to(torch.int64), 1),
    "a float equal to it": lambda x, y: aten.mul.Scalar(x.to(torch.int64), 1.0),
    "a bool equal to it": lambda x, y: aten.mul.Scalar(x.to(torch.int64), True),
    "in place": lambda x, y: x.add_(y),
    "in place, the other one": lambda x, y: y.add_(x),
    "in place, twice the same": lambda x, y: x.add_(x),
    "into another": lambda x, y: torch.add(x, y, out=y),
    "a view": lambda x, y: x[1:].t(),
    "a view of a view": lambda x, y: x[1:][:, 2:],
    "several views": lambda x, y: x.split(2),
    "each row": lambda x, y: x.unbind(),
    "a view in all but name": lambda x, y: aten._unsafe_view(x, [-1]),
    "a transposed result": lambda x, y: x.t() * y.t(),
    "several results": lambda x, y: x.max(1),
    "results with names": lambda x, y: aten.nll_loss_forward(x, made((len(x),), torch.int64), None, 1, -100),
    "a list of results": lambda x, y: torch._foreach_add([x, y], [y, x]),
    "a list in place": lambda x, y: torch._foreach_add_([x, y], 1.0),
    "a conjugated view": lambda x, y: torch.complex(x, y).conj().imag,
    "made for gradients": lambda x, y: (x.requires_grad_() * y).sum(),
    "another shape in place": lambda x, y: (x.t_(), x.shape),
    "another size in place": lambda x, y: (x.resize_(8, 8), x.shape),
    "another memory": lambda x, y: (x.set_(y.untyped_storage(), 2, (3,), (1,)), x.shape),
    "onto the CPU": lambda x, y: x.cpu(),
    "one of a constant": lambda x, y: torch.tensor(3.0) * x,
    "a sparse one": lambda x, y: aten._sparse_coo_tensor_with_dims_and_tensors(
        1, 1, [9, x.shape[1]], made((1, 4), torch.long), x[:4], dtype=x.dtype, layout=torch.sparse_coo, device=x.device
    ).layout,
    "something that fails": lambda x, y: failure(lambda: x @ y),
}  # fmt: skip


def under(context: Any, call: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def within(x: Any, y: Any) -> Any:
        with context():
            return call(x, y)

    return within


@contextmanager
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


ALIKE: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "dtype": (lambda x, y: x.abs(), lambda x, y: x.int().abs()),
    "offset": (lambda x, y: x[0:2].t(), lambda x, y: x[1:3].t()),
    "strides": (lambda x, y: made((4, 4)).abs(), lambda x, y: made((4, 4)).t().abs()),
    "device": (lambda x, y: x.abs(), lambda x, y: x.cpu().abs()),
    "which argument it is": (lambda x, y: torch.add(x, x, out=x), lambda x, y: torch.add(x, y, out=y)),
    "kind of number": (lambda x, y: x.long().mul(1), lambda x, y: x.long().mul(1.0)),
    "list or single": (lambda x, y: x.sum([0]), lambda x, y: x.sum([0], keepdim=True)),
    "default dtype": (lambda x, y: x.long() * 0.5, under(double, lambda x, y: x.long() * 0.5)),
    "inference": (lambda x, y: x * y, under(torch.inference_mode, lambda x, y: x * y)),
    "conjugated": (lambda x, y: torch.complex(x, y).imag, lambda x, y: torch.complex(x, y).conj().imag),
}  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
def test_calls_that_look_alike_are_told_apart(name: str) -> None:
    first, second = ALIKE[name]
    same_twice(calls(first, second))
    repeated_calls._results.clear()
    same_twice(calls(second, first))


def failure(call: Callable[[], Any]) -> str:
    with pytest.raises(RuntimeError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_gives_what_torch_gives(name: str) -> None:
    same_twice(calls(CALLS[name], CALLS[name]))


def test_calls_do_not_get_each_others_results() -> None:
    same_twice(calls(*CALLS.values()))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(CALLS.keys() - {"something that fails"})),
            st.sampled_from([(4, 6), (6, 6), (4, 12)]),
            st.booleans(),
            st.sampled_from([torch.float32, torch.float64]),
        ),
        max_size=6,
    )
)
def test_any_order_of_calls_gives_what_torch_gives(
    drawn: list[tuple[str, tuple[int, ...], bool, torch.dtype]],
) -> None:
    def program() -> Iterator[Any]:
        for name, size, inference, default in drawn:
            torch.set_default_dtype(default)
            try:
                with torch.inference_mode(inference and "gradients" not in name):
                    given = made(size), made(size)
                    yield seen(CALLS[name](*given), given)
            finally:
                torch.set_default_dtype(torch.float32)

    same_twice(program)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls for which torch's own mode was asked."""
    found: list[Any] = []
    dispatch = FakeTensorMode.dispatch

    def counted(self: FakeTensorMode, func: Any, *rest: Any, **more: Any) -> Any:
        found.append(func)
        return dispatch(self, func, *rest, **more)

    monkeypatch.setattr(FakeTensorMode, "dispatch", counted)
    return found


def test_the_second_call_is_not_asked(asked: list[Any]) -> None:
    with SimulatedTensors():
        x = made((4, 4))
        for _ in range(3):
            x.mm(x)
    assert asked.count(aten.mm.default) == 1


def test_memory_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_calls, "_MOST", 5)
    with SimulatedTensors():
        x = made((4, 4))
        for each in range(30):
            x.add(each)
    assert 0 < len(repeated_calls._results) <= 5


def test_tensors_of_another_mode_are_asked_for(asked: list[Any]) -> None:
    with SimulatedTensors():
        x = made((4, 4))
        x.mm(x)
    with SimulatedTensors():
        x.mm(x)
        x.mm(x)
    # Whether tensors of two modes may meet, and whose the result is, is torch's to say.
    assert asked.count(aten.mm.default) == 3


def test_results_keep_nothing_alive() -> None:
    with SimulatedTensors():
        x = made((4, 4))
        y = x.mm(x)
    assert isinstance(y, FakeTensor)
    assert not [each for each in repeated_calls._results if any(isinstance(part, torch.Tensor) for part in each)]
