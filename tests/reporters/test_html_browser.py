"""The HTML report of a real run in a real browser: from disk, by keyboard, light and dark, wide and on a phone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# A browser takes seconds to start, and a page of its own for every test is what makes them independent.
pytestmark = pytest.mark.slow

REQUIRED = "FLOPGUARD_REQUIRE_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE = {"width": 390, "height": 844}
Open = Callable[..., Any]

TESTS = """
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from width import WIDTH


def test_linear():
    nn.Sequential(nn.Linear(16, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 8))(torch.zeros(16, 16)).sum().backward()


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "<img src=x onerror=alert(2)>"])
def test_hostile(name):
    nn.Linear(4, 4)(torch.zeros(2, 4))


@pytest.mark.flop_budget(flops="1 MFLOP", peak_memory="1 KiB", formula="auto")
def test_transformer():
    torch.manual_seed(0)
    config = GPT2Config(n_layer=3, n_embd=32, n_head=4, vocab_size=64, n_positions=16)
    model = GPT2LMHeadModel(config)
    model(torch.zeros(1, 8, dtype=torch.long)).logits.sum().backward()


def test_unknown(flopguard):
    with flopguard.measure("a region with a rather long name, so that a phone has something to break"):
        torch.nn.functional.cosine_similarity(torch.ones(3, 4), torch.ones(3, 4))
"""


def chromium() -> str:
    """Return where a Chromium is; skip, or fail where one is required, with the reason."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    try:
        import playwright.sync_api  # noqa: F401
    except ModuleNotFoundError as error:
        missing: str | None = f"{error}: pip install playwright"
    else:
        missing = None if found else f"none of {', '.join(NAMES)} is on the path"
    if missing is None and found is not None:
        return found
    if os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set, and there is no browser: {missing}")
    pytest.skip(f"there is no browser: {missing}")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a small project: its baseline, then a wider layer, with a report."""
    chromium()
    folder = tmp_path_factory.mktemp("project")
    (folder / "test_models.py").write_text(TESTS)
    (folder / "pyproject.toml").write_text(
        '[tool.flopguard]\nenabled = true\nunknown-ops = "warn"\n[tool.pytest.ini_options]\npythonpath = ["."]\n'
    )
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    for width, flags in ((16, ["--flop-update=new", "-k", "linear"]), (64, ["--flop-report=report.html"])):
        (folder / "width.py").write_text(f"WIDTH = {width}\n")
        run = subprocess.run([*command, *flags], cwd=folder, env=environment, capture_output=True, text=True)
    # The last run: the layer is dearer than its baseline, and the transformer past its limits.
    assert run.returncode == 1, run.stdout + run.stderr
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    where = chromium()
    from playwright.sync_api import sync_playwright

    # A browser that root starts has no sandbox to go into.
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=where, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def told() -> list[str]:
    """What a page fetched, logged or asked."""
    return []


@pytest.fixture
def page(browser: Any, report: Path, told: list[str]) -> Iterator[Open]:
    """Give a function that opens the report; afterwards nothing may have been fetched, logged or asked."""
    contexts: list[Any] = []

    def open_it(
        width: int = 1200, height: int = 900, scheme: str = "light", scripts: bool = True, path: Path = report
    ) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=scripts, offline=True
        )
        contexts.append(context)
        opened = context.new_page()
        opened.on("console", lambda message: told.append(f"console: {message.text}"))
        opened.on("pageerror", lambda error: told.append(f"error: {error}"))
        opened.on("dialog", lambda dialog: (told.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        opened.on("request", lambda request: told.append(f"request: {request.url}") if request.url != uri else None)
        uri = path.as_uri()
        opened.goto(uri)
        return opened

    yield open_it
    for context in contexts:
        context.close()
    assert told == []


def visible_rows(page: Any) -> list[str]:
    return [each.inner_text() for each in page.locator("table.summary tbody tr:visible th").all()]


def to_test(page: Any, name: str) -> Any:
    """Open a test's page by keyboard and return its section."""
    page.locator("table.summary a", has_text=name).first.focus()
    page.keyboard.press("Enter")
    return page.locator("section.test:visible")


