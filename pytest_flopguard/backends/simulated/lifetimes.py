"""Follows simulated CUDA storages from birth to death, as blocks of a simulated allocator.

A mode on top of all others: it sees each op call as autograd issues it, lets it run on fake tensors, and takes and
gives back the memory that the call would have taken on a GPU, hidden buffers of kernels and libraries included.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pytest_flopguard.backends.constant_tensors import tensors
from pytest_flopguard.backends.simulated import generators, known_values, masked_writes, value_reads
from pytest_flopguard.backends.simulated.allocator import OutOfMemory
from pytest_flopguard.backends.simulated.cublas_workspaces import BLAS, CublasWorkspaces
from pytest_flopguard.backends.simulated.cuda_kernels import another_gpu, not_simulated
from pytest_flopguard.backends.simulated.engine_accumulation import IN_PLACE, engine_owns
from pytest_flopguard.backends.simulated.gpus import Gpu
from pytest_flopguard.backends.simulated.hidden_memory import EstimatedWorkspace, UnknownWorkspace
from pytest_flopguard.backends.simulated.holdings import Held, Holdings
from pytest_flopguard.backends.simulated.workspaces import hidden
from pytest_flopguard.backends.storage_changes import undo_resize
from pytest_flopguard.backends.storage_roles import GRADIENTS, Role, StorageRoles
from pytest_flopguard.backends.subclass_calls import Inside, subclasses
from pytest_flopguard.backends.torch_api.autograd import running_backward
from pytest_flopguard.backends.torch_api.dispatch import OpOverload, TorchDispatchMode, decomposes, schema_of
from pytest_flopguard.backends.torch_api.fake import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    UnsupportedOperatorException,
)
from pytest_flopguard.backends.torch_api.tensors import address_of

# Frames of this module lie between those of the user: pytest leaves them out of tracebacks.
__tracebackhide__ = True

_aten = torch.ops.aten
_DEVICE = torch.ops.prim.device.default
_RESIZES = {"resize_", "resize_as_", "set_", "resize"}
_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
_CUBLAS = Role("workspaces")
# A loop that waits for another answer than a library is given would have no end.
_MOST_ANSWERS = 4096
# The shape of what these return, or the value, follows from values.
_BY_VALUE = {
    "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount", "equal", "allclose",
}  # fmt: skip


class _Op:
    """What is known of an op before any call."""

    __slots__ = (
        "asks",
        "blas",
        "by_value",
        "decomposes",
        "indexed",
        "name",
        "resizes",
        "takes_generator",
        "takes_gradient",
        "values",
        "view",
    )

    def __init__(self, func: OpOverload) -> None:
        self.name = schema_of(func).name.replace("::", ".")
        plain = self.name.rpartition(".")[2]
        self.asks = func.namespace == "prim"
        self.view = func.is_view
        self.takes_gradient = func in GRADIENTS
        self.takes_generator = generators.takes_generator(func)
        self.resizes = plain in _RESIZES
        self.indexed = plain in _INDEXED
        self.by_value = plain in _BY_VALUE or (plain == "repeat_interleave" and "Tensor" in str(func))
        self.blas = schema_of(func).name if schema_of(func).name in BLAS else None
        self.decomposes = func.namespace == "aten" and decomposes(func)
        self.values = known_values.KnownOp(func)


class _Storage(weakref.ref["torch.UntypedStorage"]):
    """A weak reference to a storage, with its block, None while it is empty, and the size for which it has it."""

    __slots__ = ("held", "key", "role", "size")
    held: Held | None
    key: int
    role: Role
    size: int


class Lifetimes(TorchDispatchMode):
    """The mode itself. ``assumed`` and ``unknown`` collect what the report has to tell of the prediction.

    ``references`` is what ``engine_accumulation.sole_references`` found. ``roles`` is set by who enters the mode.
    """

    supports_higher_order_operators = True  # to refuse them by name
    roles: StorageRoles

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as OpWatch: nothing compiles where fake tensors run

    def __init__(self, gpu: Gpu, holdings: Holdings, references: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.assumed: dict[str, None] = {}
        self.unknown: dict[str, None] = {}
        self.stream = 0
        self._gpu = gpu
        self._holdings = holdings
        self._references = references
        self._answers: dict[str, int] = {}
        self._ops: dict[Any, _Op] = {}
        self._storages: dict[int, _Storage] = {}
        self._workspaces: set[tuple[str, bool, int]] = set()
        self._cublas = CublasWorkspaces(gpu, os.environ)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        __tracebackhide__ = True
        if func is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # two of three calls ask for it; fake tensors' own mode takes long to say so
        kwargs = kwargs or {}
        op = self._ops.get(func)
        if op is None:
            if not isinstance(func, OpOverload):
                raise not_simulated(func.name(), "it runs other programs, which are not followed")
            op = self._ops.setdefault(func, _Op(func))
        if op.asks:
            return func(*args, **kwargs)
        if types and subclasses(types):
            # What a subclass does for the call is done on the tensors inside it: those have the memory.
            with Inside(self.__torch_dispatch__).below():
                return func(*args, **kwargs)
        if func is _aten._local_scalar_dense.default:
            return self._read(args[0])
        if op.decomposes and torch.is_inference_mode_enabled():
            # Inference mode delivers composite ops whole.
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        if op.indexed and _masks(args[1]):
            with self:
                written = masked_writes.filled(func, args, kwargs)
            if written is not None:
                return written
            args = self._by_position(args)
        if op.by_value and _simulates(args):
            out = self._by_value(op, func, args, kwargs)
        elif func in IN_PLACE and not torch.is_grad_enabled() and engine_owns(func, args, kwargs, self._references):
            out = IN_PLACE[func](*args, **kwargs)
        elif op.takes_generator:
            out = self._run(func, args, {**kwargs, "generator": None})
            generators.check(kwargs, out)
        else:
            out = self._run(func, args, kwargs)
        known_values.follow(op.values, func, args, kwargs, out)
        self._follow(op, func, args, kwargs, out)
        return out

    def mark(self, tensor: torch.Tensor, category: str, module: str | None) -> None:
        """Say what a tensor is, now that it is known."""
        known = self._known(tensor)
        if known is not None:
            known.role = known.role.as_category(category, module)
            if known.held is not None:
                known.held.role = known.role

    def role_of(self, tensor: torch.Tensor) -> Role | None:
        """Return what a tensor is, None where it is not on the device."""
        known = self._known(tensor)
        return None if known is None else known.role

    def arrived(self, tensor: torch.Tensor) -> None:
        """Take note of a tensor that reached the device without an op call."""
        if isinstance(tensor, FakeTensor) and tensor.fake_device.type == "cuda":
            self._born(None, tensor, ())

    def adopt(self, tensor: FakeTensor) -> None:
        """Hold a tensor of an earlier test, whose memory was taken before anything of this test."""
        self._born(None, tensor, (), early=True)

    def made(self, storage: torch.UntypedStorage) -> None:
        """Do nothing: whether a storage without data is on the device shows when a tensor has it."""

    def resized(self, storage: torch.UntypedStorage, before: int) -> None:
        """Follow a storage that was resized without an op call."""
        known = self._storages.get(address_of(storage))
        if known is not None:
            try:
                known.role = self.roles.resized(known.role)
                self._resize(known, storage)
            except torch.OutOfMemoryError:
                undo_resize(storage, before)  # on a GPU it would not have changed
                raise

    @contextmanager
    def making(self, storage: torch.UntypedStorage | None) -> Iterator[None]:
        """Let the block run: whatever shows first on the device is new."""
        yield

    def met_compiled(self) -> None:
        """Say that a compiled function was called: it ran as it is written."""
        self.assumed["functions under torch.compile take what they take uncompiled"] = None

    def use_on_stream(self, tensor: torch.Tensor, stream: int) -> None:
        """Say that another stream uses a tensor's memory, as ``Tensor.record_stream`` does."""
        known = self._known(tensor)
        if known is not None and known.held is not None:
            self._holdings.allocator.record_stream(known.held.block, stream)

    def _known(self, tensor: torch.Tensor) -> _Storage | None:
        if not isinstance(tensor, FakeTensor) or tensor.fake_device.type != "cuda":
            return None
        return self._storages.get(address_of(tensor.untyped_storage()))

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        __tracebackhide__ = True
        try:
            return func(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise value_reads.refuse(str(func)) from error
        except UnsupportedOperatorException as error:
            raise not_simulated(str(func), "it has no form for tensors without data") from error

    def _read(self, tensor: torch.Tensor) -> Any:
        __tracebackhide__ = True
        known = known_values.value(tensor)
        if known is not None:
            return known_values.run(_aten._local_scalar_dense.default, (known,), {})
        answer = value_reads.assumed(tensor.dtype)
        if answer is None:
            raise value_reads.refuse("a value")
        self.assumed[answer[1]] = None
        times = self._answers[answer[1]] = self._answers.get(answer[1], 0) + 1
        if times > _MOST_ANSWERS:
            raise value_reads.refuse("one value time and again")
        return answer[0]

    def _by_position(self, args: Any) -> Any:
        """Replace boolean masks among indices by positions, as CUDA's kernels do before anything else."""
        __tracebackhide__ = True
        indices: list[Any] = []
        with self:
            for each in args[1]:
                if isinstance(each, torch.Tensor) and each.dtype in masked_writes.MASKS:
                    indices.extend(each.nonzero().unbind(1))
                else:
                    indices.append(each)
        return (args[0], indices, *args[2:])

    def _by_value(self, op: _Op, func: Any, args: Any, kwargs: Any) -> Any:
        __tracebackhide__ = True
        try:
            real = known_values.run(func, args, kwargs)
        except known_values.Unknown:
            raise value_reads.refuse(op.name) from None
        device = next(each.device for each in tensors((*args, *kwargs.values())) if isinstance(each, FakeTensor))

        def simulated(each: Any) -> Any:
            if not isinstance(each, torch.Tensor):
                return each
            return torch.empty_strided(each.shape, each.stride(), dtype=each.dtype, device=device)

        return tuple(map(simulated, real)) if isinstance(real, tuple) else simulated(real)

    def _follow(self, op: _Op, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        __tracebackhide__ = True
        if op.view:
            if op.takes_gradient:
                self.roles.look_for_gradient(func, out)
            return
        on_gpu = False
        if isinstance(out, FakeTensor):
            if out.fake_device.type == "cuda":
                on_gpu = True
                self._born(func, out, args)
        elif out is not None:
            for each in tensors((out,)):
                if isinstance(each, FakeTensor) and each.fake_device.type == "cuda":
                    on_gpu = True
                    self._born(func, each, args)
        if op.resizes or (out is None and op.values.writes):
            for each in op.values.written(args, kwargs):
                if isinstance(each, FakeTensor) and each.fake_device.type == "cuda":
                    self._born(func, each, args)
        if op.takes_gradient:
            self.roles.look_for_gradient(func, out)
        if on_gpu or op.values.writes:
            self._inside_kernel(op, func, args, kwargs, out)

    def _born(self, func: Any, tensor: FakeTensor, args: Any, *, early: bool = False) -> None:
        __tracebackhide__ = True
        try:
            storage = tensor.untyped_storage()
        except NotImplementedError as error:
            raise not_simulated(
                str(func), f"{tensor.layout} tensors have no one memory that could be followed"
            ) from error
        known = self._storages.get(address_of(storage))
        if known is None:
            if tensor.fake_device.index:
                raise another_gpu(tensor.fake_device)
            known = _Storage(storage, self._died)
            known.key, known.size, known.held = address_of(storage), 0, None
            known.role = self.roles.made(func, any(True for _ in tensors(args)))
            self._storages[known.key] = known
        elif known.size != storage.nbytes():
            known.role = self.roles.resized(known.role)
        if known.size != storage.nbytes():
            self._resize(known, storage, early=early)

    def _resize(self, known: _Storage, storage: torch.UntypedStorage, *, early: bool = False) -> None:
        """Give a storage a block of its size. The old one is given back after that: its values are copied."""
        __tracebackhide__ = True
        size, before = storage.nbytes(), known.held
        held = self._hold(size, known.role, early=early) if size else None
        known.size, known.held = size, held
        if before is not None:
            self._holdings.give_back(before)

    def _hold(self, size: int, role: Role, *, early: bool = False) -> Held:
        __tracebackhide__ = True
        try:
            return self._holdings.take(size, role, 0 if early else self.stream, early=early)
        except OutOfMemory as error:
            raise torch.OutOfMemoryError(_out_of_memory(error, self._gpu)) from None

    def _died(self, known: weakref.ref[Any]) -> None:
        assert isinstance(known, _Storage)
        if self._storages.get(known.key) is known:
            del self._storages[known.key]
            if known.held is not None:
                self._holdings.give_back(known.held)

    def _inside_kernel(self, op: _Op, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        found = hidden(func, args, kwargs, out, self._gpu)
        missing = found if isinstance(found, UnknownWorkspace) else None
        if isinstance(found, UnknownWorkspace):
            found = found.known
        elif isinstance(found, EstimatedWorkspace):
            self.assumed[f"estimate: {found.rule}"] = None
            found = found.blocks
        inside = []
        if any(found):
            role = self.roles.made(func, True).as_category("workspaces", None)
            inside = [self._hold(size, role) for size in found if size]
        if op.blas:
            for library, size in self._cublas.of(op.blas, args, kwargs, out):
                # One handle for each thread and stream: on a GPU backward runs in a thread of its own.
                handle = (library, running_backward() != -1, self.stream)
                if size and not self._cublas.kept:
                    inside.append(self._hold(size, _CUBLAS))
                elif size and handle not in self._workspaces:
                    self._workspaces.add(handle)
                    self._hold(size, _CUBLAS)
        if missing is not None:
            self.unknown[missing.reason] = None
            self._holdings.missed(missing.reason, missing.most)
        for held in reversed(inside):
            self._holdings.give_back(held)


def _out_of_memory(error: OutOfMemory, gpu: Gpu) -> str:
    # In the words of c10/cuda/CUDACachingAllocator.cpp, so that who reads the message of a GPU reads this one.
    def gib(size: int) -> str:
        return f"{size / 2**30:.2f} GiB"

    return (
        f"CUDA out of memory. Tried to allocate {gib(error.requested)}. GPU 0 ({gpu.name}, simulated) has a total "
        f"capacity of {gib(error.capacity)} of which {gib(max(0, error.capacity - error.reserved))} is free. Of the "
        f"allocated memory {gib(error.allocated)} is allocated by PyTorch, and "
        f"{gib(error.reserved - error.allocated)} is reserved by PyTorch but unallocated."
    )


def _masks(indices: Any) -> bool:
    return any(isinstance(each, torch.Tensor) and each.dtype in masked_writes.MASKS for each in indices)


def _simulates(args: Any) -> bool:
    return any(isinstance(each, FakeTensor) for each in tensors(args))
