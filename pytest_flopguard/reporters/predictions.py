"""What predicted memory peaks stand on: the GPU, torch, the allocator's settings, what was assumed, what is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_flopguard.core.owners import Prediction
from pytest_flopguard.core.record import Record

_NAMED = 5


def prediction_lines(records: Sequence[Record], *, every: bool = False) -> Iterator[str]:
    """Yield the ground of each kind of prediction once; ``every`` names all that is assumed and unknown."""
    kinds: dict[tuple[str, str, str], list[Prediction]] = {}
    for record in records:
        for peak in record.measurement.memory:
            each = peak.prediction
            if each is not None:
                kinds.setdefault((each.gpu, each.torch, each.allocator), []).append(each)
    for (gpu, torch, allocator), predictions in kinds.items():
        yield f"predicted, not measured: memory of {gpu} with torch {torch}, allocator settings: {allocator}"
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
