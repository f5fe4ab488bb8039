"""The configs of encoders, encoder-decoders and models of images and sound, as their sizes."""

from __future__ import annotations

from pytest_flopguard.formulas.architectures.block import Block
from pytest_flopguard.formulas.architectures.config_fields import Fields
from pytest_flopguard.formulas.architectures.encoder import EncoderSizes
from pytest_flopguard.formulas.architectures.encoder_decoder import EncoderDecoderSizes
from pytest_flopguard.formulas.architectures.vision_transformer import VisionSizes
from pytest_flopguard.formulas.architectures.whisper import WhisperSizes


def bert(fields: Fields) -> EncoderSizes:
    """BERT, with its pooler."""
    fields.fixed("is_decoder", False)
    fields.fixed("add_cross_attention", False)
    return EncoderSizes(
        name=fields.model_type,
        block=Block(
            width=fields.size("hidden_size"),
            heads=fields.size("num_attention_heads"),
            ff=fields.size("intermediate_size"),
        ),
        layers=fields.size("num_hidden_layers"),
        vocab=fields.size("vocab_size"),
        positions=fields.size("max_position_embeddings"),
        types=fields.size("type_vocab_size", default=2),
        pooler=True,
    )


def t5(fields: Fields) -> EncoderDecoderSizes:
    """T5: no biases, relative positions; version 1.1 has a gated MLP and a head of its own."""
    layers = fields.size("num_layers", "num_hidden_layers")
    block = Block(
        width=fields.size("d_model"),
        heads=fields.size("num_heads"),
        head_dim=fields.size("d_kv", default=64),
        ff=fields.size("d_ff"),
        gated=fields.text("feed_forward_proj", "relu").startswith("gated-"),
        qkv_biases=0,
        out_bias=False,
        mlp_bias=False,
        norm_bias=False,
    )
    return EncoderDecoderSizes(
        name=fields.model_type,
        encoder=block,
        decoder=block,
        encoder_layers=layers,
        decoder_layers=fields.size("num_decoder_layers", default=layers),
        vocab=fields.size("vocab_size"),
        tied=fields.flag("tie_word_embeddings", True),
        relative_buckets=fields.size("relative_attention_num_buckets", default=32),
    )


def vit(fields: Fields) -> VisionSizes:
    """ViT without a head: what a config says of labels holds only for the class that has them."""
    return VisionSizes(
        name=fields.model_type,
        block=Block(
            width=fields.size("hidden_size"),
            heads=fields.size("num_attention_heads"),
            ff=fields.size("intermediate_size"),
            qkv_biases=3 if fields.flag("qkv_bias", True) else 0,
        ),
        layers=fields.size("num_hidden_layers"),
        image=fields.size("image_size"),
        patch=fields.size("patch_size"),
        channels=fields.size("num_channels", default=3),
        labels=labels(fields),
    )


def whisper(fields: Fields) -> WhisperSizes:
    """Whisper; its keys have no bias."""
    width = fields.size("d_model")

    def block(half: str) -> Block:
        heads, ff = fields.size(f"{half}_attention_heads"), fields.size(f"{half}_ffn_dim")
        return Block(width=width, heads=heads, ff=ff, qkv_biases=2)

    text = EncoderDecoderSizes(
        name=fields.model_type,
        encoder=block("encoder"),
        decoder=block("decoder"),
        encoder_layers=fields.size("encoder_layers"),
        decoder_layers=fields.size("decoder_layers"),
        vocab=fields.size("vocab_size"),
        tied=fields.flag("tie_word_embeddings", True),
    )
    return WhisperSizes(
        name=fields.model_type,
        text=text,
        mel_bins=fields.size("num_mel_bins"),
        source_positions=fields.size("max_source_positions", default=1500),
        target_positions=fields.size("max_target_positions", default=448),
    )


def labels(fields: Fields) -> int:
    """Return how many labels a classifier has: two, unless the config names or numbers them."""
    named = fields.get("id2label") or fields.get("label2id")
    if isinstance(named, dict):
        return len(named)
    return fields.size("num_labels", default=2)
