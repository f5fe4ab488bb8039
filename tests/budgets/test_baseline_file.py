"""Baseline files: written, read back exactly, and refused where they are not whole."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.budgets.baseline_file import (
    END,
    BaselineFile,
    baseline_path,
    module_of,
    parse_baselines,
    read_baselines,
)
from pytest_flopguard.budgets.baseline_text import file_text
from pytest_flopguard.core.baseline import Baseline, MemoryBaseline, OpWork
from pytest_flopguard.core.errors import UsageError
from pytest_flopguard.core.measurement import CATEGORIES, PHASES, ParameterCount
from pytest_flopguard.core.workload import Workload, WorkloadCall

SHOWN = "tests/__flopguard__/test_a.toml"
EMPTY = BaselineFile(path=Path(SHOWN), shown=SHOWN)
# [16, 8] @ [8, 8]: 2 * 16 * 8 * 8 = 2,048 in each of 2 layers.
LINEAR = Baseline(
    flops={"forward": 4096},
    parameters=ParameterCount(count=144, bytes=576),
    memory={
        "cpu": MemoryBaseline(
            start=1088,
            peak=2112,
            torch="2.13",
            held={"parameters": 576, "inputs": 512},
            modules={"": {"inputs": 512}, "Net.0-1": {"parameters": 576}},
        ),
        "sim:h100": MemoryBaseline(start=0, peak=512, torch="2.13", allocator="expandable_segments:True"),
    },
    workload=Workload(calls=(WorkloadCall(model="Net", inputs="float32[16, 8]"),)),
    modules={"Net.0-1": {"aten.addmm": OpWork(calls=2, flops={"forward": 4096})}},
)
SMALL = Baseline(flops={"forward": 6}, modules={"Net": {"aten.mm": OpWork(calls=1, flops={"forward": 6})}})

TEXT = st.text(min_size=1, max_size=12)
COUNT = st.integers(min_value=0, max_value=2**70)
AMOUNT = st.integers(min_value=1, max_value=2**70)
TEXTS = st.text(max_size=9)
HOLDINGS = st.dictionaries(
    TEXTS, st.dictionaries(st.sampled_from(CATEGORIES), AMOUNT, min_size=1, max_size=2), max_size=1
)


def memory_baseline(holdings: dict[str, dict[str, int]], **numbers: Any) -> MemoryBaseline:
    held: dict[str, int] = {}
    for name, size in (pair for each in holdings.values() for pair in each.items()):
        held[name] = held.get(name, 0) + size
    return MemoryBaseline(held=held, modules=holdings, **numbers)


@st.composite
def baselines(draw: st.DrawFn) -> Baseline:
    work = st.builds(
        OpWork, calls=COUNT, flops=st.dictionaries(st.sampled_from(PHASES), AMOUNT, max_size=4), masked=COUNT
    )
    modules = draw(st.dictionaries(TEXT, st.dictionaries(TEXT, work, min_size=1, max_size=2), max_size=3))
    sums = {p: sum(w.flops.get(p, 0) for ops in modules.values() for w in ops.values()) for p in PHASES}
    size = st.integers(-(2**62), 2**62)
    config = st.dictionaries(TEXT, size | st.lists(size, max_size=3).map(tuple), max_size=2)
    calls = st.lists(st.builds(WorkloadCall, model=TEXT, inputs=st.text(max_size=9), config=config), max_size=3)
    memory = st.builds(memory_baseline, holdings=HOLDINGS, start=COUNT, peak=COUNT, torch=TEXT, allocator=TEXTS)
    told = draw(calls)
    day = draw(st.none() | st.dates())
    return Baseline(
        flops={phase: flops for phase, flops in sums.items() if flops},
        attention=draw(st.sampled_from(["dense", "causal"])),
        parameters=draw(st.none() | st.builds(ParameterCount, count=COUNT, bytes=COUNT)),
        memory=draw(st.dictionaries(TEXT, memory, max_size=1)),
        workload=Workload(calls=tuple(told), rest=draw(TEXT) if told else ""),
        modules=modules,
        reason=draw(st.text(max_size=12)),
        was=draw(st.dictionaries(TEXT, COUNT, max_size=2)),
        muted_until=day,
        muted_reason="" if day is None else draw(TEXT),
    )


def written(entries: dict[tuple[str, str], Baseline]) -> str:
    return file_text(EMPTY, entries)


def parsed(text: str) -> BaselineFile:
    return parse_baselines(text.encode(), Path(SHOWN), SHOWN)


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(UsageError) as caught:
        parse_baselines(text if isinstance(text, bytes) else text.encode(), Path(SHOWN), SHOWN)
    assert {each.code for each in caught.value.problems} == {"bad-baseline"}
    return [str(each) for each in caught.value.problems]


@pytest.mark.slow
@given(st.dictionaries(st.tuples(TEXT, st.text(max_size=9)), baselines(), max_size=3))
def test_what_is_written_is_read_back(entries: dict[tuple[str, str], Baseline]) -> None:
    text = written(entries)
    file = parsed(text)
    assert file.entries == entries
    # Written again it is the same file, byte for byte: a run that changes nothing leaves no diff.
    assert file_text(file, entries) == text
    assert file_text(EMPTY, entries) == text


@given(st.dictionaries(st.tuples(TEXT, st.text(max_size=9)), baselines(), min_size=1, max_size=2), st.data())
def test_a_file_cut_short_anywhere_is_refused(entries: dict[tuple[str, str], Baseline], data: st.DataObject) -> None:
    text = written(entries)
    # Only the last line's end may go.
    cut = data.draw(st.integers(0, len(text) - 2))
    problems(text[:cut])


def test_the_text_is_for_people_too() -> None:
    text = written({("test_b", "step"): SMALL, ("test_a[2]", ""): LINEAR})
    assert text == (
        "# What the last accepted run of these tests measured. Written by pytest --flop-update, reviewed as code.\n"
        "format_version = 1\n"
        "\n"
        '[test."test_a[2]"]\n'
        "flops = {forward = 4096}\n"
        "parameters = {count = 144, bytes = 576}\n"
        "\n"
        '[test."test_a[2]".workload]\n'
        "calls = [\n"
        '    {model = "Net", inputs = "float32[16, 8]"},\n'
        "]\n"
        "\n"
        '[test."test_a[2]".memory.cpu]\n'
        "start = 1088\n"
        "peak = 2112\n"
        'torch = "2.13"\n'
        "held = {parameters = 576, inputs = 512}\n"
        "\n"
        '[test."test_a[2]".memory.cpu.modules]\n'
        '"" = {inputs = 512}\n'
        '"Net.0-1" = {parameters = 576}\n'
        "\n"
        '[test."test_a[2]".memory."sim:h100"]\n'
        "start = 0\n"
        "peak = 512\n"
        'torch = "2.13"\n'
        'allocator = "expandable_segments:True"\n'
        "held = {}\n"
        "\n"
        '[test."test_a[2]".modules]\n'
        '"Net.0-1" = {"aten.addmm" = {calls = 2, forward = 4096}}\n'
        "\n"
        '[test."test_b".region."step"]\n'
        "flops = {forward = 6}\n"
        "\n"
        '[test."test_b".region."step".modules]\n'
        'Net = {"aten.mm" = {calls = 1, forward = 6}}\n'
        "\n"
        f"{END}\n"
    )
    file = parsed(text)
    assert file.lines == {("test_a[2]", ""): 4, ("test_b", "step"): 33}
    assert str(file.origin(("test_b", "step"))) == f"{SHOWN}:33"


def test_an_entry_that_stays_keeps_its_comments() -> None:
    text = written({("test_a", ""): SMALL, ("test_b", ""): SMALL})
    text = text.replace('[test."test_b"]', '# Ask Ada before this grows.\n[test."test_b"]  # really')
    file = parsed(text)
    after = file_text(file, {("test_a", ""): LINEAR, ("test_b", ""): SMALL})
    assert '# Ask Ada before this grows.\n[test."test_b"]  # really\n' in after
    assert parsed(after).entries == {("test_a", ""): LINEAR, ("test_b", ""): SMALL}
    assert file_text(file, {("test_b", ""): SMALL}) == text.replace(
        text[text.index('[test."test_a"]') : text.index("# Ask")], ""
    )


def test_line_ends_of_windows_are_read() -> None:
    assert parsed(written({("test_a", ""): SMALL}).replace("\n", "\r\n")).entries == {("test_a", ""): SMALL}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("forward = 6}\n", "forward = }\n", f"{SHOWN}:5: *: not valid TOML, *"),
        ("format_version = 1\n", "", f"{SHOWN}:1: *: it has no format_version *"),
        ("format_version = 1", 'format_version = "1"', f"{SHOWN}:1: *: it has no format_version *"),
        (
            "format_version = 1",
            "format_version = 2",
            f"{SHOWN}:1: *: a newer flopguard wrote it: format_version 2, and this one reads 1 *",
        ),
        (f"{END}\n", "", f"{SHOWN}:* it is cut short: its last line, {END!r}, is missing *"),
        # A number that is changed by hand loosens the gate without a reason.
        (
            "flops = {forward = 6}",
            "flops = {forward = 7}",
            f"{SHOWN}:5: *: test_a: flops: forward is 7, and the modules below sum to 6 *",
        ),
        ("flops = {forward = 6}", "flops = {forward = 6.0}", f"{SHOWN}:5: *: 6.0 is no whole number of at least 0 *"),
        ("flops = {forward = 6}", "flops = {forward = -6}", f"{SHOWN}:5: *: -6 is no whole number *"),
        (
            "flops = {",
            "flop = {}\nflops = {",
            f"{SHOWN}:5: *: test_a: flop: no key of a baseline; did you mean 'flops'? *",
        ),
        ("flops = {", "muted_until = 2026-12-31\nflops = {", f"{SHOWN}:5: *muted_reason must say why *"),
        ("flops = {", 'muted_until = "soon"\nmuted_reason = "x"\nflops = {', f"{SHOWN}:5: *'soon' is no day such as *"),
        ("flops = {", 'attention = "none"\nflops = {', f"{SHOWN}:5: *'none' is neither 'dense' nor 'causal' *"),
        ("flops = {", "parameters = {count = 1}\nflops = {", f"{SHOWN}:5: *parameters.bytes: is missing *"),
        (
            "format_version = 1",
            "format_version = 1\ntests = 3",
            f"{SHOWN}:3: *no part of a baseline file; did you mean 'test'? *",
        ),
        (
            '[test."test_a".modules]',
            "[test.test_a.region]\nx = 3\n[test.test_a.modules]",
            f"{SHOWN}:8: *3 is no table *",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(old: str, new: str, told: str) -> None:
    text = written({("test_a", ""): SMALL})
    assert old in text
    [line] = problems(text.replace(old, new))
    beginning, *rest = told.split("*")
    assert line.startswith(beginning)
    assert all(each.strip() in line for each in rest)


def test_memory_that_its_modules_contradict_is_told_and_older_files_have_none() -> None:
    text = written({("test_a", ""): LINEAR})
    [line] = problems(text.replace('"Net.0-1" = {parameters = 576}', '"Net.0-1" = {parameters = 575}'))
    assert line.startswith(f"{SHOWN}:17: ")
    assert "test_a: memory.cpu.held: parameters is 576, and the modules below sum to 575" in line
    [line] = problems(text.replace('"Net.0-1" = {parameters = 576}', '"Net.0-1" = {parameters = -1}'))
    assert "memory.cpu.modules.Net.0-1.parameters: -1 is no whole number" in line
    [line] = problems(text.replace('allocator = "', "allocator = 3 # "))
    assert "memory.sim:h100.allocator: 3 is no text" in line
    older = text.replace(
        '[test."test_a".memory.cpu.modules]\n"" = {inputs = 512}\n"Net.0-1" = {parameters = 576}\n', ""
    )
    assert older != text
    memory = parsed(older).entries["test_a", ""].memory["cpu"]
    assert (memory.held, memory.modules) == ({"parameters": 576, "inputs": 512}, {})


def test_all_mistakes_are_told_at_once() -> None:
    text = written({("test_a", ""): SMALL, ("test_b", ""): SMALL}).replace("flops = {forward = 6}", "flops = 6")
    assert [line.partition(": ")[0] for line in problems(text)] == [f"{SHOWN}:5", f"{SHOWN}:11"]


def test_both_sides_of_a_merge_are_one_too_many() -> None:
    text = written({("test_a", ""): SMALL})
    entry = text[text.index("[test") : text.index(END)]
    assert "not valid TOML" in problems(text.replace(entry, entry + entry))[0]
    assert "a merge left conflict markers" in problems(text.replace(entry, f"<<<<<<< HEAD\n{entry}"))[0]


def test_what_a_merge_left_is_named() -> None:
    text = written({("test_a", ""): SMALL})
    both = text.replace("flops = ", "<<<<<<< HEAD\nflops = {forward = 7}\n=======\nflops = ").replace(
        '[test."test_a".modules]', '>>>>>>> feature\n[test."test_a".modules]'
    )
    [line] = problems(both)
    assert line == (
        f"{SHOWN}:5: not a baseline file that can be used: a merge left conflict markers in it: keep the entries of "
        "both sides; where both have the same entry, keep one whole and measure it again with --flop-update=changed "
        "[bad-baseline]"
    )


def test_bytes_that_are_no_text() -> None:
    assert problems(b"format_version = 1\n\xff")[0].startswith(f"{SHOWN}:2: ")


def test_no_file_has_no_entries(tmp_path: Path) -> None:
    assert read_baselines(tmp_path / "none.toml", "none.toml").entries == {}


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Is a directory"):
        read_baselines(tmp_path, "a folder")


def test_a_module_has_one_file_and_a_file_one_module() -> None:
    assert baseline_path(Path("tests/test_a.py")) == Path(SHOWN)
    assert module_of(Path(SHOWN)) == "tests/test_a.py"
    assert module_of(Path("__flopguard__/test_a.toml")) == "test_a.py"
    # Other files that hold tests, such as doctests in a text.
    assert baseline_path(Path("docs/guide.md")) == Path("docs/__flopguard__/guide.md.toml")
    assert module_of(Path("docs/__flopguard__/guide.md.toml")) == "docs/guide.md"


def test_days_are_days() -> None:
    muted = Baseline(flops={}, muted_until=date(2026, 12, 31), muted_reason="waits for #12")
    text = written({("test_a", ""): muted})
    assert "muted_until = 2026-12-31\n" in text
    assert parsed(text).entries == {("test_a", ""): muted}
