"""Private names of torch exist in the installed release and mean what they are taken for."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pytest_flopguard.backends.torch_api import (
    autograd,
    cuda,
    data,
    dispatch,
    fake,
    files,
    jit,
    late,
    modules,
    replaced,
    storages,
    tensors,
)

API = Path(str(late.__file__)).parent


def test_every_module_is_imported_by_this_test() -> None:
    imported = (autograd, cuda, data, dispatch, fake, files, jit, late, modules, replaced, storages, tensors)
    assert {path.stem for path in API.glob("*.py")} - {"__init__"} == {
        Path(str(module.__file__)).stem for module in imported
    }


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("torch._dynamo.eval_frame", (late.CALLBACK_FROM_STANCE, "_stance")),
        (late.EXPORT, (late.STRICT_EXPORT,)),
        (late.DEVICE_MESH, ("DeviceMesh",)),
        ("torch.autograd.graph", (autograd.ENGINE,)),
        ("torch.cuda", (cuda.IS_COMPILED, cuda.LAZY_INIT, *cuda.EXCHANGES)),
        ("torch.cuda.memory", cuda.HISTORY),
        *((name, ()) for name in (late.COMPILER, late.CAPTURES, late.RECORDS, late.INDUCTOR_CODE)),
        *((name, ()) for name in (late.SHARDING_PLANNER, *late.RECORDERS)),
    ],
)
def test_late_modules(module: str, names: tuple[str, ...]) -> None:
    found = importlib.import_module(module)
    assert [name for name in names if not hasattr(found, name)] == []


def test_meshes() -> None:
    # Each release has the public two and some of the private ones.
    from torch.distributed.device_mesh import DeviceMesh

    assert sum(hasattr(DeviceMesh, name) for name in late.MESH_METHODS) >= 4


def test_backends_of_compiled_functions() -> None:
    def backend(graph: Any, inputs: Any) -> Any:
        return graph.forward

    @torch.compile(backend=backend)
    def double(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    frames = importlib.import_module("torch._dynamo.eval_frame")
    asked: list[Any] = []
    real = getattr(frames, late.CALLBACK_FROM_STANCE)

    def callback(given: Any) -> Any:
        asked.append(given)
        return real(given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, late.CALLBACK_FROM_STANCE, callback)
        double(torch.ones(2))
    assert late.innermost_backend(next(filter(callable, asked))) is backend


def test_makers_and_movers_of_storages() -> None:
    assert [name for owner, names in storages.MAKERS for name in names if not hasattr(owner, name)] == []
    assert [name for name in storages.MOVERS if not hasattr(torch.UntypedStorage, name)] == []
    assert hasattr(storages.FILE_READER, "get_storage_from_record")


@pytest.mark.parametrize(
    "file",
    [
        *files.TENSOR_TEXT,
        *files.DISPATCH,
        files.RANDOM_WEIGHTS,
        files.GRAD_SCALER,
        files.ADAFACTOR,
        files.DISTRIBUTIONS,
    ],
)
def test_files(file: str) -> None:
    assert Path(files.FOLDER, file).exists()


def test_modes() -> None:
    seen: list[str] = []

    class Mode(dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(dispatch.packet_name(dispatch.packet_of(func)))
            return func(*args, **(kwargs or {}))

    mode = Mode()
    assert dispatch.mode_stack() == []
    with mode:
        assert dispatch.current_mode() is mode
        assert dispatch.mode_stack() == [mode]
        torch.ones(2) + 1
        with dispatch.disable_current_modes():
            assert dispatch.mode_stack() == []
            torch.ones(2) * 2
        assert dispatch.pop_mode() is mode
        torch.ones(2) * 2
        dispatch.push_mode(mode)
    assert seen == ["aten::ones", "aten::add"]
    assert not dispatch.is_infrastructure(mode)
    assert dispatch.is_infrastructure(fake.FakeTensorMode())
    assert dispatch.is_infrastructure(fake.FakeTensor)


def test_ops() -> None:
    linear, mm = torch.ops.aten.linear.default, torch.ops.aten.mm.default
    assert isinstance(mm, dispatch.OpOverload)
    assert isinstance(torch.ops.higher_order.cond, dispatch.HigherOrderOperator)
    assert (dispatch.schema_of(mm).name, [each.name for each in dispatch.schema_of(mm).arguments]) == (
        "aten::mm",
        ["self", "mat2"],
    )
    assert (dispatch.decomposes(linear), dispatch.decomposes(mm)) == (True, False)
    assert dispatch.has_kernel("aten::linear", dispatch.COMPOSITE)
    assert not dispatch.has_kernel("aten::mm", dispatch.COMPOSITE)
    x, weight = torch.ones(2, 3), torch.ones(4, 3)
    assert torch.equal(dispatch.decomposed(linear, x, weight), x @ weight.T)
    assert dispatch.dispatch_keys(x).has(torch._C.DispatchKey.CPU)


def test_a_library_is_destroyed() -> None:
    library = torch.library.Library("aten", "IMPL")
    library.impl("signbit", lambda x: x.new_empty(7), "Meta", allow_override=True)
    empty = torch.ones(2, device="meta")
    assert torch.signbit(empty).shape == (7,)
    dispatch.destroy(library)
    assert torch.signbit(empty).shape == (2,)


def test_fake_tensors() -> None:
    with fake.FakeTensorMode() as mode:
        tensor = torch.ones(2)
        assert isinstance(tensor, fake.FakeTensor)
        with pytest.raises(fake.DataDependentOutputException):
            tensor.sum().item()
        with pytest.raises(fake.DynamicOutputShapeException):
            torch.nonzero(tensor)
        with fake.unset_fake_temporarily():
            assert type(torch.ones(2)) is torch.Tensor
    assert isinstance(mode, fake.FakeTensorMode)
    assert issubclass(fake.UnsupportedOperatorException, Exception)
    assert fake.fake_tensor.FakeTensor is fake.FakeTensor
    assert callable(fake.fake_impls.register_op_impl)


def test_autograd() -> None:
    leaf = torch.ones(2, requires_grad=True)
    before = autograd.next_node_number()
    out = leaf * 2
    assert out.grad_fn is not None
    assert (autograd.node_number(out.grad_fn), autograd.next_node_number()) == (before, before + 1)
    assert (autograd.running_node(), autograd.running_backward()) == (None, -1)
    seen: list[tuple[object, int]] = []

    class Noted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            seen.append((autograd.running_node(), autograd.running_backward()))
            return grad

    Noted.apply(leaf).sum().backward()
    ((node, task),) = seen
    assert node is not None
    assert task >= 0


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")  # since torch 2.14
def test_script_graphs() -> None:
    traced = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))
    assert type(traced._c) is jit.SCRIPT_MODULE
    assert [each.kind() for each in jit.graph_of_method(traced._c, "forward").nodes()][-1] == "aten::linear"
    traced(torch.ones(1, 2))
    graph = jit.last_executed().copy()
    jit.inline(graph)
    (linear,) = [each for each in graph.nodes() if each.kind() == "aten::linear"]
    assert jit.parse_schema(linear.schema()).name == "aten::linear"
    assert all(hasattr(jit.NATIVE, each) for each in jit.TRACERS)
    assert all(hasattr(jit.SCRIPT_MODULE, each) for each in jit.METHOD_TRACERS)
    assert len(jit.PACKAGES) >= 2
    assert jit.STATIC_MODULE is not None


def test_recording() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    seen: list[bool] = []
    make_fx(lambda x: [x + 1, seen.append(dispatch.is_recording())][0])(torch.ones(2))
    assert (seen, dispatch.is_recording()) == ([True], False)
    assert dispatch.DENSE in torch.ops.higher_order.cond.py_kernels
    assert isinstance(torch.ops.aten.mm, dispatch.OpOverloadPacket)


def test_tracing() -> None:
    seen: list[bool] = []

    def run(x: torch.Tensor) -> torch.Tensor:
        state = jit.tracing()
        jit.set_tracing(None)
        seen.extend([state is not None, jit.tracing() is None])
        jit.set_tracing(state)
        return x + 1

    assert jit.tracing() is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates torch.jit.trace from 2.14 on
        torch.jit.trace(run, torch.ones(1), check_trace=False)
    assert seen == [True, True]


def test_tensors() -> None:
    whole = torch.ones(2, 3, 4, 5)
    part, other = whole[0], torch.ones(1)
    assert tensors.address_of(whole.untyped_storage()) == tensors.address_of(part.untyped_storage())
    assert tensors.address_of(whole.untyped_storage()) != tensors.address_of(other.untyped_storage())
    assert tensors.view_base(part) is whole
    assert tensors.view_base(whole) is None
    # Python holds it once, and each view holds its base.
    assert tensors.tensor_users(other) == 1
    view = other.view(-1)
    assert (view._base is other, tensors.tensor_users(other)) == (True, 2)
    assert tensors.storage_users(tensors.address_of(whole.untyped_storage())) >= 2
    assert tensors.suggest_memory_format(whole) == torch.contiguous_format
    assert tensors.suggest_memory_format(whole.to(memory_format=torch.channels_last)) == torch.channels_last
    assert tensors.is_non_overlapping_and_dense_or_false(whole)
    assert not tensors.is_non_overlapping_and_dense_or_false(whole[..., ::2])
    assert torch.equal(tensors.safe_softmax(torch.zeros(2), -1), torch.full((2,), 0.5))
    assert torch.full((1,), -torch.inf).softmax(-1).isnan()
    assert tensors.safe_softmax(torch.full((1,), -torch.inf), -1).item() == 0
    assert torch.ones(2).to_mkldnn().layout is tensors.MKLDNN
    assert torch.Tensor in tensors.foreach_types
    assert torch.Tensor in tensors.optimizer_foreach_types
    assert torch.ones in tensors.device_constructors()
    assert callable(tensors.nested_tensor.get_tensor_symint)
    sparse = torch.sparse_coo_tensor(torch.tensor([[0, 0]]), torch.ones(2), (3,), check_invariants=False)
    assert (tensors.sparse_indices(sparse).shape, tensors.sparse_values(sparse).shape) == ((1, 2), (2,))
    one, two = torch.ones(1), torch.zeros(1)
    tensors.swap_implementations(one, two)
    assert (one.item(), two.item()) == (0, 1)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_sizes() -> None:
    nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)])
    assert tensors.nested_sizes(nested).tolist() == [[2, 3], [4, 3]]


def test_a_subclass_of_other_data() -> None:
    inside = torch.empty(2, device="meta")
    made = tensors.make_subclass(fake.FakeTensor, inside, False, dispatch_device=True, device_for_backend_keys="cuda")
    assert type(made) is fake.FakeTensor
    tensors.refuse_data_pointer(made)


@pytest.mark.slow
def test_modules() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert list(modules.children_of(module)) == ["0", "1"]
    assert list(modules.parameters_of(module[0])) == ["weight", "bias"]
    assert list(modules.buffers_of(module[1])) == ["running_mean", "running_var", "num_batches_tracked"]
    module.register_forward_hook(lambda *_: None)
    assert [len(table) for table in modules.hooks_of(module)] == [1, 0]
    compiled = torch.compile(module)
    assert modules.unwrapped(compiled) is module
    assert modules.unwrapped(module) is module


def test_keywords_of_a_call() -> None:
    seen: list[dict[str, Any] | None] = []

    class Own(nn.Module):
        def forward(self, x: int, *, scale: int = 1) -> int:
            return x * scale

    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(_within())

    def _within() -> dict[str, Any] | None:
        return modules.keywords_of_call()

    handle = nn.modules.module.register_module_forward_pre_hook(hook)
    try:
        Own()(2, scale=3)
        Own()(2)
    finally:
        handle.remove()
    assert seen == [{"scale": 3}, {}]
    assert modules.keywords_of_call() is None  # nothing of torch calls


@pytest.mark.parametrize("place", [replaced.DEVICE_RESTORED, replaced.CONVOLUTION_LAYOUT])
def test_what_a_simulated_gpu_replaces(place: replaced.Place) -> None:
    assert callable(getattr(*place))


def test_questions_to_the_kernels() -> None:
    names = {name for (_, name), _ in replaced.KERNEL_QUESTIONS}
    # Where torch itself calls them. A CPU build has none of them, and torch.backends.cuda then fails when it asks.
    source = Path(str(importlib.import_module("torch.backends.cuda").__file__)).read_text(encoding="utf-8")
    assert {name for name in names if f"torch._C.{name}(" in source} == names


def test_generators() -> None:
    assert replaced.NATIVE.Generator is torch.Generator


def test_attention_kernels() -> None:
    assert sorted(cuda.attention_order())[:4] == [0, 1, 2, 3]
    for enabled in (
        cuda.cudnn_attention_enabled,
        cuda.flash_attention_enabled,
        cuda.efficient_attention_enabled,
        cuda.math_attention_enabled,
    ):
        assert enabled() is True
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert (cuda.math_attention_enabled(), cuda.flash_attention_enabled()) == (True, False)
    assert cuda.math_attention_keeps_half() is False


def test_the_allocators_history() -> None:
    # Asked of the functions of torch.cuda.memory themselves; recording needs a GPU.
    assert callable(torch.cuda.memory._record_memory_history)
    assert callable(torch.cuda.memory._snapshot)
    assert cuda.set_device_guard is not None
