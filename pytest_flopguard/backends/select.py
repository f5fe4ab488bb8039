"""Chooses the backends of a session, and keeps the reason for each one that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_flopguard.backends.base import CostModel, FlopBackend, MemoryBackend, ModelTracer, Unavailable
from pytest_flopguard.core.errors import FlopguardError, message, nearest

Engine = FlopBackend | ModelTracer
EngineFactory = Callable[[CostModel], "Engine | Unavailable"]
MemoryFactory = Callable[[CostModel, "Engine | Unavailable"], "MemoryBackend | Unavailable"]


@dataclass(slots=True, kw_only=True)
class Backends:
    """The factories that hooks registered, by name. A memory factory is also given the session's engine."""

    engines: dict[str, EngineFactory] = field(default_factory=dict)
    memories: dict[str, MemoryFactory] = field(default_factory=dict)

    def engine(self, name: str, factory: EngineFactory) -> None:
        """Register a FLOP engine: a FlopBackend, or a ModelTracer that serves ``flopguard.check`` only."""
        self._add(self.engines, name, factory)

    def memory(self, name: str, factory: MemoryFactory) -> None:
        """Register a memory backend; the name is the device kind that it measures (``"cuda"``)."""
        self._add(self.memories, name, factory)

    @staticmethod
    def _add(known: dict[str, Any], name: str, factory: object) -> None:
        if name in known:
            raise FlopguardError(message("backend-unavailable", name=name, reason="it is registered twice"))
        known[name] = factory


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a session measures with. ``unavailable`` says by quantity or device why something is missing."""

    flops: FlopBackend | None
    memories: tuple[MemoryBackend, ...]
    main_tracer: ModelTracer | None
    cross_checks: tuple[ModelTracer, ...]
    unavailable: Mapping[str, str]


def select(backends: Backends, costs: CostModel, engine: str, cross_check: tuple[str, ...]) -> Selection:
    """Build the named engine, the cross-checking tracers, and every memory backend that works here."""
    unavailable: dict[str, str] = {}
    main = _build(backends, engine, costs)
    flops, tracer = None, None
    if isinstance(main, Unavailable):
        unavailable["flops"] = unavailable["parameters"] = main.reason
    elif isinstance(main, FlopBackend):
        flops = main
    else:
        tracer = main
        unavailable["flops"] = f"the {engine} engine counts only the forward call of flopguard.check(model, *inputs)"
        unavailable["parameters"] = f"the {engine} engine does not see which models ran"
    memories = []
    for name, factory in backends.memories.items():
        memory = factory(costs, main)
        if isinstance(memory, Unavailable):
            unavailable[name] = memory.reason
        else:
            memories.append(memory)
    checks = [_cross_check(backends, name, costs) for name in cross_check]
    return Selection(
        flops=flops,
        memories=tuple(memories),
        main_tracer=tracer,
        cross_checks=tuple(checks),
        unavailable=unavailable,
    )


def _build(backends: Backends, name: str, costs: CostModel) -> Engine | Unavailable:
    factory = backends.engines.get(name)
    if factory is None:
        raise FlopguardError(
            message("backend-unavailable", name=name, reason=f"no such engine{nearest(name, backends.engines)}")
        )
    return factory(costs)


def _cross_check(backends: Backends, name: str, costs: CostModel) -> ModelTracer:
    # A second opinion that was asked for and cannot be had is an error, not a silent single opinion.
    check = _build(backends, name, costs)
    if isinstance(check, Unavailable):
        raise FlopguardError(message("backend-unavailable", name=name, reason=check.reason))
    if isinstance(check, FlopBackend):
        raise FlopguardError(message("backend-unavailable", name=name, reason="it cannot trace a model by itself"))
    return check
