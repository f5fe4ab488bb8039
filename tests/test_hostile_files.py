"""Every reader of a file refuses what it cannot use with the product's own error, whatever the bytes are."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_flopguard.backends.simulated.history import FORMAT, VERSION, History
from pytest_flopguard.backends.simulated.history_replay import replay
from pytest_flopguard.budgets.baseline_file import read_baselines
from pytest_flopguard.budgets.settings import load_settings
from pytest_flopguard.cli.github import draft_file
from pytest_flopguard.cli.github.untrusted_report import load_untrusted
from pytest_flopguard.core.errors import FlopguardError
from pytest_flopguard.reporters import json_file

GOLDEN = Path(__file__).parent / "golden" / "report.json"
SETTINGS = b"""[tool.flopguard]
enabled = true
measure = "all"
cross-check = ["fvcore"]
tolerance = "2%"
report = ["a.json"]
[tool.flopguard.default-budget]
flops = "1 GFLOP"
peak-memory = { cpu = "3 MiB", cuda = "4 GiB" }
[tool.flopguard.budgets."tests/test_a.py::*"]
parameters = 12
"""
BASELINE = b"""# What the last accepted run of each test measured.
format_version = 1

[test."test_a"]
flops = {forward = 2048}
parameters = {count = 72, bytes = 288}
memory.cpu = {start = 288, peak = 800, torch = "2.13", held = {parameters = 288, activations = 512}}

[test."test_a".modules."Linear"]
"aten.addmm" = {calls = 1, forward = 2048}

# The end: what stands above is whole.
"""
HISTORY = json.dumps(
    {
        "format": FORMAT,
        "version": VERSION,
        "settings": "",
        "assumed": 0,
        "peaks": None,
        "initial": [[0, 0, 1, 0, [[512, 512, 1]]]],
        "events": [[0, 1, 512, 0], [1, 1, 512, 0], [2, 1, 512, 0]],
        "final": [],
    }
).encode()
COMMENT = json.dumps({"id": "default", "body": "<!-- flopguard:default -->\nx", "create": True}).encode()


def read_history(path: Path) -> object:
    return replay(History.load(path))


# The name of the file, a good one, and the reader.
READERS: dict[str, tuple[str, bytes, Callable[[Path], object]]] = {
    "settings": ("pyproject.toml", SETTINGS, lambda path: load_settings(path.parent, {})),
    "baselines": ("test_a.toml", BASELINE, lambda path: read_baselines(path, "test_a.toml")),
    "report": ("report.json", GOLDEN.read_bytes(), json_file.load),
    "untrusted report": ("report.json", GOLDEN.read_bytes(), load_untrusted),
    "history": ("history.json", HISTORY, read_history),
    "history.gz": ("history.json.gz", gzip.compress(HISTORY), read_history),
    "comment": ("comment.json", COMMENT, draft_file.load),
}
PARTS = st.sampled_from(
    [
        b"\0", b"\xff", b"\xef\xbb\xbf", b"[", b"]", b"{", b"}", b'"', b"'", b"=", b"\n", b".", b"#", b"-1", b"1e400",
        b"NaN", b"Infinity", b"nan", b"inf", b"1979-05-27", b"0x", b"9" * 30, b"9" * 5000, b"[[" * 50, b'"""',
        b"true", b"{}", b"[]", b"\\ud800", b"\\u0000", b"%", b"GiB", b"[a]\n", b"test", b"flops", b"null",
        b"\r", b",", b":",
    ]
)  # fmt: skip
WORDS: list[Any] = [
    None, True, 0, -1, 2**62, 10**40, 1.5, float("nan"), float("inf"), "", "x", "\0", "\ud800", "1 GFLOP", [], {}, [[]],
    {"": {}}, ["a", 1],
]  # fmt: skip


def check(reader: str, folder: Path, content: bytes) -> None:
    """Read a file; any other error than the product's own fails the test."""
    name, _, read = READERS[reader]
    path = folder / name
    path.write_bytes(content)
    with suppress(FlopguardError):
        read(path)


@pytest.mark.parametrize("reader", READERS)
def test_the_good_file_is_read(reader: str, tmp_path: Path) -> None:
    name, good, read = READERS[reader]
    (tmp_path / name).write_bytes(good)
    read(tmp_path / name)


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes(reader: str, tmp_path: Path, data: st.DataObject) -> None:
    good = READERS[reader][1]
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(good)))
        length = data.draw(st.sampled_from([0, 0, 1, 20]))
        good = good[:start] + data.draw(PARTS) + good[start + length :]
    check(reader, tmp_path, good)


@pytest.mark.parametrize("reader", ["report", "untrusted report", "history", "comment"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_values(reader: str, tmp_path: Path, data: st.DataObject) -> None:
    root = node = json.loads(READERS[reader][1])
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], (dict, list)) and node[key] and data.draw(st.integers(0, 4)):
            node = node[key]
            continue
        node[key] = data.draw(st.sampled_from(WORDS))
        break
    check(reader, tmp_path, json.dumps(root).encode())


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[" * 100_000, id="deep lists"),
        pytest.param(b'{"a":' * 100_000, id="deep tables"),
        pytest.param(b"x = " + b"[" * 5_000 + b"]" * 5_000, id="deep toml"),
        pytest.param(b"[tool." + b".".join([b"a"] * 5_000) + b"]\nb = 1\n", id="deep header"),
        pytest.param(b"\xff\xfe\xff", id="bad utf-16"),
        pytest.param("[tool]".encode("utf-16"), id="utf-16"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
        pytest.param(b"x = " + b"9" * 6_000, id="huge number of toml"),
        pytest.param(b"9" * 6_000, id="huge number"),
        pytest.param(b"x = 1\nx = 2\n", id="duplicate key"),
        pytest.param(b"\x1f\x8b" + b"\0" * 99, id="broken gzip"),
        pytest.param(b"[tool.x]\na = [\n" + b"  { name = 'a' },\n  # c }\n" * 2_000 + b"]\n", id="thousands of lines"),
    ],
)
def test_files_that_are_no_such_file(reader: str, content: bytes, tmp_path: Path) -> None:
    check(reader, tmp_path, content)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["directory", "link to itself", "link to nothing"])
def test_places_that_are_no_file(reader: str, kind: str, tmp_path: Path) -> None:
    name, _, read = READERS[reader]
    path = tmp_path / name
    if kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "link to itself" else tmp_path / "nothing")
    if (reader, kind) == ("baselines", "link to nothing"):
        # As no file: the next update writes it.
        assert read_baselines(path, name).entries == {}
        return
    with pytest.raises(FlopguardError):
        read(path)


def test_a_small_file_that_unpacks_to_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_flopguard.backends.simulated import history

    monkeypatch.setattr(history, "_MOST_BYTES", 1 << 20)
    path = tmp_path / "history.json.gz"
    path.write_bytes(gzip.compress(b" " * (1 << 21)))
    with pytest.raises(history.HistoryError, match="more than 1 MiB of JSON"):
        History.load(path)
