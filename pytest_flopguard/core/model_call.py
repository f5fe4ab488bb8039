"""One call of a model that has a config, as plain facts that a closed form can be derived from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# What checkpointing does again in backward: nothing, each checkpointed part whole, or up to the last tensor that
# backward needs.
Checkpointing = Literal["none", "whole", "needed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """The outermost call of a module whose ``config`` names a model type.

    ``model`` is its class, ``path`` where it stands, ``inputs`` the arguments by name with TensorSpecs for tensors,
    ``children`` the names of its direct parts. A cache that came with the call held ``past`` tokens (None where that
    cannot be read), and attention meets ``keys`` positions in each layer, the new ones included; ``cross_cached`` says
    that it held an encoder's output. ``problem`` is why a part of the call cannot be read. ``kernel`` is the model's
    implementation of attention, and ``unpadded`` whether no token of the batch is masked. ``checkpointed`` says of each
    layer whether it is. ``frozen`` are the parameters that want no gradient.
    """

    model: str
    path: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Any]
    children: tuple[str, ...] = ()
    past: int | None = 0
    keys: tuple[int, ...] = ()
    cross_cached: bool = False
    problem: str = ""
    kernel: str = ""
    unpadded: bool = True
    training: bool = False
    grad: bool = False
    wants_gradient: frozenset[str] = field(default_factory=frozenset)
    checkpointing: Checkpointing = "none"
    checkpointed: tuple[bool, ...] = ()
    frozen: tuple[str, ...] = ()