def test_what_broke_stands_first(page: Open) -> None:
    opened = page()
    assert visible_rows(opened)[:2] == ["test_models.py::test_linear", "test_models.py::test_transformer"]
    assert opened.locator("section.test:visible").count() == 0
    assert opened.title().startswith("flopguard: 6 measured: ")
    row = opened.locator("table.summary tbody tr").first.inner_text()
    assert "+" in row
    assert "failed" in row


def test_names_of_tests_are_texts(page: Open) -> None:
    opened = page()
    names = visible_rows(opened)
    assert "test_models.py::test_hostile[<script>alert(1)</script>]" in names
    assert "test_models.py::test_hostile[<img src=x onerror=alert(2)>]" in names
    assert opened.locator("img").count() == 0
    assert opened.locator("script").count() == 1


def test_the_policy_of_the_page_stops_what_got_in_all_the_same(page: Open, told: list[str]) -> None:
    opened = page()
    title = opened.title()
    opened.evaluate("document.body.insertAdjacentHTML('beforeend', '<b id=x onclick=\"document.title = 1\">x</b>')")
    opened.evaluate("document.getElementById('x').click()")
    opened.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"http://127.0.0.1:9/x\">')")
    opened.wait_for_timeout(200)
    assert opened.title() == title
    # The browser tells of the picture that it did not fetch.
    logged = [each for each in told if each.startswith("console: ")]
    assert len(logged) == 2
    assert all("Content Security Policy" in each for each in logged)
    told.clear()


def test_search_by_keyboard(page: Open) -> None:
    opened = page()
    every = visible_rows(opened)
    opened.keyboard.press("/")
    opened.keyboard.type("TRANSFORMER failed")
    assert visible_rows(opened) == ["test_models.py::test_transformer"]
    assert opened.locator("#shown").inner_text() == f"1 of {len(every)} shown"
    opened.keyboard.type(" nowhere")
    assert visible_rows(opened) == []
    opened.keyboard.press("Escape")
    assert visible_rows(opened) == every
    # A cause is found too.
    opened.keyboard.type("over-baseline")
    assert visible_rows(opened) == ["test_models.py::test_linear"]


def test_only_one_verdict(page: Open) -> None:
    opened = page()
    button = opened.locator(".chips button", has_text="failed")
    button.focus()
    opened.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "true"
    assert visible_rows(opened) == ["test_models.py::test_linear", "test_models.py::test_transformer"]
    opened.keyboard.press("Space")
    assert len(visible_rows(opened)) == 6


def test_sorting_by_keyboard(page: Open) -> None:
    opened = page()
    before = visible_rows(opened)

    def column() -> list[int]:
        rows = opened.locator("table.summary tbody tr").all()
        return [int(each.get_attribute("data-flops")) for each in rows]

    opened.locator("th[data-sort=flops] button").focus()
    opened.keyboard.press("Enter")
    assert column() == sorted(column(), reverse=True)
    assert opened.locator("th[data-sort=flops]").get_attribute("aria-sort") == "descending"
    opened.keyboard.press("Enter")
    assert column() == sorted(column())
    opened.locator("th[data-sort=name] button").focus()
    opened.keyboard.press("Enter")
    assert visible_rows(opened) == sorted(before)
    opened.locator("#sort").select_option("order")
    assert visible_rows(opened) == before


def test_a_test_opens_by_its_link_and_the_way_back_works(page: Open, report: Path) -> None:
    opened = page()
    section = to_test(opened, "test_transformer")
    assert opened.locator("#tests:visible").count() == 0
    assert opened.evaluate("document.activeElement.tagName") == "H2"
    assert opened.title() == "test_models.py::test_transformer · flopguard"
    assert "over the limit of 1 KiB" in section.locator(".causes").inner_text()
    titles = section.locator("figcaption").all_inner_texts()
    assert titles[0].startswith("FLOPs by module: ")
    assert section.locator("figure svg").count() == len(titles)
    address = opened.url
    opened.go_back()
    assert opened.locator("#tests:visible").count() == 1
    # The address alone leads there.
    opened.goto("about:blank")
    opened.goto(address)
    assert opened.locator("section.test:visible h2").inner_text() == "test_models.py::test_transformer"
    opened.locator("section.test:visible nav a", has_text="Previous").focus()
    opened.keyboard.press("Enter")
    assert opened.locator("section.test:visible h2").inner_text() == "test_models.py::test_linear"


