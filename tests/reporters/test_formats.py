"""The end of a path chooses its reporter."""

from __future__ import annotations

import pytest

from pytest_flopguard.core.errors import UsageError
from pytest_flopguard.core.record import RunReport
from pytest_flopguard.reporters import json_file
from pytest_flopguard.reporters.formats import BUILT_IN, FORMATS, reporter_for

EMPTY = RunReport(tool={}, environment={})


def test_json_is_found_in_any_folder() -> None:
    assert reporter_for("build/out.d/report.json", "command line") is json_file


def test_every_reporter_renders_a_run_and_has_a_suffix_of_its_own() -> None:
    assert len(FORMATS) == len(BUILT_IN)
    for suffix, reporter in FORMATS.items():
        assert suffix.startswith(".")
        assert reporter.render(EMPTY).endswith("\n")


def test_the_longest_suffix_is_meant() -> None:
    class Special:
        suffix = ".special.json"

        def render(self, run: RunReport) -> str:
            return "special\n"

    special = Special()
    formats = {**FORMATS, special.suffix: special}
    assert reporter_for("a.special.json", "here", formats) is special
    assert reporter_for("a.json", "here", formats) is json_file


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "report.jsn",
            "--flop-report: no reporter writes '.jsn' files (report.jsn); did you mean '.json'? [unknown-format]",
        ),
        ("report", "--flop-report: no reporter writes '' files (report); known are .html, .json, .md [unknown-format]"),
        ("a.json/report.csv", "--flop-report: no reporter writes '.csv' files (a.json/report.csv); known are .html"),
    ],
)
def test_an_unknown_suffix_is_a_problem_that_names_what_is_known(path: str, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        reporter_for(path, "--flop-report")
    assert str(raised.value).startswith(text)
    assert [each.code for each in raised.value.problems] == ["unknown-format"]
