"""flopguard init: settings that are read as they stand, and a first baseline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

from pytest_flopguard.budgets.options import OPTIONS
from pytest_flopguard.budgets.settings import load_settings
from pytest_flopguard.budgets.starting_block import block
from pytest_flopguard.cli import main

TEST = "import torch\n\ndef test_a():\n    torch.nn.Linear(8, 8)(torch.zeros(16, 8))\n"


def init(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    command = [sys.executable, "-m", "pytest_flopguard", "init", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
def test_settings_and_a_first_baseline(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(TEST)
    done = init(tmp_path, "--", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("pyproject.toml: settings added\n")
    assert load_settings(tmp_path, {}).enabled
    assert (tmp_path / "__flopguard__" / "test_a.toml").is_file()


def test_what_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "pyproject.toml"
    file.write_text('[project]\nname = "x"')
    assert main(["init", "--no-baseline"]) == 0
    text = file.read_text()
    assert text == f'[project]\nname = "x"\n\n{block()}'
    assert main(["init", "--no-baseline"]) == 0
    assert file.read_text() == text


@pytest.mark.parametrize("before", ["[tool", "tool = { x = 1 }\n"])
def test_a_file_that_cannot_take_the_table_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "pyproject.toml"
    file.write_text(before)
    assert main(["init", "--no-baseline"]) == 2
    assert file.read_text() == before
    assert "[bad-toml]" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["pyproject.toml"]


def test_every_line_that_is_uncommented_is_the_default() -> None:
    lines = block().splitlines()
    for option in OPTIONS:
        if option.typed or option.name == "enabled" or isinstance(option.default, dict):
            continue
        [line] = [each for each in lines if each.startswith(f"# {option.name} = ")]
        assert tomli.loads(line[2:]) == {option.name: option.default}
    assert tomli.loads(block()) == {"tool": {"flopguard": {"enabled": True}}}
