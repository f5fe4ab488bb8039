from __future__ import annotations

import pytest

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.memory.footprint import Footprint
from pytest_flopguard.formulas.memory.inference import inference, requests_that_fit, rule_of_thumb

LLAMA_2_70B = 68_976_648_192


def test_weights_by_dtype() -> None:
    # Transformer Math 101: 4, 2 and 1 bytes per parameter; half a byte at 4 bits.
    found = [inference(1_000_000, dtype=dtype).total for dtype in ("fp32", "bf16", "int8", "int4")]
    assert found == [4_000_000, 2_000_000, 1_000_000, 500_000]


def test_shards_of_weights_and_cache() -> None:
    found = inference(1001, dtype="bf16", kv_bytes=999, tensor=2)
    # The fullest device: 501 parameters, 500 bytes
    assert (found.weights, found.kv_cache, found.total) == (1002, 500, 1502)


def test_rule_of_thumb() -> None:
    assert [rule_of_thumb(size) for size in (0, 10, 11)] == [0, 12, 14]


def test_requests_on_two_a800() -> None:
    """Analysis of Llama 3, question 4: 4000-token requests of a 70B model on 2 A800 of 80 GB.

    2 * 68,976,648,192 = 137.95 GB of weights (138 in print) leave 22 GB; a request has 4000 * 327,680 = 1.31 GB: 16.
    No room is reserved for activations.
    """
    per_request = 4000 * 327_680
    assert per_request / 1e9 == pytest.approx(1.31, abs=0.005)
    weights = inference(LLAMA_2_70B, dtype="fp16").weights
    assert weights / 1e9 == pytest.approx(138, abs=0.1)
    memory = 2 * 80 * 10**9
    assert requests_that_fit(memory=memory, weight_bytes=weights, bytes_per_request=per_request) == 16


def test_the_last_request_fits_exactly() -> None:
    sizes = {"weight_bytes": 10, "bytes_per_request": 5}
    assert [requests_that_fit(memory=memory, **sizes) for memory in (10, 14, 15, 20)] == [0, 0, 1, 2]
    assert requests_that_fit(memory=20, reserved=1, **sizes) == 1
    with pytest.raises(SizeError, match="memory = 9: expected room for 10 bytes of weights"):
        requests_that_fit(memory=9, **sizes)


def test_footprints_add_part_by_part() -> None:
    one = Footprint(weights=1, gradients=2, optimizer=3, activations=4, kv_cache=5)
    two = one + one.with_parts(kv_cache=0)
    assert two.parts() == {"weights": 2, "gradients": 4, "optimizer": 6, "activations": 8, "kv_cache": 5}
    assert two.total == 25
    with pytest.raises(SizeError, match="bytes of weights = -1"):
        Footprint(weights=-1)
    with pytest.raises(TypeError):
        _ = one + 1
