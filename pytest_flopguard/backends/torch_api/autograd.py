"""The autograd engine: the nodes that it makes and runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch

ENGINE: Final = "_engine_run_backward"  # of torch/autograd/graph.py, which calls the engine
next_node_number: Callable[[], int] = torch._C._autograd._get_sequence_nr
running_node: Callable[[], Any] = torch._C._current_autograd_node  # None outside backward, which its stub denies
running_backward: Callable[[], int] = torch._C._current_graph_task_id  # -1 outside backward


def node_number(node: Any) -> int:
    """Return the number that a node was given when it was made."""
    return int(node._sequence_nr())
