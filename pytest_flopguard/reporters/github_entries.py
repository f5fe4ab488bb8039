"""What is published of a run: an entry for each test or region, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from pytest_flopguard.core.comparison import Compared
from pytest_flopguard.core.record import Record, RunReport
from pytest_flopguard.core.standing import Standing, fails
from pytest_flopguard.core.verdict import Finding
from pytest_flopguard.reporters.finding_text import bound, budget_findings, verdict

# What another run decides, or the first accepted baseline: told, and no reason to speak up.
QUIET = ("device-absent", "no-baseline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record with its region's name, what pytest made of the test, and how it compares, None with nothing to compare.

    ``accepted`` is the reason with which the baseline beside the test took the difference in, empty where it did not.
    """

    record: Record
    region: str = ""
    standing: Standing = "judged"
    compared: Compared | None = None
    accepted: str = ""

    @property
    def title(self) -> str:
        """The test, and the region where it has one."""
        return f"{self.record.nodeid}  {self.region}".rstrip()

    @property
    def word(self) -> str:
        """The verdict in a word, as the terminal's table has it."""
        if self.standing != "judged":
            return self.standing
        findings = budget_findings(self.record)
        return verdict(findings[0]) if findings else "no budget"

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The findings that fail the test."""
        return tuple(each for each in self.record.findings if each.fails) if self.standing == "judged" else ()

    @property
    def open(self) -> tuple[Finding, ...]:
        """The findings that nobody could decide, and that no other run decides."""
        return tuple(
            each
            for each in (self.record.findings if self.standing == "judged" else ())
            if each.status == "undecided" and each.code not in QUIET
        )

    @property
    def dearer(self) -> bool:
        """Whether it got worse than what it is compared with, and nobody has accepted that."""
        return self.compared is not None and self.compared.verdict == "regression" and not self.accepted

    @property
    def unclear(self) -> bool:
        """Whether nobody can say if it got worse, and nobody has accepted that."""
        return self.compared is not None and self.compared.verdict in ("changed", "undecided") and not self.accepted

    @property
    def moved(self) -> bool:
        """Whether there is anything to tell that is not as before."""
        other = self.compared is not None and self.compared.verdict != "same"
        return bool(other or self.broken or self.open or fails(self.record, self.standing))

    @property
    def unknown_flops(self) -> bool:
        """Whether FLOPs are known on one side of the comparison only."""
        return self.compared is not None and any(each.startswith("FLOPs: known") for each in self.compared.reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One run to publish: its entries, the worst first, and what ``against`` names, if anything.

    ``has_base`` where that is another revision, and not the baselines beside the tests. ``gone`` are compared tests
    that did not run. ``trusted`` is false for a run of somebody else's code: of that only numbers, names of tests and
    words of ours are shown. ``lost`` is one that was waited for and left no report.
    """

    name: str
    run: RunReport
    entries: tuple[Entry, ...]
    gone: tuple[Compared, ...] = ()
    against: str = ""
    has_base: bool = False
    notes: tuple[str, ...] = ()
    trusted: bool = True
    lost: bool = False

    @property
    def moved(self) -> bool:
        """Whether there is anything to tell that is not as before."""
        return self.lost or bool(self.gone) or any(each.moved for each in self.entries)

    @property
    def tests(self) -> int:
        """How many tests were measured."""
        return len({each.record.nodeid for each in self.entries})

    @property
    def broken(self) -> int:
        """How many of them broke a limit, or could not be held to one."""
        return len({each.record.nodeid for each in self.entries if each.broken})

    @property
    def unknown_flops(self) -> bool:
        """Whether nobody knows the change of all FLOPs together."""
        return any(each.unknown_flops for each in self.entries)

    def delta(self, *quantities: str) -> list[tuple[int, int]]:
        """Return the numbers of these quantities, before and now, of all tests that were compared."""
        return [
            (each.before, each.now)
            for entry in self.entries
            if entry.compared is not None
            for each in entry.compared.numbers
            if each.quantity in quantities
        ]


def worst_first(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Order by what a reader must see first; what is alike keeps its order."""
    return tuple(sorted(entries, key=_urgency))


def _urgency(entry: Entry) -> tuple[int, Fraction]:
    ranks = (
        bool(entry.broken),
        fails(entry.record, entry.standing),
        entry.dearer,
        bool(entry.open) or entry.unclear,
        entry.word == "warn",
        entry.moved,
    )
    return (ranks.index(True) if True in ranks else len(ranks)), -max(_excess(entry), _growth(entry))


def _excess(entry: Entry) -> Fraction:
    """Return how many times its limit the worst finding is, or its limit it."""
    found = Fraction(0)
    for each in entry.broken:
        limit = bound(each)
        if each.observed and limit:
            share = Fraction(each.observed, limit)
            found = max(found, share, 1 / share)
    return found


def _growth(entry: Entry) -> Fraction:
    numbers = entry.compared.numbers if entry.compared is not None else ()
    return max((Fraction(each.now, each.before) for each in numbers if each.before), default=Fraction(0))
