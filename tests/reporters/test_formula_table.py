from __future__ import annotations

from types import MappingProxyType

from pytest_flopguard.core.expectation import Expectation, Origin, Part
from pytest_flopguard.core.measurement import FlopTally, OpCount
from pytest_flopguard.formulas.breakdown import Breakdown, Term
from pytest_flopguard.reporters.breakdown_table import render
from pytest_flopguard.reporters.formula_table import formula_lines


def count(module: str, flops: int, phase: str = "forward") -> OpCount:
    return OpCount(op="aten.mm", module=module, phase=phase, kind="counted", calls=1, flops=flops)  # type: ignore[arg-type]


def expected(*parts: Part, quantity: str = "flops") -> Expectation:
    total = sum(part.flops for part in parts)
    return Expectation(
        quantity=quantity, low=total, high=total, origin=Origin(path="x"), source="formula", parts=parts,  # type: ignore[arg-type]
    )  # fmt: skip


TALLY = FlopTally(
    engine="dispatch",
    counts=(
        count("M.attn", 40),
        count("M.h.0.fc", 1000),
        count("M.h.1.fc", 1000),
        count("M.h.1.fc", 2000, "backward"),
        count("M.extra.0", 7),
        count("M.extra.1", 7),
        count("", 5),
    ),
)


def test_terms_and_modules_side_by_side():
    wanted = expected(
        Part(name="scores", equation="2*s*s", flops=20, modules=r"^M\.attn$"),
        Part(name="values", equation="2*s*s*d", flops=20, modules=r"^M\.attn$"),
        Part(name="mlp", equation="6*h", flops=3500, modules=r"\.fc$"),
        Part(name="mlp", equation="6*h", flops=500, modules=r"\.fc$"),
        Part(name="lm_head", equation="2*h*V", flops=300, modules=r"\.lm_head$"),
    )
    assert list(formula_lines(wanted, TALLY)) == [
        "Closed form and count, term by term",
        "  term                           closed form  counted  difference  equation",
        "  -----------------------------  -----------  -------  ----------  ---------------",
        "  scores, values                          40       40           0  2*s*s + 2*s*s*d",
        "  mlp                                  4,000    4,000           0  6*h",
        "  lm_head                                300        0        -300  2*h*V",
        "  no term: M.extra.0-1                             14         +14",
        "  no term: (outside any module)                     5          +5",
        "  sum                                  4,340    4,059        -281",
    ]


def test_one_phase():
    wanted = expected(Part(name="mlp", equation="", flops=2000, modules=r"\.fc$"), quantity="backward_flops")
    assert [line.split() for line in formula_lines(wanted, TALLY)][-2:] == [
        ["mlp", "2,000", "2,000", "0"],
        ["sum", "2,000", "2,000", "0"],
    ]


def test_a_form_that_says_nothing_of_modules():
    lines = list(formula_lines(expected(Part(name="mlp", equation="6*h", flops=4000)), TALLY))
    assert [line.split() for line in lines[-2:]] == [["mlp", "4,000", "6*h"], ["sum", "4,000", "4,059", "+59"]]


FORM = Breakdown(
    name="model",
    terms=(
        Term(name="qkv", equation="6*s*h*h", each=300, times=3, recompute_each=300),
        Term(name="lm_head", equation="2*s*h*V", each=100),
    ),
    symbols=MappingProxyType({"s": 1, "h": 1024}),
    source="a paper, eq. 1",
)


def test_a_breakdown_as_a_table():
    assert render(FORM).splitlines() == [
        "  term     equation  each  times  FLOPs   share",
        "  -------  --------  ----  -----  -----  ------",
        "  qkv      6*s*h*h    300      3    900  90.00%",
        "  lm_head  2*s*h*V    100      1    100  10.00%",
        "  forward                         1,000",
        "",
        "  s = 1, h = 1,024",
        "  a paper, eq. 1",
    ]


def test_a_training_step_as_a_table():
    lines = render(FORM, backward=True).splitlines()
    assert [line.split() for line in lines[4:8]] == [
        ["forward", "1,000"],
        ["backward", "2,000"],
        ["recompute", "900"],
        ["training", "step", "3,900"],
    ]


def test_a_bare_breakdown():
    bare = Breakdown(name="bare", terms=(Term(name="x", equation="2", each=2),))
    assert [line.split() for line in render(bare, backward=True).splitlines()[2:]] == [
        ["x", "2", "2", "1", "2", "100.00%"],
        ["forward", "2"],
        ["backward", "4"],
        ["training", "step", "6"],
    ]
