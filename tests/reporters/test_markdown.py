"""The Markdown file: golden texts, what stands first, and nothing that a name could turn into markup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
from markdown_it import MarkdownIt

from pytest_flopguard.core.measurement import Measurement
from pytest_flopguard.core.record import RunReport
from pytest_flopguard.reporters import json_file, markdown

Golden = Callable[[str, str], None]
HOSTILE = 'a.py::test[<script>alert(1)</script>|`x`*b*\n# h @octocat #1 [l](http://e.x) ![i](http://e.x/i) www.e.x "\\]'


def tokens(text: str) -> list[tuple[str, str]]:
    found = []
    for block in MarkdownIt("commonmark", {"html": True}).enable(["table"]).parse(text):
        for token in [block, *(block.children or ())]:
            found.append((token.type, token.content))
    return found


def test_the_usual_run(usual_run: RunReport, golden: Golden) -> None:
    golden("report_usual.md", markdown.render(usual_run).removesuffix("\n"))


def test_everything_that_a_record_holds(build: SimpleNamespace, golden: Golden) -> None:
    golden("report_full.md", markdown.render(build.run_of(build.full())).removesuffix("\n"))


def test_the_same_as_json_for_the_tests_of_the_command_line(build: SimpleNamespace, golden: Golden) -> None:
    golden("report_full.json", json_file.render(build.run_of(build.full())).removesuffix("\n"))


def test_what_broke_stands_first_with_its_cause(usual_run: RunReport) -> None:
    text = markdown.render(usual_run)
    rows = [line.split("|")[9].strip() for line in text.splitlines() if line.startswith("|") and "`" in line]
    assert rows == ["failed", "failed", "failed", "undecided", "warned", "without a budget", "ok", "ok"]
    causes = text.partition("## To act upon")[2].partition("## Tests")[0]
    assert "over the limit of 580 GFLOP by 3.3 GFLOP" in causes
    assert "test_first_look" not in causes


def test_tables_are_tables_for_a_parser(usual_run: RunReport) -> None:
    # Eight rows of nine cells and their header in the summary; every other table has as many cells in each row.
    found = tokens(markdown.render(usual_run).partition("<details>")[0])
    assert sum(kind == "tr_open" for kind, _ in found) == 1 + 8
    assert sum(kind in ("td_open", "th_open") for kind, _ in found) == 9 * 9


@pytest.mark.parametrize("field", ["nodeid", "label", "unavailable", "note"])
def test_no_text_becomes_markup(build: SimpleNamespace, field: str) -> None:
    seen = Measurement(
        flops=build.tally([build.counted("aten.mm", HOSTILE if field == "label" else "a", 5)]),
        label=HOSTILE if field == "label" else "",
        unavailable={"memory": HOSTILE} if field == "unavailable" else {},
    )
    record = build.record(HOSTILE if field == "nodeid" else "t.py::x", seen, build.limit("flops", "1 FLOP", "a.py:1"))
    run = build.run_of(record)
    text = markdown.render(replace(run, notes=(HOSTILE,)) if field == "note" else run)
    plain = markdown.render(build.run_of(build.record("t.py::x", replace(seen, label="", unavailable={}))))
    known = {kind for kind, _ in tokens(plain)} | {"list_item_open", "blockquote_open"}
    found = tokens(text)
    assert "script" in text
    assert not {kind for kind, _ in found} & {"link_open", "image", "em_open", "heading_open"} - known
    html = [content for kind, content in found if kind in ("html_block", "html_inline")]
    tags = {"details", "summary", "sub", "code", "span"}
    assert all(part.lstrip("/").split(">")[0] in tags for each in html for part in each.split("<")[1:])
    # A mention would notify somebody; in code it does not.
    outside = [content for kind, content in found if kind == "text"]
    assert not any("@octocat" in each for each in outside)


def test_long_tables_say_how_many_rows_they_leave_out(build: SimpleNamespace) -> None:
    counts = [build.counted("aten.mm", f"layer_{chr(97 + i // 26)}{chr(97 + i % 26)}", 100 - i) for i in range(31)]
    text = markdown.render(build.run_of(build.record("t.py::x", Measurement(flops=build.tally(counts)))))
    assert "1 more rows stand in the HTML and JSON reports." in text


def test_an_empty_run_is_a_page() -> None:
    text = markdown.render(RunReport(tool={}, environment={}, notes=("nothing ran",)))
    assert text == "# flopguard\n\n**0 measured**\n\n> nothing ran\n"
