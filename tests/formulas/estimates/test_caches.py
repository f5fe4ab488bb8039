"""The cache of two halves against what transformers keeps."""

from __future__ import annotations

import pytest
import torch
from cache_names import cache_in
from transformers import T5Config, T5ForConditionalGeneration, WhisperConfig, WhisperForConditionalGeneration

from pytest_flopguard.formulas.architectures.families import from_config
from pytest_flopguard.formulas.estimates.asked import Subject, Workload
from pytest_flopguard.formulas.estimates.estimate import estimate

T5 = {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 4, "d_kv": 8, "vocab_size": 50}
WHISPER = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 3, "encoder_attention_heads": 2,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_mel_bins": 8, "vocab_size": 50,
    "max_source_positions": 20, "max_target_positions": 30, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1,
}  # fmt: skip


def kept(cache: object) -> int:
    """Bytes of the keys and values of both attentions of every layer."""
    halves = (cache.self_attention_cache, cache.cross_attention_cache)  # type: ignore[attr-defined]
    tensors = [each for half in halves for layer in half.layers for each in (layer.keys, layer.values)]
    return sum(each.numel() * each.element_size() for each in tensors)


def cache_of(model_type: str, config: dict[str, object], seq: int, batch: int) -> int | float | str | None:
    subject = Subject(name=model_type, sizes=from_config({"model_type": model_type, **config}))
    found = estimate(subject, Workload(batch=batch, seq=seq, dtype="float32"))
    return found.figures["memory.kv_cache"].value


@pytest.mark.parametrize(("seq", "batch"), [(1, 1), (7, 2)])
def test_t5(seq: int, batch: int) -> None:
    model = T5ForConditionalGeneration(T5Config(**T5)).eval()
    ids = torch.ones(batch, seq, dtype=torch.long)
    with torch.no_grad():
        cache = cache_in(model(input_ids=ids, decoder_input_ids=ids, use_cache=True))
    # 2 layers * 2 * 4 heads * 8 * (seq + seq) * 4 bytes
    assert cache_of("t5", T5, seq, batch) == kept(cache) == 2 * 2 * 32 * 2 * seq * 4 * batch


def test_whisper() -> None:
    model = WhisperForConditionalGeneration(WhisperConfig(**WHISPER)).eval()
    with torch.no_grad():
        output = model(
            input_features=torch.zeros(2, 8, 40), decoder_input_ids=torch.ones(2, 5, dtype=torch.long), use_cache=True
        )
    cache = cache_in(output)
    # 3 layers * 2 * 4 heads * 8 * (5 + 20) * 4 bytes, of two
    assert cache_of("whisper", WHISPER, 5, 2) == kept(cache) == 3 * 2 * 32 * 25 * 4 * 2
