"""What a benchmark writes into a page stays between its markers."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_only_what_stands_between_the_markers_changes(benchmarks: object, tmp_path: Path) -> None:
    from page_part import put_into_page

    page = tmp_path / "page.md"
    page.write_text("before\n<b>old<e>\nafter\n", encoding="utf-8")
    put_into_page(page, "<b>", "<e>", "new")
    assert page.read_text(encoding="utf-8") == "before\n<b>\n\nnew\n\n<e>\nafter\n"


@pytest.mark.parametrize("text", ["nothing", "<b>open", "<e>wrong<b>"])
def test_a_page_without_the_markers_is_left_as_it_was(benchmarks: object, tmp_path: Path, text: str) -> None:
    from page_part import put_into_page

    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="has no <b> with an <e> after it"):
        put_into_page(page, "<b>", "<e>", "new")
    assert page.read_text(encoding="utf-8") == text
