from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pytest_flopguard.core.measurement import FlopTally

Count = Callable[[Callable[[], Any]], FlopTally]


def test_triton_is_not_imported_for_it(count: Count) -> None:
    before = "triton" in sys.modules
    count(lambda: torch.ones(2, 2) @ torch.ones(2, 2))
    assert ("triton" in sys.modules) == before


@pytest.mark.gpu
def test_a_kernel_by_itself_is_told_and_one_inside_an_op_is_not(count: Count) -> None:
    import triton
    import triton.language as tl

    @triton.jit
    def double(source, target, length, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(target + at, tl.load(source + at, mask=at < length) * 2, mask=at < length)

    @torch.library.custom_op("flopguard_tests::double", mutates_args=())
    def doubled(x: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        double[(1,)](x, out, x.numel(), BLOCK=64)
        return out

    x, out = torch.ones(64, device="cuda"), torch.empty(64, device="cuda")
    alone = count(lambda: double[(1,)](x, out, 64, BLOCK=64))
    assert [each.op for each in alone.unknown_ops] == ["triton.double"]
    wrapped = count(lambda: doubled(x))
    assert [each.op for each in wrapped.unknown_ops] == ["flopguard_tests.double"]