def test_folds_by_keyboard(page: Open) -> None:
    opened = page()
    section = to_test(opened, "test_linear")
    fold = section.locator("details", has_text="FLOPs by op")
    table = fold.locator("table")
    assert not table.is_visible()
    fold.locator("summary").focus()
    opened.keyboard.press("Enter")
    assert table.is_visible()
    assert "aten.addmm" in table.inner_text()
    opened.keyboard.press("Space")
    assert not table.is_visible()
    section.locator("button", has_text="Open all").focus()
    opened.keyboard.press("Enter")
    assert section.locator("details[open]").count() == section.locator("details").count() > 5
    opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")
    assert section.locator("details[open]").count() == 0


def test_the_delta_against_the_baseline_names_the_layer(page: Open) -> None:
    opened = page()
    delta = to_test(opened, "test_linear").locator("details", has_text="Against the baseline, by module")
    assert "Sequential.0" in delta.inner_text()


def test_a_block_of_a_chart_tells_its_name_and_number(page: Open) -> None:
    opened = page()
    section = to_test(opened, "test_transformer")
    section.locator("figure").first.locator("path[aria-roledescription='rect mark']").nth(1).hover()
    assert section.locator("figure").first.locator(".told").inner_text().startswith("GPT2LMHeadModel")


def test_focus_can_be_seen(page: Open) -> None:
    opened = page()
    for _ in range(12):
        opened.keyboard.press("Tab")
        style = opened.evaluate(
            "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])(getComputedStyle(document.activeElement))"
        )
        assert style == ["solid", "3px"]


CONTRAST = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((v) => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const found = getComputedStyle(each).backgroundColor;
      if (!/, 0\\)$/.test(found)) return found;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("p, a, button, th, td, summary, .badge, h2, li, input")]
    .filter((each) => each.checkVisibility() && each.textContent.trim())
    .map((each) => {
      const [a, b] = [light(getComputedStyle(each).color), light(ground(each))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), each.textContent.trim().slice(0, 30)];
    })
    .sort((x, y) => x[0] - y[0])[0];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_light_and_dark(page: Open, scheme: str) -> None:
    opened = page(scheme=scheme)
    ground = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, ground[4:-1].split(","))) < 64) == (scheme == "dark")
    # 4.5 is what WCAG asks of text.
    assert opened.evaluate(CONTRAST)[0] >= 4.5
    to_test(opened, "test_linear")
    assert opened.evaluate(CONTRAST)[0] >= 4.5


@pytest.mark.parametrize("width", [320, 390, 700, 1000, 1600])
def test_no_page_scrolls_sideways(page: Open, width: int) -> None:
    opened = page(width=width)
    wide = "document.documentElement.scrollWidth"
    assert opened.evaluate(wide) <= width
    for section in opened.locator("section.test").all():
        opened.evaluate("(id) => { location.hash = id; }", section.get_attribute("id"))
        section.wait_for(state="visible")
        section.locator("button", has_text="Open all").click()
        assert opened.evaluate(wide) <= width


def test_on_a_phone_every_number_has_its_name(page: Open) -> None:
    opened = page(**PHONE)
    cell = opened.locator("table.summary tbody td[data-label=FLOPs]").first
    assert opened.evaluate("(each) => getComputedStyle(each, '::before').content", cell.element_handle()) == '"FLOPs"'
    box = cell.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]


def test_without_scripts_everything_is_there(page: Open) -> None:
    opened = page(scripts=False)
    assert opened.locator("section.test:visible").count() == 6
    assert not opened.locator(".tools").is_visible()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("dark", 390)])
def test_a_picture_of_it(page: Open, tmp_path: Path, scheme: str, width: int) -> None:
    opened = page(width=width, scheme=scheme)
    to_test(opened, "test_transformer")
    picture = tmp_path / f"{scheme}-{width}.png"
    opened.screenshot(path=picture, full_page=True)
    # An empty page of this size is a few kilobytes.
    assert picture.stat().st_size > 30_000
