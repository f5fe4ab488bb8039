"""A comment that is written but not sent: what the tests' step, which has no token, hands to the next one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pytest_flopguard.core.errors import UsageError, problem
from pytest_flopguard.core.record_shape import check_shape
from pytest_flopguard.reporters.github_comment import LONGEST_BODY, marker

_SHAPE = {"id": str, "body": str, "create": bool}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The comment with an id; without ``create`` only for where there is one already."""

    id: str
    body: str
    create: bool


def save(draft: Draft, file: Path) -> None:
    """Write a draft."""
    file.write_text(json.dumps(asdict(draft)), encoding="utf-8")


def load(file: Path) -> Draft:
    """Read a draft; UsageError for anything that GitHub would not take as the comment with its id."""
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
        check_shape(given, _SHAPE, "the comment")
        draft = Draft(**given)
        if not draft.body.startswith(marker(draft.id)) or len(draft.body) > LONGEST_BODY:
            raise ValueError("its body is not that of a comment with its id")
    except (OSError, ValueError, RecursionError) as error:
        expected = f"a comment that flopguard github run saved ({error})"
        wrong = problem("bad-value", "command line", name="comment", value=str(file), expected=expected, hint="")
        raise UsageError([wrong]) from error
    return draft
