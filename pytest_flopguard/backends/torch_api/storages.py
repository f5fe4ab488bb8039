"""Functions that make or move storages, or change their size, without an op call."""

from __future__ import annotations

from typing import Any, Final

import torch

# The owner, and the names of static methods or functions that return a new storage or a tensor on one.
MAKERS: Final[tuple[tuple[Any, tuple[str, ...]], ...]] = (
    (
        torch.UntypedStorage,
        (
            "_new_shared_cuda",
            "_new_shared_fd_cpu",
            "_new_shared_filename_cpu",
            "_new_using_fd_cpu",
            "_new_using_filename_cpu",
            "_new_with_file",
        ),
    ),
    (torch, ("frombuffer", "from_dlpack")),
)
# Methods that give a storage other memory of the same size: both are allocated at once.
MOVERS: Final = ("_share_fd_cpu_", "_share_filename_cpu_")
FILE_READER: Final[type] = torch._C.PyTorchFileReader  # of torch.load
