"""In a repository with several projects the nearest pyproject.toml with settings holds for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.budgets.projects import Projects
from pytest_flopguard.budgets.settings import load_settings

Write = Callable[..., Projects]
ROOT = """
[tool.flopguard]
enabled = true
attention = "causal"
tolerance = "1%"

[tool.flopguard.default-budget]
flops = 100

[tool.flopguard.budgets."tests/test_x.py::test_x"]
parameters = 3
"""


@pytest.fixture
def projects(tmp_path: Path) -> Write:
    """Give a function that writes settings by folder, ``root`` the root's, and reads them."""

    def write(root: str = ROOT, command_line: dict[str, object] | None = None, **folders: str) -> Projects:
        for name, text in {"": root, **folders}.items():
            folder = tmp_path / name.replace("__", "/")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "pyproject.toml").write_text(text)
        return Projects(load_settings(tmp_path, command_line or {}))

    return write


def limits(projects: Projects, nodeid: str) -> list[tuple[str, int | None, str]]:
    found = projects.resolve(nodeid, ())
    assert found.nodeid == nodeid
    return [(each.quantity, each.high, str(each.origin)) for each in found.expectations]


def test_the_nearest_table_replaces_those_around_it(projects: Write) -> None:
    budget = '[tool.flopguard.budgets."tests/*::test_x"]\nflops = 200\n'
    found = projects(a=f'[tool.flopguard]\ntolerance = "10%"\n{budget}', a__b="[tool.other]\n", c="[tool.flopguard]\n")
    names = [f"{folder}tests/test_x.py::test_x" for folder in ("", "a/", "a/b/", "a/tests/", "c/")]
    assert found.read(names) == []
    assert found.files == ["a/pyproject.toml", "c/pyproject.toml"]
    assert limits(found, names[0]) == [("flops", 101, "pyproject.toml:8"), ("parameters", 3, "pyproject.toml:11")]
    # 200 and a tenth of it; the pattern begins in its own folder, and a file without our table is none.
    assert limits(found, names[1]) == [("flops", 220, "a/pyproject.toml:4")]
    assert limits(found, names[2]) == []
    assert limits(found, names[3]) == [("flops", 220, "a/pyproject.toml:4")]
    # An empty table is a table: neither a budget nor a tolerance comes from outside.
    assert limits(found, names[4]) == []
    assert found.tolerance_of(names[0])["flops"] == "1%"
    assert found.tolerance_of(names[2])["flops"] == "10%"
    assert found.tolerance_of(names[4]) == {}


def test_a_test_has_the_same_limits_from_inside_and_from_the_root(projects: Write, tmp_path: Path) -> None:
    inner = '[tool.flopguard]\nattention = "causal"\n[tool.flopguard.default-budget]\nflops = 7\n'
    outside = projects(a=inner)
    outside.read(["a/t.py::test_x"])
    inside = Projects(load_settings(tmp_path / "a", {}))
    assert limits(outside, "a/t.py::test_x") == [("flops", 7, "a/pyproject.toml:4")]
    assert limits(inside, "t.py::test_x") == [("flops", 7, "pyproject.toml:4")]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('attention = "causal"', None),
        ("enabled = true", None),
        (
            'attention = "dense"',
            "attention = 'dense': one run has one attention, and this one has 'causal' (pyproject.toml:4); "
            "set it in pyproject.toml, or start pytest in a [run-wide-setting]",
        ),
        (
            'engine = "fvcore"',
            "engine = 'fvcore': one run has one engine, and this one has 'dispatch' (default); "
            "set it in pyproject.toml, or start pytest in a [run-wide-setting]",
        ),
        (
            'report = ["x.json"]',
            "report = ['x.json']: one run has one report, and this one has [] (default); "
            "set it in pyproject.toml, or start pytest in a [run-wide-setting]",
        ),
        ("engine = 3", 'engine = 3: expected "dispatch" or "fvcore" [bad-value]'),
        ("enigne = 3", "unknown setting 'enigne'; did you mean 'engine'? [unknown-setting]"),
        ("why = 'x'", "unknown setting 'why'; it is for the command line only, as --flop-why [unknown-setting]"),
        ("default-budget = 3", "default-budget = 3: expected a table of limits [bad-value]"),
        ("x", "not valid TOML: *[bad-toml]"),
    ],
)
def test_what_holds_for_a_run_stays_with_the_root(projects: Write, line: str, told: str | None) -> None:
    found = [str(each) for each in projects(a=f"[tool.flopguard]\n# a comment\n{line}\n").read(["a/t.py::test_x"])]
    if told is not None and "*" in told:
        assert [each.startswith(f"a/pyproject.toml:3: {told.partition('*')[0]}") for each in found] == [True]
    else:
        assert found == ([] if told is None else [f"a/pyproject.toml:3: {told}"])


