"""Fake CUDA tensors train where there is no GPU, and real training never notices."""

from __future__ import annotations

import ctypes
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from pytest_flopguard.backends.simulated import cuda_abi


@contextmanager
def simulated() -> Iterator[None]:
    with cuda_abi.active(), FakeTensorMode(allow_non_fake_inputs=True):
        yield


def train_on_cpu() -> list[float]:
    weight = torch.linspace(-1, 1, 64).reshape(8, 8).requires_grad_()
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (weight @ weight.relu()).tanh().sum().backward()
        optimizer.step()
    return [float(value) for value in weight.detach().flatten()]


def threads() -> set[str]:
    """All threads of this process, the C++ ones too."""
    return set(os.listdir("/proc/self/task"))


def state() -> tuple[object, ...]:
    """What code outside can tell the simulated device by."""
    switch = cuda_abi._installed
    assert isinstance(switch, cuda_abi._Switch)
    return (
        switch.guard.value,
        switch.hooks.value,
        torch.accelerator.current_accelerator(),
        torch.cuda.is_available(),
        torch.autograd.is_multithreading_enabled(),
    )


def grads(model: nn.Module) -> set[tuple[str, bool]]:
    found = set()
    for weight in model.parameters():
        assert weight.grad is not None
        found.add((weight.grad.device.type, weight.grad.shape == weight.shape))
    return found


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: nn.Linear(8, 4), (2, 8)),
        (lambda: nn.Conv2d(3, 4, 3), (2, 3, 8, 8)),
        (lambda: nn.Sequential(nn.Conv1d(4, 4, 3, groups=2), nn.BatchNorm1d(4)), (2, 4, 8)),
        (lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), (2, 8, 16)),
    ],
    ids=["linear", "conv", "batch norm", "attention"],
)
def test_backward_gives_every_weight_a_gradient_on_cuda(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    with simulated(), torch.device("cuda"):
        model = build()
        model(torch.randn(shape)).sum().backward()
        assert grads(model) == {("cuda", True)}


@pytest.mark.parametrize("options", [{"foreach": True}, {"fused": True}, {"foreach": False}], ids=str)
def test_adamw_steps_on_cuda(options: dict[str, bool]) -> None:
    with simulated():
        model = nn.Linear(8, 8, device="cuda")
        optimizer = torch.optim.AdamW(model.parameters(), **options)
        for _ in range(2):
            model(torch.randn(2, 8, device="cuda")).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        moments = {state["exp_avg"].device.type for state in optimizer.state.values()}
    assert moments == {"cuda"}


def test_autocast_and_both_ways_of_checkpointing() -> None:
    with simulated(), patch.multiple(torch.cuda, is_available=lambda: True, is_bf16_supported=lambda: True):
        for reentrant in (True, False):
            model = nn.Linear(8, 8, device="cuda")
            inputs = torch.randn(2, 8, device="cuda", requires_grad=True)
            with torch.autocast("cuda", dtype=torch.bfloat16):
                out = checkpoint(model, inputs, use_reentrant=reentrant)
                assert out.dtype == torch.bfloat16
            out.float().sum().backward()
            assert grads(model) == {("cuda", True)}


def test_a_graph_over_both_devices() -> None:
    with simulated():
        weight = torch.ones(4, 4, requires_grad=True)
        weight.to("cuda").mul(2).cpu().add(1).to("cuda").sum().backward()
        assert weight.grad is not None
        assert weight.grad.device.type == "cpu"


def test_install_is_done_once_and_changes_nothing_yet() -> None:
    assert cuda_abi.install() is None
    first, before = cuda_abi._installed, state()
    assert cuda_abi.install() is None
    assert cuda_abi._installed is first
    assert state() == before


def test_leaving_restores_guard_hooks_and_engine() -> None:
    cuda_abi.install()
    before = state()
    with cuda_abi.active():
        inside = state()
    assert state() == before
    # Guard, hooks, accelerator and threading all differ; is_available is the same False.
    assert [a != b for a, b in zip(before, inside, strict=True)] == [True, True, before[2] is None, False, True]
    assert inside[2] == torch.device("cuda")


def test_leaving_restores_after_an_error_too() -> None:
    cuda_abi.install()
    before = state()
    with pytest.raises(ZeroDivisionError), cuda_abi.active():
        1 / 0  # noqa: B018
    assert state() == before


def test_only_the_outermost_block_switches_back() -> None:
    cuda_abi.install()
    before = state()
    with cuda_abi.active():
        inside = state()
        with cuda_abi.active():
            assert state() == inside
        assert state() == inside
    assert state() == before


def test_training_on_the_cpu_is_the_same_before_beside_and_after() -> None:
    before = train_on_cpu()
    with cuda_abi.active():
        beside = train_on_cpu()
        with ThreadPoolExecutor(1) as pool:
            elsewhere = pool.submit(train_on_cpu).result()
    assert before == beside == elsewhere == train_on_cpu()


def test_simulated_training_starts_no_thread() -> None:
    train_on_cpu()
    before = threads()
    with simulated():
        model = nn.Linear(8, 8, device="cuda")
        model(torch.randn(2, 8, device="cuda")).sum().backward()
        assert threads() == before
    train_on_cpu()
    assert threads() == before


def test_another_thread_trains_on_the_cpu_while_this_one_simulates() -> None:
    expected, results = train_on_cpu(), []
    worker = threading.Thread(target=lambda: results.extend(train_on_cpu() for _ in range(20)))
    with simulated():
        model = nn.Linear(8, 8, device="cuda")
        worker.start()
        while worker.is_alive():
            model(torch.randn(2, 8, device="cuda")).sum().backward()
        worker.join()
    assert results == [expected] * 20


def test_another_thread_is_refused_a_simulated_backward_without_harm() -> None:
    def backward() -> None:
        with FakeTensorMode():
            torch.ones(2, device="cuda", requires_grad=True).sum().backward()

    with cuda_abi.active(), ThreadPoolExecutor(1) as pool:
        refused = pool.submit(backward).exception()
    assert isinstance(refused, RuntimeError)


def test_who_watches_does_not_see_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Ops(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    class Functions(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    monkeypatch.setattr(cuda_abi, "_installed", None)
    with torch.no_grad(), Ops(), Functions():
        assert cuda_abi.install() is None
        assert seen == []
        torch.ones(1)
    # The watch was on: it saw the last line.
    assert seen != []


def test_fake_tensors_that_outlive_the_block_do_no_harm() -> None:
    with simulated():
        model = nn.Linear(4, 4, device="cuda")
        loss = model(torch.randn(2, 4, device="cuda")).sum()
    assert loss.device.type == "cuda"
    del loss, model
    assert train_on_cpu() == train_on_cpu()


def test_the_guard_outlives_the_thread_that_installed_it(fresh: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(cuda_abi.install).result() is None
    with simulated():
        model = nn.Linear(4, 4, device="cuda")
        model(torch.randn(2, 4, device="cuda")).sum().backward()
        assert grads(model) == {("cuda", True)}


@pytest.mark.parametrize("after", [False, True])
def test_fake_tensors_of_others_before_or_after_do_not_disturb(fresh: pytest.MonkeyPatch, after: bool) -> None:
    def others() -> None:
        # On a CUDA build without a GPU this sets a device guard for good; torch 2.11 frees the one that it set before.
        with FakeTensorMode():
            torch.ones(2) + 1

    if after:
        cuda_abi.install()
    others()
    for _ in range(2):
        with simulated():
            (torch.ones(2, device="cuda", requires_grad=True) * 2).sum().backward()
        others()


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Forget for one test that this process has installed."""
    monkeypatch.setattr(cuda_abi, "_installed", None)
    return monkeypatch


@pytest.fixture
def wheel(fresh: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stand for torch's folder: the same libraries, headers that a test may change."""
    real = Path(torch.__file__).parent
    (tmp_path / "lib").symlink_to(real / "lib")
    for header in ("AcceleratorHooksInterface", "CUDAHooksInterface"):
        copy(real, tmp_path, f"include/ATen/detail/{header}.h")
    for header in ("DeviceGuardImplInterface", "FakeGuardImpl"):
        copy(real, tmp_path, f"include/c10/core/impl/{header}.h")
    copy(real, tmp_path, "include/torch/headeronly/core/DeviceType.h")
    fresh.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    return tmp_path


def copy(source: Path, target: Path, name: str) -> None:
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / name, target / name)


def refusal() -> str:
    refused = cuda_abi.install()
    assert refused is not None
    assert refused.name == "simulated"
    assert refused.reason.startswith(f"torch {torch.__version__}: ")
    with pytest.raises(RuntimeError) as error, cuda_abi.active():
        pass
    assert str(error.value) == refused.reason
    return refused.reason.partition(": ")[2]


def test_the_copied_wheel_is_a_usable_one(wheel: Path) -> None:
    assert cuda_abi.install() is None


def test_another_system_is_refused(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr("sys.platform", "darwin")
    assert refusal().startswith("fake CUDA tensors can be trained on 64-bit Linux only, not on ")


def test_a_rocm_build_is_refused(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(torch.version, "hip", "7.0")
    assert refusal() == "a ROCm build has other hooks"


def test_a_torch_without_the_door_for_fake_guards_is_refused(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(cuda_abi, "set_device_guard", None)
    assert refusal() == "it has no torch._C._ensureCUDADeviceGuardSet"


def test_a_torch_that_sets_no_guard_is_refused_and_left_as_it_was(fresh: pytest.MonkeyPatch) -> None:
    cuda_abi.install()
    before = state()
    fresh.setattr(cuda_abi, "_installed", None)
    with patch.object(cuda_abi, "set_device_guard", lambda: None):
        assert refusal() == "torch._C._ensureCUDADeviceGuardSet sets no guard for fake tensors"
    fresh.undo()
    assert state() == before


def test_a_missing_symbol_is_refused(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(cuda_abi, "_GET_HOOKS", "_ZN2at6detail7nothingEv")
    assert refusal() == "libtorch_cpu.so does not export _ZN2at6detail7nothingEv"


def test_a_missing_header_is_refused(wheel: Path) -> None:
    header = wheel / "include/ATen/detail/CUDAHooksInterface.h"
    header.unlink()
    assert refusal() == f"{header}: No such file or directory"


@pytest.mark.parametrize(
    ("header", "old", "new", "reason"),
    [
        ("ATen/detail/AcceleratorHooksInterface.h", " isBuilt(", " wasBuilt(", "its headers no longer declare isBuilt"),
        ("torch/headeronly/core/DeviceType.h", "CUDA = 1", "NVIDIA = 1", "its headers no longer declare CUDA"),
        (
            "c10/core/impl/FakeGuardImpl.h",
            "static constexpr DeviceType static_type",
            "int devices; static constexpr DeviceType static_type",
            "its FakeGuardImpl has state now: int devices",
        ),
        (
            "ATen/detail/CUDAHooksInterface.h",
            "virtual bool hasROCM(",
            "virtual bool hasMore() const; virtual bool hasROCM(",
            "CUDA hooks: {more} words by the header, {words} in the library",
        ),
        (
            "torch/headeronly/core/DeviceType.h",
            "TYPES = 21",
            "TYPES = 22",
            "device types: 22 words by the header, 21 in the library",
        ),
    ],
)
def test_a_header_that_the_library_does_not_bear_out_is_refused(
    wheel: Path, header: str, old: str, new: str, reason: str
) -> None:
    words = 2 + len(cuda_abi.read_facts(wheel / "include").hooks)
    path = wheel / "include" / header
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert refusal() == reason.format(words=words, more=words + 1)


def test_a_slot_that_answers_otherwise_is_refused(wheel: Path) -> None:
    path = wheel / "include/c10/core/impl/DeviceGuardImplInterface.h"
    # The CPU's type is 0, so its method type() answers false where queryStream() answers true.
    text = path.read_text().replace(" queryStream(", " renamed(").replace(" type(", " queryStream(", 1)
    path.write_text(text)
    assert refusal() == "virtual method 0 does not answer True"


def test_switching_needs_nothing_but_two_aligned_words() -> None:
    # Other threads read both words while they change: an aligned word changes at once.
    cuda_abi.install()
    switch = cuda_abi._installed
    assert isinstance(switch, cuda_abi._Switch)
    assert ctypes.addressof(switch.guard) % 8 == 0
    assert ctypes.addressof(switch.hooks) % 8 == 0
