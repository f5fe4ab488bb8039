"""Where a test should build its models, and whether that is a simulated device."""

from __future__ import annotations

import torch

from pytest_flopguard.backends.torch_api.dispatch import mode_stack
from pytest_flopguard.backends.torch_api.fake import FakeTensorMode


def default_device() -> str:
    """Return ``"cuda"`` where torch sees a CUDA device, real or simulated, else ``"cpu"``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def is_simulated() -> bool:
    """Whether what runs now runs on a simulated device: tensors have shapes and no values."""
    modes = mode_stack()
    return any(isinstance(each, FakeTensorMode) and getattr(each, "simulates", False) for each in modes)