def test_the_same_report_file_is_one_value(projects: Write) -> None:
    found = projects('[tool.flopguard]\nreport = ["a/x.json"]\n', a='[tool.flopguard]\nreport = ["x.json"]\n')
    assert found.read(["a/t.py::test_x"]) == []


def test_the_command_line_comes_before_all_files(projects: Write) -> None:
    found = projects(ROOT, {"engine": "dispatch"}, a='[tool.flopguard]\nengine = "fvcore"\nattention = "causal"\n')
    assert found.read(["a/t.py::test_x"]) == []


def test_all_mistakes_of_all_files_are_told_in_their_order(projects: Write) -> None:
    wrong = '[tool.flopguard]\nengine = "fvcore"\ncolour = 3\n'
    found = projects(b=wrong, a=wrong).read(["b/t.py::x", "a/t.py::x", "a/t.py::y"])
    assert [each.where for each in found] == [f"{name}/pyproject.toml:{line}" for name in "ab" for line in (2, 3)]


def test_files_are_read_once(projects: Write, tmp_path: Path) -> None:
    found = projects(a="[tool.flopguard]\ncolour = 3\n")
    assert len(found.read(["a/t.py::x"])) == 1
    assert found.read(["a/t.py::x"]) == []


def test_a_budget_for_no_test_of_its_project_is_told(projects: Write) -> None:
    wrong = '[tool.flopguard.budgets."test_a.py::test_y"]\nflops = 1\n[tool.flopguard.budgets."x/*"]\nflops = 1\n'
    found = projects(a=wrong)
    nodeids = ["tests/test_x.py::test_x", "a/test_a.py::test_x"]
    found.read(nodeids)
    everything = [str(each) for each in found.unmatched(nodeids, "everything")]
    assert everything == [
        "a/pyproject.toml:1: the budget 'test_a.py::test_y' matches no test; did you mean 'test_a.py::test_x'? "
        "[unmatched-budget]",
        "a/pyproject.toml:3: the budget 'x/*' matches no test [unmatched-budget]",
    ]
    # A run of one file can tell of that file only, under the name that it has from the root.
    assert len(found.unmatched(nodeids, lambda file: file == "a/test_a.py")) == 1
    assert found.unmatched(nodeids, lambda file: file == "test_a.py") == []


def test_a_budget_of_the_root_for_a_test_of_a_project_names_the_file_that_holds(projects: Write) -> None:
    root = '[tool.flopguard.budgets."a/test_a.py::test_x"]\nflops = 1\n'
    found = projects(root, a="[tool.flopguard]\n")
    found.read(["a/test_a.py::test_x"])
    assert [str(each) for each in found.unmatched(["a/test_a.py::test_x"], "everything")] == [
        "pyproject.toml:1: the budget 'a/test_a.py::test_x' matches no test; it is a/pyproject.toml that holds for "
        "'a/test_a.py::test_x' [unmatched-budget]"
    ]


names = st.lists(st.sampled_from(["a", "b", "tests"]), max_size=4)


@given(test=names, tables=st.lists(names, max_size=4))
def test_the_nearest_is_the_longest_folder_around(
    tmp_path_factory: pytest.TempPathFactory, test: list[str], tables: list[list[str]]
) -> None:
    root = tmp_path_factory.mktemp("projects")
    for folder in tables:
        (root / Path(*folder)).mkdir(parents=True, exist_ok=True)
        (root / Path(*folder) / "pyproject.toml").write_text("[tool.flopguard]\n")
    found = Projects(load_settings(root, {}))
    nodeid = "/".join([*test, "test_x.py::test_x[a/b]"])
    assert found.read([nodeid]) == []
    around = [folder for folder in tables if test[: len(folder)] == folder]
    assert found.of(nodeid).folder == "/".join(max(around, key=len, default=[]))
