"""What every test folder shares: the gpu mark."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    guarded = [item for item in items if item.get_closest_marker("gpu")]
    if not guarded:
        return
    # Imported only when a test asks for a device, so that the rest of a run can show that torch stays away.
    import torch

    if torch.cuda.is_available():
        return
    reason = f"needs a CUDA device; torch {torch.__version__} sees none (torch.cuda.is_available() is false)"
    for item in guarded:
        item.add_marker(pytest.mark.skip(reason=reason))
