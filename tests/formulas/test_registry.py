"""The registry: which row an op finds, what a formula is given, and what it must not return."""

from __future__ import annotations

import functools
import re
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.errors import FormulaError
from pytest_flopguard.core.measurement import NO_FORMULA, Cost, Kind, OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import Registry, Unknown, default_registry, formula

NONE: frozenset[str] = frozenset()


def call(*args: Any, op: str = "mylib.fused", **kwargs: Any) -> OpCall:
    return OpCall(op=op, args=args, kwargs=kwargs, out=TensorSpec((2, 3)))


def returning(value: Any) -> Registry:
    registry = Registry()

    @registry.op("mylib.fused")
    def fused(x: TensorSpec) -> Any:
        return value

    return registry


def test_a_formula_is_given_the_arguments_of_the_op() -> None:
    registry = Registry()

    @registry.op("mylib.fused", "mylib.fused_too")
    def fused(x: TensorSpec, scale: float = 1.0, *, bias: TensorSpec | None = None) -> int:
        """Tell what it does.

        And why.
        """
        return x.numel * (2 if bias else 1) * int(scale)

    # 8 * 16 elements, twice with a bias, 3 as scale.
    assert registry.cost(call(TensorSpec((8, 16)))) == Cost(kind="counted", flops=128)
    assert registry.cost(call(TensorSpec((8, 16)), 3.0, bias=TensorSpec((16,)))).flops == 768
    assert registry.cost(call(TensorSpec((8, 16)), op="mylib.fused_too")).flops == 128
    first, second = registry.entries()
    assert (first.op, first.kind, first.formula, first.summary) == (
        "mylib.fused",
        "counted",
        fused,
        "Tell what it does.",
    )
    assert first.source.endswith("test_registry.test_a_formula_is_given_the_arguments_of_the_op.<locals>.fused")
    assert second.op == "mylib.fused_too"


def test_a_formula_is_given_the_result_where_it_asks_for_it() -> None:
    registry = Registry()
    registry.op("a.keyword")(lambda x, *_, out: out.numel)
    registry.op("a.positional")(lambda x, out: out.numel)
    registry.op("a.own")(lambda x, out, y: out.numel)
    x, y = TensorSpec((1,)), TensorSpec((5,))
    # The op returns 2 * 3 elements.
    assert registry.cost(call(x, y, op="a.keyword")).flops == 6
    assert registry.cost(call(x, op="a.positional")).flops == 6
    # Here "out" is an argument of the op itself, of 5 elements.
    assert registry.cost(call(x, y, x, op="a.own")).flops == 5
    assert registry.cost(call(x, out=y, y=x, op="a.own")).flops == 5


def test_a_cost_with_kernel_recompute_passes_through() -> None:
    cost = Cost(kind="counted", flops=4, kernel_recompute=1)
    assert returning(cost).cost(call(TensorSpec((1,)))) is cost


@pytest.mark.parametrize(
    "value",
    [
        None,
        -1,
        1.0,
        float("nan"),
        True,
        "12",
        Cost(kind="counted", flops=None),
        Cost(kind="counted", flops=-1),
        Cost(kind="counted", flops=1, kernel_recompute=-1),
        Cost(kind="counted", flops=1, kernel_recompute=0.5),  # type: ignore[arg-type]
        Cost(kind="free", flops=0),
        Cost(kind="unknown", flops=None, reason="cannot tell"),
    ],
)
def test_a_result_that_is_no_count_names_the_formula_the_op_and_itself(value: Any) -> None:
    with pytest.raises(FormulaError) as caught:
        returning(value).cost(call(TensorSpec((1,))))
    text = str(caught.value)
    assert "returning.<locals>.fused" in text
    assert "mylib.fused returned" in text
    assert repr(value) in text
    assert text.endswith("[formula-result]")


@given(st.integers(min_value=0))
def test_any_non_negative_int_is_kept_exactly(value: int) -> None:
    assert returning(value).cost(call(TensorSpec((1,)))) == Cost(kind="counted", flops=value)


def test_a_formula_that_raises_is_named() -> None:
    registry = Registry()

    @registry.op("mylib.fused")
    def fused(x: TensorSpec) -> int:
        return x.shape[7]

    with pytest.raises(FormulaError, match=r"fused for mylib.fused raised IndexError: .* \[formula-raised\]") as caught:
        registry.cost(call(TensorSpec((1,))))
    assert isinstance(caught.value.__cause__, IndexError)


