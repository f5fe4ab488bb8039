"""Why memory moved: what was alive at the peak by category and module, with what made it and where."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from pytest_flopguard.reporters import failure, why

HELD = "   50.00%          4 KiB  activations  layers.0-3.mlp  x4  aten.mm  model.py:41 in forward"


def test_what_was_alive_is_told_with_its_line_of_code(build: SimpleNamespace) -> None:
    lines = why.render(build.full(), verbosity=0).splitlines()
    start = lines.index("What sim:h100 held at its peak: peak memory 7 KiB -> 8 KiB (+1 KiB)")
    assert lines[start + 1 : start + 6] == [
        "         +4 KiB   57.14%  activations, before 0 B",
        "         +4 KiB   57.14%  optimizer state, before 0 B",
        "  all 8 KiB that were alive then, by category and module",
        HELD,
        "   50.00%          4 KiB  optimizer state  (outside any module)  aten._fused_adamw_",
    ]


def test_a_regression_of_memory_says_so_in_its_failure(build: SimpleNamespace) -> None:
    assert HELD in failure.render(build.full(), verbosity=0)
    assert "8 blocks" in failure.render(build.full(), verbosity=2)
    assert "model.py" not in failure.render(build.full(), verbosity=-1)


def test_memory_that_is_as_before_is_not_told(build: SimpleNamespace) -> None:
    record = build.full()
    accepted = record.baseline.memory["sim:h100"]
    same = replace(record.baseline, memory={"sim:h100": replace(accepted, peak=8192)})
    assert "alive then" not in why.render(replace(record, baseline=same), verbosity=0)
