"""The runner of pages says so when a page is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunPage = Callable[[str], None]


def page(*blocks: tuple[str, str]) -> str:
    return "\n\n".join(f"Some prose.\n\n```{info}\n{text}{text and chr(10)}```" for info, text in blocks)


def test_a_true_page_passes(run_page: RunPage, tmp_path: Path) -> None:
    run_page(
        page(
            ('python title="a/hello.py"', "print('one')"),
            ('python title="a/hello.py" append', "print('two', 3 * 4)"),
            ("console", "$ python a/hello.py\none\n...12\n$ cat a/hello.py \\\n>  | head -1\nprint('one')"),
            ("console exit=3", "$ exit 3"),
            ("python", "from pathlib import Path\nassert Path('a/hello.py').exists()"),
            ('yaml no-run="shown only"', "a: {"),
        )
    )
    assert (tmp_path / "a" / "hello.py").read_text() == "print('one')\nprint('two', 3 * 4)\n"


@pytest.mark.parametrize(
    ("info", "text", "told"),
    [
        ("console", "$ echo one\ntwo", "printed something else"),
        ("console", "$ echo one\n...two...", "printed something else"),
        ("console", "$ exit 1", "ended with 1, not 0"),
        ("console", "$ false\n$ true", "ended with 1, not 0"),
        ("console exit=1", "$ true", "ended with 0, not 1"),
        ("console", "no command", "opens with '$ command'"),
        ("console", "", "without a command"),
        ("python", "assert 1 + 1 == 3", "the script ended with 1, not 0"),
        ("python", "def broken(", "the script ended with 1, not 0"),
        ("toml", "a = 1", "needs a title"),
        ("", "a diagram", "needs a title"),
        ('text no-run=""', "a diagram", "no-run needs a reason"),
        ('python titel="x.py"', "a = 1", "unknown words in the info string: ['titel']"),
        ('python title="../x.py"', "a = 1", "leaves the folder"),
        ('python title="/tmp/x.py"', "a = 1", "leaves the folder"),
    ],
)
def test_a_false_page_fails(
    run_page: RunPage, page_error: type[AssertionError], info: str, text: str, told: str
) -> None:
    with pytest.raises(page_error) as raised:
        run_page(page((info, text)))
    assert told in str(raised.value)
    assert str(raised.value).startswith("line 3: ")


def test_a_test_that_no_command_runs_is_run_at_the_end(run_page: RunPage, page_error: type[AssertionError]) -> None:
    with pytest.raises(page_error, match=r"\['tests/test_late.py'\] ended with 1"):
        run_page(page(('python title="tests/test_late.py"', "def test_late():\n    assert 1 + 1 == 3")))


def test_a_block_knows_its_line(blocks_of: Callable[[str], list[Any]]) -> None:
    blocks = blocks_of("# Title\n\n```python\na = 1\n```\n\n- item\n\n  ```console\n  $ true\n  ```\n")
    assert [(block.language, block.line, block.text) for block in blocks] == [
        ("python", 3, "a = 1\n"),
        ("console", 9, "$ true\n"),
    ]
