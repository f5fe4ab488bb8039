"""The table of tested releases: what is newer is reported, and the page has the same table."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from pytest_flopguard.core.tested_releases import TESTED, newer_releases

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "releases.md"


def lines(**versions: str) -> list[str]:
    def installed(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    return list(newer_releases(installed))


def test_the_next_minor_release_is_newer_and_a_patch_is_not() -> None:
    assert lines(torch="2.16.0") == ["torch 2.16.0 is newer than the newest tested release, 2.15"]
    assert lines(torch="2.15.7", pytest="9.2.9") == []


@pytest.mark.parametrize("version", ["2.9.1", "2.15.0+cu132", "2.15.0.dev20261101", "2.15rc1"])
def test_numbers_are_compared_and_not_text(version: str) -> None:
    assert lines(torch=version) == []


def test_each_library_has_its_own_line_and_a_missing_one_has_none() -> None:
    assert lines(torch="3.0+cpu", transformers="6.0.1") == [
        "torch 3.0 is newer than the newest tested release, 2.15",
        "transformers 6.0.1 is newer than the newest tested release, 5.24",
    ]
    assert lines() == []


def test_the_page_has_the_same_table() -> None:
    rows = re.findall(
        r"^\| (torch|transformers|pytest) \| ([\d., ]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {name: tuple(releases.split(", ")) for name, releases in rows} == TESTED
