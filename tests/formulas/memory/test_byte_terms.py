from __future__ import annotations

import pytest

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.memory.byte_terms import ByteTerm, ByteTerms

TERMS = ByteTerms(
    name="layer",
    terms=(ByteTerm(name="a", equation="2*x", bytes=6), ByteTerm(name="b", equation="x", bytes=3)),
    source="here",
)


def test_terms_sum_join_and_repeat() -> None:
    assert TERMS.total == 9
    assert (TERMS + TERMS).by_name() == {"a": 12, "b": 6}
    repeated = 4 * TERMS
    assert (repeated.total, repeated.source) == (36, "here")
    assert [each.equation for each in repeated] == ["4*(2*x)", "4*(x)"]
    assert (0 * TERMS).total == 0


@pytest.mark.parametrize("times", [1.5, True, "2"])
def test_only_whole_times(times: object) -> None:
    with pytest.raises(TypeError):
        _ = TERMS * times  # type: ignore[operator]


def test_negative_times_and_bytes() -> None:
    with pytest.raises(SizeError, match="the number of 'layer' = -1"):
        _ = TERMS * -1
    with pytest.raises(SizeError, match="the bytes of 'c' = -1"):
        ByteTerm(name="c", equation="", bytes=-1)


def test_only_terms_join() -> None:
    with pytest.raises(TypeError):
        _ = TERMS + 1  # type: ignore[operator]
