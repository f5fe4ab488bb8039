"""The state of ``torch.jit.trace``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

set_tracing: Callable[[Any], None] = torch._C._set_tracing_state  # type: ignore[attr-defined]
tracing: Callable[[], Any] = torch._C._get_tracing_state  # None where nothing is traced
