"""pytest-flopguard: FLOP and peak-memory budgets for torch models, as ordinary tests."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__"]
