"""Slots and numbers come out of C++ headers as the Itanium ABI lays them out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.backends.simulated.cxx_headers import FactMissing, data_members, enum_values, virtual_slots

INCLUDE = Path(torch.__file__).parent / "include"

HEADER = """
#pragma once
// struct TORCH_API Base { virtual void in_a_comment(); };
struct Other { virtual void not_this_one(); };
struct Base;  /* virtual void nor_this(); */
struct TORCH_API Base {
  virtual ~Base() = default;
  virtual bool built() const {
    return false;  // virtual void neither();
  }
  virtual const std::vector<std::string>& names() const = 0;
  bool plain() const;
  static int count();
#ifdef USE_ROCM
  virtual void only_rocm();
#endif
  virtual Device device(
      [[maybe_unused]] DeviceIndex index = -1) const;
};
struct TORCH_API Derived : Base {
  ~Derived() override = default;
  bool built() const override { return true; }
  virtual long version() const { if (x) { return 1; } return 2; }
  virtual Device device(DeviceIndex index) const override;
  virtual void last() noexcept;
};
struct After { virtual void not_this_one_either(); };
enum class Kind : int8_t {
  CPU = 0,
  CUDA = 1, // CUDA = 9
  LAST = 21,
};
"""


@pytest.fixture
def header(tmp_path: Path) -> Path:
    path = tmp_path / "sample.h"
    path.write_text(HEADER)
    return path


def test_slots_follow_the_order_of_declaration_and_a_destructor_takes_two(header: Path) -> None:
    assert virtual_slots(header, "Base") == {
        "~Base": 0,
        "~Base (deleting)": 1,
        "built": 2,
        "names": 3,
        "device": 4,
    }


def test_a_derived_class_goes_on_after_its_base_and_overrides_take_no_slot(header: Path) -> None:
    # Base has 5 slots, 0..4.
    assert virtual_slots(header, "Derived", virtual_slots(header, "Base")) == {"version": 5, "last": 6}


def test_values_of_an_enum(header: Path) -> None:
    assert enum_values(header, "Kind") == {"CPU": 0, "CUDA": 1, "LAST": 21}


def test_only_what_takes_room_in_an_object_is_state(header: Path) -> None:
    assert data_members(header, "Derived") == []
    header.write_text(
        "struct S {\n"
        "  S() = default;\n"
        "  static constexpr int kind = 1;\n"
        "  int size() const { if (a) { return 1; } return kind; }\n"
        "  int count = 0;\n"
        " private:\n"
        "  thread_local static std::array<int, 8> shared_;\n"
        "  std::vector<int> kept_;\n"
        "};\n"
    )
    assert data_members(header, "S") == ["int count = 0", "std::vector<int> kept_"]


def test_what_is_not_there_is_told(header: Path, tmp_path: Path) -> None:
    with pytest.raises(FactMissing, match=r"sample\.h has no Missing"):
        virtual_slots(header, "Missing")
    with pytest.raises(FactMissing, match=r"gone\.h: No such file"):
        enum_values(tmp_path / "gone.h", "Kind")
    header.write_text("struct Base { virtual void f();")
    with pytest.raises(FactMissing, match="Base has no end"):
        virtual_slots(header, "Base")


def test_an_overloaded_method_is_refused_since_its_slot_would_be_a_guess(header: Path) -> None:
    header.write_text("struct Base { virtual void f(int); virtual void f(); };")
    with pytest.raises(FactMissing, match="Base declares f twice"):
        virtual_slots(header, "Base")


@given(methods=st.lists(st.tuples(st.from_regex(r"\A[a-z]\w{0,8}\Z"), st.booleans()), unique_by=lambda item: item[0]))
def test_only_virtual_methods_are_numbered(
    methods: list[tuple[str, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("header") / "drawn.h"
    lines = [
        f"  {'virtual ' if virtual else ''}int m_{name}(int a = f(1)) const {{ g(); }}" for name, virtual in methods
    ]
    path.write_text("struct Drawn {\n" + "\n".join(lines) + "\n};\n")
    virtual = [f"m_{name}" for name, virtual in methods if virtual]
    assert virtual_slots(path, "Drawn") == {name: slot for slot, name in enumerate(virtual)}


def test_the_wheel_declares_cuda_where_torch_puts_it() -> None:
    # A device's type prints as its name, and torch orders devices by number: CPU is the first, CUDA the second.
    kinds = enum_values(INCLUDE / "torch/headeronly/core/DeviceType.h", "DeviceType")
    assert (kinds["CPU"], kinds["CUDA"]) == (0, 1)
    assert max(kinds.values()) == kinds["COMPILE_TIME_MAX_DEVICE_TYPES"]
