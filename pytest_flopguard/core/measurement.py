"""What was seen: op calls, FLOP tallies, memory peaks, parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from pytest_flopguard.core.owners import Owner, Prediction
from pytest_flopguard.core.workload import Workload

if TYPE_CHECKING:
    from pytest_flopguard.core.traffic import ByteTally

Phase = Literal["forward", "backward", "recompute", "optimizer"]
Kind = Literal["counted", "free", "uncounted", "unknown"]
Attention = Literal["dense", "causal"]
# What a number is that is not exact.
Precision = Literal["", "at least", "at most"]
PHASES: tuple[Phase, ...] = get_args(Phase)
CATEGORIES = (
    "parameters",
    "gradients",
    "optimizer_state",
    "activations",
    "inputs",
    "temporaries",
    "workspaces",
    "other",
)


# The unknown op for work of other processes that a test started.
CHILD_PROCESS = "python.process"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpCall:
    """One operator call: arguments hold TensorSpecs where the call had tensors, in the op's schema order.

    ``names`` are the schema's names of ``args``, where they are known. Formulas get no ``module`` and no ``phase`` but
    the defaults here: what they say is kept for all calls of the same shapes, dtypes and flags, wherever these ran.
    """

    op: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    out: Any = None
    module: str = ""
    phase: Phase = "forward"
    names: tuple[str, ...] = ()

    @property
    def by_name(self) -> dict[str, Any]:
        """The arguments that were given, by the names of the op's schema."""
        return {**dict(zip(self.names, self.args, strict=False)), **self.kwargs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one op call costs. ``flops`` is None exactly when the kind is unknown, and ``reason`` says why.

    ``flops`` is dense; ``masked_flops`` of them are for query-key pairs that the call's own flags hide, such as
    ``is_causal``. With ``at_most``, ``flops`` is an upper bound, and ``at_most`` is the reason.
    """

    kind: Kind
    flops: int | None = 0
    kernel_recompute: int = 0
    masked_flops: int = 0
    reason: str = ""
    at_most: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpCount:
    """Calls of one op in one module and phase, summed.

    Only counted and unknown ops keep their module and phase; free and uncounted ones are summed over the run
    (module ``""``, phase ``"forward"``), since nothing is attributed to them. ``at_most`` is the reason why
    ``flops`` is an upper bound; it is empty where the number is exact.
    """

    op: str
    module: str
    phase: Phase
    kind: Kind
    calls: int
    flops: int | None
    kernel_recompute: int = 0
    masked_flops: int = 0
    at_most: str = ""


# The reason of an op that a formula would make known; any other reason needs another cure.
NO_FORMULA = "no formula is registered for it"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownOp:
    """An op whose FLOPs are not known: where it ran, with what, how often, and why.

    ``dense_flops`` are those of attention whose mask alone is not known, under the dense convention.
    """

    op: str
    call: str
    module: str
    phase: Phase
    calls: int
    reason: str
    dense_flops: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlopTally:
    """The FLOPs of a region: integers, or None where an unknown op ran.

    They are exact unless an op's work depends on values that do not exist, as on meta tensors. Then ``upper_bounds``
    has the rows of these ops, and the numbers that include them are upper bounds.
    ``attention`` is the convention of every number here but ``dense_total``: ``"causal"`` leaves out query-key pairs
    that a mask hides. ``bytes_moved`` is None where nobody asked for it.
    """

    counts: tuple[OpCount, ...]
    engine: str
    unknown_ops: tuple[UnknownOp, ...] = ()
    attention: Attention = "dense"
    bytes_moved: ByteTally | None = None

    @property
    def ran_elsewhere(self) -> bool:
        """Whether a process that the test started may have done some of its work."""
        return any(each.op == CHILD_PROCESS for each in self.unknown_ops)

    def in_phase(self, phase: Phase) -> int | None:
        """FLOPs of one phase; None when an unknown op ran in it."""
        if any(each.phase == phase for each in self.unknown_ops):
            return None
        return self.known_in(phase)

    def known_in(self, phase: Phase) -> int:
        """FLOPs of the counted ops of one phase, upper bounds among them."""
        return sum(self.amount(each) for each in self.counts if each.phase == phase)

    def at_least_in(self, phase: Phase) -> int:
        """FLOPs that certainly ran in one phase: those of counted ops without upper bounds."""
        return sum(self.amount(each) for each in self.counts if each.phase == phase and not each.at_most)

    def reading(self, phase: Phase | None = None) -> tuple[Precision, int]:
        """Return how to read the FLOPs of a phase, or of all, and the number to show."""
        unknown = any(phase in (None, each.phase) for each in self.unknown_ops)
        if unknown:
            return "at least", self.at_least if phase is None else self.at_least_in(phase)
        bounded = any(phase in (None, each.phase) for each in self.upper_bounds)
        return "at most" if bounded else "", self.known if phase is None else self.known_in(phase)

    @property
    def upper_bounds(self) -> tuple[OpCount, ...]:
        """Rows whose FLOPs are upper bounds."""
        return tuple(each for each in self.counts if each.at_most)

    def amount(self, count: OpCount) -> int:
        """FLOPs of one row under this tally's convention."""
        return (count.flops or 0) - (count.masked_flops if self.attention == "causal" else 0)

    def dense(self) -> FlopTally:
        """Return the same calls under the dense convention, which no mask hides anything from."""
        if self.attention == "dense":
            return self
        known = tuple(
            OpCount(
                op=each.op,
                module=each.module,
                phase=each.phase,
                kind="counted",
                calls=each.calls,
                flops=each.dense_flops,
            )
            for each in self.unknown_ops
            if each.dense_flops is not None
        )
        unknown = tuple(each for each in self.unknown_ops if each.dense_flops is None)
        return replace(self, attention="dense", counts=(*self.counts, *known), unknown_ops=unknown)

    @property
    def dense_total(self) -> int | None:
        """FLOPs of all phases under the dense convention; None when an unknown op ran."""
        return self.dense().total

    @property
    def forward(self) -> int | None:
        """FLOPs of the forward phase."""
        return self.in_phase("forward")

    @property
    def backward(self) -> int | None:
        """FLOPs of the backward phase, without recompute."""
        return self.in_phase("backward")

    @property
    def recompute(self) -> int | None:
        """FLOPs of forward work that checkpointing redid during backward."""
        return self.in_phase("recompute")

    @property
    def optimizer(self) -> int | None:
        """FLOPs of optimizer steps."""
        return self.in_phase("optimizer")

    @property
    def total(self) -> int | None:
        """FLOPs of all phases; None when an unknown op ran."""
        return None if self.unknown_ops else self.known

    @property
    def known(self) -> int:
        """FLOPs of all counted ops, upper bounds among them: the total where nothing is unknown."""
        return sum(map(self.amount, self.counts))

    @property
    def at_least(self) -> int:
        """FLOPs that certainly ran: the total where it is exact, a lower bound otherwise."""
        return sum(self.amount(each) for each in self.counts if not each.at_most)

    @property
    def kernel_recompute(self) -> int:
        """Score-matrix FLOPs that fused attention backward kernels compute again; in no total."""
        return sum(each.kernel_recompute for each in self.counts)

    def by_module(self) -> dict[str, int]:
        """FLOPs by innermost module path (``""`` outside any module), most expensive first; they sum to ``known``."""
        return self._summed(lambda each: each.module)

    def by_op(self) -> dict[str, int]:
        """FLOPs by op name, most expensive first; they sum to ``known``."""
        return self._summed(lambda each: each.op)

    def calls_of(self, kind: Kind) -> dict[str, int]:
        """Number of calls by op name, for one kind."""
        found: dict[str, int] = {}
        for each in self.counts:
            if each.kind == kind:
                found[each.op] = found.get(each.op, 0) + each.calls
        return dict(sorted(found.items()))

    def _summed(self, key: Callable[[OpCount], str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for each in self.counts:
            if each.kind == "counted":
                found[key(each)] = found.get(key(each), 0) + self.amount(each)
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPeak:
    """Most bytes allocated at once on a device during the region, resting bytes included.

    ``device`` is the key that limits match (``"cpu"``, ``"cuda:sm90"``), ``index`` the device's number.
    ``detail`` holds the backend's other figures by name (``"reserved_peak_bytes"``), in bytes. ``owners`` held the
    peak, the largest first; where there are any, their bytes sum to it. ``timeline`` is the bytes over time as (tick,
    bytes) points, the peak among them; a tick is an event, not a time. ``prediction`` is None for what was measured.
    ``phase`` is the one in which the peak was reached, None where it is not known or nothing was added to the start.
    """

    device: str
    backend: str
    start_bytes: int
    peak_bytes: int
    index: int = 0
    by_category: Mapping[str, int] = field(default_factory=dict)
    detail: Mapping[str, int] = field(default_factory=dict)
    owners: tuple[Owner, ...] = ()
    timeline: tuple[tuple[int, int], ...] = ()
    prediction: Prediction | None = None
    phase: Phase | None = None

    @property
    def growth_bytes(self) -> int:
        """The peak less what was there at the start."""
        return self.peak_bytes - self.start_bytes

    def amount(self, *, growth: bool) -> int:
        """Return the bytes that a limit of memory growth, or one of the peak, is about."""
        return self.growth_bytes if growth else self.peak_bytes

    @property
    def is_lower_bound(self) -> bool:
        """Whether memory is known to be missing: ``prediction.unknown`` names it."""
        return self.prediction is not None and bool(self.prediction.unknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCount:
    """Distinct parameters of the models that ran, each shared one once: elements and bytes."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All that one measured region showed. What could not be measured stands in ``unavailable`` with its reason.

    ``other_tallies`` are the counts of the engines that cross-check the first one.
    """

    label: str = ""
    flops: FlopTally | None = None
    memory: tuple[MemoryPeak, ...] = ()
    parameters: ParameterCount | None = None
    other_tallies: tuple[FlopTally, ...] = ()
    workload: Workload = field(default_factory=Workload)
    unavailable: Mapping[str, str] = field(default_factory=dict)
