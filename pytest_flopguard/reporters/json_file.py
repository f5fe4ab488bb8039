"""The run as a JSON file, and back without loss."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pytest_flopguard.core.errors import UsageError, problem
from pytest_flopguard.core.record import FORMAT_VERSION, Json, RunReport, run_from_json, run_to_json
from pytest_flopguard.core.record_shape import REPORT, check_shape, with_later_keys

suffix = ".json"
# What the closed forms here use is far below; time grows with the power of the repetitions.
_LONGEST_PATTERN, _MOST_REPEATED = 400, 3
_REPEATED = re.compile(r"[*+{]")
_NESTED = re.compile(r"\)[*+{]")


def render(run: RunReport) -> str:
    """Render a run as JSON, format_version 1.

    Records are sorted by node id, so that parallel runs write the same file; regions of one test keep their order.
    """
    ordered = replace(run, records=tuple(sorted(run.records, key=lambda each: each.nodeid)))
    return json.dumps(run_to_json(ordered), separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"


def load(path: Path, check: Callable[[object], None] | None = None) -> RunReport:
    """Read a report file; UsageError with the code ``bad-report`` for anything else.

    ``check`` sees what the file holds before anything is made of it, and raises ValueError for what it refuses.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if check is not None:
            check(data)
        run = _run(data)
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from error
    except RecursionError as error:
        raise _bad(path, "it is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise _bad(path, f"not valid JSON, {error}") from error
    # Also what is not UTF-8, and what is of the wrong shape.
    except ValueError as error:
        raise _bad(path, str(error)) from error
    return run


def _run(data: object) -> RunReport:
    if not isinstance(data, dict) or type(data.get("format_version")) is not int:
        raise ValueError("it has no format_version")
    version = data["format_version"]
    if version != FORMAT_VERSION:
        age = "a newer" if version > FORMAT_VERSION else "another"
        raise ValueError(f"{age} flopguard wrote it: format_version {version}, and this one reads {FORMAT_VERSION}")
    check_shape(data, REPORT)
    whole: Json = with_later_keys(data, REPORT)
    run = run_from_json(whole)
    # Totals, outcomes and tables by module are written for other readers; here they follow from the counts.
    for index, (given, follows) in enumerate(zip(whole["records"], run_to_json(run)["records"], strict=True)):
        wrong = [name for name in given if given[name] != follows[name]]
        if wrong:
            raise ValueError(f"records[{index}] contradicts itself: {', '.join(wrong)} should follow from the rest")
    for record in run.records:
        for finding in record.findings:
            for part in finding.expectation.parts:
                _check_pattern(part.modules)
    return run


def _check_pattern(pattern: str) -> None:
    """Refuse what is no regular expression, and one that a long path could keep busy for hours."""
    # Compiling a long one takes minutes by itself.
    if len(pattern) > _LONGEST_PATTERN or len(_REPEATED.findall(pattern)) > _MOST_REPEATED or _NESTED.search(pattern):
        raise ValueError(f"the regular expression {pattern[:40]!r} repeats more than modules of a term need")
    try:
        re.compile(pattern)
    except (re.error, OverflowError) as error:
        raise ValueError(f"{pattern[:40]!r} is no regular expression: {error}") from error


def _bad(path: Path, reason: str) -> UsageError:
    return UsageError([problem("bad-report", path, reason=reason)])
