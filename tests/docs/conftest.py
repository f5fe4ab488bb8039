"""Runs the fenced blocks of a Markdown page the way a reader would, from top to bottom, in an empty folder.

A block's info string says what happens to it; CONTRIBUTING.md explains it to authors:

- ``python title="tests/test_x.py"`` (any language): the block is written to that file; ``append`` adds to it.
- ``console``: each ``$ command`` runs, its output must equal the lines below it, and ``...`` matches anything.
  A command with no lines below is held to its exit code only. ``exit=1`` is the exit code of the last command.
- ``python`` without a title: runs as a script, which must succeed.
- ``anything no-run="reason"``: is shown only; ``not_run.txt`` lists every one of them.

Files that no command has used by the end of the page are given to ``pytest --flop-budget``.
"""

from __future__ import annotations

import difflib
import doctest
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest
from markdown_it import MarkdownIt

NO_TESTS_COLLECTED = 5


class PageError(AssertionError):
    """A page says something that is not so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block: its language and what its info string asks for; ``line`` is 1-based."""

    language: str
    text: str
    line: int
    title: str | None = None
    append: bool = False
    exit: int = 0
    no_run: str | None = None


def parse_blocks(markdown: str) -> list[Block]:
    """Return every fenced block of a page; PageError for an info string that does not say what to do."""
    fences = [token for token in MarkdownIt("commonmark").parse(markdown) if token.type == "fence"]
    return [_block(token.info, token.content, (token.map or [0, 0])[0] + 1) for token in fences]


def _block(info: str, text: str, line: int) -> Block:
    language, *words = shlex.split(info) or [""]
    asked = dict(word.partition("=")[::2] for word in words)
    block = Block(
        language=language,
        text=text,
        line=line,
        title=asked.pop("title", None),
        append=asked.pop("append", None) is not None,
        exit=int(asked.pop("exit", "0")),
        no_run=asked.pop("no-run", None),
    )
    if asked:
        raise PageError(f"line {line}: unknown words in the info string: {sorted(asked)}")
    if block.no_run is not None:
        if not block.no_run:
            raise PageError(f'line {line}: no-run needs a reason: no-run="why"')
    elif block.title is not None:
        path = PurePosixPath(block.title)
        if path.is_absolute() or ".." in path.parts:
            raise PageError(f"line {line}: the title {block.title!r} leaves the folder of the page")
    elif language not in ("console", "python"):
        raise PageError(f'line {line}: a {language or "plain"!r} block needs a title="file" or a no-run="reason"')
    return block


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Split a console block into commands (``> `` continues one) and the output that is written below each."""
    command, output = "", ""
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, output
            command, output = line[2:], ""
        elif command and not output and line.startswith("> "):
            command += "\n" + line[2:]
        elif command:
            output += line.rstrip() + "\n"
        else:
            raise PageError(f"a console block opens with '$ command', not with {line!r}")
    if not command:
        raise PageError("a console block without a command")
    yield command, output


class PageRun:
    """A page on its way through an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unused: list[str] = []
        scripts = str(Path(sys.executable).parent)
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_", "CI"))
        } | {
            "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
            "COLUMNS": "100",
            "NO_COLOR": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HF_HUB_OFFLINE": "1",
        }

    def run(self, blocks: list[Block]) -> None:
        """Do what every block asks for, in order; PageError where the page is wrong."""
        for block in blocks:
            if block.no_run is not None:
                continue
            try:
                self._do(block)
            except PageError as error:
                raise PageError(f"line {block.line}: {error}") from None
        if self.unused:
            code, output = self._shell("python -m pytest --flop-budget")
            if code not in (0, NO_TESTS_COLLECTED):
                raise PageError(f"pytest --flop-budget with {self.unused} ended with {code}\n{output}")

    def _do(self, block: Block) -> None:
        if block.title is not None:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.read_text(encoding="utf-8") if block.append else ""
            path.write_text(before + block.text, encoding="utf-8")
            self.unused.append(block.title)
        elif block.language == "console":
            self.unused.clear()
            self._console(block)
        else:
            code, output = self._execute([sys.executable, "-"], script=block.text)
            if code != block.exit:
                raise PageError(f"the script ended with {code}, not {block.exit}\n{output}")

    def _console(self, block: Block) -> None:
        steps = list(commands(block.text))
        for number, (command, expected) in enumerate(steps, start=1):
            code, output = self._shell(command)
            wanted = block.exit if number == len(steps) else 0
            if code != wanted:
                raise PageError(f"`{command}` ended with {code}, not {wanted}\n{output}")
            got = "".join(f"{line.rstrip()}\n" for line in output.splitlines())
            if expected and not doctest.OutputChecker().check_output(expected, got, doctest.ELLIPSIS):
                difference = difflib.unified_diff(expected.splitlines(), got.splitlines(), "page", "run", lineterm="")
                raise PageError("\n".join([f"`{command}` printed something else", *difference]))

    def _shell(self, command: str) -> tuple[int, str]:
        return self._execute(["bash", "-c", command])

    def _execute(self, arguments: list[str], script: str = "") -> tuple[int, str]:
        run = subprocess.run(
            arguments,
            cwd=self.folder,
            env=self.environment,
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return run.returncode, run.stdout


@pytest.fixture
def blocks_of() -> Callable[[str], list[Block]]:
    """Give the parser of a page's fenced blocks."""
    return parse_blocks


@pytest.fixture
def run_page(tmp_path: Path) -> Callable[[str], None]:
    """Give a function that runs a page's text in an empty folder and raises PageError where it is wrong."""
    return lambda markdown: PageRun(tmp_path).run(parse_blocks(markdown))


@pytest.fixture
def page_error() -> type[PageError]:
    """Give the error that a wrong page raises."""
    return PageError
