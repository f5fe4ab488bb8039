"""What a second engine's count expects of the first."""

from __future__ import annotations

from pytest_flopguard.core.cross_check import agreement, undecided
from pytest_flopguard.core.expectation import Expectation
from pytest_flopguard.core.measurement import FlopTally, OpCount, UnknownOp
from pytest_flopguard.core.verdict import Finding

COUNT = OpCount(op="aten.mm", module="net", phase="forward", kind="counted", calls=1, flops=2048)


def test_another_count_is_expected_exactly() -> None:
    wanted = agreement(FlopTally(counts=(COUNT,), engine="fvcore"))
    assert isinstance(wanted, Expectation)
    assert (wanted.quantity, wanted.low, wanted.high, wanted.source) == ("forward_flops", 2048, 2048, "cross-check")


def test_an_engine_that_lacks_a_formula_decides_nothing() -> None:
    unknown = UnknownOp(op="my.op", call="my.op()", module="net", phase="forward", calls=1, reason="no formula")
    found = agreement(FlopTally(counts=(COUNT,), unknown_ops=(unknown,), engine="fvcore"))
    assert isinstance(found, Finding)
    assert (found.status, found.reason) == ("undecided", "fvcore has no formula for my.op")
    assert found.fails == undecided("fvcore", "it cannot trace this").fails
