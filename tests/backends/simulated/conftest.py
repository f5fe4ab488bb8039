"""What the tests of the simulated device share: the plain allocator, made known by name."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("plain_allocator", Path(__file__).parent / "plain_allocator.py")
assert _SPEC is not None
assert _SPEC.loader is not None
sys.modules["plain_allocator"] = _MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
