"""Recordings held against predictions: equal to the byte, within a share, explained by name, or missed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ground_truth.recording import Recording, load_folder

# The goals: so many of all cases equal to the byte, all within so much; reserved within one segment of the allocator.
EQUAL_SHARE = Fraction(80, 100)
WITHIN = Fraction(1, 100)
SEGMENT = 20 << 20
EXPLANATIONS = "explanations.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One case recorded and predicted. Judged are the peaks of a fresh process and of the last step alike."""

    recorded: Recording
    predicted: Recording | None
    explanation: str = ""

    @property
    def name(self) -> str:
        """The case with its allocator settings."""
        return self.recorded.name

    def values(self, figure: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return (recorded, predicted) of a figure, for the fresh process and for the last step."""
        assert self.predicted is not None
        pairs = ((self.recorded.fresh(), self.predicted.fresh()), (self.recorded.warm(), self.predicted.warm()))
        (fresh, fresh_told), (warm, warm_told) = pairs
        return (fresh[figure], fresh_told[figure]), (warm[figure], warm_told[figure])

    @property
    def compared(self) -> bool:
        """Whether there are two figures to compare."""
        return self.recorded.usable and self.predicted is not None and self.predicted.usable

    @property
    def equal(self) -> bool:
        """Whether allocated is equal to the byte."""
        return self.compared and all(real == told for real, told in self.values("allocated"))

    @property
    def within(self) -> bool:
        """Whether allocated is within the goal."""
        return self.compared and all(abs(told - real) <= WITHIN * real for real, told in self.values("allocated"))

    @property
    def segment_away(self) -> bool:
        """Whether reserved is one segment away at most."""
        return self.compared and all(abs(told - real) <= SEGMENT for real, told in self.values("reserved"))

    def problems(self) -> list[str]:
        """Say what misses a goal of each case."""
        if not self.compared:
            recorded = self.recorded.error or ("ran out of memory and tried again" if self.recorded.retries else "")
            told = "not predicted" if self.predicted is None else self.predicted.error
            return [f"{self.name}: {'recorded: ' + recorded if recorded else 'predicted: ' + (told or 'no figures')}"]
        found = []
        if not self.within:
            found.append(
                f"{self.name}: allocated {said(self.values('allocated'))}, more than {float(WITHIN):.0%} apart"
            )
        if not self.segment_away:
            found.append(f"{self.name}: reserved {said(self.values('reserved'))}, more than {SEGMENT >> 20} MiB apart")
        exact = self.equal and all(real == told for real, told in self.values("reserved"))
        if not exact and not self.explanation:
            found.append(f"{self.name}: differs, and {EXPLANATIONS} does not say why")
        if exact and self.explanation:
            found.append(f"{self.name}: is equal, and {EXPLANATIONS} still explains a difference")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All cases of two folders."""

    pairs: tuple[Pair, ...]

    @property
    def equal(self) -> int:
        """How many cases are equal to the byte."""
        return sum(pair.equal for pair in self.pairs)

    def missed(self) -> list[str]:
        """Say every goal that is missed."""
        found = [problem for pair in self.pairs for problem in pair.problems()]
        if self.equal < EQUAL_SHARE * len(self.pairs):
            share = f"{self.equal} of {len(self.pairs)} cases"
            found.insert(0, f"allocated is equal to the byte in {share}, and the goal is {float(EQUAL_SHARE):.0%}")
        return found

    def table(self) -> str:
        """Return the cases as lines: recorded and predicted MiB of the last step, and how far apart they are."""
        lines = [f"{'case':<55} {'allocated':>12} {'predicted':>12} {'':>9} {'reserved':>10} {'predicted':>10}"]
        for pair in self.pairs:
            if not pair.compared:
                lines.append(pair.problems()[0])
                continue
            (_, (real, told)), (_, (real_held, told_held)) = pair.values("allocated"), pair.values("reserved")
            lines.append(
                f"{pair.name:<55} {real / 2**20:>12.1f} {told / 2**20:>12.1f} {apart(real, told):>9}"
                f" {real_held / 2**20:>10.0f} {told_held / 2**20:>10.0f} {pair.explanation}"
            )
        lines.append(f"{self.equal} of {len(self.pairs)} equal to the byte")
        return "\n".join(lines)


def apart(real: int, told: int) -> str:
    """Say the difference as a share; only equal numbers are called equal."""
    if real == told:
        return "equal"
    return f"{100 * (told - real) / real:+.3f} %"


def said(values: tuple[tuple[int, int], tuple[int, int]]) -> str:
    """Say recorded and predicted bytes."""
    (fresh, fresh_told), (warm, warm_told) = values
    return f"recorded {fresh:,} fresh and {warm:,} warm, predicted {fresh_told:,} and {warm_told:,}"


def compared(
    recorded: Mapping[str, Recording], predicted: Mapping[str, Recording], explained: Mapping[str, str]
) -> Comparison:
    """Pair recordings with predictions by name. An explanation for no recording is an error."""
    strange = sorted(set(explained) - set(recorded))
    if strange:
        raise ValueError(f"{EXPLANATIONS} explains {strange}, which are not recorded")
    return Comparison(
        pairs=tuple(
            Pair(recorded=each, predicted=predicted.get(name), explanation=explained.get(name, ""))
            for name, each in recorded.items()
        )
    )


def compare_folders(recorded: Path, predicted: Path) -> Comparison:
    """Compare what two folders hold, with the explanations that stand beside the recordings."""
    return compared(load_folder(recorded), load_folder(predicted), explanations(recorded))


def explanations(folder: Path) -> dict[str, str]:
    """Read why cases differ: case by case, a sentence."""
    path = folder / EXPLANATIONS
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not all(isinstance(each, str) and each.strip() for each in found.values()):
        raise ValueError(f"{path}: expected an object of cases and sentences")
    return found
