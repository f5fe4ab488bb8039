"""Choosing backends: what is built, what is refused, and the reason of everything that is missing."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_flopguard.backends.base import FlopBackend, MemoryBackend, ModelTracer, Unavailable
from pytest_flopguard.backends.scripted import ScriptedFlops, ScriptedMemory, ScriptedTracer
from pytest_flopguard.backends.select import Backends, select
from pytest_flopguard.core.errors import FlopguardError
from pytest_flopguard.formulas.registry import Registry

FLOPS, MEMORY, TRACER = ScriptedFlops([]), ScriptedMemory([]), ScriptedTracer([])


@pytest.fixture
def backends() -> Backends:
    backends = Backends()
    backends.engine("counting", lambda costs: FLOPS)
    backends.engine("tracing", lambda costs: TRACER)
    backends.engine("missing", lambda costs: Unavailable(name="missing", reason="not on this machine"))
    backends.memory("cpu", lambda costs, engine: MEMORY)
    backends.memory("cuda", lambda costs, engine: Unavailable(name="cuda", reason="no CUDA device"))
    return backends


def test_the_engine_and_every_memory_backend_that_works_are_chosen(backends: Backends) -> None:
    chosen = select(backends, Registry(), "counting", ("tracing",))
    assert (chosen.flops, chosen.memories, chosen.main_tracer) == (FLOPS, (MEMORY,), None)
    assert chosen.cross_checks == (TRACER,)
    assert chosen.unavailable == {"cuda": "no CUDA device"}


def test_a_tracer_as_the_engine_counts_no_regions(backends: Backends) -> None:
    chosen = select(backends, Registry(), "tracing", ())
    assert (chosen.flops, chosen.main_tracer, chosen.cross_checks) == (None, TRACER, ())
    assert chosen.unavailable == {
        "flops": "the tracing engine counts only the forward call of flopguard.check(model, *inputs)",
        "parameters": "the tracing engine does not see which models ran",
        "cuda": "no CUDA device",
    }


def test_an_engine_that_cannot_be_used_leaves_its_reason(backends: Backends) -> None:
    chosen = select(backends, Registry(), "missing", ())
    assert (chosen.flops, chosen.main_tracer, chosen.memories) == (None, None, (MEMORY,))
    assert chosen.unavailable["flops"] == chosen.unavailable["parameters"] == "not on this machine"


@pytest.mark.parametrize(
    ("engine", "cross_check", "told"),
    [
        ("countin", (), "backend 'countin' cannot be used: no such engine; did you mean 'counting'?"),
        ("zzz", (), "backend 'zzz' cannot be used: no such engine ["),
        ("counting", ("trace",), "backend 'trace' cannot be used: no such engine; did you mean 'tracing'?"),
        # A second opinion that was asked for is never left out silently.
        ("counting", ("missing",), "backend 'missing' cannot be used: not on this machine"),
        ("tracing", ("counting",), "backend 'counting' cannot be used: it cannot trace a model by itself"),
    ],
)
def test_what_cannot_be_had_is_an_error(
    backends: Backends, engine: str, cross_check: tuple[str, ...], told: str
) -> None:
    with pytest.raises(FlopguardError) as caught:
        select(backends, Registry(), engine, cross_check)
    assert str(caught.value).startswith(told)
    assert str(caught.value).endswith("[backend-unavailable]")


def test_a_name_is_registered_once(backends: Backends) -> None:
    with pytest.raises(FlopguardError, match="backend 'counting' cannot be used: it is registered twice"):
        backends.engine("counting", lambda costs: FLOPS)
    with pytest.raises(FlopguardError, match="backend 'cpu' cannot be used: it is registered twice"):
        backends.memory("cpu", lambda costs, engine: MEMORY)
    # An engine and a memory backend may share a name.
    backends.memory("counting", lambda costs, engine: MEMORY)


def test_factories_are_given_the_costs_and_the_engine() -> None:
    costs, given = Registry(), []
    backends = Backends()

    def engine(*arguments: Any) -> ScriptedFlops:
        given.append(arguments)
        return FLOPS

    def memory(*arguments: Any) -> ScriptedMemory:
        given.append(arguments)
        return MEMORY

    backends.engine("counting", engine)
    backends.memory("cpu", memory)
    select(backends, costs, "counting", ())
    assert given == [(costs,), (costs, FLOPS)]


def test_what_replays_follows_the_protocols() -> None:
    assert isinstance(FLOPS, FlopBackend)
    assert not isinstance(FLOPS, ModelTracer)
    assert isinstance(TRACER, ModelTracer)
    assert not isinstance(TRACER, FlopBackend)
    memory: MemoryBackend = MEMORY
    assert memory.name == "scripted"
