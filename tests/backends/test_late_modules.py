"""A hook on a module that is loaded later hears of the import, also after callers that only looked for the module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

from pytest_flopguard.backends.late_modules import LateModule


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that can be imported and is not loaded."""
    tmp_path.joinpath("loaded_late.py").write_text("VALUE = 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "loaded_late", raising=False)
    return "loaded_late"


def test_it_is_called_once_the_module_is_loaded(late: str) -> None:
    seen: list[int] = []
    with LateModule(late, lambda module: seen.append(module.VALUE)) as hook:
        assert seen == []
        importlib.import_module(late)
        assert seen == [1]
        assert hook not in sys.meta_path
    with LateModule(late, lambda module: seen.append(module.VALUE + 1)):
        assert seen == [1, 2]


def test_a_question_whether_the_module_is_installed_leaves_the_hook(late: str) -> None:
    # pytest-xdist's workers and many libraries ask so before anything imports torch.
    seen: list[int] = []
    with LateModule(late, lambda module: seen.append(module.VALUE)):
        assert importlib.util.find_spec(late) is not None
        assert importlib.util.find_spec(late) is not None
        importlib.import_module(late)
    assert seen == [1]


def test_two_hooks_on_one_module_are_both_called(late: str) -> None:
    seen: list[str] = []
    with LateModule(late, lambda module: seen.append("outer")), LateModule(late, lambda module: seen.append("inner")):
        assert importlib.util.find_spec(late) is not None
        importlib.import_module(late)
    assert sorted(seen) == ["inner", "outer"]


def test_nothing_is_called_after_the_exit(late: str) -> None:
    seen: list[int] = []
    with LateModule(late, lambda module: seen.append(module.VALUE)) as hook:
        pass
    importlib.import_module(late)
    assert (seen, hook in sys.meta_path) == ([], False)
