"""Where a test should build its models."""

from __future__ import annotations

import torch


def default_device() -> str:
    """Return ``"cuda"`` where torch sees a CUDA device, else ``"cpu"``."""
    return "cuda" if torch.cuda.is_available() else "cpu"
