"""What each device holds of weights, gradients and optimizer states under ZeRO, FSDP and 3D parallelism.

Where something does not divide, the number is that of the fullest device: sharded tensors are padded, so it holds
``ceil(elements / devices)`` elements of each kind. Activations are told apart in ``activations``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pytest_flopguard.core.errors import SizeError, message, unknown_name
from pytest_flopguard.formulas.memory.footprint import Footprint
from pytest_flopguard.formulas.memory.recipes import Recipe, training_recipe
from pytest_flopguard.formulas.sizes import positive, whole

ZERO_STAGES = (0, 1, 2, 3)
# What torch.distributed.fsdp calls the same thing.
FSDP_STRATEGIES: Mapping[str, int] = MappingProxyType({"no-shard": 0, "shard-grad-op": 2, "full-shard": 3})


def shard(elements: int, devices: int) -> int:
    """Elements on the fullest of some devices: ceil(elements / devices)."""
    return -(-whole("elements", elements) // positive("devices", devices))


def zero(parameters: int, *, stage: int, devices: int, recipe: str | Recipe = "mixed-adamw") -> Footprint:
    """Bytes on each of ``devices`` data-parallel devices under ZeRO, Psi parameters, K bytes of optimizer each.

    Stage 0: (w + g + K) Psi. 1 (os): w Psi + g Psi + K Psi/N. 2 (os+g): w Psi + (g + K) Psi/N. 3 (os+g+p, FSDP's full
    shard): (w + g + K) Psi/N, without the layer that is gathered at the moment (``gathered``).
    Rajbhandari et al. 2020 (arXiv 1910.02054), figure 1 and table 1.
    """
    if stage not in ZERO_STAGES:
        raise SizeError(message("bad-size", name="ZeRO stage", value=stage, rule="one of 0, 1, 2, 3"))
    found, count = training_recipe(recipe), whole("parameters", parameters)
    own = shard(count, devices)
    return Footprint(
        weights=found.weights * (own if stage >= 3 else count),
        gradients=found.gradients * (own if stage >= 2 else count),
        optimizer=found.optimizer * (own if stage >= 1 else count),
    )


def fsdp(
    parameters: int, *, strategy: str = "full-shard", devices: int, recipe: str | Recipe = "fp32-adamw"
) -> Footprint:
    """Bytes on each device under FSDP: ``full-shard`` is ZeRO 3, ``shard-grad-op`` ZeRO 2, ``no-shard`` plain DDP.

    ``fully_shard`` cuts each tensor by rows, so where rows do not divide the fullest device holds more than this: add
    up ``fsdp`` of each tensor's ceil(rows / devices) * devices rows. Between forward and backward ``shard-grad-op``
    keeps the whole weights, as ZeRO 2 does; at rest it holds a shard.
    """
    if strategy not in FSDP_STRATEGIES:
        raise unknown_name("FSDP strategy", strategy, FSDP_STRATEGIES)
    return zero(parameters, stage=FSDP_STRATEGIES[strategy], devices=devices, recipe=recipe)


def gathered(largest_unit: int, *, units: int = 1, recipe: str | Recipe = "mixed-adamw") -> int:
    """Bytes of whole weights that ZeRO 3 has gathered at one time: w times the parameters of the largest units."""
    return training_recipe(recipe).weights * whole("parameters of a unit", largest_unit) * positive("units", units)


def model_parallel(
    parameters: int,
    *,
    tensor: int = 1,
    pipeline: int = 1,
    data: int = 1,
    stage: int = 0,
    recipe: str | Recipe = "mixed-adamw",
) -> Footprint:
    """Bytes on each of tensor * pipeline * data devices: 3D parallelism, ZeRO of a stage along the data axis.

    With stage 1: w Psi/(PP TP) + g Psi/(PP TP) + K Psi/(PP TP DP). Transformer Math 101 prints gradients/PP; a
    device has gradients of the weights that it holds, so they divide by TP too. Every layer is taken to be split
    evenly, which norms and embeddings are not quite; sum what your devices hold for those.
    """
    own = shard(parameters, positive("tensor parallel size", tensor) * positive("pipeline stages", pipeline))
    return zero(own, stage=stage, devices=data, recipe=recipe)
