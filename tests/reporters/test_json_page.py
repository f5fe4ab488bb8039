"""docs/reference/json-report.md names every key of the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_flopguard.core.record_shape import REPORT

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "json-report.md"


def keys(shape: Any) -> Iterator[str]:
    """Yield the names of all objects in a shape."""
    for each in shape if isinstance(shape, (tuple, list)) else [shape]:
        if isinstance(each, dict):
            yield from (name for name in each if isinstance(name, str))
            for inner in each.values():
                yield from keys(inner)


def missing(page: str) -> list[str]:
    named = set(re.findall(r"`([a-z_]+)`", "\n".join(line for line in page.splitlines() if line.startswith("|"))))
    return sorted(set(keys(REPORT)) - named)


def test_every_key_is_named() -> None:
    assert {"format_version", "records", "kernel_recompute", "limit_device", "growth_bytes"} <= set(keys(REPORT))
    assert missing(PAGE.read_text(encoding="utf-8")) == []


def test_a_key_that_is_not_named_is_seen() -> None:
    assert missing(PAGE.read_text(encoding="utf-8").replace("`kernel_recompute`", "")) == ["kernel_recompute"]
