"""What a program leaves behind is the same, watched or not, and nothing of the watch stays."""

from __future__ import annotations

import copy
import gc
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.optim import optimizer as optimizer_hooks
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.checkpoint import checkpoint

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.backends.live_storage import LiveStorage
from pytest_flopguard.formulas.registry import Registry

Watch = Callable[[], Any]


@pytest.fixture
def watch(costs: Registry) -> Watch:
    """Count FLOPs and follow storages, as a session does."""

    @contextmanager
    def watch() -> Iterator[None]:
        engine = DispatchFlops(costs)
        with engine, LiveStorage(engine.watch) as memory:
            marks = engine.begin(), memory.begin()
            try:
                yield
            finally:
                engine.end(marks[0])
                memory.end(marks[1])

    return watch


def installed() -> dict[str, Any]:
    """Everything global that a watch could leave something in."""
    tables = [name for name in vars(module_hooks) if name.startswith("_global_")]
    tables = [name for name in tables if isinstance(getattr(module_hooks, name), dict)]
    return {
        "modes": _get_current_dispatch_mode_stack(),
        "finders": list(sys.meta_path),
        "thread profiler": threading.getprofile(),
        "filters": list(warnings.filters),
        "grad": torch.is_grad_enabled(),
        **{name: dict(getattr(module_hooks, name)) for name in tables},
        "before step": dict(optimizer_hooks._global_optimizer_pre_hooks),
        "after step": dict(optimizer_hooks._global_optimizer_post_hooks),
    }


class Convnet(nn.Module):
    """Buffers that change, randomness, a fused attention, an in-place op, a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.Dropout(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.features(x).flatten(2).transpose(1, 2)
        hidden = self.attention(hidden).mean(1)
        result: Tensor = checkpoint(self.head, hidden, use_reentrant=False)
        return result


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = model(torch.randn(2, 3, 6, 6)).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def state_after(run: Callable[[nn.Module, torch.optim.Optimizer], list[Tensor]]) -> dict[str, Any]:
    torch.manual_seed(0)
    numpy.random.seed(0)
    model = Convnet()
    model.head.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    losses = run(model, optimizer)
    return {
        "losses": losses,
        "state": model.state_dict(),
        "gradients": [each.grad for each in model.parameters()],
        "optimizer": optimizer.state_dict()["state"],
        "random": torch.get_rng_state(),
        "flags": [each.training for each in model.modules()],
        "attributes": [sorted(vars(each)) for each in model.modules()],
        "hooks": [
            (len(each._forward_hooks), len(each._forward_pre_hooks), len(each._backward_hooks))
            for each in model.modules()
        ],
        "calls": [type(each).__call__ is nn.Module.__call__ for each in model.modules()],
        "numpy": numpy.random.get_state()[1].tolist(),  # type: ignore[union-attr]
    }


def test_training_ends_in_the_same_state_bit_by_bit(watch: Watch) -> None:
    def watched(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
        with watch():
            return train(model, optimizer)

    alone = state_after(train)
    found = state_after(watched)
    tensors = ("losses", "state", "gradients", "optimizer", "random")
    torch.testing.assert_close(*([side[name] for name in tensors] for side in (found, alone)), rtol=0, atol=0)
    assert list(found["state"]) == list(alone["state"])
    others = found.keys() - set(tensors)
    assert {name: found[name] for name in others} == {name: alone[name] for name in others}


class Crash(Exception):
    pass


def crash_in_forward(model: nn.Module) -> None:
    model.head.register_forward_pre_hook(crash)
    model(torch.ones(2, 3, 6, 6))


def crash_in_backward(model: nn.Module) -> None:
    output = model(torch.ones(2, 3, 6, 6))
    output.register_hook(crash)
    output.sum().backward()


def crash_in_step(model: nn.Module) -> None:
    optimizer = torch.optim.LBFGS(model.parameters())
    optimizer.step(crash)


def crash_in_op(model: nn.Module) -> None:
    model(torch.ones(2, 5, 6, 6))


def crash(*_: Any) -> None:
    raise Crash


@pytest.mark.parametrize(
    ("program", "error"),
    [(crash_in_forward, Crash), (crash_in_backward, Crash), (crash_in_step, Crash), (crash_in_op, RuntimeError)],
)
def test_a_crash_leaves_nothing_installed(watch: Watch, program: Any, error: type[Exception]) -> None:
    before = installed()
    with pytest.raises(error), watch():
        program(Convnet())
    assert installed() == before


def test_the_look_at_what_is_installed_can_fail(watch: Watch) -> None:
    before = installed()
    with watch():
        assert {name for name, value in installed().items() if value != before[name]} >= {
            "modes",
            "thread profiler",
            "_global_forward_hooks",
            "_global_forward_pre_hooks",
            "before step",
            "after step",
        }
    assert installed() == before


def test_nothing_is_kept_alive(watch: Watch) -> None:
    gc.disable()
    try:
        with watch():
            model = Convnet()
            output = model(torch.ones(2, 3, 6, 6))
            output.sum().backward()
            references = [weakref.ref(each) for each in (model, output, *model.parameters())]
            storages = [weakref.ref(each.untyped_storage()) for each in (output, *model.parameters())]
            del model, output
            # A model holds itself in cycles; tensors go at once with it.
            gc.collect()
            assert [each() for each in (*references, *storages) if each() is not None] == []
    finally:
        gc.enable()


def test_fast_paths_are_taken_as_ever(watch: Watch) -> None:
    def kernels(run: Callable[[], Any]) -> set[str]:
        # Torch 2.11 warns that events do not accumulate, unless they do.
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
            run()
        return {each.key for each in profile.key_averages() if each.key.startswith("aten::_")}

    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.ones(2, 5, 8)

    def run() -> None:
        with torch.no_grad():
            layer(x)
            attention(x, x, x)

    def watched() -> None:
        with watch():
            run()

    alone = kernels(run)
    assert {"aten::_transformer_encoder_layer_fwd", "aten::_native_multi_head_attention"} <= alone
    assert {"aten::_transformer_encoder_layer_fwd", "aten::_native_multi_head_attention"} <= kernels(watched)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_padded_batches_still_run_nested(watch: Watch) -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    mask = torch.tensor([[False, False, True], [False, False, False]])
    with torch.no_grad():
        alone = encoder(torch.ones(2, 3, 8), src_key_padding_mask=mask)
        with watch():
            found = encoder(torch.ones(2, 3, 8), src_key_padding_mask=mask)
    assert torch.equal(found, alone)


def test_models_can_be_copied_loaded_and_converted_inside(watch: Watch) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with watch():
        model(torch.ones(3, 4))
        twin = copy.deepcopy(model)
        twin.load_state_dict(model.state_dict())
        twin.double().float()
        model.eval()
        twin.eval()
        assert torch.equal(twin(torch.ones(3, 4)), model(torch.ones(3, 4)))
    assert list(twin.state_dict()) == list(model.state_dict())


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
def test_tracing_records_nothing_of_ours(count: Callable[[Callable[[], Any]], Any]) -> None:
    model, x = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), torch.ones(1, 2)
    traced: list[Any] = []
    # torch traces twice and compares the graphs: what we ask of parameters would be in one of them.
    count(lambda: traced.append(torch.jit.trace(model, x)))
    alone = torch.jit.trace(model, x)
    kinds = [[each.kind() for each in graph.inlined_graph.nodes()] for graph in (traced[0], alone)]
    assert kinds[0] == kinds[1]
    assert torch.equal(traced[0](x), model(x))
