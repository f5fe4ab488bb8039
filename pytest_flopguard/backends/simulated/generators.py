"""Generators of random numbers on a simulated GPU: what is small enough to be drawn is drawn on the CPU, by the seed.

A GPU's own numbers are nobody's here; that the same seed or state gives the same numbers again holds all the same.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch
from weakref import WeakValueDictionary

import torch

from pytest_flopguard.backends.constant_tensors import reading_values
from pytest_flopguard.backends.simulated import known_values
from pytest_flopguard.backends.simulated.value_reads import refuse
from pytest_flopguard.backends.torch_api.dispatch import OpOverload, schema_of
from pytest_flopguard.backends.torch_api.fake import FakeTensor
from pytest_flopguard.backends.torch_api.replaced import NATIVE
from pytest_flopguard.backends.torch_api.tensors import address_of

_REAL = torch.Generator
# A CUDA generator's state is its seed and the offset into the row of numbers, eight bytes each (CUDAGeneratorImpl.cpp).
_STATE = struct.Struct("<QQ")
_OFFSETS = 4  # offsets are multiples of it

_running: list[Generators] = []
# Dispatch hands on a generator without its Python object; the address of what is inside stays.
_on_gpu: WeakValueDictionary[int, Generator] = WeakValueDictionary()


class _AsReal(type(_REAL)):  # type: ignore[misc]
    """Lets any generator pass for one of the class that stands for torch.Generator."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _REAL)


class Generator(_REAL, metaclass=_AsReal):
    """Stands for torch.Generator. Those of other devices are torch's own, and so is all outside of a simulated GPU."""

    _states: Generators

    def __new__(cls, device: Any = "cpu") -> Any:
        """Return a generator of a device."""
        if not _running or torch.device("cpu" if device is None else device).type != "cuda":
            return _REAL("cpu" if device is None else device)
        made: Any = super().__new__(cls)
        made._states = _running[-1]
        _on_gpu[address_of(made)] = made
        return made.manual_seed(_REAL("cpu").initial_seed())

    @property
    def device(self) -> torch.device:  # type: ignore[override]  # torch's is one too; its stub says otherwise
        """The GPU."""
        return torch.device("cuda", 0)

    def get_state(self) -> torch.Tensor:
        """Return 16 bytes."""
        return torch.tensor(list(self._states.told(self._bytes())), dtype=torch.uint8, device="cpu")

    def set_state(self, new_state: torch.Tensor) -> Generator:
        """Go on from a state."""
        known = known_values.value(new_state)
        if known is None:
            raise refuse("the state of a generator")
        with reading_values():
            state = bytes(known.tolist())
        if len(state) != _STATE.size:
            raise RuntimeError("RNG state is wrong size")
        self._enter(state)
        return self

    def get_offset(self) -> int:
        """Return how far the generator has come, a number that grows with each state that is asked for."""
        return int(_STATE.unpack(self._states.told(self._bytes()))[1])

    def set_offset(self, offset: int) -> Generator:
        """Go on from an offset."""
        if offset % _OFFSETS:
            raise RuntimeError("offset must be a multiple of 4")
        self._enter(_STATE.pack(self.initial_seed(), offset))
        return self

    def clone_state(self) -> Generator:
        """Return another generator that will draw the same numbers."""
        other: Generator = Generator("cuda")
        other._enter(self._states.told(self._bytes()))
        return other

    graphsafe_get_state = clone_state

    def graphsafe_set_state(self, state: Any) -> Generator:
        """Go on from where another generator is."""
        self._enter(self._states.told(state._bytes()))
        return self

    def __reduce__(self) -> Any:
        """Copy a generator as one of this device."""
        return _copied, (self._states.told(self._bytes()),)

    @property
    def inside(self) -> torch.Tensor:
        """The state of the CPU's generator that draws for this one."""
        with reading_values():
            return super().get_state()

    @inside.setter
    def inside(self, state: torch.Tensor) -> None:
        with reading_values():
            super().set_state(state)

    def _bytes(self) -> bytes:
        with reading_values():
            return self.inside.numpy().tobytes()

    def _enter(self, state: bytes) -> None:
        inside = self._states.inside(state)
        if inside is None:  # it is of another GPU, or of a file: numbers of its own begin there
            self.manual_seed(sum(_STATE.unpack(state)) % 2**63)
            self._states.note(self._bytes(), state)
        else:
            with reading_values():
                self.inside = torch.frombuffer(bytearray(inside), dtype=torch.uint8)


class Generators:
    """The generators of one GPU, with the states of the CPU that their own stand for."""

    def __init__(self) -> None:
        self._inside: dict[bytes, bytes] = {}
        self._told: dict[bytes, bytes] = {}
        self.default: Any = None

    def told(self, inside: bytes) -> bytes:
        """Return the 16 bytes that stand for a state of the CPU's generator."""
        if inside not in self._told:
            with reading_values():
                generator = _REAL("cpu").set_state(torch.frombuffer(bytearray(inside), dtype=torch.uint8))
            self.note(inside, _STATE.pack(generator.initial_seed(), len(self._told) * _OFFSETS))
        return self._told[inside]

    def inside(self, told: bytes) -> bytes | None:
        """Return the state that 16 bytes stand for, None if nobody has been told of it."""
        return self._inside.get(told)

    def note(self, inside: bytes, told: bytes) -> None:
        """Let 16 bytes stand for a state."""
        self._told[inside], self._inside[told] = told, inside

    @contextmanager
    def current(self) -> Iterator[None]:
        """Let generators be made in the block, under torch's name for them."""
        _running.append(self)
        try:
            if self.default is None:
                self.default = Generator("cuda")
            with ExitStack() as stack:
                for owner, name, replacement in self._replacements():
                    stack.enter_context(patch.object(owner, name, replacement))
                yield
        finally:
            _running.pop()

    def _replacements(self) -> Iterator[tuple[Any, str, Any]]:
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get("Generator") is _REAL and module is not NATIVE:
                yield module, "Generator", Generator
        default = self.default
        answers = {
            "get_rng_state": lambda *_, **__: default.get_state(),
            "get_rng_state_all": lambda: [default.get_state()],
            "set_rng_state": lambda new_state, *_, **__: default.set_state(new_state),
            "set_rng_state_all": lambda new_states: default.set_state(new_states[0]),
            "manual_seed": lambda seed: default.manual_seed(int(seed)),
            "manual_seed_all": lambda seed: default.manual_seed(int(seed)),
            "seed": lambda: default.seed(),
            "seed_all": lambda: default.seed(),
            "initial_seed": lambda: default.initial_seed(),
        }
        yield torch.cuda, "default_generators", (default,)
        for name, answer in answers.items():
            yield torch.cuda, name, answer
            yield torch.cuda.random, name, answer


def takes_generator(func: OpOverload) -> bool:
    """Whether an op can be given a generator by name."""
    return any(each.name == "generator" and each.kwarg_only for each in schema_of(func).arguments)


def check(kwargs: Mapping[str, Any], out: Any) -> None:
    """Raise, as torch's kernels do, where a generator is of another device than what is drawn."""
    generator = kwargs.get("generator")
    if generator is not None and isinstance(out, FakeTensor):
        wanted, found = out.fake_device.type, "cuda" if address_of(generator) in _on_gpu else generator.device.type
        if wanted != found:
            raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{found}'")


def _copied(state: bytes) -> Generator:
    made: Generator = Generator("cuda")
    made._enter(state)
    return made
