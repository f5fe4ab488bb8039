"""Sizes of any family: their closed form and their parameters through one door."""

from __future__ import annotations

from pytest_flopguard.core.errors import SizeError, message
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.architectures.encoder import EncoderSizes, encoder, encoder_parameters
from pytest_flopguard.formulas.architectures.encoder_decoder import (
    EncoderDecoderSizes,
    encoder_decoder,
    encoder_decoder_parameters,
)
from pytest_flopguard.formulas.architectures.families import Sizes
from pytest_flopguard.formulas.architectures.parameters import decoder_parameters
from pytest_flopguard.formulas.architectures.transformer import decoder
from pytest_flopguard.formulas.architectures.vision_transformer import (
    VisionSizes,
    vision_parameters,
    vision_transformer,
)
from pytest_flopguard.formulas.architectures.whisper import WhisperSizes, whisper, whisper_parameters
from pytest_flopguard.formulas.breakdown import Breakdown


def closed_form(sizes: Sizes, *, batch: int = 1, seq: int = 1, past: int = 0, attention: str = "dense") -> Breakdown:
    """FLOPs of one forward pass of any family's sizes.

    ``seq`` is the number of new tokens. An encoder-decoder reads as many as it writes; Whisper hears a full window of
    sound and writes ``seq`` tokens; a vision transformer sees images of its own size, and ``seq`` must be 1.
    With ``past`` tokens in a cache, an encoder-decoder has encoded them before.
    """
    if isinstance(sizes, DecoderSizes):
        return decoder(sizes, batch=batch, seq=seq, past=past, attention=attention)
    if isinstance(sizes, EncoderDecoderSizes):
        source = past + seq if past else seq
        return encoder_decoder(
            sizes,
            batch=batch,
            source=source,
            target=seq,
            past=past,
            attention=attention,
            encode=not past,
            cross_cached=bool(past),
        )
    if isinstance(sizes, WhisperSizes):
        return whisper(
            sizes,
            batch=batch,
            target=seq,
            past=past,
            attention=attention,
            encode=not past,
            cross_cached=bool(past),
        )
    if past:
        raise SizeError(message("bad-size", name="past", value=past, rule=f"0: {sizes.name} has no cache"))
    if isinstance(sizes, EncoderSizes):
        return encoder(sizes, batch=batch, seq=seq)
    if seq != 1:
        raise SizeError(message("bad-size", name="seq", value=seq, rule=f"1: {sizes.name} reads whole images"))
    return vision_transformer(sizes, batch=batch)


def position_limit(sizes: Sizes) -> int | None:
    """Return how many tokens a sequence has at most, as a table of learned positions ends; None where none does."""
    if isinstance(sizes, WhisperSizes):
        return sizes.target_positions
    if isinstance(sizes, DecoderSizes | EncoderSizes):
        return sizes.positions or None
    return None


def checked_length(sizes: Sizes, seq: int) -> int:
    """Return a sequence's tokens; SizeError where there are more than the model has positions for."""
    limit = position_limit(sizes)
    if limit is not None and seq > limit:
        rule = f"at most {limit}: {sizes.name} has a table of {limit} positions"
        raise SizeError(message("bad-size", name="seq", value=seq, rule=rule))
    return seq


def parameter_terms(sizes: Sizes) -> dict[str, int]:
    """Return the parameters of any family's sizes by part, exact, each shared one once."""
    if isinstance(sizes, DecoderSizes):
        return decoder_parameters(sizes)
    if isinstance(sizes, EncoderSizes):
        return encoder_parameters(sizes)
    if isinstance(sizes, EncoderDecoderSizes):
        return encoder_decoder_parameters(sizes)
    if isinstance(sizes, VisionSizes):
        return vision_parameters(sizes)
    return whisper_parameters(sizes)


def parameters(sizes: Sizes) -> int:
    """Return the number of parameters of any family's sizes."""
    return sum(parameter_terms(sizes).values())
