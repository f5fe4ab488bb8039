"""Writes baseline files: each whole or not at all, under a lock, and only entries of tests that ran."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pytest_flopguard.budgets.baseline_file import BaselineFile, Block
from pytest_flopguard.budgets.baseline_text import file_text
from pytest_flopguard.budgets.baselines import Baselines, blocks_of
from pytest_flopguard.budgets.settings import Settings
from pytest_flopguard.core.baseline import Baseline
from pytest_flopguard.core.baseline_change import Change, Kind, accept, cannot_have, not_written
from pytest_flopguard.core.errors import Problem, UsageError, problem
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.whole_file import write_whole

_LOCK = ".lock"
_PATIENCE = 60  # seconds; another run holds a file for milliseconds
_PLACE = "command line"


def check_update(settings: Settings, environ: Mapping[str, str]) -> None:
    """Refuse what nobody may ask for: an update in CI, a change without a reason, a reason for nothing."""
    problems: list[Problem] = []
    in_ci = environ.get("CI", "").lower() not in ("", "0", "false")
    if settings.update and in_ci and not settings.update_in_ci:
        problems.append(
            _refused(
                "--flop-update",
                "CI is set, and nothing that CI runs may move a baseline; add --flop-update-in-ci where that is really "
                "meant",
            )
        )
    if "changed" in settings.update and not settings.reason:
        problems.append(_refused("--flop-update=changed", 'needs a reason: --flop-reason="why it may cost more"'))
    if settings.reason and "changed" not in settings.update:
        problems.append(_refused("--flop-reason", "goes with --flop-update=changed only"))
    if problems:
        raise UsageError(problems)


def update_module(
    baselines: Baselines, module: str, tests: Mapping[str, Sequence[Record]], gone: Collection[str], reason: str
) -> list[Change]:
    """Write what the terms accept of one module's tests that ran, and take entries of ``gone`` tests away.

    The file is read again under the lock, so that what another run wrote meanwhile stays. UsageError where it cannot
    be read, locked or written; it is then as it was.
    """
    path = baselines.file(module).path
    if not path.parent.is_dir() and not any(_wants(baselines, records) for records in tests.values()):
        return []
    try:
        path.parent.mkdir(exist_ok=True)
        with _locked(path):
            return _write(baselines, module, tests, gone, reason)
    except (OSError, NotImplementedError) as error:
        # A file system without locks is no OSError.
        told = (isinstance(error, OSError) and error.strerror) or error
        raise UsageError([problem("baselines-not-written", baselines.file(module).shown, reason=told)]) from error


def _write(
    baselines: Baselines, module: str, tests: Mapping[str, Sequence[Record]], gone: Collection[str], reason: str
) -> list[Change]:
    before = baselines.file(module)
    entries = dict(before.entries)
    changes = [
        change
        for name, records in tests.items()
        if not not_written(tuple(records))
        for change in _test(baselines, before, name, records, entries, reason)
    ]
    if {"changed", "trim"} & baselines.terms.accepts:
        for block in [each for each in entries if each[0] in gone]:
            changes.append(_change(before, block, "gone", entries.pop(block), None))
    if changes:
        write_whole(before.path, file_text(before, entries))
    return changes


def _wants(baselines: Baselines, records: Sequence[Record]) -> bool:
    return "new" in baselines.terms.accepts and not not_written(tuple(records)) and not all(map(cannot_have, records))


def _test(
    baselines: Baselines,
    file: BaselineFile,
    name: str,
    records: Sequence[Record],
    entries: dict[Block, Baseline],
    reason: str,
) -> Iterator[Change]:
    """Put one test's entries in, and yield what changed."""
    blocks = blocks_of(records)
    for block, record in zip(blocks, records, strict=True):
        if cannot_have(record):
            continue
        found = accept(entries.get(block), record.measurement, baselines.terms_of(record.nodeid), reason)
        if found is not None:
            kind, after = found
            yield _change(file, block, kind, entries.get(block), after)
            entries[block] = after
    kept = [block for block, record in zip(blocks, records, strict=True) if not cannot_have(record)]
    if "changed" in baselines.terms.accepts:
        for block in [each for each in entries if each[0] == name and each not in kept]:
            yield _change(file, block, "gone", entries.pop(block), None)


def _change(file: BaselineFile, block: Block, kind: Kind, before: Baseline | None, after: Baseline | None) -> Change:
    test, region = block
    return Change(file=file.shown, test=test, region=region, kind=kind, before=before, after=after)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    ignore = path.parent / ".gitignore"
    if not ignore.exists():
        write_whole(ignore, f"{_LOCK}\n")
    try:
        with FileLock(path.parent / _LOCK, timeout=_PATIENCE):
            yield
    except Timeout as error:
        raise UsageError([_refused(str(path), f"another run has held it for {_PATIENCE} seconds")]) from error


def _refused(option: str, reason: str) -> Problem:
    return problem("bad-update", _PLACE, option=option, reason=reason)
