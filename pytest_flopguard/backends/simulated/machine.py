"""One simulated GPU: its allocator, what lives there, and the surroundings in which programs take it for real."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.eager_stance import EagerStance
from pytest_flopguard.backends.modules import ModuleTracker
from pytest_flopguard.backends.simulated import cuda_abi, releases
from pytest_flopguard.backends.simulated.allocator import Allocator
from pytest_flopguard.backends.simulated.allocator_settings import AllocatorSettings
from pytest_flopguard.backends.simulated.engine_accumulation import sole_references
from pytest_flopguard.backends.simulated.generators import Generators
from pytest_flopguard.backends.simulated.gpus import DEFAULT, Gpu, gpu_named
from pytest_flopguard.backends.simulated.holdings import Holdings
from pytest_flopguard.backends.simulated.lifetimes import Lifetimes
from pytest_flopguard.backends.simulated.self_check import check
from pytest_flopguard.backends.simulated.streams import Streams
from pytest_flopguard.backends.simulated.world import SimulatedTensors, surroundings
from pytest_flopguard.backends.storage_changes import heard
from pytest_flopguard.backends.storage_roles import StorageRoles

UNLIMITED = -1


class Machine:
    """A simulated GPU. Tensors of one stay on it: each test gets a machine of its own.

    ``capacity`` is what its allocator can take, in bytes; None takes what the GPU has, ``UNLIMITED`` has no end.
    """

    def __init__(self, gpu: Gpu, settings: AllocatorSettings, capacity: int | None = None) -> None:
        self.gpu = gpu
        self.settings = settings
        limit = gpu.usable_memory if capacity is None else capacity
        self.allocator = Allocator(settings, None if limit == UNLIMITED else limit)
        self.holdings = Holdings(self.allocator)
        self.modules = ModuleTracker(lambda: True, lambda: False, RLock())
        self.lifetimes = Lifetimes(gpu, self.holdings, _references())
        self.generators = Generators()
        self.streams = Streams(self._runs_on, self.allocator.synchronize)
        self._depth = 0
        self._tensors = SimulatedTensors(self.lifetimes.adopt)

    @staticmethod
    def start(
        gpu: str | Gpu = "", *, allocator: str | None = None, capacity: int | None = None
    ) -> Machine | Unavailable:
        """Return a machine, or why this torch cannot have one.

        ``gpu`` is a GPU or its name, ``allocator`` the text of ``PYTORCH_CUDA_ALLOC_CONF``; None reads the
        environment. Raises FlopguardError for a GPU or a setting that does not exist.
        """
        kind = gpu if isinstance(gpu, Gpu) else gpu_named(gpu or DEFAULT)
        if allocator is None:
            settings = AllocatorSettings.from_environment(os.environ)
        else:
            settings = AllocatorSettings.parse(allocator)
        if settings.replaced_by:
            return Unavailable(name="simulated", reason=f"{settings.replaced_by} is not modelled")
        reason = check() or cuda_abi.install()
        return reason or Machine(kind, settings, capacity)

    @property
    def unknown(self) -> tuple[str, ...]:
        """The memory that the prediction leaves out."""
        return (*self.settings.unmodelled, *self.lifetimes.unknown)

    @property
    def assumed(self) -> tuple[str, ...]:
        """What a run on the GPU may prove wrong."""
        unread = releases.unread(releases.installed())
        return (*([unread] if unread else []), *self.lifetimes.assumed)

    @property
    def is_running(self) -> bool:
        """Whether the caller runs in this machine's world."""
        return self._depth > 0

    @contextmanager
    def world(self) -> Iterator[None]:
        """Let the block take the device for real; what it takes from it is followed by ``tracking``."""
        gc.collect()  # the garbage of others must not be freed in the middle of this
        compiled = EagerStance(self.lifetimes.met_compiled)
        with compiled, surroundings(self, self._tensors), self.generators.current():
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    @contextmanager
    def tracking(self) -> Iterator[None]:
        """Follow what the block takes from the device; to be entered after every other mode."""
        with self.lifetimes, heard(self.lifetimes):
            yield

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the block on this machine."""
        with self.world(), self.modules, self.listening(self.modules), self.tracking():
            yield

    @contextmanager
    def listening(self, modules: ModuleTracker) -> Iterator[StorageRoles]:
        """Learn from the modules and optimizers that run which memory is whose."""
        roles = StorageRoles(modules, self.lifetimes.mark, self.lifetimes.role_of)
        self.lifetimes.roles = roles
        with roles:
            yield roles

    def use_on_stream(self, tensor: torch.Tensor, stream: int) -> None:
        """Say that another stream uses a tensor's memory."""
        self.lifetimes.use_on_stream(tensor, stream)

    def arrived(self, tensor: torch.Tensor) -> None:
        """Say that a tensor reached the device without an op call."""
        self.lifetimes.arrived(tensor)

    def _runs_on(self, stream: int) -> None:
        self.lifetimes.stream = stream


@functools.cache
def _references() -> int:
    with cuda_abi.active(), SimulatedTensors():
        return sole_references()
