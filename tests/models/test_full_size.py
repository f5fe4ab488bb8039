"""Published models at full size, on meta tensors, counted op by op and held to the closed form of their named sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    BertModel,
    T5ForConditionalGeneration,
    ViTForImageClassification,
    WhisperForConditionalGeneration,
)

from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.formulas.architectures.encoder_decoder import EncoderDecoderSizes, encoder_decoder
from pytest_flopguard.formulas.architectures.families import from_config
from pytest_flopguard.formulas.architectures.models import closed_form, parameters
from pytest_flopguard.formulas.architectures.presets import preset
from pytest_flopguard.formulas.breakdown import Breakdown

pytestmark = pytest.mark.slow

Count = Callable[..., tuple[FlopTally, int]]


@pytest.fixture
def built() -> Callable[[str, Any], nn.Module]:
    """Build a model of a named config on meta tensors, in bfloat16: their grouped products know no other."""

    def built(name: str, build: Any) -> nn.Module:
        config = CONFIG_MAPPING[str(preset(name)["model_type"])](**dict(preset(name)))
        with torch.device("meta"):
            model: nn.Module = build(config).to(torch.bfloat16)
        return model

    return built


def held(tally: FlopTally, form: Breakdown) -> None:
    assert (tally.forward, tally.backward, tally.recompute) == (form.forward, form.backward, 0)


@pytest.mark.parametrize(
    ("name", "batch", "seq", "forward"),
    [
        # As counted elsewhere, too: Llama-2-7B's training step is printed by MaxText as 1721.22 TFLOP.
        ("llama-2-7b", 4, 8192, 573_738_911_268_864),
        ("llama-2-70b", 1, 4096, 606_878_878_924_800),
        ("llama-3-8b", 1, 8192, 158_140_695_838_720),
        ("llama-3-70b", 1, 8192, 1_314_637_949_698_048),
        ("falcon-7b", 1, 2048, 30_789_681_020_928),
        ("mixtral-8x7b", 1, 2048, 54_417_235_640_320),
        ("deepseek-v3", 1, 4096, 383_866_460_176_384),
        ("gpt-oss-20b", 1, 2048, None),
        ("gemma-3-12b", 1, 2048, None),
        ("qwen3-30b-a3b", 1, 2048, None),
    ],
)
def test_decoders(
    built: Callable[..., Any], count: Count, name: str, batch: int, seq: int, forward: int | None
) -> None:
    model = built(name, AutoModelForCausalLM.from_config)
    tokens = torch.zeros(batch, seq, dtype=torch.long, device="meta")
    # A mask of four dimensions is taken as it is: to make one, transformers would read values.
    mask = torch.zeros(1, 1, seq, seq, dtype=torch.bfloat16, device="meta")
    tally, found = count(model, tokens, attention_mask=mask, use_cache=False)
    sizes = from_config(preset(name))
    held(tally, closed_form(sizes, batch=batch, seq=seq))
    assert found == parameters(sizes)
    assert tally.forward == (forward or tally.forward)


def test_gpt_3(count: Count) -> None:
    # Korthikanti et al. 2022, eq. 7 at GPT-3's sizes is 2.204555e15 FLOPs for a step on one sequence of 2048.
    config = CONFIG_MAPPING["gpt_neox"](
        hidden_size=12288, intermediate_size=49152, num_hidden_layers=96, num_attention_heads=96, vocab_size=51200,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
        mask = torch.zeros(1, 1, 2048, 2048, dtype=torch.bfloat16)
        tally, found = count(model, torch.zeros(1, 2048, dtype=torch.long), attention_mask=mask, use_cache=False)
    held(tally, closed_form(from_config(config.to_dict()), seq=2048))
    assert tally.total == 2_204_555_173_429_248
    assert found == 175_219_826_688


def test_bert(built: Callable[..., Any], count: Count) -> None:
    model, sizes = built("bert-base", BertModel), from_config(preset("bert-base"))
    mask = torch.zeros(1, 1, 128, 128, dtype=torch.bfloat16, device="meta")
    tally, found = count(model, torch.zeros(1, 128, dtype=torch.long, device="meta"), attention_mask=mask)
    held(tally, closed_form(sizes, seq=128))
    assert tally.forward == 22_348_431_360  # calflops prints 11.174 GMAC
    assert found == parameters(sizes) == 109_482_240


def test_t5(built: Callable[..., Any], count: Count) -> None:
    model, sizes = built("t5-base", T5ForConditionalGeneration), from_config(preset("t5-base"))
    assert isinstance(sizes, EncoderDecoderSizes)
    source, target = (torch.zeros(2, each, dtype=torch.long, device="meta") for each in (128, 40))
    masks = (torch.zeros(1, 1, *each, dtype=torch.bfloat16, device="meta") for each in ((1, 128), (40, 40)))
    tally, found = count(
        model, source, decoder_input_ids=target, attention_mask=next(masks), decoder_attention_mask=next(masks),
        use_cache=False,
    )  # fmt: skip
    held(tally, encoder_decoder(sizes, batch=2, source=128, target=40))
    assert found == parameters(sizes) == 222_903_552


def test_vit(built: Callable[..., Any], count: Count) -> None:
    model, sizes = built("vit-b-16", ViTForImageClassification), from_config(preset("vit-b-16"))
    tally, found = count(model, torch.zeros(2, 3, 224, 224, dtype=torch.bfloat16, device="meta"))
    held(tally, closed_form(sizes, batch=2))
    assert tally.forward == 2 * 2 * 17_563_828_224  # torchvision prints 17.564 GMAC
    assert found == parameters(sizes) == 86_567_656


@pytest.mark.parametrize(("name", "printed"), [("whisper-tiny", 37_760_640), ("whisper-large-v3", 1_543_490_560)])
def test_whisper(built: Callable[..., Any], count: Count, name: str, printed: int) -> None:
    model, sizes = built(name, WhisperForConditionalGeneration), from_config(preset(name))
    sound = torch.zeros(1, int(str(preset(name)["num_mel_bins"])), 3000, dtype=torch.bfloat16, device="meta")
    tokens = torch.zeros(1, 32, dtype=torch.long, device="meta")
    mask = torch.zeros(1, 1, 32, 32, dtype=torch.bfloat16, device="meta")
    tally, found = count(model, sound, decoder_input_ids=tokens, decoder_attention_mask=mask, use_cache=False)
    held(tally, closed_form(sizes, seq=32))
    assert found == parameters(sizes) == printed
