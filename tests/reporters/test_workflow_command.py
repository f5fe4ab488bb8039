"""Workflow commands: one line each, read back by the runner's own rules."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.reporters.one_line import one_line
from pytest_flopguard.reporters.workflow_command import annotation, log_line

texts = st.one_of(st.text(), st.text(alphabet="%:,=;#[]\r\nA0D2C3 \x1b\u2028"))
# The names that actions/runner registers; only these are commands.
KNOWN = "add-mask|add-matcher|add-path|debug|echo|endgroup|error|group|notice|save-state|set-env|set-output|warning"


def taken_back(text: str, *, property: bool = False) -> str:
    """Undo the escapes in the runner's order: the percent sign last."""
    more = (("%3A", ":"), ("%2C", ",")) if property else ()
    for escaped, character in (("%0D", "\r"), ("%0A", "\n"), *more, ("%25", "%")):
        text = text.replace(escaped, character)
    return text


def read(line: str) -> tuple[str, dict[str, str], str]:
    """Read a command as actions/runner does (ActionCommand.TryParseV2)."""
    assert line.startswith("::")
    head, _, data = line[2:].partition("::")
    name, _, rest = head.partition(" ")
    pairs = [each.split("=", 1) for each in rest.split(",") if each]
    return name, {key: taken_back(value, property=True) for key, value in pairs}, taken_back(data)


def commands_in(line: str) -> list[str]:
    """Return what the runner would take for commands in a line: the new form at its start, the old one anywhere."""
    new = re.findall(rf"^\s*::({KNOWN})[ :]", line)
    return [*new, *re.findall(rf"##\[({KNOWN})", line)]


def test_a_node_id_comes_through() -> None:
    line = annotation("error", "100% over", title="OVER a.py::test[x,y]", file="tests/a.py", line=7)
    assert line == "::error file=tests/a.py,line=7,title=OVER a.py%3A%3Atest[x%2Cy]::100%25 over"
    assert read(line) == (
        "error",
        {"file": "tests/a.py", "line": "7", "title": "OVER a.py::test[x,y]"},
        "100% over",
    )


def test_lines_of_a_message_stay_lines() -> None:
    assert annotation("notice", "one\r\ntwo\n::error::three") == "::notice::one%0Atwo%0A::error::three"


def test_a_line_without_a_file_means_nothing() -> None:
    assert annotation("warning", "x", line=3) == "::warning::x"


@given(texts, texts, texts)
def test_any_text_stays_where_it_is(message: str, title: str, file: str) -> None:
    line = annotation("error", message, title=title, file=file, line=2)
    assert len(line.splitlines()) == 1
    name, properties, data = read(line)
    assert name == "error"
    shown = file if file.isprintable() else ""
    wanted = {"file": shown, "line": "2" if shown else "", "title": one_line(title, 200)}
    assert properties == {key: value for key, value in wanted.items() if value}
    assert data == "\n".join(map(one_line, message.splitlines()))


@given(texts)
def test_a_log_line_is_no_command(told: str) -> None:
    line = log_line(told)
    assert len(line.splitlines()) == 1
    assert line.startswith("flopguard: ")
    assert commands_in(line) == []


@pytest.mark.parametrize(
    "told", ["::error::x", "  ::add-mask::x", "##[error]x", "ok ##[add-mask]a", "##[group]", "::set-output name=a::b"]
)
def test_a_command_would_be_seen(told: str) -> None:
    assert commands_in(told)
    assert commands_in(log_line(told)) == []


def test_a_long_message_is_cut() -> None:
    assert len(annotation("error", "x" * 10_000)) < 4100
