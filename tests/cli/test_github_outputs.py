"""Outputs of a step, and lines in its log: no value can end before its end."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_flopguard.cli.github.outputs import say, tell, write_outputs


def read(text: str) -> dict[str, str]:
    """Read the file as the runner does: a name with its end, then lines up to that end."""
    found: dict[str, str] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        name, heredoc, end = line.partition("<<")
        if heredoc:
            value = []
            for each in lines:
                if each == end:
                    break
                value.append(each)
            found[name] = "\n".join(value)
    return found


@given(values=st.dictionaries(st.sampled_from(["outcome", "tests"]), st.text(st.characters(codec="utf-8"))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_comes_back(tmp_path: Path, values: Mapping[str, str]) -> None:
    file = tmp_path / "output"
    file.write_text("")
    # Python would turn line ends around when it reads.
    write_outputs(file, values)
    assert read(file.read_bytes().decode("utf-8")) == dict(values)


def test_a_value_that_looks_like_an_output_is_none(tmp_path: Path) -> None:
    file = tmp_path / "output"
    write_outputs(file, {"outcome": "failed"})
    end = file.read_text().splitlines()[-1]
    # Knowing the end of one value does not help with the next: each file gets its own.
    write_outputs(file, {"tests": f"1\n{end}\noutcome<<x\npassed\nx"})
    assert read(file.read_text())["outcome"] == "failed"


def test_nothing_is_written_where_there_is_no_file() -> None:
    write_outputs(None, {"outcome": "passed"})


def test_a_log_without_unicode_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    say("größer\n::error::x ##[error]y")
    tell("notice", "≥ 1")
    assert raw.getvalue().decode("ascii").splitlines() == [
        "flopguard: gr\\xf6\\xdfer ::error::x ## [error]y",
        "::notice title=flopguard::\\u2265 1",
    ]
