"""What a formula may know of a tensor: its shape, dtype and device, and the values that decide an op's work."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The shape, dtype name (``"float32"``) and device (``"cpu"``, ``"meta"``, ``"cuda:0"``) of a tensor.

    ``needs_grad`` says whether autograd asks for the tensor's gradient; true where that is not known. ``stored`` is
    the number of elements that a sparse tensor stores, None for a dense one. ``values`` are the whole numbers in the
    tensor, for arguments that the op's formula reads (``reads``); None where they do not exist, as on meta tensors.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    device: str = "cpu"
    needs_grad: bool = True
    stored: int | None = None
    values: tuple[int, ...] | None = None

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def is_complex(self) -> bool:
        """Whether one element is a pair of real numbers."""
        return self.dtype.startswith("complex")

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"
