"""The HTML file: one page, every text escaped, nothing from elsewhere, and tables where no chart can be drawn."""

from __future__ import annotations

import hashlib
import re
import sys
from base64 import b64encode
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from pytest_flopguard.core.baseline import Baseline
from pytest_flopguard.core.measurement import Measurement
from pytest_flopguard.core.record import RunReport
from pytest_flopguard.reporters import html

HOSTILE = "a.py::test[<script>alert(1)</script><img src=x onerror=alert(2)>\"'>&{{ 7 * 7 }}\u202e\x1b[31m]"


class Page(HTMLParser):
    """The elements of a page in their order, with the texts in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [
            attrs for name, attrs in self.elements if name == tag and all(attrs.get(k) == v for k, v in wanted.items())
        ]


def test_each_test_has_a_row_that_links_to_its_page(usual_run: RunReport) -> None:
    page = Page(html.render(usual_run))
    ids = [each["id"] for each in page.all("section", **{"class": "test"})]
    assert len(ids) == len(set(ids)) == len(usual_run.records)
    assert [each["href"] for each in page.all("a")][1 : 1 + len(ids)] == [f"#{each}" for each in ids]
    # The same name has the same address in every run.
    assert ids == [each["id"] for each in Page(html.render(usual_run)).all("section", **{"class": "test"})]


def test_everything_that_a_record_holds_is_there(build: SimpleNamespace) -> None:
    text = html.render(build.run_of(build.full()))
    for told in (
        "12,000 FLOP",
        "+33.33%",
        "over the baseline of 9 kFLOP by 3 kFLOP",
        "2 * s * h * f",
        "layers.0-3.mlp",
        "model.py:41 in forward",
        "expandable_segments:True",
        "the CUDA context",
        "torch sees no CUDA device",
        "did not run before: aten.mm",
        "a third layer",
    ):
        assert told in text
    assert re.findall(r"<figcaption>(.*?)</figcaption>", text) == [
        "FLOPs by module: 12 kFLOP",
        "Memory on sim:h100 over time",
        "Alive at the peak of &gt;= 8 KiB on sim:h100",
    ]
    assert text.count("<svg") == 3


def test_nothing_is_fetched_and_no_other_script_may_run(build: SimpleNamespace) -> None:
    text = html.render(build.run_of(build.full()))
    page = Page(text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"] == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )
    assert all(attrs["href"].startswith("#") for attrs in page.all("a") if attrs["href"])  # type: ignore[union-attr]
    assert not [attrs for _, attrs in page.elements if {"src", "srcset", "action"} & attrs.keys()]
    # Names of languages are no addresses that anybody opens.
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in text
    assert "url(" not in text


@pytest.mark.parametrize("where", ["nodeid", "label", "module", "unavailable", "note", "reason", "environment"])
def test_no_text_becomes_markup(build: SimpleNamespace, where: str) -> None:
    plain, hostile = (Page(html.render(run_with(build, **{where: text}))) for text in ("plain", HOSTILE))
    # The same elements with the same names of attributes: the text has added none.
    assert [(tag, sorted(attrs)) for tag, attrs in plain.elements if tag != "wbr"] == [
        (tag, sorted(attrs)) for tag, attrs in hostile.elements if tag != "wbr"
    ]
    told = " ".join([*hostile.texts, *(value or "" for _, attrs in hostile.elements for value in attrs.values())])
    assert "alert(1)" in told
    assert "{{ 7 * 7 }}" in told
    assert "\u202e" not in told
    assert "\x1b" not in told
    assert [attrs for _, attrs in hostile.elements if any(name.startswith("on") for name in attrs)] == []


def run_with(build: SimpleNamespace, **texts: str) -> RunReport:
    seen = Measurement(
        flops=build.tally([build.counted("aten.mm", texts.get("module", "a"), 5), build.counted("aten.mm", "b", 9)]),
        label=texts.get("label", "region"),
        unavailable={"memory": texts.get("unavailable", "why")},
    )
    record = build.record(texts.get("nodeid", "t.py::x"), seen, build.limit("flops", "1 FLOP", "a.py:1"))
    record = replace(record, baseline=Baseline(reason=texts.get("reason", "why"), was={"flops": 3}))
    run = build.run_of(record)
    return replace(run, notes=(texts.get("note", "note"),), environment={"torch": texts.get("environment", "2.13")})


def test_without_the_extra_there_are_tables_and_the_way_to_charts(
    build: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    text = html.render(build.run_of(build.full()))
    assert "<svg" not in text
    assert "There are no charts: they need vl-convert-python (pip install &#39;pytest-flopguard[plots]&#39;)." in text
    assert "layers.0-3.mlp" in text


def test_charts_are_drawn_for_the_first_tests_only(build: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "_MOST_DRAWN", 1)
    text = html.render(build.run_of(build.gpt2_forward(), build.resnet_over()))
    assert text.count("<svg") == 1
    assert "Charts are drawn for the 1 tests that stand first." in text


def test_long_tables_say_what_they_leave_out(build: SimpleNamespace) -> None:
    counts = [build.counted("aten.mm", f"layer_{i}_", 1000 - i) for i in range(205)]
    text = html.render(build.run_of(build.record("t.py::x", Measurement(flops=build.tally(counts)))))
    assert "5 more rows stand in the JSON report." in text


def test_an_empty_run_is_a_page() -> None:
    text = html.render(RunReport(tool={}, environment={}, notes=("nothing ran",)))
    assert "Nothing was measured." in text
    assert "nothing ran" in text
