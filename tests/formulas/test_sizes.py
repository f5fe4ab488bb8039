from __future__ import annotations

import pytest

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.sizes import divided, positive, whole


def test_boundaries():
    assert whole("tokens", 0) == 0
    assert positive("heads", 1) == 1
    assert divided("heads", 32, "kv_heads", 8) == 4


@pytest.mark.parametrize("wrong", [-1, 2.0, True, None])
def test_not_whole(wrong):
    with pytest.raises(SizeError, match=r"tokens = .*a whole number, 0 or more \[bad-size\]"):
        whole("tokens", wrong)


def test_zero_is_not_positive():
    with pytest.raises(SizeError, match=r"heads = 0: expected a whole number, 1 or more"):
        positive("heads", 0)


def test_a_rest_names_both_sizes():
    with pytest.raises(SizeError, match=r"heads = 30: expected a multiple of kv_heads = 8"):
        divided("heads", 30, "kv_heads", 8)
