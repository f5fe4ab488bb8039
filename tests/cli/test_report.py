"""``flopguard report``: the saved run once more, in any format, and from a file that nobody vouches for."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_flopguard.cli import main
from pytest_flopguard.core.errors import UsageError
from pytest_flopguard.core.record import Record, run_from_json
from pytest_flopguard.core.units import Unit
from pytest_flopguard.formulas.architectures.families import FAMILIES
from pytest_flopguard.reporters import html, icicle, json_file, markdown, memory_chart, terminal
from pytest_flopguard.reporters.module_costs import module_costs

REPORT = Path(__file__).parent.parent / "golden" / "report.json"
FULL = Path(__file__).parent.parent / "golden" / "report_full.json"
Refused = Callable[..., list[str]]


def test_each_format_is_what_the_run_itself_would_have_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_from_json(json.loads(FULL.read_text()))
    paths = {name: tmp_path / "new" / f"report.{name}" for name in ("html", "md", "json")}
    # The one record failed, which is no failure of writing it down.
    assert main(["report", str(FULL), *(f"-o{path}" for path in paths.values())]) == 0
    assert paths["html"].read_text() == html.render(run)
    assert paths["md"].read_text() == markdown.render(run)
    assert paths["json"].read_bytes() == FULL.read_bytes()
    assert capsys.readouterr().out.splitlines() == [f"{path}: written" for path in paths.values()]


def test_a_format_that_there_is_not_is_told_before_the_file_is_read(refused: Refused) -> None:
    assert refused("report", "gone.json", "-o", "x.csv") == [
        "command line: no reporter writes '.csv' files (x.csv); known are .html, .json, .md [unknown-format]"
    ]


def test_paths_that_cannot_be_written_are_told_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.md").mkdir()
    (tmp_path / "file").touch()
    wrong = [tmp_path / "a.md", tmp_path / "file" / "b.md"]
    assert main(["report", str(REPORT), "-o", str(wrong[0]), "-o", str(wrong[1]), "-o", str(tmp_path / "c.md")]) == 2
    out, error = capsys.readouterr()
    assert out == f"{tmp_path / 'c.md'}: written\n"
    assert [line.partition(": the report")[0] for line in error.splitlines()] == [
        f"flopguard: {wrong[0]}",
        str(wrong[1]),
    ]


def test_a_terminal_obeys_nothing_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(REPORT.read_text())
    data["records"][0]["nodeid"] = "a.py::test\x1b]0;title\x07\u202e"
    data["notes"] = ["\x1b[2J"]
    (tmp_path / "r.json").write_text(json.dumps(data))
    for flags in ([], ["-q"], ["-vv"]):
        main(["report", str(tmp_path / "r.json"), *flags])
        out = capsys.readouterr().out
        assert "\\x1b" in out
        assert not set(out) & {"\x1b", "\x07", "\u202e"}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from places(each, (*path, key))


def put(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    if value is Ellipsis:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return data


KNOWN = json.loads(FULL.read_text())
TEXTS = st.text(max_size=8) | st.sampled_from(["0-99999999", "\ud800", "<b>", "a.b.c", "../x", "aten.mm", "(", "999-1"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**40), 10**40) | st.floats() | TEXTS | st.just(...),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)


def icicle_of(record: Record) -> object:
    peaks = record.measurement.memory
    drawn = [memory_chart.timeline(each, 5) for each in peaks] + [memory_chart.alive(each) for each in peaks]
    tally = record.measurement.flops
    return [*drawn, None if tally is None else icicle.chart(module_costs(tally), Unit.FLOP)]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(where=st.sampled_from(list(places(KNOWN))), value=VALUES)
@example(where=("records", 0, "memory", "timeline", 0), value=[1, 2, 3])
@example(where=("records", 0, "memory", "timeline"), value=[[0, -(10**30)]])
@example(where=("records", 0, "baseline"), value={"flops": "x"})
@example(where=("records", 0, "workload"), value={"calls": [{}]})
@example(where=("records", 0, "findings", 0, "parts", 0, "modules"), value="(")
@example(where=("records", 0, "findings", 1, "code"), value="")
@example(where=("records", 0, "findings", 1, "code"), value="bad-value")
def test_any_change_is_refused_or_rendered(
    tmp_path_factory: pytest.TempPathFactory, where: tuple[Any, ...], value: Any
) -> None:
    data = put(copy.deepcopy(KNOWN), where, value)
    path = tmp_path_factory.mktemp("r") / "r.json"
    try:
        path.write_text(json.dumps(data, default=str))
    except ValueError:
        return
    try:
        run = json_file.load(path)
    except UsageError as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert [each.code for each in refused.problems] == ["bad-report"]
        return
    for width in (40, 200):
        terminal.render(run, verbosity=2, width=width)
    markdown.render(run)
    json_file.render(run)
    list(map(icicle_of, run.records))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a*)*b", "a*a*a*a*b", "(x{9}){9}", "a" * 500, "("])
def test_a_pattern_that_could_take_for_ever_is_refused(tmp_path: Path, pattern: str) -> None:
    data = put(copy.deepcopy(KNOWN), ("records", 0, "findings", 0, "parts", 0, "modules"), pattern)
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=r"regular expression.*\[bad-report\]"):
        json_file.load(tmp_path / "r.json")


def test_the_patterns_of_the_closed_forms_are_read() -> None:
    patterns = {pattern for family in FAMILIES.values() for pattern in family.modules.values()}
    assert len(patterns) > 20
    for pattern in patterns:
        json_file._check_pattern(pattern)
