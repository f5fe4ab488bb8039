"""Whisper: two convolutions over a spectrogram, an encoder, and a decoder of text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from pytest_flopguard.core.errors import SizeError, message
from pytest_flopguard.formulas.architectures.encoder_decoder import (
    EncoderDecoderSizes,
    encoder_decoder,
    encoder_decoder_parameters,
)
from pytest_flopguard.formulas.architectures.pairs import convention
from pytest_flopguard.formulas.breakdown import Breakdown, Term
from pytest_flopguard.formulas.sizes import positive

_KERNEL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperSizes:
    """Sizes of Whisper: its text model, the mel bins of a frame, and the rows of both position tables.

    The second convolution takes every other frame, so an encoder of n positions hears 2*n frames.
    """

    name: str = "whisper"
    text: EncoderDecoderSizes
    mel_bins: int
    source_positions: int
    target_positions: int

    def __post_init__(self) -> None:
        for name in ("mel_bins", "source_positions", "target_positions"):
            positive(name, getattr(self, name))


def whisper(
    sizes: WhisperSizes,
    *,
    batch: int = 1,
    target: int,
    past: int = 0,
    keys: int = 0,
    attention: str = "dense",
    encode: bool = True,
    cross_cached: bool = False,
    source_gradient: bool = True,
    logits: int | None = None,
    sound_gradient: bool = False,
    modules: Mapping[str, str] | None = None,
) -> Breakdown:
    """FLOPs of Whisper on ``batch`` full windows of sound and ``target`` new tokens of text.

    Convolutions 2*B*T*3*m*h and 2*B*S*3*h*h, then an encoder-decoder with S = T/2 source positions. The first
    convolution's backward is its weight's gradient alone, unless the sound wants one.

    Symbols: B batch, T frames, m mel bins, S encoder positions, s text tokens, h width, and those of
    ``encoder_decoder``, whose conventions hold. Source: Radford et al. 2022 (arXiv 2212.04356) section 2.2.
    """
    positive("batch", batch)
    h, m, s = sizes.text.encoder.width, sizes.mel_bins, sizes.source_positions
    text = encoder_decoder(
        sizes.text,
        batch=batch,
        source=s,
        target=target,
        past=past,
        keys=keys,
        attention=attention,
        encode=encode,
        cross_cached=cross_cached,
        source_gradient=source_gradient,
        logits=logits,
    )
    first, second = 2 * batch * 2 * s * _KERNEL * m * h, 2 * batch * s * _KERNEL * h * h
    ears = (
        Term(name="conv1", equation="2*B*T*3*m*h", each=first, backward_each=None if sound_gradient else first),
        Term(name="conv2", equation="2*B*S*3*h*h", each=second),
    )
    return Breakdown(
        name=sizes.name,
        terms=tuple(
            replace(each, modules=(modules or {}).get(each.name, ""))
            for each in (*(ears if encode else ()), *text.terms)
        ),
        symbols=MappingProxyType({**text.symbols, "T": 2 * s, "m": m}),
        source="Radford et al. 2022, arXiv 2212.04356, section 2.2",
        attention=convention(attention),
    )


def whisper_parameters(sizes: WhisperSizes) -> dict[str, int]:
    """Parameters of Whisper by part, exact: convolutions, both position tables, the text model."""
    h, m = sizes.text.encoder.width, sizes.mel_bins
    return {
        "convolutions": h * (_KERNEL * m + 1) + h * (_KERNEL * h + 1),
        "positions": (sizes.source_positions + sizes.target_positions) * h,
        **encoder_decoder_parameters(sizes.text),
    }


def frames_heard(sizes: WhisperSizes, frames: int) -> int:
    """Return the frames of a full window; SizeError for any other number, which the encoder refuses too."""
    if frames != 2 * sizes.source_positions:
        rule = f"twice source_positions = {sizes.source_positions}"
        raise SizeError(message("bad-size", name="frames", value=frames, rule=rule))
    return frames
