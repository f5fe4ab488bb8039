"""What a measurement does otherwise than its baseline, module by module, with equal layers folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_flopguard.core.baseline import Baseline, OpWork, op_work
from pytest_flopguard.core.folding import fold, in_layer_order, unfold
from pytest_flopguard.core.measurement import PHASES, Measurement, Phase

_NONE = OpWork(calls=0, flops={})
_Work = Mapping[str, Mapping[str, OpWork]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpDelta:
    """One op of a module (of all folded ones together), before and now; what did not run has no calls."""

    op: str
    before: OpWork
    now: OpWork

    @property
    def flops(self) -> int:
        """FLOPs more than before."""
        return sum(self.now.flops.values()) - sum(self.before.flops.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleDelta:
    """What differs in ``modules`` modules together: the ops that are not as before, the largest difference first."""

    path: str
    modules: int
    ops: tuple[OpDelta, ...]

    @property
    def flops(self) -> int:
        """FLOPs more than before."""
        return sum(each.flops for each in self.ops)

    @property
    def phases(self) -> dict[Phase, int]:
        """FLOPs more than before of each phase that differs."""
        return _by_phase(self.ops)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """All that differs: modules with the largest difference first, and the parts that came or went as a whole.

    ``added`` and ``gone`` are the outermost paths of which nothing ran before, or nothing runs now, with their FLOPs.
    """

    modules: tuple[ModuleDelta, ...] = ()
    added: Mapping[str, int] = field(default_factory=dict)
    gone: Mapping[str, int] = field(default_factory=dict)

    @property
    def phases(self) -> dict[Phase, int]:
        """FLOPs more than before of each phase that differs."""
        return _by_phase(tuple(op for each in self.modules for op in each.ops))


def delta_of(baseline: Baseline, measurement: Measurement) -> Delta:
    """Compare the counted work of a measurement with that of a baseline."""
    return delta_between(spread(baseline.modules), op_work(measurement))


def delta_between(before: _Work, now: _Work) -> Delta:
    """Compare work by module and op; no path is folded."""
    rows: dict[str, dict[str, tuple[OpWork, OpWork]]] = {}
    for path in sorted({*before, *now}, key=in_layer_order):
        old, new = before.get(path, {}), now.get(path, {})
        pairs = {op: (old.get(op, _NONE), new.get(op, _NONE)) for op in sorted({*old, *new})}
        differing = {op: _differing(*pair) for op, pair in pairs.items() if pair[0] != pair[1]}
        if differing:
            rows[path] = differing
    modules = []
    for path, members, _ in fold({path: _look(ops) for path, ops in rows.items()}):
        ops = [_together(op, [rows[each][op] for each in members]) for op in rows[members[0]]]
        ops.sort(key=lambda each: (-abs(each.flops), each.op))
        modules.append(ModuleDelta(path=path, modules=len(members), ops=tuple(ops)))
    return Delta(
        modules=tuple(sorted(modules, key=lambda each: (-abs(each.flops), each.path))),
        added=_outermost(now, before),
        gone=_outermost(before, now),
    )


def spread(modules: _Work) -> dict[str, dict[str, OpWork]]:
    """Give every module of a folded path its share; a path whose numbers do not divide was never folded."""
    found: dict[str, dict[str, OpWork]] = {}
    for path, ops in modules.items():
        members = unfold(path)
        count = len(members)
        numbers = [n for work in ops.values() for n in (work.calls, work.masked, *work.flops.values())]
        if any(n % count for n in numbers):
            members, count = [path], 1
        share = {
            op: OpWork(
                calls=work.calls // count,
                flops={phase: flops // count for phase, flops in work.flops.items()},
                masked=work.masked // count,
            )
            for op, work in ops.items()
        }
        for member in members:
            found[member] = share
    return found


def _differing(before: OpWork, now: OpWork) -> tuple[OpWork, OpWork]:
    """Leave out phases that are as before: layers that differ there alone still differ alike."""
    same = {phase for phase in PHASES if before.flops.get(phase, 0) == now.flops.get(phase, 0)}
    old, new = ({p: flops for p, flops in work.flops.items() if p not in same} for work in (before, now))
    return replace(before, flops=old), replace(now, flops=new)


def _look(ops: Mapping[str, tuple[OpWork, OpWork]]) -> tuple[object, ...]:
    """Return what must be equal for modules to stand in one row: not how often an op was called, but whether it was."""
    return tuple(
        (
            op,
            *((bool(each.calls), *sorted(each.flops.items()), each.masked) for each in pair),
            pair[0].calls == pair[1].calls,
        )
        for op, pair in ops.items()
    )


def _together(op: str, pairs: Sequence[tuple[OpWork, OpWork]]) -> OpDelta:
    before, now = ([pair[side] for pair in pairs] for side in (0, 1))
    return OpDelta(op=op, before=_sum(before), now=_sum(now))


def _sum(work: Sequence[OpWork]) -> OpWork:
    return OpWork(
        calls=sum(each.calls for each in work),
        flops={phase: sum(each.flops[phase] for each in work) for phase in PHASES if phase in work[0].flops},
        masked=sum(each.masked for each in work),
    )


def _outermost(there: _Work, elsewhere: _Work) -> dict[str, int]:
    """Return the outermost paths that are only here, folded where alike, with the FLOPs inside."""
    known = {prefix for path in elsewhere for prefix in _around(path)}
    found: dict[str, int] = {}
    for path, ops in there.items():
        top = next((prefix for prefix in _around(path) if prefix not in known), None)
        if top is not None:
            found[top] = found.get(top, 0) + sum(sum(work.flops.values()) for work in ops.values())
    folds = [(path, flops * len(members)) for path, members, flops in fold(found)]
    return dict(sorted(folds, key=lambda pair: (-pair[1], pair[0])))


def _around(path: str) -> list[str]:
    """Return a path and all paths around it, the outermost first."""
    parts = path.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _by_phase(ops: tuple[OpDelta, ...]) -> dict[Phase, int]:
    found: dict[Phase, int] = {}
    for phase in PHASES:
        more = sum(each.now.flops.get(phase, 0) - each.before.flops.get(phase, 0) for each in ops)
        if more:
            found[phase] = more
    return found
