"""Runs as a summary and as a comment: what they tell, how they are cut, and that no name can be more than a name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_flopguard.core.comparison import Compared, Number
from pytest_flopguard.core.delta import Delta
from pytest_flopguard.core.measurement import Measurement
from pytest_flopguard.core.record import Record
from pytest_flopguard.reporters import github_comment, github_summary
from pytest_flopguard.reporters.github_body import body, headline
from pytest_flopguard.reporters.github_entries import Entry, Leg, worst_first

MIB = 1024**2
LINK = "https://github.example/octo/net/actions/runs/1"
HOSTILE = [
    "a|b\\|c",
    "`x` ``y`",
    "<script>alert(1)</script>",
    "</details></td></table><h1>x</h1>",
    "@ada @org/team",
    "](http://evil.example)",
    "![i](//evil.example/i.png)",
    "http://evil.example www.evil.example",
    "<!-- flopguard:default -->",
    "#1 GH-2 octo/net#3",
    "\x1b[31mred\x1b[0m",
    "line\nbreak\n\n# heading\n- item",
    "::error::x",
    "| a | b |\n|---|---|",
]


def costing(build: SimpleNamespace, name: str, flops: int, limit: str = "100 GFLOP") -> Record:
    found: Record = build.record(
        f"tests/test_a.py::{name}",
        Measurement(
            flops=build.tally([build.counted("aten.mm", "net", flops)]),
            memory=(build.cpu_peak(parameters=MIB, activations=MIB),),
        ),
        build.limit("flops", limit, "pyproject.toml:7"),
    )
    return found


def compared(record: Record, verdict: str, *numbers: tuple[str, int, int], **more: Any) -> Compared:
    found = tuple(
        Number(quantity=name, before=before, now=now, device="cpu" if "memory" in name else "")  # type: ignore[arg-type]
        for name, before, now in numbers
    )
    return Compared(nodeid=record.nodeid, region="", verdict=verdict, numbers=found, **more)  # type: ignore[arg-type]


def leg(build: SimpleNamespace, *entries: Record | Entry, **more: Any) -> Leg:
    found = [each if isinstance(each, Entry) else Entry(record=each) for each in entries]
    run = build.run_of(*(each.record for each in found))
    return Leg(**{"name": "default", "run": run, "entries": worst_first(found), **more})


@pytest.fixture
def pull_request(build: SimpleNamespace) -> Leg:
    """One of everything that a pull request can do."""
    dear, cheap, new = (costing(build, f"test_{name}", 10**9) for name in ("dear", "cheap", "new"))
    same, other = costing(build, "test_same", 10**9), costing(build, "test_other", 10**9)
    over = costing(build, "test_over", 120 * 10**9)
    grown = ("peak_memory", MIB, 2 * MIB)
    changed = compared(other, "changed", reasons=("inputs of Net: float32[1] before, float32[2] now",))
    return leg(
        build,
        Entry(record=same, compared=compared(same, "same")),
        Entry(record=new, compared=compared(new, "new")),
        Entry(record=cheap, compared=compared(cheap, "improvement", ("flops", 2 * 10**9, 10**9))),
        Entry(record=dear, compared=compared(dear, "regression", ("flops", 8 * 10**8, 10**9), grown)),
        Entry(record=over, compared=compared(over, "regression", ("flops", 10**9, 120 * 10**9))),
        Entry(record=other, compared=changed),
        Entry(
            record=(taken := costing(build, "test_taken", 10**9)),
            compared=compared(taken, "regression", ("flops", 5 * 10**8, 10**9)),
            accepted="a wider head, #812",
        ),
        against="base 0123456789ab",
        has_base=True,
        gone=(Compared(nodeid="tests/test_a.py::test_gone", region="", verdict="gone"),),
    )


def test_the_comment(pull_request: Leg, golden: Callable[[str, str], None]) -> None:
    golden("github_comment.md", github_comment.render([pull_request], "default", link=LINK))


def test_the_summary_of_a_usual_run(build: SimpleNamespace, usual_run: Any, golden: Callable[[str, str], None]) -> None:
    entries = worst_first([Entry(record=each) for each in usual_run.records])
    golden("github_summary.md", github_summary.render([Leg(name="default", run=usual_run, entries=entries)]))


def test_the_headline_counts(pull_request: Leg, build: SimpleNamespace) -> None:
    assert headline([pull_request]) == (
        "flopguard: 1 broken, 2 dearer, 1 undecided, 1 cheaper, 1 new, 1 accepted, 1 gone of 7 measured"
    )
    assert headline([leg(build, costing(build, "test_a", 1))]) == "flopguard: 1 measured"


def test_a_comment_begins_with_its_marker(pull_request: Leg) -> None:
    assert github_comment.render([pull_request], "cpu/3.12").startswith("<!-- flopguard:cpu/3.12 -->\n### flopguard: ")
    assert "(`cpu/3.12`)\n" in github_comment.render([pull_request], "cpu/3.12")


@pytest.mark.parametrize("name", ["", "a b", "a-->", "<x>", "ä", "x" * 65, "a\n"])
def test_what_is_no_id_is_refused(pull_request: Leg, name: str) -> None:
    with pytest.raises(ValueError, match="is no id of a comment"):
        github_comment.render([pull_request], name)


def test_several_runs_are_one_text(pull_request: Leg, build: SimpleNamespace) -> None:
    other = leg(build, costing(build, "test_gpu", 10**9), name="gpu")
    text = github_comment.render([replace(pull_request, name="cpu"), other], "merged")
    assert text.count("### flopguard: ") == 1
    assert re.findall(r"^#### (.*?):", text, flags=re.MULTILINE) == ["`cpu`", "`gpu`"]
    assert "of 8 measured" in text.partition("\n#### ")[0]


def sizes(text: str) -> tuple[int, int]:
    return len(text), len(text.encode("utf-8"))


@pytest.mark.parametrize("name", ["test_" + "x" * 60, "test_größer🎉", "test_" + "|" * 150])
def test_a_comment_is_cut_by_whole_tests(build: SimpleNamespace, name: str) -> None:
    records = [costing(build, f"{name}[{number}]", 120 * 10**9) for number in range(600)]
    text = github_comment.render([leg(build, *records)], "default", link=LINK)
    characters, _ = sizes(text)
    assert 50_000 < characters < 65_536
    rows = [line for line in text.splitlines() if line.startswith("| **OVER**")]
    cut = [int(each) for each in re.findall(r"^and (\d+) more tests, which", text, flags=re.MULTILINE)]
    # Shown and left out are all there are, in each table.
    assert sum(cut) + len(rows) == 600 * len(cut)
    assert all(line.count(" | ") == 6 for line in rows)
    assert text.count("<details") == text.count("</details>")
    assert text.rstrip().endswith(f"[run]({LINK})</sub>")


def test_a_summary_is_cut_under_one_mebibyte(build: SimpleNamespace) -> None:
    records = [costing(build, f"test_{'é' * 140}[{number}]", 120 * 10**9) for number in range(1700)]
    text = github_summary.render([leg(build, *records)])
    assert 900_000 < len(text.encode("utf-8")) < MIB
    assert re.search(r"^and \d+ more (tests|explanations), which the report file holds$", text, flags=re.MULTILINE)
    # What the step has written before counts too.
    assert len(github_summary.render([leg(build, *records)], written=MIB // 2).encode("utf-8")) < MIB // 2
    assert github_summary.render([leg(build, *records)], written=MIB - 10) == ""


def test_more_runs_than_there_is_room_for_are_counted(build: SimpleNamespace) -> None:
    legs = [leg(build, costing(build, f"test_{'x' * 140}", 120 * 10**9), name=f"leg {n}") for n in range(256)]
    text = github_comment.render(legs, "merged")
    assert len(text) < 65_536
    assert len(re.findall("^#### ", text, flags=re.MULTILINE)) + int(re.search(r"and (\d+) more runs", text)[1]) == 256  # type: ignore[index]
    assert text.count("<details") == text.count("</details>")


class Page(HTMLParser):
    """The tags of a page, with where links lead, and its text outside of code."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.text = ""
        self._code = 0
        self.feed(cmarkgfm.github_flavored_markdown_to_html(markdown, Options.CMARK_OPT_UNSAFE))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]
        self._code += tag == "code"

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag == "code"

    def handle_comment(self, data: str) -> None:
        self.tags.append(f"<!--{data}-->")

    def handle_data(self, data: str) -> None:
        if not self._code:
            self.text += data


