"""The seam between storages that op calls show and the blocks of a device's own allocator."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from pytest_flopguard.backends.storage_roles import Role


class BlockListener(Protocol):
    """Somebody who joins storages with what an allocator tells of its blocks, on devices of one kind."""

    kind: str

    def follow(self, live: Any, storage: torch.UntypedStorage) -> None:
        """Take note of a storage that an op showed for the first time; ``live.role`` is what is known of it."""

    def allocated(self) -> bool:
        """Whether anything was allocated since this was last asked."""

    def ran(self, role: Role) -> None:
        """Take note of the op call that did."""
