"""Baselines read, held and written, without pytest or torch: only what ran, whole files only, under a lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from filelock import FileLock

from pytest_flopguard.budgets import baseline_update
from pytest_flopguard.budgets.baseline_update import check_update, update_module
from pytest_flopguard.budgets.baselines import Baselines, blocks_of, by_module
from pytest_flopguard.budgets.settings import load_settings
from pytest_flopguard.budgets.starting_block import add_block, block
from pytest_flopguard.core.baseline_verdict import Terms, Update
from pytest_flopguard.core.errors import UsageError
from pytest_flopguard.core.expectation import Expectation, Origin
from pytest_flopguard.core.measurement import FlopTally, Measurement, OpCount, UnknownOp
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.verdict import judge

MODULE = "tests/test_a.py"
FILE = "tests/__flopguard__/test_a.toml"
With = Callable[..., Baselines]


def record(name: str, flops: int = 10, label: str = "", complete: bool = True, module: str = MODULE) -> Record:
    count = OpCount(op="aten.mm", module="Net", phase="forward", kind="counted", calls=1, flops=flops)
    seen = Measurement(label=label, flops=FlopTally(counts=(count,), engine="dispatch"))
    return Record(nodeid=f"{module}::{name}", measurement=seen, complete=complete)


def by_test(*records: Record) -> dict[str, Sequence[Record]]:
    found: dict[str, list[Record]] = {}
    for each in records:
        found.setdefault(each.nodeid, []).append(each)
    return dict(by_module(found).get(MODULE, {}))


@pytest.fixture
def baselines(tmp_path: Path) -> With:
    """Give a way to read the baselines below tmp_path, for a run that accepts this."""
    (tmp_path / "tests").mkdir()

    def make(*accepts: Update, strict: bool = False) -> Baselines:
        terms = Terms(torch="2.13.0", today=date(2026, 6, 1), accepts=frozenset(accepts), strict=strict)
        found = Baselines(tmp_path, terms)
        assert found.read([f"{MODULE}::test_a"]) == []
        return found

    return make


def totals(found: Baselines) -> dict[tuple[str, str], int | None]:
    return {key: each.total for key, each in found.file(MODULE).entries.items()}


def codes(found: Sequence[Record]) -> list[list[str]]:
    return [[each.code for each in record.findings] for record in found]


def test_only_an_update_that_has_something_to_write_makes_a_folder(baselines: With, tmp_path: Path) -> None:
    for accepts, records in (
        ((), [record("test_a")]),
        (("changed", "trim"), [record("test_a")]),
        (("new",), [record("test_a", complete=False)]),
    ):
        assert update_module(baselines(*accepts), MODULE, by_test(*records), [], "why") == []
        assert list((tmp_path / "tests").iterdir()) == []


def test_entries_come_change_and_go(baselines: With) -> None:
    two = [record("test_a"), record("test_a", 4, "step"), record("test_b")]
    changes = update_module(baselines("new"), MODULE, by_test(*two), [], "")
    assert [(each.file, each.test, each.region, each.kind) for each in changes] == [
        (FILE, "test_a", "", "new"),
        (FILE, "test_a", "step", "new"),
        (FILE, "test_b", "", "new"),
    ]
    found = baselines()
    assert (found.kept, found.count) == (True, 3)
    dear = [record("test_a", 20)]
    assert update_module(baselines("new", "trim"), MODULE, by_test(*dear), [], "") == []
    changes = update_module(baselines("changed"), MODULE, by_test(*dear), ["test_b"], "why")
    assert [(each.test, each.region, each.kind) for each in changes] == [
        ("test_a", "", "changed"),
        ("test_a", "step", "gone"),
        ("test_b", "", "gone"),
    ]
    assert totals(baselines()) == {("test_a", ""): 20}
    changes = update_module(baselines("trim"), MODULE, by_test(record("test_a", 5)), [], "")
    assert [each.kind for each in changes] == ["trimmed"]
    assert totals(baselines()) == {("test_a", ""): 5}


def test_what_another_run_wrote_meanwhile_stays(baselines: With) -> None:
    first, second = baselines("new"), baselines("new")
    update_module(first, MODULE, by_test(record("test_a")), [], "")
    update_module(second, MODULE, by_test(record("test_a", 99), record("test_b")), [], "")
    assert totals(baselines()) == {("test_a", ""): 10, ("test_b", ""): 10}


def test_a_test_that_fails_otherwise_or_hides_work_is_not_written(baselines: With) -> None:
    limit = Expectation(quantity="flops", high=1, origin=Origin(path="a.py"))
    over = record("test_over")
    over = replace(over, findings=judge(over.measurement, [limit]))
    unknown = UnknownOp(op="x.y", call="x.y()", module="", phase="forward", calls=1, reason="r")
    tally = FlopTally(counts=(), engine="dispatch", unknown_ops=(unknown,))
    hidden = replace(record("test_hidden"), measurement=Measurement(flops=tally))
    tests = by_test(over, hidden, record("test_part", complete=False), record("test_a"))
    update_module(baselines("new"), MODULE, tests, [], "")
    assert totals(baselines()) == {("test_a", ""): 10}


def test_a_held_file_is_waited_for_and_then_told(baselines: With, monkeypatch: pytest.MonkeyPatch) -> None:
    update_module(baselines("new"), MODULE, by_test(record("test_a")), [], "")
    found = baselines("new")
    path = found.file(MODULE).path
    before = path.read_bytes()
    monkeypatch.setattr(baseline_update, "_PATIENCE", 0)
    with FileLock(path.parent / ".lock"), pytest.raises(UsageError, match="another run has held it"):
        update_module(found, MODULE, by_test(record("test_b")), [], "")
    assert path.read_bytes() == before


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    baselines: With, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_module(baselines("new"), MODULE, by_test(record("test_a")), [], "")
    path = baselines().file(MODULE).path
    before, names = path.read_bytes(), sorted(each.name for each in path.parent.iterdir())

    def full(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"the baselines were not written: no space left .*\[baselines-not-written\]"):
        update_module(baselines("new"), MODULE, by_test(record("test_b")), [], "")
    assert path.read_bytes() == before
    assert sorted(each.name for each in path.parent.iterdir()) == names


def test_files_keep_their_mode(baselines: With) -> None:
    update_module(baselines("new"), MODULE, by_test(record("test_a")), [], "")
    path = baselines().file(MODULE).path
    path.chmod(0o640)
    update_module(baselines("new"), MODULE, by_test(record("test_b")), [], "")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_broken_file_is_told_and_stays(baselines: With, tmp_path: Path) -> None:
    update_module(baselines("new"), MODULE, by_test(record("test_a")), [], "")
    path = tmp_path / FILE
    path.write_text(path.read_text()[:-5])
    found = Baselines(tmp_path, Terms(torch="2.13.0", today=date(2026, 6, 1), accepts=frozenset({"new"})))
    [told] = found.read([f"{MODULE}::test_a"])
    assert told.code == "bad-baseline"
    before = path.read_bytes()
    with pytest.raises(UsageError):
        update_module(found, MODULE, by_test(record("test_a")), [], "")
    assert path.read_bytes() == before


def test_where_nothing_is_kept_nothing_is_new_unless_strict(baselines: With) -> None:
    assert codes(baselines().hold([record("test_a")])) == [[]]
    assert codes(baselines(strict=True).hold([record("test_a")])) == [["no-baseline"]]
    assert codes(baselines("new").hold([record("test_a")])) == [["no-baseline"]]


def test_records_are_held_and_lost_regions_told(baselines: With) -> None:
    update_module(baselines("new"), MODULE, by_test(record("test_a"), record("test_a", 4, "step")), [], "")
    found = baselines()
    assert codes(found.hold([record("test_a"), record("test_a", 5, "step")])) == [["within-budget"], ["over-baseline"]]
    [held] = found.hold([record("test_a")])
    assert [each.code for each in held.findings] == ["within-budget", "region-gone"]
    assert held.baseline is not None
    assert str(held.findings[0].expectation.origin) == f"{FILE}:4"
    # What failed on its way did a part only; what was never collected here has no file; nothing is nothing.
    assert codes(found.hold([record("test_a", 99, complete=False)])) == [[]]
    assert codes(found.hold([record("test_x", module="tests/test_other.py")])) == [[]]
    assert found.hold([]) == []


def test_regions_of_one_name_are_told_apart_by_their_order() -> None:
    labels = ["", "step", "step", "step #2", "step"]
    assert [region for _, region in blocks_of([record("test_a", label=each) for each in labels])] == [
        "",
        "step",
        "step #2",
        "step #2 #2",
        "step #3",
    ]


def test_entries_whose_tests_are_gone(baselines: With, tmp_path: Path) -> None:
    update_module(baselines("new"), MODULE, by_test(record("test_forwrd"), record("test_a")), [], "")
    old = tmp_path / "tests" / "__flopguard__" / "test_old.toml"
    old.write_text((tmp_path / FILE).read_text())
    found = baselines()
    here = [f"{MODULE}::test_forward", f"{MODULE}::test_a"]
    part = [(module, test) for module, test, _ in found.stale(here, whole=False)]
    assert part == [(MODULE, "test_forwrd")]
    whole = list(found.stale(here, whole=True))
    assert [(module, test) for module, test, _ in whole] == [
        (MODULE, "test_forwrd"),
        ("tests/test_old.py", "test_a"),
        ("tests/test_old.py", "test_forwrd"),
    ]
    assert str(whole[0][2]) == (
        f"{FILE}:10: the baseline of 'test_forwrd' is for no test; did you mean 'test_forward'? [stale-baseline]"
    )


@pytest.mark.parametrize(
    ("given", "environ", "told"),
    [
        ({"update": ["new"]}, {"CI": "true"}, ["--flop-update: CI is set"]),
        ({"update": ["new"]}, {"CI": "1"}, ["--flop-update: CI is set"]),
        ({"update": ["new"], "update-in-ci": True}, {"CI": "true"}, []),
        ({"update": ["trim"]}, {"CI": "False"}, []),
        ({"update": ["trim"]}, {"CI": "0"}, []),
        ({"update": ["trim"]}, {}, []),
        ({}, {"CI": "true"}, []),
        ({"update": ["changed"]}, {}, ["--flop-update=changed: needs a reason"]),
        ({"update": ["changed"], "reason": " "}, {}, ["--flop-update=changed: needs a reason"]),
        ({"update": ["changed"], "reason": "why"}, {}, []),
        ({"update": ["new"], "reason": "why"}, {}, ["--flop-reason: goes with --flop-update=changed only"]),
        (
            {"update": ["changed"]},
            {"CI": "true"},
            ["--flop-update: CI is set", "--flop-update=changed: needs a reason"],
        ),
    ],
)
def test_what_nobody_may_ask_for(
    tmp_path: Path, given: dict[str, object], environ: dict[str, str], told: list[str]
) -> None:
    settings = load_settings(tmp_path, given)
    if not told:
        check_update(settings, environ)
        return
    with pytest.raises(UsageError) as caught:
        check_update(settings, environ)
    texts = [each.text for each in caught.value.problems]
    assert len(texts) == len(told)
    assert all(text.startswith(start) for text, start in zip(texts, told, strict=True))


def test_a_block_is_added_once_and_read_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    assert add_block(file) == "settings added"
    assert file.read_text() == block()
    assert load_settings(tmp_path, {}).enabled
    assert add_block(file) == "it has settings already, and keeps them"
    file.write_text('[project]\nname = "x"\n')
    add_block(file)
    assert file.read_text() == f'[project]\nname = "x"\n\n{block()}'


def test_a_file_that_cannot_take_the_block_stays(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    for text in ("[tool", "tool = { x = 1 }\n"):
        file.write_text(text)
        with pytest.raises(UsageError, match="bad-toml"):
            add_block(file)
        assert file.read_text() == text
