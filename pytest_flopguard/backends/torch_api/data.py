"""How a DataLoader makes the iterator that its settings ask for."""

from __future__ import annotations

from typing import Any, Final

from torch.utils.data import DataLoader

MAKES_ITERATOR: Final = (DataLoader, "_get_iterator")


def loader_in_process(loader: Any) -> Any:
    """Return a copy of a loader that has no worker processes."""
    copied = object.__new__(type(loader))
    copied.__dict__.update(loader.__dict__)
    copied.__dict__.update(num_workers=0, timeout=0, prefetch_factor=None, persistent_workers=False, _iterator=None)
    return copied
