from __future__ import annotations

import json.decoder
import sys
from pathlib import Path

import pytest
import torch

import pytest_flopguard.session
from pytest_flopguard.backends.code_sites import MOST_LINES, CodeSites
from pytest_flopguard.core.owners import CALLED_BY

ROOT = Path(__file__).parent.parent


def test_a_line_is_named_as_seen_from_the_root() -> None:
    line = sys._getframe().f_lineno + 1
    site = CodeSites(ROOT).here()
    # What called this test is pytest, and no part of the program.
    assert site == f"backends/test_code_sites.py:{line} in test_a_line_is_named_as_seen_from_the_root"


def test_the_lines_that_called_it_follow_up_to_a_limit() -> None:
    named = CodeSites(ROOT)

    def descend(levels: int) -> str:
        return descend(levels - 1) if levels else named.here()

    def names(site: str) -> list[str]:
        return [each.rpartition(" in ")[2] for each in site.split(CALLED_BY)]

    here = "test_the_lines_that_called_it_follow_up_to_a_limit"
    assert names(descend(1)) == ["descend", "descend", here]
    assert names(descend(50)) == ["descend"] * MOST_LINES


def test_the_innermost_line_that_is_no_librarys() -> None:
    sites: list[str] = []
    named = CodeSites(ROOT)

    class Reader(json.decoder.JSONDecoder):
        pass

    def note(value: str) -> float:
        sites.append(named.here())
        return float(value)

    # The standard library calls us: what it was called from is passed over, our own frame is not.
    json.loads("[1.5]", parse_float=note)
    assert [each.partition(CALLED_BY)[0].partition(" in ")[2] for each in sites] == ["note"]
    sites.clear()
    json.loads("[1.5]", parse_float=lambda value: sites.append(named.here()))
    assert [each.partition(CALLED_BY)[0].partition(" in ")[2] for each in sites] == ["<lambda>"]


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (str(ROOT / "models" / "gpt.py"), "models/gpt.py:3 in forward"),
        ("/elsewhere/model.py", "/elsewhere/model.py:3 in forward"),
        (str(Path(pytest.__file__).parent.parent / "transformers" / "llama.py"), "transformers/llama.py:3 in forward"),
        ("/usr/lib/python3/dist-packages/transformers/llama.py", "transformers/llama.py:3 in forward"),
        ("/home/ada/.local/lib/python3.11/site-packages/_pytest/python.py", ""),
        (str(ROOT / ".venv/lib/python3.11/site-packages/pluggy/_callers.py"), ""),
        (str(ROOT / ".venv/lib/python3.11/site-packages/transformers/llama.py"), "transformers/llama.py:3 in forward"),
        (torch.nn.__file__, ""),
        (json.decoder.__file__, ""),
        (pytest_flopguard.session.__file__, ""),
        ("<frozen runpy>", ""),
        ("<string>", ""),
        ("??", ""),
        ("/pytorch/c10/cuda/CUDACachingAllocator.cpp", ""),
    ],
)
def test_which_files_are_the_users(file: str, told: str) -> None:
    assert CodeSites(ROOT).tell([(file, 3, "forward")]) == told


def test_a_stack_of_somebody_else_is_told_in_the_same_words() -> None:
    model, test, runner = (
        (str(ROOT / "gpt.py"), 3, "forward"),
        (str(ROOT / "test_gpt.py"), 9, "test_a"),
        pytest.__file__,
    )
    inside = str(Path(runner).parent.parent / "_pytest" / "python.py")
    frames = [(torch.nn.__file__, 1, "call"), model, test, (inside, 166, "pytest_pyfunc_call"), model]
    assert CodeSites(ROOT).tell(frames) == "gpt.py:3 in forward < test_gpt.py:9 in test_a"
    assert CodeSites(ROOT).tell([model] * 50).count(" in forward") == MOST_LINES
