"""What torch.cuda answers on a simulated GPU, asked in the ways in which programs ask."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pytest_flopguard.backends.simulated.cuda_kernels import NotSimulated
from pytest_flopguard.backends.simulated.machine import Machine
from pytest_flopguard.backends.simulated.value_reads import ValueRead

MIB = 2**20
cuda = torch.cuda
# Arguments for what cannot be called without; the rest takes none, or None for the current device.
ARGUMENTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "StreamContext": lambda: (cuda.Stream(),),
    "can_device_access_peer": lambda: (0, 0),
    "caching_allocator_delete": lambda: (0,),
    "change_current_allocator": lambda: (None,),
    "check_error": lambda: (0,),
    "device": lambda: (0,),
    "device_of": lambda: (torch.zeros(1, device="cuda"),),
    "get_stream_from_external": lambda: (0,),
    "graph": lambda: (None,),
    "make_graphed_callables": lambda: (None, ()),
    "manual_seed": lambda: (1,),
    "manual_seed_all": lambda: (1,),
    "set_device": lambda: (0,),
    "set_per_process_memory_fraction": lambda: (0.5,),
    "set_rng_state": lambda: (cuda.get_rng_state(),),
    "set_rng_state_all": lambda: (cuda.get_rng_state_all(),),
    "set_stream": lambda: (cuda.Stream(),),
    "set_sync_debug_mode": lambda: ("default",),
    "stream": lambda: (cuda.Stream(),),
    "use_mem_pool": lambda: (None,),
}
# Types of errors and of tensors that torch had before devices were arguments.
NO_CALLS = {
    name
    for name in cuda.__all__
    if name.endswith(("Tensor", "Storage", "Error")) or not callable(getattr(cuda, name, None))
}


def refusal(ask: Callable[..., Any], given: tuple[Any, ...]) -> str | None:
    try:
        ask(*given)
    except NotSimulated as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", sorted(set(cuda.__all__) - NO_CALLS))
def test_everything_answers_or_says_why_not(machine: Machine, running: None, name: str) -> None:
    said = refusal(getattr(cuda, name), ARGUMENTS[name]() if name in ARGUMENTS else ())
    assert said is None or f"torch.cuda.{name}: " in said


def test_parts_of_a_gpu_are_refused_however_they_are_made(machine: Machine, running: None) -> None:
    # Not every release makes them by create.
    for make in (cuda.GreenContext, getattr(cuda.GreenContext, "create", cuda.GreenContext)):
        assert "torch.cuda.GreenContext: parts of a GPU are not simulated" in (refusal(make, ()) or "")


ASKED_OF_A_DEVICE = [
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "memory_stats_as_nested_dict",
    "memory_summary",
    "reset_accumulated_memory_stats",
    "reset_peak_memory_stats",
    "synchronize",
]


@pytest.mark.parametrize("name", ASKED_OF_A_DEVICE)
def test_devices_are_named_in_every_way(machine: Machine, running: None, name: str) -> None:
    ask = getattr(cuda, name)
    assert ask() == ask(0) == ask(torch.device("cuda")) == ask(device="cuda:0")


def test_figures_of_the_allocator(machine: Machine, running: None) -> None:
    kept = torch.zeros(MIB, dtype=torch.uint8, device="cuda")
    torch.zeros(MIB, dtype=torch.uint8, device="cuda")
    stats = cuda.memory_stats()
    assert (stats["allocated_bytes.all.current"], stats["allocated_bytes.all.peak"]) == (MIB, 2 * MIB)
    assert cuda.memory_stats_as_nested_dict()["allocated_bytes"]["all"] == {"current": MIB, "peak": 2 * MIB}
    assert "2,097,152" in cuda.memory_summary(abbreviated=True)
    assert kept.shape == (MIB,)


def test_there_is_one_gpu(machine: Machine, running: None) -> None:
    assert cuda.device_count() == 1
    for ask in (
        lambda: torch.zeros(3, device="cuda:1"),
        lambda: torch.zeros(3).to("cuda:1"),
        lambda: cuda.set_device(1),
        lambda: cuda.set_device("cuda:1"),
    ):
        with pytest.raises(NotSimulated, match="cuda:1: one GPU is simulated, cuda:0"):
            ask()
    cuda.set_device(torch.device("cuda", 0))


def test_tensors_without_one_memory_are_refused_by_name(machine: Machine, running: None) -> None:
    with pytest.raises(NotSimulated, match="lengths of jagged tensors are values"):
        torch.nested.nested_tensor([torch.zeros(2, 4), torch.zeros(3, 4)], layout=torch.jagged, device="cuda")
    embedding = nn.Embedding(10, 4, device="cuda", sparse=True)
    with pytest.raises(NotSimulated, match=r"torch\.sparse_coo tensors have no one memory"):
        embedding(torch.zeros(3, dtype=torch.long, device="cuda")).sum().backward()


def test_classes_that_need_a_driver_stay_classes(machine: Machine, running: None) -> None:
    assert not isinstance(3, cuda.CUDAGraph)
    with pytest.raises(NotSimulated, match="CUDA graphs are not simulated"):
        cuda.CUDAGraph()


def test_nothing_is_left_afterwards(machine: Machine) -> None:
    before = {name: getattr(cuda, name) for name in cuda.__all__ if hasattr(cuda, name)}
    with machine.running():
        assert cuda.is_available()
    assert {name: getattr(cuda, name) for name in before} == before
    assert pickle.loads(pickle.dumps(torch.ones(2))).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("save", [pickle.dumps, lambda what: torch.save(what, io.BytesIO())], ids=["pickle", "save"])
def test_values_that_nobody_knows_are_not_saved(machine: Machine, running: None, save: Callable[[Any], Any]) -> None:
    save(torch.arange(3, device="cuda"))
    with pytest.raises(ValueRead, match="the values, to save them"):
        save(nn.Linear(30, 30, device="cuda").state_dict())


def test_copies(machine: Machine, running: None) -> None:
    layer = nn.Linear(512, 512, bias=False, device="cuda")
    assert cuda.memory_allocated() == MIB
    shallow, deep = copy.copy(layer.weight), copy.deepcopy(layer)
    assert shallow.shape == deep.weight.shape == (512, 512)
    assert cuda.memory_allocated() == 2 * MIB


@pytest.mark.parametrize("fullgraph", [True, False])
def test_compiled_functions_run_as_written_and_that_is_said(machine: Machine, running: None, fullgraph: bool) -> None:
    x = torch.zeros(512, 512, device="cuda")
    compiled = torch.compile(lambda x: x.relu().exp(), fullgraph=fullgraph)
    assert machine.assumed == ()
    assert compiled(x).shape == (512, 512)
    assert machine.assumed == ("functions under torch.compile take what they take uncompiled",)
    # x, and two results of which the first dies with the second made.
    assert cuda.max_memory_allocated() == 3 * MIB
