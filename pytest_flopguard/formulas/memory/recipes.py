"""What one parameter costs in bytes under a training recipe: weight, gradient, master copy, optimizer states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_flopguard.core.errors import unknown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Bytes per parameter: ``weights`` that the forward reads, ``gradients``, a ``master`` copy and ``states``."""

    name: str
    weights: int
    gradients: int
    master: int
    states: int
    source: str

    @property
    def optimizer(self) -> int:
        """Bytes that only the optimizer reads: the master copy and the states (K of the ZeRO paper)."""
        return self.master + self.states

    @property
    def total(self) -> int:
        """Bytes of one parameter on a device that shards nothing."""
        return self.weights + self.gradients + self.optimizer


_ZERO = "Rajbhandari et al. 2020 (arXiv 1910.02054), section 3.1"
_MATH = "Transformer Math 101 (EleutherAI)"
_TORCH = "measured with torch: parameters, gradients and optimizer.state, step counters apart"

_ROWS = (
    Recipe(name="mixed-adamw", weights=2, gradients=2, master=4, states=8, source=_ZERO),
    Recipe(
        name="megatron-adamw",
        weights=2,
        gradients=4,
        master=4,
        states=8,
        source="Megatron-LM with bf16 and fp32 gradients: 18 bytes, and 6 + 12/dp with the distributed optimizer",
    ),
    Recipe(
        name="mixed-adamw-fp32-gradients-kept",
        weights=2,
        gradients=6,
        master=4,
        states=8,
        source="a systems engineer's analysis of Llama 3, section 2.15: 20 bytes, gradients in 16 and in 32 bits",
    ),
    Recipe(name="mixed-adamw-8bit", weights=2, gradients=2, master=4, states=2, source=f"{_MATH}: 6 for the optimizer"),
    Recipe(
        name="mixed-sgd-momentum", weights=2, gradients=2, master=4, states=4, source=f"{_MATH}: 8 for the optimizer"
    ),
    Recipe(name="fp32-adamw", weights=4, gradients=4, master=0, states=8, source=_TORCH),
    Recipe(name="bf16-adamw", weights=2, gradients=2, master=0, states=4, source=_TORCH),
    Recipe(name="fp32-sgd", weights=4, gradients=4, master=0, states=0, source=_TORCH),
    Recipe(name="fp32-sgd-momentum", weights=4, gradients=4, master=0, states=4, source=_TORCH),
)
RECIPES: Mapping[str, Recipe] = MappingProxyType({each.name: each for each in _ROWS})


def training_recipe(name: str | Recipe) -> Recipe:
    """Return a recipe by name, or one of one's own as it is; UnknownNameError names the nearest."""
    if isinstance(name, Recipe):
        return name
    if name not in RECIPES:
        raise unknown_name("training recipe", name, RECIPES)
    return RECIPES[name]
