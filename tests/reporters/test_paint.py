"""Colours of verdicts: only of the word at the end of a line, and none where there are none."""

from __future__ import annotations

import re

from pytest_flopguard.core.record import RunReport
from pytest_flopguard.reporters.paint import painted, plain
from pytest_flopguard.reporters.terminal import render


def mark(text: str, tone: str) -> str:
    return f"<{tone}>{text}</{tone}>"


def test_only_the_verdict_is_painted() -> None:
    lines = [
        "  test_ok_failed  1 FLOP  ok",
        "  test  OVER",
        "  verdict       undecided",
        "  test  no budget",
        "  OVER  a",
    ]
    assert painted(lines, mark) == [
        "  test_ok_failed  1 FLOP  <good>ok</good>",
        "  test  <bad>OVER</bad>",
        "  verdict       <open>undecided</open>",
        "  test  no budget",
        "  OVER  a",
    ]
    assert painted(lines, plain) == lines


def test_paint_adds_nothing_but_itself(usual_run: RunReport, gpu_run: RunReport) -> None:
    for run in (usual_run, gpu_run):
        for width in (40, 60, 80, 200):
            with_paint = render(run, verbosity=1, width=width, paint=mark)
            assert "<bad>OVER</bad>" in with_paint
            assert re.sub(r"</?(bad|open|good)>", "", with_paint) == render(run, verbosity=1, width=width)
