"""Loads data on a simulated device in the process of the test, where a DataLoader would start workers.

A worker is a fork that inherits fake tensors, which cannot be sent to another process. Where a batch is put together
makes no difference to the memory of a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch.utils.data import IterableDataset

from pytest_flopguard.backends.op_watch import OpWatch
from pytest_flopguard.backends.simulated.cuda_kernels import not_simulated
from pytest_flopguard.backends.torch_api.data import MAKES_ITERATOR, loader_in_process
from pytest_flopguard.backends.torch_api.dispatch import mode_stack

_makes_iterator: Any = getattr(*MAKES_ITERATOR)


def replacements() -> Iterator[tuple[Any, str, Any]]:
    """Yield what to replace: an object of torch's, an attribute of it, and the replacement."""
    yield (*MAKES_ITERATOR, _iterator)


def _iterator(loader: Any) -> Any:
    if not loader.num_workers:
        return _makes_iterator(loader)
    if isinstance(loader.dataset, IterableDataset):
        raise not_simulated(
            f"DataLoader(num_workers={loader.num_workers})",
            "each worker of an IterableDataset yields data of its own; write num_workers=0 if flopguard.simulated",
        )
    return _Batches(_makes_iterator(loader_in_process(loader)))


class _Batches:
    """The batches of a loader, loaded without counting: on other devices worker processes load them unseen."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches

    def __iter__(self) -> _Batches:
        return self

    def __len__(self) -> int:
        return len(self._batches)

    def __next__(self) -> Any:
        with _uncounted():
            return next(self._batches)

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        # Of persistent workers, before each further epoch.
        self._batches._reset(loader, first_iter)


@contextmanager
def _uncounted() -> Iterator[None]:
    with ExitStack() as stack:
        for mode in mode_stack():
            if isinstance(mode, OpWatch):
                before = mode.paused, mode.modules.paused
                mode.paused = mode.modules.paused = True
                stack.callback(_resume, mode, before)
        yield


def _resume(watch: OpWatch, before: tuple[bool, bool]) -> None:
    watch.paused, watch.modules.paused = before
