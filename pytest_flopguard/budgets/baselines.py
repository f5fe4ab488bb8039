"""The baselines beside the tests of a run: what records are held to, and which entries are for no test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pytest_flopguard.budgets.baseline_file import FOLDER, BaselineFile, Block, baseline_path, module_of, read_baselines
from pytest_flopguard.budgets.tolerances import Tolerances
from pytest_flopguard.core.baseline import Baseline
from pytest_flopguard.core.baseline_verdict import Terms, hold, region_gone
from pytest_flopguard.core.errors import Problem, UsageError, nearest, problem
from pytest_flopguard.core.expectation import Origin
from pytest_flopguard.core.record import Record


class Baselines:
    """The files of the modules that were collected, read once; node ids begin at ``rootdir``.

    Where no baseline is kept beside any of these modules, nothing is new, unless the terms are strict. ``tolerance_of``
    tells the tolerances of a module where they are not those of the terms.
    """

    def __init__(self, rootdir: Path, terms: Terms, tolerance_of: Callable[[str], Tolerances] | None = None) -> None:
        self.terms = terms
        self._tolerance_of = tolerance_of
        self._rootdir = rootdir
        self._files: dict[str, BaselineFile] = {}
        self._modules: set[str] = set()

    def read(self, nodeids: Iterable[str]) -> list[Problem]:
        """Read the files of these tests' modules; return what is wrong in them."""
        problems: list[Problem] = []
        self._modules |= {_module(each) for each in nodeids}
        for module in sorted(self._modules - self._files.keys()):
            try:
                self._files[module] = self.file(module)
            except UsageError as error:
                problems += error.problems
        return problems

    def file(self, module: str) -> BaselineFile:
        """Read the file of a module as it is now; UsageError with every mistake in it."""
        path = baseline_path(self._rootdir / module)
        return read_baselines(path, baseline_path(Path(module)).as_posix())

    def terms_of(self, module: str) -> Terms:
        """Return how the baselines of a module are held."""
        return self.terms if self._tolerance_of is None else replace(self.terms, tolerance=self._tolerance_of(module))

    @property
    def kept(self) -> bool:
        """Whether any entry is kept beside these modules."""
        return any(file.entries for file in self._files.values())

    @property
    def count(self) -> int:
        """How many entries were read."""
        return sum(len(file.entries) for file in self._files.values())

    def has(self, nodeid: str) -> bool:
        """Whether a test, or a region of it, has a baseline."""
        module, _, name = nodeid.partition("::")
        file = self._files.get(module)
        return file is not None and any(test == name for test, _ in file.entries)

    def of(self, nodeid: str) -> list[tuple[str, Origin, Baseline]]:
        """Return the entries of a test: the region, where it is written, and the accepted numbers."""
        module, _, name = nodeid.partition("::")
        file = self._files.get(module)
        entries = {} if file is None else file.entries
        return [(block[1], file.origin(block), each) for block, each in entries.items() if file and block[0] == name]

    def has_memory(self, nodeid: str) -> bool:
        """Whether memory of a test, or of a region of it, is held to a baseline."""
        module, _, name = nodeid.partition("::")
        file = self._files.get(module)
        return file is not None and any(each.memory for (test, _), each in file.entries.items() if test == name)

    def hold(self, records: Sequence[Record]) -> list[Record]:
        """Hold the records of one test, the whole of it first, to their baselines; one that is a part to none."""
        if not records or not (self.kept or self.terms.strict or self.terms.accepts):
            return list(records)
        module = _module(records[0].nodeid)
        file, terms = self._files.get(module), self.terms_of(module)
        if file is None or not all(each.complete for each in records):
            return list(records)
        found: list[Record] = []
        blocks = blocks_of(records)
        for block, record in zip(blocks, records, strict=True):
            baseline = file.entries.get(block)
            findings = hold(record.measurement, baseline, file.origin(block), terms)
            found.append(replace(record, findings=(*record.findings, *findings), baseline=baseline))
        gone = tuple(
            region_gone(file.origin(block), block[1], baseline, terms)
            for block, baseline in file.entries.items()
            if block[0] == blocks[0][0] and block not in blocks
        )
        found[0] = replace(found[0], findings=(*found[0].findings, *gone))
        return found

    def stale(self, nodeids: Sequence[str], whole: bool) -> Iterator[tuple[str, str, Problem]]:
        """Yield module, test and problem of each entry whose test is not there; ``nodeids`` are all of these modules'.

        In a ``whole`` run files are stale too whose module is not there, beside others that are.
        """
        there = set(nodeids)
        files = dict(self._files)
        if whole:
            files |= {module: self.file(module) for module in self._orphans()}
        for module, file in files.items():
            names = [each.partition("::")[2] for each in nodeids if _module(each) == module]
            for test in dict.fromkeys(test for test, _ in file.entries):
                if f"{module}::{test}" not in there and (whole or names):
                    block = next(each for each in file.entries if each[0] == test)
                    told = problem("stale-baseline", file.origin(block), name=test, hint=nearest(test, names))
                    yield module, test, told

    def _orphans(self) -> Iterator[str]:
        for folder in sorted({Path(module).parent for module in self._modules}):
            for path in sorted((self._rootdir / folder / FOLDER).glob("*.toml")):
                module = module_of(folder / FOLDER / path.name)
                if module not in self._modules and not (self._rootdir / module).exists():
                    yield module


def blocks_of(records: Sequence[Record]) -> list[Block]:
    """Name the records of one test; a second region of a name gets a number."""
    found: dict[Block, None] = {}
    for record in records:
        name, label = record.nodeid.partition("::")[2], record.measurement.label
        block, number = (name, label), 1
        while block in found:
            number += 1
            block = (name, f"{label} #{number}")
        found[block] = None
    return list(found)


def by_module(records: Mapping[str, Sequence[Record]]) -> dict[str, dict[str, Sequence[Record]]]:
    """Sort the records of tests by module and test."""
    found: dict[str, dict[str, Sequence[Record]]] = {}
    for nodeid, each in records.items():
        found.setdefault(_module(nodeid), {})[nodeid.partition("::")[2]] = each
    return found


def _module(nodeid: str) -> str:
    return nodeid.partition("::")[0]
