"""A report of code that nobody has looked at: only what is shown of it is kept, and only where it could be true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG

from pytest_flopguard.core.baseline import Baseline
from pytest_flopguard.core.errors import MESSAGES, UsageError, problem
from pytest_flopguard.core.measurement import FlopTally, Measurement
from pytest_flopguard.core.record import Record, RunReport
from pytest_flopguard.reporters import json_file

# More than any report of numbers needs; what is larger is there to do harm.
_MOST_BYTES = 32 * 1024 * 1024
_MOST_RECORDS = 10_000
_MOST_DEVICES = 64
_MOST_FINDINGS = 1000
_MOST = 10**30
_LONGEST_NAME = 1000
_DEEPEST = 20
# cpu, cuda:sm90, sim:h100-sxm: a name, and no sentence.
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,39}")


def load_untrusted(path: Path) -> RunReport:
    """Read a report that anybody may have written; UsageError where it is more or other than numbers and names."""
    try:
        # A link may lead to a device that never ends.
        seen = path.lstat()
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from error
    if not S_ISREG(seen.st_mode):
        raise _bad(path, "it is no plain file")
    if seen.st_size > _MOST_BYTES:
        raise _bad(path, f"it has {seen.st_size:,} bytes, more than {_MOST_BYTES:,}")
    run = json_file.load(path, _check_amounts)
    if len(run.records) > _MOST_RECORDS:
        raise _bad(path, f"it has {len(run.records):,} records, more than {_MOST_RECORDS:,}")
    for wrong in (wrong for record in run.records for wrong in _strange(record)):
        raise _bad(path, wrong)
    return replace(run, records=tuple(map(_bare, run.records)), notes=())


def _check_amounts(data: object) -> None:
    """Raise ValueError for what no run leaves, before anything is made of it: that could take for ever."""
    rest = [(data, 0)]
    while rest:
        value, depth = rest.pop()
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        if isinstance(value, dict):
            rest += ((each, depth + 1) for each in value.values())
        elif isinstance(value, list):
            rest += ((each, depth + 1) for each in value)
        elif isinstance(value, int) and abs(value) > _MOST:
            raise ValueError(f"a number of it has {len(str(abs(value)))} digits")


def _strange(record: Record) -> Iterator[str]:
    """Yield what no test of ours would have left."""
    seen = record.measurement
    if max(len(record.nodeid), len(seen.label)) > _LONGEST_NAME:
        yield f"a test's name is longer than {_LONGEST_NAME}"
    if len(seen.memory) > _MOST_DEVICES or len(record.findings) > _MOST_FINDINGS:
        yield f"{record.nodeid[:40]!r} has more devices or limits than a test can have"
    yield from (f"no such code: {each.code[:40]!r}" for each in record.findings if each.code not in MESSAGES)
    devices = [each.device for each in seen.memory]
    devices += [name for each in record.findings for name in (each.device, each.expectation.device) if name]
    yield from (f"no such device: {each[:40]!r}" for each in devices if not _DEVICE.fullmatch(each))


def _bare(record: Record) -> Record:
    """Return a record without what is not shown of it: folds of a million modules would be written out."""
    seen = record.measurement
    measured = Measurement(
        label=seen.label,
        flops=None if seen.flops is None else _without_modules(seen.flops),
        memory=tuple(replace(each, by_category={}, detail={}, owners=(), timeline=()) for each in seen.memory),
        parameters=seen.parameters,
        workload=seen.workload,
    )
    return replace(record, measurement=measured, baseline=record.baseline and _without_folds(record.baseline))


def _without_modules(tally: FlopTally) -> FlopTally:
    counts = tuple(replace(each, module="") for each in tally.counts)
    return replace(tally, counts=counts, bytes_moved=None)


def _without_folds(baseline: Baseline) -> Baseline:
    memory = {device: replace(each, held={}, modules={}) for device, each in baseline.memory.items()}
    return replace(baseline, memory=memory, modules={})


def _bad(path: Path, reason: str) -> UsageError:
    return UsageError([problem("bad-report", path, reason=reason)])
