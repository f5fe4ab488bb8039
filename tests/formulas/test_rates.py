from __future__ import annotations

import math

import pytest

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.rates import above_zero, share


def test_boundaries() -> None:
    assert above_zero("seconds", 5e-324) == 5e-324
    assert above_zero("seconds", 2) == 2
    assert share("MFU", 1) == 1
    assert share("MFU", 0.4) == 0.4


@pytest.mark.parametrize("wrong", [0, 0.0, -1.0, math.nan, math.inf, True, "1", None])
def test_not_above_zero(wrong: object) -> None:
    with pytest.raises(SizeError, match=r"seconds = .*: expected a number above 0 \[bad-size\]"):
        above_zero("seconds", wrong)


def test_a_percentage_is_no_share() -> None:
    with pytest.raises(SizeError, match=r"MFU = 40: expected a share above 0 and at most 1"):
        share("MFU", 40)
    with pytest.raises(SizeError, match=r"MFU = 1\.0000001: expected a share"):
        share("MFU", 1.0000001)
