"""Memory of storages that changes without an op call: resizing, copies of storages, loading, moving to shared memory.

FSDP frees parameters by ``UntypedStorage.resize_``, ``torch.load`` and ``copy.deepcopy`` make storages themselves, and
no dispatch mode hears of either. The methods that do this are wrapped while somebody listens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, Protocol
from unittest.mock import patch

import torch

from pytest_flopguard.backends.torch_api.storages import FILE_READER, MAKERS, MOVERS

_resize: Any = torch.UntypedStorage.resize_


def undo_resize(storage: torch.UntypedStorage, size: int) -> None:
    """Give a storage its old size back; no listener hears of it."""
    _resize(storage, size)


class StorageListener(Protocol):
    """Somebody who follows the memory of storages."""

    def made(self, storage: torch.UntypedStorage) -> None:
        """Take note of a storage that is new."""

    def resized(self, storage: torch.UntypedStorage, before: int) -> None:
        """Take note of a storage that had so many bytes until now."""

    @contextmanager
    def making(self, storage: torch.UntypedStorage | None) -> Iterator[None]:
        """Take storages that first show in the block for new ones, except for this one."""
        yield


@contextmanager
def heard(listener: StorageListener) -> Iterator[None]:
    """Report what happens in the block, in any thread, to a listener."""
    with ExitStack() as stack:

        def replace(owner: Any, name: str, replacement: Any) -> None:
            stack.enter_context(patch.object(owner, name, replacement))

        replace(torch.UntypedStorage, "resize_", _resizing(torch.UntypedStorage.resize_, listener))
        replace(torch.UntypedStorage, "__init__", _beginning(listener))
        for name in MOVERS:
            replace(torch.UntypedStorage, name, _moving(getattr(torch.UntypedStorage, name), listener))
        for owner, names in MAKERS:
            for name in names:
                made = _making(getattr(owner, name), listener)
                replace(owner, name, staticmethod(made) if isinstance(owner, type) else made)
        reader: Any = FILE_READER
        read = _making(reader.get_storage_from_record, listener)
        replace(reader, "get_storage_from_record", read)
        yield


def _resizing(resize: Callable[..., Any], listener: StorageListener) -> Callable[..., Any]:
    @wraps(resize)
    def resize_(storage: torch.UntypedStorage, size: int) -> Any:
        before = storage.nbytes()
        result = resize(storage, size)
        if storage.nbytes() != before:
            listener.resized(storage, before)
        return result

    return resize_


def _beginning(listener: StorageListener) -> Callable[..., None]:
    # The class makes storages in tp_new and has no __init__ of its own; torch wraps those of tensors without it.
    def __init__(storage: torch.UntypedStorage, *args: Any, **kwargs: Any) -> None:
        listener.made(storage)

    return __init__


def _moving(move: Callable[..., Any], listener: StorageListener) -> Callable[..., Any]:
    @wraps(move)
    def moved(storage: torch.UntypedStorage, *args: Any, **kwargs: Any) -> Any:
        with listener.making(storage):
            return move(storage, *args, **kwargs)

    return moved


def _making(make: Callable[..., Any], listener: StorageListener) -> Callable[..., Any]:
    @wraps(make)
    def made(*args: Any, **kwargs: Any) -> Any:
        with listener.making(None):
            result = make(*args, **kwargs)
        listener.made(result.untyped_storage() if isinstance(result, torch.Tensor) else result)
        return result

    return made
