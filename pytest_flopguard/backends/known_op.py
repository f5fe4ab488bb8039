"""What is known of an op before any call, learned once: its name, its kind, and how its calls are to be treated."""

from __future__ import annotations

from typing import Any

from pytest_flopguard.backends import op_traits
from pytest_flopguard.backends.base import CostModel
from pytest_flopguard.backends.call_specs import SPARSE
from pytest_flopguard.backends.torch_api.dispatch import HigherOrderOperator, OpOverload, decomposes, schema_of
from pytest_flopguard.core.measurement import Kind


class KnownOp:
    """One op; ``calls`` counts those that cost nothing."""

    __slots__ = (
        "arguments",
        "calls",
        "decomposes",
        "flow",
        "foreign",
        "kind",
        "makes_storage",
        "name",
        "opaque",
        "reads",
        "results",
    )

    def __init__(
        self,
        name: str,
        kind: Kind,
        *,
        decomposes: bool = False,
        makes_storage: bool = True,
        foreign: bool = True,
        opaque: bool = False,
        flow: bool = False,
        arguments: tuple[str, ...] = (),
        results: frozenset[str] = frozenset(),
        reads: frozenset[str] = frozenset(),
    ) -> None:
        self.arguments = arguments
        self.flow = flow
        self.name = name
        self.kind = kind
        self.decomposes = decomposes
        self.makes_storage = makes_storage
        self.foreign = foreign
        self.opaque = opaque
        self.reads = reads
        self.results = results
        self.calls = 0


def learn(func: Any, costs: CostModel) -> KnownOp:
    """Learn an op from its schema and its tags."""
    if isinstance(func, HigherOrderOperator):
        name = f"higher_order.{func.name()}"
        kind = costs.kind(name, frozenset())
        return KnownOp(name, kind, flow=kind == "unknown")
    name = schema_of(func).name.replace("::", ".")
    kind = costs.kind(name, op_traits.traits(func))
    if kind == "unknown":
        kind = _kind_by_kin(func, costs)
    if kind == "unknown" and costs.kind(name + SPARSE, frozenset()) == "counted":
        kind = "counted"
    return KnownOp(
        name,
        kind,
        decomposes=kind == "unknown" and decomposes(func),
        makes_storage=any(each.alias_info is None for each in schema_of(func).returns),
        foreign=func.namespace not in ("aten", "prims"),
        # Packed parameters hide their sizes, and a key would keep them alive.
        opaque=any("__torch__" in str(each.type) for each in schema_of(func).arguments),
        arguments=tuple(each.name for each in schema_of(func).arguments),
        results=frozenset(each.name for each in schema_of(func).arguments if each.is_out),
        reads=costs.reads(name) | costs.reads(name + SPARSE),
    )


def _kind_by_kin(func: OpOverload, costs: CostModel) -> Kind:
    for kin in op_traits.kin(func):
        kind = costs.kind(kin.name, kin.traits)
        if kind in ("free", "uncounted"):
            return "uncounted" if kin.derivative else kind
    return "unknown"
