"""What torch's libraries export is found with its size, and what is not there is told."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch

from pytest_flopguard.backends.simulated.cuda_abi import read_facts
from pytest_flopguard.backends.simulated.cxx_headers import FactMissing
from pytest_flopguard.backends.simulated.symbol_table import address, library, size_at

ROOT = Path(torch.__file__).parent


def test_headers_and_libraries_agree_on_sizes() -> None:
    facts = read_facts(ROOT / "include")
    # One pointer for each device type; one for each method and two before them.
    registry = address(library(ROOT / "lib/libc10.so"), "_ZN3c104impl26device_guard_impl_registryE")
    assert size_at(registry) == 8 * facts.device_types
    table = address(library(ROOT / "lib/libtorch_cpu.so"), "_ZTVN2at18CUDAHooksInterfaceE")
    assert size_at(table) == 8 * (2 + len(facts.hooks))


def test_an_address_inside_an_object_has_no_size() -> None:
    registry = address(library(ROOT / "lib/libc10.so"), "_ZN3c104impl26device_guard_impl_registryE")
    assert size_at(registry + 8) is None


def test_memory_of_no_library_has_no_size() -> None:
    assert size_at(ctypes.addressof(ctypes.create_string_buffer(8))) is None


def test_a_c_library_that_cannot_tell_sizes_tells_none(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = address(library(ROOT / "lib/libc10.so"), "_ZN3c104impl26device_guard_impl_registryE")
    # musl has no dladdr1.
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert size_at(registry) is None


def test_what_is_not_exported_is_told_by_name() -> None:
    with pytest.raises(FactMissing, match=r"libc10\.so does not export _ZN3c107nothingE"):
        address(library(ROOT / "lib/libc10.so"), "_ZN3c107nothingE")


def test_a_library_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(FactMissing, match=r"libgone\.so cannot be loaded"):
        library(tmp_path / "libgone.so")
