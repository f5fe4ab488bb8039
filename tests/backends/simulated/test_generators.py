"""Generators of random numbers on a simulated GPU: made, seeded, kept and put back as on a real one."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from pytest_flopguard.backends.simulated.machine import Machine
from pytest_flopguard.backends.simulated.value_reads import ValueRead

pytestmark = pytest.mark.usefixtures("running")

REAL = torch.Generator


def numbers(generator: torch.Generator | None = None, *, device: str = "cuda") -> list[int]:
    return torch.randint(0, 10**9, (4,), generator=generator, device=device).tolist()


def test_one_is_made_on_the_gpu_and_takes_part_in_every_sampler(machine: Machine) -> None:
    generator = torch.Generator(device="cuda").manual_seed(3)
    assert isinstance(generator, torch.Generator)
    assert generator.device == torch.device("cuda", 0)
    assert generator.initial_seed() == 3
    shapes = [
        torch.randn(5, 7, generator=generator, device="cuda"),
        torch.rand(5, 7, generator=generator, device="cuda"),
        torch.randint(9, (5, 7), generator=generator, device="cuda"),
        torch.empty(5, 7, device="cuda").normal_(generator=generator),
        torch.empty(5, 7, device="cuda").exponential_(generator=generator),
        torch.bernoulli(torch.rand(5, 7, device="cuda"), generator=generator),
        torch.normal(torch.zeros(5, 7, device="cuda"), 1.0, generator=generator),
        torch.multinomial(torch.rand(5, 9, device="cuda"), 7, generator=generator),
        torch.nn.init.trunc_normal_(torch.empty(5, 7, device="cuda"), generator=generator),
    ]
    assert all(each.is_cuda and each.shape == (5, 7) for each in shapes)
    assert sorted(torch.randperm(6, generator=generator, device="cuda").tolist()) == list(range(6))
    # 35 floats are 140 bytes, 35 integers 280: a block of 512 each, and nothing for the generator.
    assert machine.allocator.stats.allocated.current == len(shapes) * 512


def test_memory_is_that_of_the_numbers_alone(machine: Machine) -> None:
    generator = torch.Generator("cuda")
    before = machine.allocator.stats.allocated.current
    kept = torch.randn(2, 1024, 1024, generator=generator, device="cuda", dtype=torch.float16)
    assert machine.allocator.stats.allocated.peak - before == kept.nbytes == 4 * 2**20


def test_the_same_seed_draws_the_same_again() -> None:
    one, other = torch.Generator("cuda").manual_seed(7), torch.Generator("cuda").manual_seed(8)
    first = numbers(one)
    assert numbers(one) != first
    assert numbers(other) != first
    assert numbers(one.manual_seed(7)) == first
    assert one.seed() == one.initial_seed() != 7


def test_a_state_is_sixteen_bytes_that_can_be_put_back() -> None:
    generator = torch.Generator("cuda").manual_seed(7)
    state = generator.get_state()
    assert state.shape == (16,)
    assert state.dtype == torch.uint8
    assert not state.is_cuda
    assert torch.equal(state, generator.get_state())
    first = numbers(generator)
    assert not torch.equal(state, generator.get_state())
    generator.set_state(state)
    assert numbers(generator) == first
    other = torch.Generator("cuda").set_state(state)
    assert (other.initial_seed(), numbers(other)) == (7, first)


def test_states_of_elsewhere_can_be_gone_on_from() -> None:
    # Seed 5 and offset 8, little-endian, as a CUDA generator keeps them.
    state = torch.tensor([5, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0], dtype=torch.uint8)
    generator = torch.Generator("cuda").set_state(state)
    assert torch.equal(generator.get_state(), state)
    assert generator.get_offset() == 8
    first = numbers(generator)
    assert numbers(torch.Generator("cuda").set_state(state)) == first
    generator.set_offset(0)
    assert generator.get_offset() == 0


def test_what_is_no_state_is_an_error() -> None:
    generator = torch.Generator("cuda")
    with pytest.raises(RuntimeError, match="RNG state is wrong size"):
        generator.set_state(torch.zeros(8, dtype=torch.uint8))
    with pytest.raises(ValueRead, match="the state of a generator"):
        generator.set_state(torch.empty(16, dtype=torch.uint8))


@pytest.mark.parametrize("copied", [lambda each: each.clone_state(), copy.copy, copy.deepcopy])
def test_a_copy_draws_what_the_original_would(copied: Callable[[Any], Any]) -> None:
    generator = torch.Generator("cuda").manual_seed(7)
    numbers(generator)
    other = copied(generator)
    assert other.device.type == "cuda"
    assert numbers(other) == numbers(generator)


def test_a_generator_of_another_device_is_an_error_as_on_a_gpu() -> None:
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        torch.randn(4, generator=torch.Generator(), device="cuda")
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator but found 'cuda'"):
        torch.randn(4, generator=torch.Generator("cuda"))


def test_those_of_the_cpu_are_torch_s_own() -> None:
    generator = torch.Generator()
    assert type(generator) is REAL
    assert isinstance(generator, torch.Generator)
    assert not isinstance(3, torch.Generator)
    assert torch.Generator(None).device.type == "cpu"
    # The first numbers of the seed 3, whatever a GPU did.
    assert numbers(generator.manual_seed(3), device="cpu") == numbers(REAL().manual_seed(3), device="cpu")


def test_the_gpu_has_a_default_one_that_the_cpu_s_numbers_know_nothing_of() -> None:
    (default,) = torch.cuda.default_generators
    torch.manual_seed(5)
    assert default.initial_seed() == torch.cuda.initial_seed() == 5
    on_cpu = numbers(device="cpu")
    torch.manual_seed(5)
    first = numbers()
    assert numbers(device="cpu") == on_cpu
    torch.cuda.manual_seed(5)
    assert numbers() == first
    state = torch.cuda.get_rng_state()
    second = numbers()
    torch.cuda.set_rng_state(state)
    assert numbers() == second
    torch.cuda.set_rng_state_all([state])
    assert torch.equal(torch.cuda.get_rng_state_all()[0], state)
    assert torch.cuda.random.get_rng_state("cuda:0").tolist() == default.get_state().tolist()


def test_forked_numbers_are_put_back() -> None:
    torch.manual_seed(5)
    with torch.random.fork_rng():
        first = numbers()
    assert numbers() == first


def test_a_module_that_took_the_name_gets_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("took_the_name")
    module.Generator = REAL  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "took_the_name", module)
    machine = Machine.start("t4", allocator="")
    assert isinstance(machine, Machine)
    with machine.running():
        assert module.Generator("cuda").device.type == "cuda"
    assert module.Generator is REAL
