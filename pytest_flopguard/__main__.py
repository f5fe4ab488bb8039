"""``python -m pytest_flopguard`` is ``flopguard``."""

from __future__ import annotations

from pytest_flopguard.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
