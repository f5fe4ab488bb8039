"""The backward of ``conv_tbc``, which torch runs as products of slices instead of one op.

aten/src/ATen/native/ConvolutionTBC.cpp (conv_tbc_backward) leaves out rows of padding, which the forward and every
other convolution count, and forms the gradients of input and weight whether autograd asks for them or not. The
convention counts a convolution's backward as much as its forward for each gradient that is asked for. What autograd
runs belongs to its node, and the node's number leads back to the forward.
"""

from __future__ import annotations

from typing import Any

import torch

from pytest_flopguard.backends.torch_api.autograd import next_node_number, node_number, running_backward, running_node

FORWARD = torch.ops.aten.conv_tbc.default
PART = torch.ops.aten.addmm_.default
NAME = "aten.conv_tbc_backward"
_NODE = "ConvTbcBackward0"


class TbcBackward:
    """FLOPs of the forwards so far, by the number of autograd's node for their backward."""

    def __init__(self) -> None:
        self._forwards: dict[int, int | None] = {}
        self._counted: set[tuple[int, int]] = set()

    def clear(self) -> None:
        """Forget all calls."""
        self._forwards.clear()
        self._counted.clear()

    def saw_forward(self, flops: int) -> None:
        """Note a forward whose node, if it has one, autograd has just made."""
        number = next_node_number() - 1
        # Each thread numbers its own nodes, so two forwards may share a number.
        same = self._forwards.get(number, flops) == flops
        self._forwards[number] = flops if same else None

    @staticmethod
    def running() -> Any:
        """Return the node of the ``conv_tbc`` whose backward runs in this thread, None elsewhere."""
        node = running_node()
        return node if node is not None and node.name() == _NODE else None

    def first_part(self, node: Any) -> bool:
        """Whether a part of a node's backward is the first one in this run of backward."""
        run = (running_backward(), node_number(node))
        new = run not in self._counted
        self._counted.add(run)
        return new

    def flops(self, node: Any) -> int | None:
        """FLOPs of a node's backward; None if its forward was not seen."""
        once = self._forwards.get(node_number(node))
        of_input, of_weight = (each is not None for each, _ in node.next_functions[:2])
        return None if once is None else once * (of_input + of_weight)
