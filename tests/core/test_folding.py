"""Folded paths that nobody folded: written to take all memory, or by a slip of the hand."""

from __future__ import annotations

import pytest

from pytest_flopguard.core.folding import unfold


@pytest.mark.parametrize("path", ["0-9999.0-9999", "h.0-99999.0-99999.0-99999.0-99999", ".".join(["0-1"] * 40)])
def test_ranges_that_multiply_to_more_than_any_model_stay(path: str) -> None:
    assert unfold(path) == [path]


def test_layers_of_experts_unfold() -> None:
    # 96 layers of 384 experts.
    assert len(unfold("h.0-95.experts.0-383.up")) == 36_864