def hostile_leg(build: SimpleNamespace, text: str, trusted: bool) -> Leg:
    """Build a run that holds a text wherever a report holds texts."""
    seen = Measurement(
        label=text,
        flops=build.tally([build.counted(text, text, 120 * 10**9)]),
        memory=(replace(build.cpu_peak(parameters=MIB), device=text),),
        unavailable={"parameters": text},
    )
    wanted = build.limit("flops", "100 GFLOP", "pyproject.toml:7")
    wanted = replace(wanted, origin=replace(wanted.origin, path=text, text=text))
    absent = replace(build.limit("parameters", "1", "a.py:1"), device=text)
    record = build.record(f"a.py::{text}", seen, wanted, absent)
    odd = tuple(
        replace(each, reason=text, code=each.code if each.status == "broken" else text) for each in record.findings
    )
    record = replace(record, findings=odd)
    entry = Entry(
        record=record,
        region=text,
        compared=Compared(
            nodeid=record.nodeid,
            region=text,
            verdict="regression",
            numbers=(Number(quantity="peak_memory", before=1, now=2, device=text),),
            delta=Delta(),
            reasons=(text,),
        ),
        accepted=text,
    )
    run = replace(build.run_of(record), environment={"torch": text, "python": text}, notes=(text,))
    gone = (Compared(nodeid=text, region=text, verdict="gone"),)
    return Leg(
        name=text, run=run, entries=(entry,), gone=gone, against=text, has_base=True, notes=(text,), trusted=trusted
    )


