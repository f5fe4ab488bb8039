"""What predicted memory peaks stand on: the GPU, torch, the allocator's settings, what was assumed, what is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_flopguard.core.owners import Prediction
from pytest_flopguard.core.record import Record

_NAMED = 5


def prediction_lines(records: Sequence[Record], *, every: bool = False) -> Iterator[str]:
    """Yield the ground of each kind of prediction once; ``every`` names all that is assumed and unknown."""
    peaks = [peak.prediction for record in records for peak in record.measurement.memory]
    yield from ground_lines([each for each in peaks if each is not None], every=every)


def ground_lines(grounds: Sequence[Prediction], *, every: bool) -> Iterator[str]:
    """Yield each kind of ground once, with what is assumed and unknown in all of them."""
    kinds: dict[tuple[str, str, str], list[Prediction]] = {}
    for each in grounds:
        kinds.setdefault((each.gpu, each.torch, each.allocator), []).append(each)
    for (gpu, torch, allocator), predictions in kinds.items():
        yield f"predicted, not measured: {gpu}, torch {torch}, allocator {allocator}"
        assumed = dict.fromkeys(text for each in predictions for text in each.assumed)
        unknown = dict.fromkeys(text for each in predictions for text in each.unknown)
        yield from _named("assumed", list(assumed), every)
        yield from _named("unknown and left out", list(unknown), every)


def _named(word: str, texts: Sequence[str], every: bool) -> Iterator[str]:
    shown = texts if every else texts[:_NAMED]
    for text in shown:
        yield f"  {word}: {text}"
    if len(texts) > len(shown):
        yield f"  {word}: {len(texts) - len(shown)} more (all with -vv)"
