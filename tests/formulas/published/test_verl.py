"""What verl counts for Apertus alone."""

from __future__ import annotations

from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.published import verl


def test_apertus_counts_the_norms_of_queries_and_keys_as_products() -> None:
    """verl, utils/flops_counter.py, _estimate_apertus_flops: h + g*d elements more in each layer."""
    sizes = DecoderSizes(width=64, layers=3, heads=4, kv_heads=2, head_dim=16, ff=128, vocab=100)
    # MLP of two matrices 2*64*128; q, k, v and o 64*(64 + 32 + 32 + 64); norms 64 + 2*16; both vocabularies 2*100*64.
    per_token = 3 * (2 * 64 * 128 + 64 * 192 + 64 + 32) + 2 * 100 * 64
    # 12 * (10^2 + 20^2) / 2 pairs of 4 heads of 16 in 3 layers.
    expected = 6 * per_token * 30 + 6 * 500 * 3 * 4 * 16
    assert verl.training_flops(sizes, [10, 20], query_key_norms=True) == expected
    assert verl.training_flops(sizes, [10, 20]) == expected - 6 * 3 * 96 * 30