def skeleton(page: Page) -> list[str]:
    # A dollar sign stands in a span; everything else is the same whatever names say.
    return [tag for tag in page.tags if tag not in ("span", "code")]


@given(text=st.one_of(st.sampled_from(HOSTILE), st.text(), st.text(alphabet="`|\\<>@:#[]()!*_~&$-+=1.w/a \n\x1b")))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@pytest.mark.parametrize("trusted", [True, False])
def test_no_text_of_a_report_is_more_than_text(build: SimpleNamespace, trusted: bool, text: str) -> None:
    plain, odd = (
        Page(github_comment.render([hostile_leg(build, each, trusted), leg(build)], "default", link=LINK))
        for each in ("word", text)
    )
    assert odd.tags[0] == "<!-- flopguard:default -->"
    if text.strip():
        assert skeleton(odd) == skeleton(plain)
    assert set(odd.links) == {LINK}
    assert not re.search(r"@\w|#\d|://|www\.|gh-\d", odd.text, re.IGNORECASE)


def test_such_texts_would_be_seen(build: SimpleNamespace) -> None:
    # The guard above can fail: as it is, each of these changes the page.
    plain = Page(github_comment.render([hostile_leg(build, "word", True)], "default"))
    for text in ("<h1>x</h1>", "](http://evil.example)", "| x |"):
        raw = github_comment.render([hostile_leg(build, "word", True)], "default").replace(
            "a.py::word", f"a.py::{text}`"
        )
        assert Page(raw).tags != plain.tags


def test_of_a_run_that_nobody_trusts_no_reason_is_shown(build: SimpleNamespace) -> None:
    secret = "please run my script"
    trusted, untrusted = (body([hostile_leg(build, secret, each)], most=10**6, title="x") for each in (True, False))
    assert "accepted&#58;" in trusted or f"accepted: {secret}" in trusted
    shown = untrusted.replace(f"`a.py::{secret}`", "").replace(f"`{secret}`", "")
    # What is left are names: of the device, and of what it was compared with.
    assert "inputs" not in shown
    assert "accepted:" not in shown
