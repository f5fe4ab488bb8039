"""Encoders, encoder-decoders, images and sound, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.architectures.block import Block
from pytest_flopguard.formulas.architectures.encoder import EncoderSizes, encoder, encoder_parameters
from pytest_flopguard.formulas.architectures.encoder_decoder import (
    EncoderDecoderSizes,
    encoder_decoder,
    encoder_decoder_parameters,
)
from pytest_flopguard.formulas.architectures.vision_transformer import (
    VisionSizes,
    vision_parameters,
    vision_transformer,
)
from pytest_flopguard.formulas.architectures.whisper import WhisperSizes, frames_heard, whisper, whisper_parameters

BLOCK = Block(width=8, heads=2, ff=12)
PLAIN = replace(BLOCK, qkv_biases=0, out_bias=False, mlp_bias=False, norm_bias=False)
BERT = EncoderSizes(block=BLOCK, layers=2, vocab=10, positions=16, types=2)
T5 = EncoderDecoderSizes(encoder=PLAIN, decoder=PLAIN, encoder_layers=2, decoder_layers=3, vocab=10)


def test_encoder():
    # B=3, s=5, h=8, f=12, L=2, 15 tokens: qkv 2 * 2*15 * 3*64, scores and values 2 * 2*3*8*25, out 2 * 2*15*64,
    # MLP 2 * 2*15 * 2*8*12.
    assert encoder(BERT, batch=3, seq=5).by_name() == {
        "mlp": 11_520,
        "qkv": 11_520,
        "out": 3_840,
        "attention_scores": 2_400,
        "attention_values": 2_400,
    }


@pytest.mark.parametrize(
    ("head", "terms", "parameters"),
    [
        ({"pooler": True}, {"pooler": 384}, 72),  # 2*3 * 64; 64 + 8
        ({"masked_lm": True}, {"transform": 1_920, "lm_head": 2_400}, 98),  # 2*15 * 64, 2*15 * 8*10; 64 + 8 + 16 + 10
        ({"labels": 4}, {"classifier": 192}, 36),  # 2*3 * 8*4; 4*(8 + 1)
        ({"labels": 4, "each_position": True}, {"classifier": 960}, 36),  # 2*15 * 8*4
    ],
)
def test_heads_of_an_encoder(head, terms, parameters):
    sizes = replace(BERT, **head)
    form = encoder(sizes, batch=3, seq=5)
    assert {name: form.by_name()[name] for name in terms} == terms
    assert form.forward - encoder(BERT, batch=3, seq=5).forward == sum(terms.values())
    assert sum(encoder_parameters(sizes).values()) - sum(encoder_parameters(BERT).values()) == parameters


def test_parameters_of_an_encoder():
    # Tables (10 + 16 + 2)*8; a layer 4*64 + 4*8, 2*8*12 + 12 + 8, 2 norms of 16; and one norm of 16.
    assert sum(encoder_parameters(BERT).values()) == 224 + 2 * (288 + 212 + 32) + 16


def test_encoder_decoder():
    # B=1, S=6 and s=4, h=8, f=12, V=10; 2 encoder layers, 3 decoder layers.
    form = encoder_decoder(T5, source=6, target=4).by_name()
    assert form == {
        "encoder_qkv": 4_608,  # 2 * 2*6 * 3*64
        "encoder_attention_scores": 1_152,  # 2 * 2*8*36
        "encoder_attention_values": 1_152,
        "encoder_out": 1_536,  # 2 * 2*6*64
        "encoder_mlp": 4_608,  # 2 * 2*6 * 2*8*12
        "qkv": 4_608,  # 3 * 2*4 * 3*64
        "attention_scores": 768,  # 3 * 2*8*16
        "attention_values": 768,
        "out": 1_536,  # 3 * 2*4*64
        "cross_q": 1_536,
        "cross_kv": 4_608,  # 3 * 2*6 * 2*64
        "cross_scores": 1_152,  # 3 * 2*8 * 4*6
        "cross_values": 1_152,
        "cross_out": 1_536,
        "mlp": 4_608,  # 3 * 2*4 * 2*8*12
        "lm_head": 640,  # 2*4 * 8*10
    }


def test_only_the_decoder_itself_is_causal():
    dense = encoder_decoder(T5, source=6, target=4).by_name()
    causal = encoder_decoder(T5, source=6, target=4, attention="causal").by_name()
    assert {name for name in dense if dense[name] != causal[name]} == {"attention_scores", "attention_values"}
    assert causal["attention_scores"] == 480  # 3 * 2*8 * (1 + 2 + 3 + 4)


def test_a_step_of_decoding():
    step = encoder_decoder(T5, source=6, target=1, past=3, encode=False, cross_cached=True).by_name()
    assert "cross_kv" not in step
    assert not [name for name in step if name.startswith("encoder")]
    assert step["attention_scores"] == 192  # 3 * 2*8 * 4
    assert step["cross_scores"] == 288  # 3 * 2*8 * 6


def test_parameters_of_an_encoder_decoder():
    # V*h = 80; an encoder layer 4*64 + 192 + 2*8, a decoder layer 8*64 + 192 + 3*8; 2 norms of 8.
    assert sum(encoder_decoder_parameters(T5).values()) == 80 + 2 * 464 + 3 * 728 + 16
    bucketed = replace(T5, relative_buckets=4, tied=False)
    assert sum(encoder_decoder_parameters(bucketed).values()) == 80 + 2 * 464 + 3 * 728 + 16 + 4 * (2 + 2) + 80


def test_images():
    # 2 images of 9 pixels in patches of 4: 4 patches of 2*2*3 pixels each (a row and a column are left), 5 positions.
    sizes = VisionSizes(block=BLOCK, layers=2, image=5, patch=2, labels=7, pooler=6)
    form = vision_transformer(sizes, batch=2)
    assert form.by_name() == {
        "qkv": 7_680,  # 2 * 2*10 * 3*64
        "mlp": 7_680,  # 2 * 2*10 * 2*8*12
        "out": 2_560,
        "attention_scores": 1_600,  # 2 * 2*2*8*25
        "attention_values": 1_600,
        "patch": 1_536,  # 2*2 * 4 * 8*12
        "classifier": 224,  # 2*2 * 8*7
        "pooler": 192,
    }
    # Nobody asks for the gradient of an image.
    assert form.backward == 2 * form.forward - 1_536
    assert vision_transformer(sizes, batch=2, image_gradient=True).backward == 2 * form.forward
    # Patches 8*12 + 8, a token and 5 positions 6*8, layers of 532, a norm of 16, pooler 9*6, labels 9*7.
    assert sum(vision_parameters(sizes).values()) == 104 + 48 + 2 * 532 + 16 + 54 + 63


def test_sound():
    text = replace(T5, encoder=BLOCK, decoder=BLOCK)
    sizes = WhisperSizes(text=text, mel_bins=5, source_positions=6, target_positions=9)
    form = whisper(sizes, target=4)
    # 12 frames: 2*12 * 3*5*8, then 6 positions: 2*6 * 3*8*8.
    assert (form.by_name()["conv1"], form.by_name()["conv2"]) == (2_880, 2_304)
    assert form.forward == 5_184 + encoder_decoder(text, source=6, target=4).forward
    assert form.backward == 2 * form.forward - 2_880
    assert whisper(sizes, target=4, sound_gradient=True).backward == 2 * form.forward
    # Kernels 8*15 + 8 and 8*24 + 8, tables (6 + 9)*8.
    assert sum(whisper_parameters(sizes).values()) == 328 + 120 + sum(encoder_decoder_parameters(text).values())
    assert frames_heard(sizes, 12) == 12
    with pytest.raises(SizeError, match="frames = 11: expected twice source_positions = 6"):
        frames_heard(sizes, 11)


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"heads": 3}, {"ff": -1}, {"qkv_biases": 4}, {"norms": -1}, {"head_dim": -1}]
)
def test_impossible_blocks(wrong):
    with pytest.raises(SizeError):
        Block(**{"width": 8, "heads": 2, "ff": 12, **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: replace(BERT, layers=0),
        lambda: replace(BERT, labels=-1),
        lambda: encoder(BERT, seq=0),
        lambda: encoder(BERT, seq=1, batch=0),
        lambda: replace(T5, vocab=0),
        lambda: replace(T5, relative_buckets=-1),
        lambda: encoder_decoder(T5, source=0, target=1),
        lambda: encoder_decoder(T5, source=1, target=-1),
        lambda: encoder_decoder(T5, source=1, target=1, attention="half"),
        lambda: VisionSizes(block=BLOCK, layers=1, image=4, patch=5),
        lambda: VisionSizes(block=BLOCK, layers=1, image=4, patch=2, tokens=-1),
        lambda: WhisperSizes(text=T5, mel_bins=0, source_positions=1, target_positions=1),
    ],
)
def test_impossible_sizes(wrong):
    with pytest.raises(SizeError):
        wrong()