def test_a_formula_that_does_not_fit_names_both_signatures() -> None:
    registry = Registry()

    @registry.op("mylib.fused")
    def fused(x: TensorSpec, weight: TensorSpec) -> int:
        return 0

    with pytest.raises(FormulaError) as caught:
        registry.cost(call(TensorSpec((8, 16)), scale=0.5))
    text = str(caught.value)
    assert "fused(x: 'TensorSpec', weight: 'TensorSpec') -> 'int'" in text
    assert "mylib.fused(float32[8, 16], scale=0.5)" in text
    assert text.endswith("[formula-signature]")
    with pytest.raises(FormulaError, match=r"mylib.fused\(1, 2, 3\)"):
        registry.cost(call(1, 2, 3))
    # A result cannot stand in for an argument that is missing.
    registry.op("mylib.late")(lambda x, y, out: 0)
    with pytest.raises(FormulaError, match=r"\[formula-signature\]"):
        registry.cost(call(TensorSpec((1,)), op="mylib.late"))


def test_a_formula_may_say_that_it_cannot_tell() -> None:
    registry = Registry()

    @registry.op("mylib.fused")
    def fused(x: TensorSpec) -> int:
        raise Unknown("the lengths are values")

    assert registry.cost(call(TensorSpec((1,)))) == Cost(kind="unknown", flops=None, reason="the lengths are values")


def test_an_op_without_a_row_is_unknown() -> None:
    assert Registry().cost(call()) == Cost(kind="unknown", flops=None, reason=NO_FORMULA)
    assert Registry().kind("mylib.fused", NONE) == "unknown"


@pytest.mark.parametrize("kind", ["free", "uncounted"])
def test_a_listed_op_costs_nothing(kind: Kind) -> None:
    registry = Registry()
    getattr(registry, kind)("mylib.fused")
    assert registry.cost(call(1, 2)) == Cost(kind=kind, flops=0)
    assert registry.kind("mylib.fused", NONE) == kind


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("aten::mm", "aten.mm"),
        ("aten::mm.out", "aten.mm"),
        ("mylib::zz", "mylib.zz"),
        ("mylib.zz.default", "mylib.zz"),
        ("torch.ops.mylib.zz", "mylib.zz"),
        ("torch.ops.mylib.zz.default", "mylib.zz"),
        (" mylib.zz", "mylib.zz"),
        ("nodot", "mylib.nodot"),
        # Ops themselves, as torch.ops has them, print so.
        (torch.ops.aten.mm, "aten.mm"),
        (torch.ops.aten.mm.default, "aten.mm"),
        # Nothing to guess from.
        (3, "mylib.zz"),
        (None, "mylib.zz"),
        ("", "mylib.zz"),
        ("torch.ops.mylib", "mylib.zz"),
        ("mylib.", "mylib.zz"),
        (".zz", "mylib.zz"),
        ("my-lib.zz", "mylib.zz"),
        ("aten.mm[dense]", "mylib.zz"),
        (call, "mylib.zz"),
    ],
)
@pytest.mark.parametrize("way", ["op", "free", "uncounted"])
def test_a_name_that_no_op_can_have_is_refused_with_the_right_spelling(way: str, name: Any, shown: str) -> None:
    registry = Registry()
    with pytest.raises(FormulaError) as caught:
        getattr(registry, way)("mylib.first", name)
    text = str(caught.value)
    assert text.startswith(f"registry.{way} was given {name!r}: expected")
    assert f"such as {shown!r}" in text
    assert text.endswith("[op-name]")
    assert list(registry.entries()) == []


@pytest.mark.parametrize("way", ["op", "free", "uncounted"])
def test_no_name_at_all_is_refused(way: str) -> None:
    with pytest.raises(FormulaError, match=rf"registry.{way} was given no name: .*'mylib.zz'.*\[op-name\]"):
        getattr(Registry(), way)()


@pytest.mark.parametrize("name", ["mylib.zz", "mylib.zz_", "_c10d.zz2", "higher_order.cond", "aten.mm[sparse]"])
@pytest.mark.parametrize("way", ["free", "uncounted"])
def test_names_as_op_calls_carry_them_are_taken(way: Kind, name: str) -> None:
    registry = Registry()
    getattr(registry, way)(name)
    assert registry.kind(name, NONE) == way


