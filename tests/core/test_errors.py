"""Every message has a page section, and every section a message."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from pytest_flopguard.core.errors import (
    MESSAGES,
    FlopguardError,
    FormulaError,
    UsageError,
    message,
    nearest,
    problem,
)

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "messages.md"
# What every section must answer, in this order.
PARTS = ("**Means.**", "**Example.**", "**Do.**")


def sections(markdown: str) -> dict[str, str]:
    """Split a page at its ``### code`` headings."""
    parts = re.split(r"^### ([\w-]+)$", markdown, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def examples(section: str) -> list[str]:
    """Return the example's text: the lines indented by four, joined."""
    return [" ".join(block.split()) for block in re.findall(r"(?:^    .+\n)+", section, flags=re.MULTILINE)]


def template(code: str) -> re.Pattern[str]:
    """Turn a message into the pattern of its rendered texts."""
    pieces = [
        re.escape(literal) + (".*?" if field is not None else "")
        for literal, field, _, _ in string.Formatter().parse(MESSAGES[code])
    ]
    return re.compile("".join(pieces) + re.escape(f" [{code}]"))


def wrong(markdown: str) -> list[str]:
    """Say what a page lacks."""
    found = sections(markdown)
    told = [f"{code}: no section" for code in MESSAGES if code not in found]
    told += [f"{code}: no such message" for code in found if code not in MESSAGES]
    for code, text in found.items():
        places = [text.find(part) for part in PARTS]
        if -1 in places or places != sorted(places):
            told.append(f"{code}: needs {', '.join(PARTS)} in this order")
        elif code in MESSAGES and not any(template(code).search(each) for each in examples(text)):
            told.append(f"{code}: no example is what the message prints")
    return told


def test_the_page_and_the_messages_are_the_same() -> None:
    assert wrong(PAGE.read_text(encoding="utf-8")) == []


def test_sections_stand_in_the_order_of_the_messages() -> None:
    assert list(sections(PAGE.read_text(encoding="utf-8"))) == list(MESSAGES)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("### over-budget", "### over-budgets", ["over-budget: no section", "over-budgets: no such message"]),
        ("### bad-toml", "### bad-toml\n\n### bad-tomls", ["bad-tomls: no such message"]),
        ("over the limit of", "beyond the limit of", ["over-budget: no example is what the message prints"]),
        ("[over-budget]", "[overbudget]", ["over-budget: no example is what the message prints"]),
    ],
)
def test_the_check_of_the_page_can_fail(old: str, new: str, told: list[str]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert old in page
    found = wrong(page.replace(old, new))
    assert [each for each in told if each not in found] == []


def test_a_section_without_a_part_is_seen() -> None:
    page = PAGE.read_text(encoding="utf-8").replace("**Do.**", "**Maybe.**", 1)
    assert wrong(page) == [f"{next(iter(MESSAGES))}: needs **Means.**, **Example.**, **Do.** in this order"]


@pytest.mark.parametrize("code", MESSAGES)
def test_every_message_renders_and_ends_with_its_code(code: str) -> None:
    fields = {field for _, field, _, _ in string.Formatter().parse(MESSAGES[code]) if field}
    text = message(code, **dict.fromkeys(fields, "VALUE"))
    assert text.endswith(f" [{code}]")
    assert "{" not in text
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", code)


@pytest.mark.parametrize("code", [code for code in MESSAGES if "{" in MESSAGES[code]])
def test_a_missing_value_is_an_error(code: str) -> None:
    with pytest.raises(KeyError):
        message(code)


def test_an_unknown_code_is_an_error() -> None:
    with pytest.raises(KeyError, match="over-buget"):
        message("over-buget")


def test_nearest_names_the_closest_or_nothing() -> None:
    assert nearest("flop", ["flops", "parameters"]) == "; did you mean 'flops'?"
    assert nearest("speed", ["flops", "parameters"]) == ""
    assert nearest("flops", []) == ""


def test_a_problem_tells_where_first() -> None:
    found = problem("unknown-setting", "pyproject.toml:7", name="engin", hint=nearest("engin", ["engine"]))
    assert found.code == "unknown-setting"
    assert str(found) == "pyproject.toml:7: unknown setting 'engin'; did you mean 'engine'? [unknown-setting]"


def test_a_usage_error_tells_all_its_problems() -> None:
    problems = [problem("bad-toml", f"pyproject.toml:{line}", reason="odd") for line in (3, 9)]
    error = UsageError(problems)
    assert error.problems == tuple(problems)
    assert (
        str(error)
        == "pyproject.toml:3: not valid TOML: odd [bad-toml]\npyproject.toml:9: not valid TOML: odd [bad-toml]"
    )


@pytest.mark.parametrize("kind", [UsageError, FormulaError])
def test_every_error_of_ours_can_be_caught_as_one(kind: type[Exception]) -> None:
    assert issubclass(kind, FlopguardError)
    assert not issubclass(FlopguardError, (ValueError, KeyError))
