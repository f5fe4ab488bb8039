"""Where limits and tests are written, for annotations."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_flopguard.cli.github.spots import locate, root_of
from pytest_flopguard.core.expectation import Expectation, Origin
from pytest_flopguard.core.measurement import Measurement
from pytest_flopguard.core.record import Record, RunReport
from pytest_flopguard.core.verdict import Finding
from pytest_flopguard.reporters.github_entries import Entry

SOURCE = """\
import pytest


@pytest.mark.parametrize("x", [1])
def test_plain(x): ...


class TestStep:
    class TestInner:
        async def test_deep(self): ...
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "small"
    (folder / "tests").mkdir(parents=True)
    (folder / "tests" / "test_a.py").write_text(SOURCE)
    (folder / "pyproject.toml").write_text("")
    return folder


def entry(nodeid: str) -> Entry:
    return Entry(record=Record(nodeid=nodeid, measurement=Measurement()))


def finding(path: str, line: int | None = 3) -> Finding:
    wanted = Expectation(quantity="flops", high=1, origin=Origin(path=path, line=line))
    return Finding(expectation=wanted, observed=2, status="broken", code="over-budget")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("test_plain[1-a::b]", 5),
        ("TestStep::TestInner::test_deep", 10),
        # What a base class brings has no line here: its class has.
        ("TestStep::test_inherited", 8),
        ("test_made_by_a_plugin", None),
        ("", None),
    ],
)
def test_a_test_is_found_by_its_name(project: Path, tmp_path: Path, name: str, line: int | None) -> None:
    spot = locate(project, tmp_path)
    assert spot(entry(f"tests/test_a.py::{name}"), None) == ("models/small/tests/test_a.py", line)


def test_a_limit_is_where_it_is_written(project: Path, tmp_path: Path) -> None:
    spot = locate(project, tmp_path)
    assert spot(entry("tests/test_a.py::test_plain"), finding("pyproject.toml")) == ("models/small/pyproject.toml", 3)


@pytest.mark.parametrize("path", ["command line", "default", "../../../etc/passwd", "/etc/passwd", "a\0b", "x" * 5000])
def test_a_limit_that_is_in_no_file_here_is_shown_at_its_test(project: Path, tmp_path: Path, path: str) -> None:
    spot = locate(project, tmp_path)
    assert spot(entry("tests/test_a.py::test_plain"), finding(path)) == ("models/small/tests/test_a.py", 5)


def test_what_is_nowhere_has_no_spot(project: Path, tmp_path: Path) -> None:
    (project / "broken.py").write_text("def test_x(:")
    spot = locate(project, tmp_path)
    assert spot(entry("gone.py::test_x"), None) == ("", None)
    assert spot(entry("../../../etc/passwd::x"), None) == ("", None)
    assert spot(entry("broken.py::test_x"), None) == ("models/small/broken.py", None)


@pytest.mark.parametrize(
    ("nodeid", "above"),
    [
        ("tests/test_a.py::test_plain", 0),
        ("small/tests/test_a.py::test_plain", 1),
        ("models/small/tests/test_a.py::x", 2),
    ],
)
def test_node_ids_may_begin_above_the_working_directory(project: Path, tmp_path: Path, nodeid: str, above: int) -> None:
    run = RunReport(tool={}, environment={}, records=(entry(nodeid).record,))
    assert root_of(run, project, tmp_path) == [project, *project.parents][above]


def test_where_no_file_is_they_begin_in_it(project: Path, tmp_path: Path) -> None:
    run = RunReport(tool={}, environment={}, records=(entry("gone.py::x").record,))
    assert root_of(run, project, tmp_path) == project
