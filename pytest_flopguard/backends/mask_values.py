"""Which numbers of a mask hide a pair: those of which softmax makes nothing."""

from __future__ import annotations

import torch

# Code fills with -inf, with a dtype's least number, with -1e9. Biases by distance (ALiBi) stay far above.
_SURELY = -1e9
# Older code adds -1e4 or -1e6. Alone a bias could be so low; a mask has one such number, and a power of ten.
_LOW = -1e3


def hides(values: torch.Tensor) -> torch.Tensor:
    """Tell for each number that is added to scores whether it hides them."""
    if not values.dtype.is_floating_point:
        return torch.zeros_like(values, dtype=torch.bool)
    surely = values <= _least(values.dtype)
    low = values[(values <= _LOW) & ~surely]
    if low.numel() and bool((low == low[0]).all()) and _is_power_of_ten(-float(low[0])):
        return values <= low[0]
    return surely


def fills(value: float, dtype: torch.dtype) -> bool:
    """Tell whether scores that are replaced by a number are hidden by it: nobody else writes so low a constant."""
    return dtype.is_floating_point and value <= max(_LOW * 10, torch.finfo(dtype).min / 2)


def fills_anywhere(values: torch.Tensor, dtype: torch.dtype) -> bool:
    """Tell whether a tensor that scores are replaced by holds such a number."""
    return bool(values.numel()) and fills(float(values.min()), dtype)


def is_true(mask: torch.Tensor) -> torch.Tensor:
    """Tell where a mask of switches is on."""
    return mask.bool()


def is_false(mask: torch.Tensor) -> torch.Tensor:
    """Tell where it is off."""
    return ~mask.bool()


def _least(dtype: torch.dtype) -> float:
    return max(_SURELY, torch.finfo(dtype).min / 2)


def _is_power_of_ten(value: float) -> bool:
    return any(abs(value - 10.0**power) <= 10.0**power * 0.005 for power in range(4, 9))
