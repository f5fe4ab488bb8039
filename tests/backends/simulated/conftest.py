"""What the tests of the simulated device share, made known by name: the plain allocator, and fake tensors on a GPU."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

for _name in ("plain_allocator", "simulation"):
    _spec = importlib.util.spec_from_file_location(_name, Path(__file__).parent / f"{_name}.py")
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules[_name] = _module = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_module)
