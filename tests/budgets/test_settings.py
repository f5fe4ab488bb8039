"""Every option bites, from either place, and every mistake is told at once with its line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from pytest_flopguard.budgets.options import OPTIONS, Option
from pytest_flopguard.budgets.settings import Settings, load_settings
from pytest_flopguard.budgets.tolerances import QUANTITIES
from pytest_flopguard.core.errors import UsageError

Load = Callable[..., Settings]
Refused = Callable[..., list[str]]
DEFAULTS = {
    "enabled": False,
    "measure": "all",
    "engine": "dispatch",
    "cross_check": (),
    "attention": "dense",
    "bytes_moved": False,
    "unknown_ops": "error",
    "tolerance": {},
    "report": (),
    "budgets": (),
}


def test_settings_has_a_field_for_every_option() -> None:
    about = {"rootdir", "pyproject", "written", "origins"}
    # The default budget is one of the budgets.
    options = [each.attribute for each in OPTIONS if each.name != "default-budget"]
    assert [each.name for each in fields(Settings) if each.name not in about] == options


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {})
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS
    assert (settings.pyproject, settings.rootdir) == (None, tmp_path)
    assert {str(settings.origin(each.name)) for each in OPTIONS} == {"default"}


@pytest.mark.parametrize(
    "text", ["", "[project]\nname = 'x'\n", "# flopguard?\n", "[tool.flopguard]\n", "tool = 3 # flopguard\n"]
)
def test_without_a_word_for_us_everything_has_its_default(load: Load, tmp_path: Path, text: str) -> None:
    settings = load(text)
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS
    assert settings.pyproject == tmp_path / "pyproject.toml"


def test_command_line_values_that_were_not_given_hide_nothing(load: Load) -> None:
    settings = load("[tool.flopguard]\nenabled = true\nengine = 'fvcore'\n", enabled=None, engine=None, report=None)
    assert (settings.enabled, settings.engine, settings.report) == (True, "fvcore", ())


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("enabled = true", "enabled", True),
        ('measure = "guarded"', "measure", "guarded"),
        ('engine = "fvcore"', "engine", "fvcore"),
        ('cross-check = ["fvcore", "fvcore"]', "cross_check", ("fvcore",)),
        ('attention = "causal"', "attention", "causal"),
        ("bytes-moved = true", "bytes_moved", True),
        ("warm-up = true", "warm_up", True),
        ('unknown-ops = "warn"', "unknown_ops", "warn"),
        ('tolerance = "2%"', "tolerance", dict.fromkeys(QUANTITIES, "2%")),
        ("tolerance = 3", "tolerance", dict.fromkeys(QUANTITIES, 3)),
        (
            'tolerance = { flops = "1%", peak-memory = "1 MiB" }',
            "tolerance",
            {"flops": "1%", "peak_memory": "1 MiB"},
        ),
    ],
)
def test_an_option_in_pyproject_bites(load: Load, line: str, name: str, value: object) -> None:
    settings = load(f"[project]\nname = 'x'\n\n[tool.flopguard]\n{line}  # why\n")
    assert getattr(settings, name) == value
    option = name.replace("_", "-")
    assert (str(settings.origin(option)), settings.origin(option).text) == ("pyproject.toml:5", line)
    untouched = {each: default for each, default in DEFAULTS.items() if each != name}
    assert {each: getattr(settings, each) for each in untouched} == untouched
    assert {str(settings.origin(each.name)) for each in OPTIONS if each.name != option} == {"default"}


def test_budgets_of_pyproject_are_kept_in_order(load: Load) -> None:
    settings = load(
        """\
        [tool.flopguard.default-budget]
        flops = "1 TFLOP"
        [tool.flopguard.budgets."tests/b.py::test_b"]
        flops = "2 GFLOP"
        [tool.flopguard.budgets]
        "tests/a*" = { flops = "1 GFLOP" }
        """
    )
    found = [(each.pattern, each.rank, str(each.origin)) for each in settings.budgets]
    assert found == [
        ("tests/b.py::test_b", "exact", "pyproject.toml:3"),
        ("tests/a*", "glob", "pyproject.toml:6"),
        ("default-budget", "default", "pyproject.toml:1"),
    ]
    assert str(settings.origin("budgets")) == "pyproject.toml:3"
    assert str(settings.origin("default-budget")) == "pyproject.toml:1"


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("enabled", True, True),
        ("measure", "guarded", "guarded"),
        ("engine", "fvcore", "fvcore"),
        ("cross_check", ["fvcore"], ("fvcore",)),
        ("report", ["a.json", "b/c.json"], (Path("a.json"), Path("b/c.json"))),
    ],
)
def test_the_command_line_comes_first(load: Load, name: str, given: object, value: object) -> None:
    text = "[tool.flopguard]\nenabled = false\nmeasure = 'all'\nengine = 'dispatch'\ncross-check = []\nreport = ['x']\n"
    settings = load(text, **{name: given})
    assert getattr(settings, name) == value
    assert str(settings.origin(name.replace("_", "-"))) == "command line"
    assert str(settings.origin("enabled" if name != "enabled" else "engine")).startswith("pyproject.toml:")


def test_flags_are_those_of_the_options_that_the_command_line_may_set() -> None:
    flags = {each.name: each.flag for each in OPTIONS if each.flag}
    # A flag for a tolerance, a severity or a budget would let a CI line weaken the gate.
    assert flags == {
        "enabled": "--flop-budget",
        "measure": "--flop-measure",
        "device": "--flop-device",
        "engine": "--flop-engine",
        "cross-check": "--flop-cross-check",
        "bytes-moved": "--flop-bytes",
        # This one only makes it stricter: it has no opposite.
        "strict": "--flop-strict",
        "update": "--flop-update",
        "reason": "--flop-reason",
        "update-in-ci": "--flop-update-in-ci",
        "why": "--flop-why",
        "report": "--flop-report",
    }


@pytest.mark.parametrize("option", [each for each in OPTIONS if each.typed], ids=lambda each: each.name)
def test_what_a_person_must_ask_for_cannot_stand_in_a_file(load: Load, option: Option) -> None:
    with pytest.raises(UsageError) as caught:
        load(f"[tool.flopguard]\n{option.name} = {json.dumps(option.default)}\n")
    [told] = caught.value.problems
    assert str(told) == (
        f"pyproject.toml:2: unknown setting {option.name!r}; it is for the command line only, as {option.flag} "
        "[unknown-setting]"
    )


def test_report_paths_of_pyproject_start_at_its_folder(load: Load, tmp_path: Path) -> None:
    assert load("[tool.flopguard]\nreport = ['out/a.json', '/b.json']\n").report == (
        tmp_path / "out/a.json",
        Path("/b.json"),
    )


def test_the_origin_of_what_is_no_option_is_a_mistake(load: Load) -> None:
    with pytest.raises(KeyError):
        load().origin("unknown_ops")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("enabled = 'yes'", "enabled = 'yes': expected true or false [bad-value]"),
        ("enabled = 1", "enabled = 1: expected true or false [bad-value]"),
        (
            "measure = 'guard'",
            "measure = 'guard': expected \"all\" or \"guarded\"; did you mean 'guarded'? [bad-value]",
        ),
        (
            "engine = 'fvcor'",
            "engine = 'fvcor': expected \"dispatch\" or \"fvcore\"; did you mean 'fvcore'? [bad-value]",
        ),
        ("engine = ['fvcore']", 'engine = [\'fvcore\']: expected "dispatch" or "fvcore" [bad-value]'),
        ("attention = 'sparse'", 'attention = \'sparse\': expected "dense" or "causal" [bad-value]'),
        ("unknown-ops = 'off'", 'unknown-ops = \'off\': expected "error" or "warn" [bad-value]'),
        ("cross-check = 'fvcore'", "cross-check = 'fvcore': expected a list of \"fvcore\" [bad-value]"),
        ("cross-check = ['dispatch']", "cross-check = ['dispatch']: expected a list of \"fvcore\" [bad-value]"),
        ("cross-check = [1]", 'cross-check = [1]: expected a list of "fvcore" [bad-value]'),
        ("report = 'a.json'", "report = 'a.json': expected a list of paths [bad-value]"),
        ("report = ['']", "report = ['']: expected a list of paths [bad-value]"),
        ("report = [1]", "report = [1]: expected a list of paths [bad-value]"),
        ("tolerance = 0.02", "tolerance = 0.02: a share needs its sign: write '2%' [bad-amount]"),
        ("tolerance = '-1%'", "tolerance = '-1%': a tolerance cannot be negative [bad-amount]"),
        (
            "tolerance = '1 MiB'",
            "tolerance = '1 MiB': does not fit flops, forward-flops, backward-flops, recompute-flops, optimizer-flops, "
            "parameters; write a percentage, or a table with a tolerance for each quantity [bad-amount]",
        ),
        (
            "tolerance.flop = '1%'",
            "unknown budget quantity 'flop'; did you mean 'flops'? [unknown-quantity]",
        ),
        (
            "tolerance.flops = '1 mflop'",
            "tolerance.flops = '1 mflop': 'mflop' is no unit; did you mean 'MFLOP'? [bad-amount]",
        ),
        ("budgets = 3", "budgets = 3: expected a table of budgets by test [bad-value]"),
        ("budgets.'t.py::f' = '9 GFLOP'", "t.py::f = '9 GFLOP': expected a table of limits [bad-value]"),
        ("budgets.'t.py::f' = {}", "t.py::f = {}: expected at least one limit [bad-value]"),
        ("default-budget = '9 GFLOP'", "default-budget = '9 GFLOP': expected a table of limits [bad-value]"),
        ("default-budget = {}", "default-budget = {}: expected at least one limit [bad-value]"),
        (
            "default-budget = { tolerance = '2%' }",
            "default-budget = {'tolerance': '2%'}: expected at least one limit [bad-value]",
        ),
        ("unknown_ops = 'warn'", "unknown setting 'unknown_ops'; did you mean 'unknown-ops'? [unknown-setting]"),
        ("colour = true", "unknown setting 'colour' [unknown-setting]"),
    ],
)
def test_a_mistake_is_told_with_its_line(refused: Refused, line: str, message: str) -> None:
    assert refused(f"[tool.flopguard]\n# a comment\n{line}\n") == [f"pyproject.toml:3: {message}"]


def test_all_mistakes_are_told_at_once(refused: Refused) -> None:
    found = refused(
        """\
        [tool.flopguard]
        enable = true
        engine = "torch"
        tolerance = "a bit"
        crosscheck = ["fvcore"]

        [tool.flopguard.budgets."tests/t.py::test_a"]
        flosp = "9 GFLOP"
        flops = "9 GFLOPS"
        peak-memory = { cdua = "1 GiB" }

        [tool.flopguard.default-budget]
        flops = { limt = "9 GFLOP" }
        """,
        measure="some",
    )
    assert [(line.partition(": ")[0], line.rpartition(" ")[2]) for line in found] == [
        ("command line", "[bad-value]"),
        ("pyproject.toml:2", "[unknown-setting]"),
        ("pyproject.toml:3", "[bad-value]"),
        ("pyproject.toml:4", "[bad-amount]"),
        ("pyproject.toml:5", "[unknown-setting]"),
        ("pyproject.toml:8", "[unknown-quantity]"),
        ("pyproject.toml:9", "[bad-amount]"),
        ("pyproject.toml:10", "[unknown-device]"),
        ("pyproject.toml:13", "[unknown-budget-key]"),
    ]


def test_a_mistake_that_the_command_line_hides_is_told_all_the_same(refused: Refused) -> None:
    assert refused("[tool.flopguard]\nengine = 'torch'\n", engine="fvcore") == [
        'pyproject.toml:2: engine = \'torch\': expected "dispatch" or "fvcore" [bad-value]'
    ]


def test_a_mistake_on_the_command_line_names_the_flag(refused: Refused) -> None:
    assert refused(engine="torch", colour="red") == [
        "command line: unknown setting 'colour' [unknown-setting]",
        'command line: --flop-engine = \'torch\': expected "dispatch" or "fvcore" [bad-value]',
    ]


@pytest.mark.parametrize(
    ("text", "command_line", "where"),
    [
        ("[tool.flopguard]\nengine = 'fvcore'\ncross-check = ['fvcore']\n", {}, "pyproject.toml:3"),
        ("[tool.flopguard]\ncross-check = ['fvcore']\n", {"engine": "fvcore"}, "pyproject.toml:2"),
        ("[tool.flopguard]\nengine = 'fvcore'\n", {"cross-check": ["fvcore"]}, "command line"),
    ],
)
def test_an_engine_does_not_check_itself(
    refused: Refused, text: str, command_line: dict[str, object], where: str
) -> None:
    assert refused(text, **command_line) == [
        f"{where}: cross-check = ['fvcore']: expected an engine other than 'fvcore', which counts already [bad-value]"
    ]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[tool.flopguard]\nenabled = \n", "pyproject.toml:2"),
        ("[tool.flopguard]\na = [\n1,\n", "pyproject.toml:4"),
        ("[tool.flopguard]\nenabled = true\nenabled = true\n", "pyproject.toml:3"),
    ],
)
def test_bad_toml_is_told_with_its_line(refused: Refused, text: str, where: str) -> None:
    (line,) = refused(text)
    assert line.startswith(f"{where}: not valid TOML: ")
    assert line.endswith("[bad-toml]")


def test_text_that_is_not_utf8_is_bad_toml(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(b"[tool.flopguard]\n\nengine = '\xff'\n")
    with pytest.raises(UsageError, match=r"^pyproject\.toml:3: not valid TOML: .*0xff"):
        load_settings(tmp_path, {})


@pytest.mark.parametrize("text", ["[tool]\nflopguard = 3\n", "[tool]\nflopguard = []\n"])
def test_a_setting_in_place_of_the_table_is_a_mistake(refused: Refused, text: str) -> None:
    (line,) = refused(text)
    assert line.startswith("pyproject.toml:2: tool.flopguard = ")
    assert line.endswith("expected a table [bad-value]")


def test_the_table_may_be_written_inline(load: Load) -> None:
    settings = load("tool = { flopguard = { enabled = true } }\n")
    assert (settings.enabled, str(settings.origin("enabled"))) == (True, "pyproject.toml:1")


@pytest.mark.parametrize(("text", "loaded"), [("[tool.other]\n", False), ("[tool.flopguard]\n", True)])
def test_toml_is_read_only_where_it_may_be_for_us(tmp_path: Path, text: str, loaded: bool) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    code = (
        "import pathlib, sys\n"
        "from pytest_flopguard.budgets.settings import load_settings\n"
        f"load_settings(pathlib.Path({str(tmp_path)!r}), {{}})\n"
        "print('tomli' in sys.modules, 'pytest' in sys.modules, 'torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [str(loaded), "False", "False"]
