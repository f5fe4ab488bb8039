"""Which test an item is: its file, and its name in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_flopguard.core.shown_path import shown_path

_IDENTITY = pytest.StashKey[str]()


def identity(item: pytest.Item, rootdir: Path) -> str:
    """Return the node id of an item with the path of its file from the root directory.

    pytest's own node ids begin at the directory that was given on the command line where a file is outside the root
    directory. So ``pytest encoder decoder`` can have two tests named ``tests/test_model.py::test_forward``.
    """
    if _IDENTITY not in item.stash:
        item.stash[_IDENTITY] = f"{shown_path(item.path, rootdir)}::{_name_in_file(item)}"
    return item.stash[_IDENTITY]


def _name_in_file(item: pytest.Item) -> str:
    """Return what the node id of an item adds to that of its file."""
    file = next(node for node in item.listchain() if node is item or node.path == item.path)
    if file is not item and item.nodeid.startswith(f"{file.nodeid}::"):
        return item.nodeid[len(file.nodeid) + 2 :]
    # An item that a plugin made without a collector for its file, or with a node id of its own.
    return item.nodeid.partition("::")[2] or item.name
