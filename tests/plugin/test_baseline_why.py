"""--flop-why, and the failure itself: what differs from the baseline, as much of it as was asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]

LAYERS = """
class Net(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, size, bias=False) for size in sizes)

    def forward(self, x):
        return [layer(x) for layer in self.layers]

def test_net():
    Net(SIZES)(torch.zeros(16, 8))

def test_other(): forward()
"""


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture
def changed(project: Project, run: Run) -> Callable[[str, str], None]:
    """Accept a net of these sizes, and make it one of those."""

    def write(before: str, now: str) -> None:
        project(LAYERS.replace("SIZES", before))
        run("--flop-update=new").assert_outcomes(passed=2)
        project(LAYERS.replace("SIZES", now))

    return write


Changed = Callable[[str, str], None]


def why(result: pytest.RunResult) -> list[str]:
    return result.stdout.str().partition("flopguard: why")[2].splitlines()[1:]


def test_all_tests_or_one_are_explained_also_where_nothing_broke(run: Run, changed: Changed) -> None:
    changed("[4]", "[4]")
    result = run("--flop-why")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*flopguard: why*",
            "test_model.py::test_net",
            "",
            "Nothing differs from the baseline",
            "",
            "test_model.py::test_other",
        ]
    )
    one = "\n".join(why(run("--flop-why=test_model.py::test_other")))
    assert "test_other" in one
    assert "test_net" not in one
    run("--flop-why=test_model.py::test_gone").stdout.fnmatch_lines(
        ["command line: --flop-why: no measured test is 'test_model.py::test_gone'; did you mean *bad-options*"]
    )


def test_without_a_baseline_there_is_nothing_to_differ_from(project: Project, run: Run) -> None:
    project("def test_a(): forward()")
    run("--flop-why").stdout.fnmatch_lines(["test_model.py::test_a: no baseline to differ from"])


def test_one_test_that_is_named_is_told_whole(project: Project, run: Run) -> None:
    project(
        """
def test_a(): torch.relu(forward())

def test_b(): forward()
"""
    )
    named = why(run("--flop-why=test_model.py::test_a"))
    assert named[0] == "test_model.py::test_a: no baseline to differ from"
    # Weight 256 B, bias 32 B, input 512 B, and two results of [16, 8] floats of 512 B each: 1,824 B.
    assert "What cpu held at its peak of 1.78 KiB" in named
    [result] = [line for line in named if "aten.relu  " in line]
    assert result.startswith("   28.07%          512 B  activations  (outside any module)  aten.relu  test_model.py:")
    assert result.endswith(" in test_a")
    assert "  aten.relu x1" in named
    # Of all tests only what differs is told, unless everything is asked for.
    assert "Where it was held" not in why(run("--flop-why"))
    assert why(run("--flop-why", "-vv")).count("Where it was held") == 2


def test_one_line_ten_places_or_everything(run: Run, changed: Changed) -> None:
    # Twelve layers of unequal size, each twice as wide now: 2 * 16 * 8 FLOPs for each column.
    changed("range(1, 13)", "range(2, 26, 2)")
    quiet = run("--flop-budget", "-q")
    quiet.assert_outcomes(passed=1, failed=1)
    quiet.stdout.fnmatch_lines(
        ["FLOPs: * over the baseline of *; Net.layers.11: +3.07 kFLOP, larger operands: aten.mm costs 2.00 times*"]
    )
    usual = run("--flop-budget")
    # The least two, of 1 and 2 columns: 3 * 256.
    usual.stdout.fnmatch_lines(["*+768 FLOP  in 2 more places (-vv shows them)"])
    assert "Net.layers.0 " not in usual.stdout.str()
    full = run("--flop-budget", "-vv")
    full.stdout.fnmatch_lines(["*+256 FLOP*Net.layers.0  (larger operands*", "*aten.mm forward: 256 FLOP -> 512 FLOP"])
    assert "more places" not in full.stdout.str()


GROWING = """
class Wide(nn.Module):
    def forward(self, x):
        return torch.cat([x] * TIMES)  # the line that takes it

def test_memory():
    forward()
    Wide()(torch.ones(1000))
"""


def test_memory_over_its_baseline_names_the_module_and_the_line(project: Project, run_both: Run) -> None:
    pytester = project(GROWING.replace("TIMES", "2"))
    run_both("--flop-update=new").assert_outcomes(passed=1)
    project(GROWING.replace("TIMES", "3"))
    lines = pytester.path.joinpath("test_model.py").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.endswith("# the line that takes it"))
    test = 2 + next(number for number, text in enumerate(lines, 1) if text.startswith("def test_memory"))
    caught = run_both("--flop-budget")
    caught.assert_outcomes(failed=1)
    # 1,000 floats three times instead of twice: 4,000 bytes more.
    caught.stdout.fnmatch_lines(
        [
            "peak memory on cpu: * over the baseline of *",
            "  by module",
            "*+3.91 KiB*activations  Wide, before 7.81 KiB",
            f"*activations  Wide  aten.cat  test_model.py:{line} in forward",
        ]
    )
    # The whole stack, down to the test.
    told = (
        f"*activations  Wide  1 block  aten.cat  test_model.py:{line} in forward < test_model.py:{test} in test_memory"
    )
    run_both("--flop-budget", "-vv").stdout.fnmatch_lines([told])
    run_both("--flop-budget", "-q").stdout.fnmatch_lines(["*; activations on cpu: +3.91 KiB, all of it in Wide"])


def test_a_formula_stands_beside_the_count(project: Project, run: Run) -> None:
    project(
        """
from pytest_flopguard.formulas.breakdown import Breakdown, Term

def test_formula(flopguard):
    flopguard.expect(Breakdown(name="net", terms=(Term(name="product", equation="2*16*8*8", each=2048),)))
    forward()
"""
    )
    run("--flop-update=new").assert_outcomes(passed=1)
    run("--flop-why").stdout.fnmatch_lines(["*Closed form and count, term by term", "*product*2,048*2[*]16[*]8[*]8*"])


@pytest.mark.slow
def test_two_workers_tell_the_same(run: Run, changed: Changed, pytester: pytest.Pytester) -> None:
    changed("[4]", "[4, 4]")
    alone = why(run("--flop-why=test_model.py::test_net"))
    both = why(pytester.runpytest_subprocess("-n", "2", "--flop-why=test_model.py::test_net"))
    assert alone[:5] == both[:5]
    assert alone[3].strip() == "new: Net.layers.1, 1.02 kFLOP in all"
