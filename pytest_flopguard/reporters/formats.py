"""The files that ``--flop-report=PATH`` can write; the end of the path chooses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Protocol

from pytest_flopguard.core.errors import UsageError, nearest, problem
from pytest_flopguard.core.record import RunReport
from pytest_flopguard.reporters import html, json_file, markdown


class Reporter(Protocol):
    """Writes a whole run as text; a module with these two names is one."""

    @property
    def suffix(self) -> str:
        """The end of the paths that it writes, with its dot: ``".json"``."""

    def render(self, run: RunReport, /) -> str:
        """Render the file's text."""


BUILT_IN: tuple[Reporter, ...] = (json_file, markdown, html)
FORMATS: Mapping[str, Reporter] = MappingProxyType({each.suffix: each for each in BUILT_IN})


def reporter_for(path: str, where: object, formats: Mapping[str, Reporter] = FORMATS) -> Reporter:
    """Return the reporter for a path; UsageError with the code ``unknown-format`` where none writes such files.

    Of several suffixes that fit (``.json`` and ``.codeclimate.json``) the longest is meant.
    """
    name = PurePath(path).name
    fitting = [each for each in formats if name.endswith(each)]
    if fitting:
        return formats[max(fitting, key=len)]
    ending = PurePath(path).suffix
    hint = nearest(ending, formats) or f"; known are {', '.join(sorted(formats))}"
    raise UsageError([problem("unknown-format", where, suffix=ending, path=path, hint=hint)])
