"""Every page does what it says."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent.parent
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("examples/*/*.md"))]
]
# Their blocks take less than 2 CPU seconds: they need no torch, or nothing on them runs.
QUICK_PAGES = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/README.md",
    "docs/explanation/accuracy.md",
    "docs/explanation/architecture.md",
    "docs/explanation/dependencies.md",
    "docs/explanation/memory-accuracy.md",
    "docs/explanation/simulated-gpu.md",
    "docs/explanation/speed.md",
    "docs/reference/formulas.md",
    "docs/reference/memory-formulas.md",
    "docs/reference/messages.md",
    "docs/reference/reports.md",
    "docs/reference/scaling-formulas.md",
}
NOT_RUN = Path(__file__).parent / "not_run.txt"


def links(markdown: str) -> list[str]:
    tokens = [child for token in MarkdownIt("commonmark").parse(markdown) for child in token.children or ()]
    targets = [str(token.attrs.get("href") or token.attrs.get("src") or "") for token in tokens]
    return [target for target in targets if target and "://" not in target and not target.startswith("mailto:")]


def anchors(markdown: str) -> set[str]:
    """Return the anchors of a page's headings, made as GitHub makes them."""
    tokens = MarkdownIt("commonmark").parse(markdown)
    titles = [after.content for token, after in itertools.pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def leads_somewhere(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    linked = page.parent / path if path else page
    if not linked.exists():
        return False
    return not anchor or linked.suffix != ".md" or anchor in anchors(linked.read_text(encoding="utf-8"))


def dead_links(page: Path) -> list[str]:
    return [target for target in links(page.read_text(encoding="utf-8")) if not leads_somewhere(page, target)]


@pytest.mark.parametrize(
    "page", [page if page in QUICK_PAGES else pytest.param(page, marks=pytest.mark.slow) for page in PAGES]
)
def test_the_blocks_of_a_page_run(page: str, run_page: Callable[[str], None], tmp_path: Path) -> None:
    if page.startswith("examples/"):
        shutil.copytree((ROOT / page).parent, tmp_path, dirs_exist_ok=True)
    run_page((ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    assert dead_links(ROOT / page) == []


def test_the_index_leads_to_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in links(index.read_text("utf-8"))}
    assert [
        page for page in PAGES if page.startswith("docs/") and (ROOT / page).resolve() not in linked | {index}
    ] == []


def test_quick_pages_exist() -> None:
    assert set(PAGES) >= QUICK_PAGES


def test_every_block_that_does_not_run_is_listed(blocks_of: Callable[[str], list[Any]]) -> None:
    found = [
        f"{page}: {block.language}: {block.no_run}"
        for page in PAGES
        for block in blocks_of((ROOT / page).read_text(encoding="utf-8"))
        if block.no_run is not None
    ]
    listed = NOT_RUN.read_text(encoding="utf-8").splitlines()
    assert found == listed, "tests/docs/not_run.txt must hold exactly:\n" + "\n".join(found)


def test_dead_links_are_seen(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A title: with `code`\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](there.md) [b](there.md#a-title-with-code) [c](#here) [d](https://example.org/x)\n\n"
        "[e](gone.md) [f](there.md#gone) [g](#gone) ![h](gone.png)\n"
    )
    assert dead_links(page) == ["gone.md", "there.md#gone", "#gone", "gone.png"]