def test_two_rows_for_one_op_are_refused_with_both_places() -> None:
    registry = Registry()

    @registry.op("mylib.fused")
    def first(x: TensorSpec) -> int:
        return 0

    with pytest.raises(FormulaError, match=r"mylib.fused has two formulas: .*first and .*<lambda> \[duplicate"):
        registry.op("mylib.fused")(lambda x: 1)
    here = re.escape(__file__)
    with pytest.raises(FormulaError, match=rf"<locals>.first and {here}:\d+ \[duplicate-formula\]"):
        registry.free("mylib.fused")
    registry.uncounted("mylib.norm")
    with pytest.raises(FormulaError, match=rf"mylib.norm has two formulas: {here}:\d+ and a reason"):
        registry.free("mylib.norm", source="a reason")
    assert registry.cost(call(TensorSpec((1,)))).flops == 0
    assert registry.kind("mylib.norm", NONE) == "uncounted"


def test_a_row_written_by_hand_says_where() -> None:
    registry = Registry()
    registry.free("b.one", "a.two")
    registry.uncounted("c.three", source="elsewhere")
    rows = {each.op: each.source for each in registry.entries()}
    assert list(rows) == ["a.two", "b.one", "c.three"]
    assert re.fullmatch(re.escape(__file__) + r":\d+", rows["b.one"])
    assert rows["c.three"] == "elsewhere"


def test_a_formula_without_a_name_can_be_registered() -> None:
    registry = Registry()
    registry.op("mylib.fused")(functools.partial(lambda scale, x: scale * x.numel, 2))
    # 2 * 8 elements.
    assert registry.cost(call(TensorSpec((8,)))).flops == 16
    (entry,) = registry.entries()
    assert "partial" in entry.source


def test_an_in_place_op_does_the_work_of_its_twin() -> None:
    registry = Registry()
    registry.op("mylib.fused")(lambda x: 7)
    registry.free("mylib.move")
    registry.uncounted("mylib.swap_")
    assert registry.cost(call(TensorSpec((1,)), op="mylib.fused_")).flops == 7
    assert registry.kind("mylib.fused_", NONE) == "counted"
    assert registry.kind("mylib.move_", NONE) == "free"
    # Its own row goes first, and the twin does not learn from it.
    assert registry.kind("mylib.swap_", NONE) == "uncounted"
    assert registry.kind("mylib.swap", NONE) == "unknown"
    registry.free("mylib.fused_")
    assert registry.kind("mylib.fused_", NONE) == "free"


@pytest.mark.parametrize(
    ("trait", "kind"),
    [
        ("view", "free"),
        ("view_copy", "free"),
        ("inplace_view", "free"),
        ("factory", "free"),
        ("pointwise", "uncounted"),
        ("reduction", "uncounted"),
        ("core", "unknown"),
        ("nondeterministic_seeded", "unknown"),
    ],
)
def test_traits_decide_only_where_there_is_no_row(trait: str, kind: Kind) -> None:
    registry = Registry()
    traits = frozenset({trait, "pt2_compliant_tag"})
    assert registry.kind("mylib.fused", traits) == kind
    registry.op("mylib.fused")(lambda x: 1)
    assert registry.kind("mylib.fused", traits) == "counted"
    registry.uncounted("mylib.norm")
    assert registry.kind("mylib.norm", traits) == "uncounted"


def test_a_view_that_computes_elementwise_is_a_view() -> None:
    assert Registry().kind("mylib.fused", frozenset({"view", "pointwise"})) == "free"


def test_including_a_module_registers_its_formulas_and_lists() -> None:
    room = ModuleType("myproject.ops")

    @formula("mylib.fused", "mylib.other")
    def fused(x: TensorSpec) -> int:
        """Count one for each element."""
        return x.numel

    room.__dict__.update(fused=fused, FREE=("mylib.move",), UNCOUNTED=("mylib.norm",), helper=lambda x: 1)
    registry = Registry()
    registry.include(room)
    kinds = {each.op: (each.kind, each.source) for each in registry.entries()}
    assert kinds["mylib.move"] == ("free", "myproject.ops")
    assert kinds["mylib.norm"] == ("uncounted", "myproject.ops")
    assert kinds["mylib.fused"][0] == kinds["mylib.other"][0] == "counted"
    assert len(kinds) == 4
    assert registry.cost(call(TensorSpec((2, 3)))).flops == 6
    with pytest.raises(FormulaError, match="duplicate-formula"):
        registry.include(room)


def test_a_room_may_have_no_lists() -> None:
    registry = Registry()
    registry.include(ModuleType("empty"))
    assert list(registry.entries()) == []


def test_every_registry_is_its_own() -> None:
    first, second = default_registry(), default_registry()
    first.free("mylib.move")
    assert first.kind("mylib.move", NONE) == "free"
    assert second.kind("mylib.move", NONE) == "unknown"
    assert second.kind("aten.mm", NONE) == "counted"
