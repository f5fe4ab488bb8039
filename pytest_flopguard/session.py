"""Measures regions of a test and judges them: backends and expectations in, records out. Knows no pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flopguard.backends.base import (
    ByteFollower,
    CostModel,
    MemoryBackend,
    ModelNoter,
    ModelTracer,
    ProgressTeller,
    RunsCompiled,
    SiteRecorder,
    SnapshotKeeper,
    Unavailable,
    WarmsUp,
    WorkloadNoter,
)
from pytest_flopguard.backends.select import Backends, select
from pytest_flopguard.budgets.settings import Settings
from pytest_flopguard.core.cross_check import agreement, undecided
from pytest_flopguard.core.errors import FlopguardError, code_of
from pytest_flopguard.core.expectation import Expectation, Severity
from pytest_flopguard.core.measurement import Attention, FlopTally, Measurement, MemoryPeak, ParameterCount
from pytest_flopguard.core.model_call import ModelCall
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.verdict import HOST_MEMORY, Finding, judge
from pytest_flopguard.core.workload import Workload
from pytest_flopguard.formulas.expected import Stated, derived, stated
from pytest_flopguard.reporters.one_line import one_line

if TYPE_CHECKING:
    from pytest_flopguard.backends.simulated.machine import Machine

Opinion = FlopTally | Unavailable
_ELSEWHERE = "a child process may have used memory of the same device, which no peak here includes"
_OF_MEMORY = ("peak_memory", "memory_growth")


class Region:
    """A measured stretch of a test. Its numbers can be read once it has ended.

    ``output`` is what the model of ``check`` returned.
    """

    def __init__(
        self, nodeid: str, label: str, expectations: Sequence[Expectation], unknown_memory: Severity = "error"
    ) -> None:
        self.nodeid = nodeid
        # It becomes a cell of tables and a key of files.
        self.label = one_line(str(label))
        self.output: Any = None
        self._expectations = tuple(expectations)
        self._unknown_memory = unknown_memory
        self._measurement: Measurement | None = None
        self._opinions: tuple[Opinion, ...] = ()
        self._statements: list[Stated | Expectation] = []
        self._calls: tuple[ModelCall, ...] | None = None

    @property
    def measurement(self) -> Measurement:
        """All that was measured; FlopguardError while the region runs."""
        if self._measurement is None:
            raise FlopguardError(f"the region {self.label!r} has not ended: read its numbers after the with block")
        return self._measurement

    @property
    def flops(self) -> FlopTally:
        """The FLOPs, exact integers; FlopguardError with the reason if no engine could count them."""
        tally = self.measurement.flops
        if tally is None:
            raise FlopguardError(f"no FLOPs for {self.label!r}: {self.measurement.unavailable['flops']}")
        return tally

    @property
    def memory(self) -> tuple[MemoryPeak, ...]:
        """The memory peaks, one per device, the largest first."""
        return self.measurement.memory

    @property
    def parameters(self) -> ParameterCount | None:
        """Distinct parameters of the models that ran; None if none did."""
        return self.measurement.parameters

    def state(self, statement: Stated | Expectation) -> None:
        """Add an expectation while the region runs."""
        self._statements.append(statement)

    def note(self, calls: tuple[ModelCall, ...]) -> None:
        """Set which models were called."""
        self._calls = calls

    def close(self, measurement: Measurement, opinions: Sequence[Opinion] = ()) -> None:
        """Set what was measured, and what cross-checking engines said of it."""
        self._measurement = measurement
        self._opinions = tuple(opinions)

    def record(self) -> Record:
        """Judge the region: its expectations, and the agreement of every cross-checking engine."""
        agreements = [_agreement(each) for each in self._opinions]
        agreed = [each for each in agreements if isinstance(each, Expectation)]
        silent = [each for each in agreements if isinstance(each, Finding)]
        wanted, underived = self._wanted()
        found = (self._as_severe_as_set(each) for each in judge(self.measurement, wanted))
        return Record(
            nodeid=self.nodeid,
            measurement=self.measurement,
            findings=(*found, *underived, *judge(_dense(self.measurement), agreed), *silent),
        )

    def _as_severe_as_set(self, finding: Finding) -> Finding:
        if finding.code != "memory-unknown" or self._unknown_memory == "error":
            return finding
        return replace(finding, expectation=replace(finding.expectation, severity=self._unknown_memory))

    def _wanted(self) -> tuple[list[Expectation], list[Finding]]:
        """Return what is expected, closed forms with their numbers, and findings on those that cannot be had."""
        wanted: list[Expectation] = []
        underived: list[Finding] = []
        tally = self.measurement.flops
        for each in (*self._expectations, *self._statements):
            if isinstance(each, Stated):
                # Without a tally the expectation is undecided, whatever its number.
                wanted.extend(stated(each, tally or FlopTally(counts=(), engine="")))
            elif not each.derive or tally is None:
                wanted.append(each)
            elif self._calls is None:
                underived.append(
                    _no_form(each, "no-model", f"the {tally.engine} engine does not tell which models ran")
                )
            else:
                try:
                    wanted.extend(derived(each, self._calls, tally, tally.attention))
                except FlopguardError as error:
                    underived.append(_no_form(each, *code_of(error)))
        return wanted, underived


class Session:
    """The backends of a run, entered around the outermost region and left after it."""

    def __init__(self, settings: Settings, costs: CostModel, backends: Backends) -> None:
        self._settings = settings
        self._attention = costs.attention
        self._selection = select(backends, costs, settings.engine, settings.cross_check)
        self._unavailable = dict(self._selection.unavailable)
        if settings.bytes_moved:
            self._follow_bytes()
        self._memories: tuple[MemoryBackend, ...] = self._selection.memories
        for memory in self._memories:
            watched: object = memory
            if isinstance(watched, WarmsUp):
                watched.warms_up = settings.warm_up
        self._depth = 0
        self._open: list[Region] = []

    @property
    def counts_regions(self) -> bool:
        """Whether the engine counts whatever runs; else only the model call of ``check``."""
        return self._selection.flops is not None

    def no_unknown_ops(self) -> Expectation:
        """Return the expectation that no unknown op runs, as severe as the setting says."""
        return Expectation(
            quantity="unknown_ops",
            high=0,
            origin=self._settings.origin("unknown-ops"),
            severity=self._settings.unknown_ops,
            source="setting",
        )

    @contextmanager
    def measure(
        self,
        nodeid: str,
        label: str = "",
        expectations: Sequence[Expectation] = (),
        *,
        sites: bool = False,
        compiled: bool = False,
    ) -> Iterator[Region]:
        """Measure what runs in the block. Regions may nest; an exception ends them with what was seen so far.

        ``sites`` asks for the lines of code that take memory; a limit of memory asks for them too. With ``compiled`` on
        the outermost region, compiled functions run compiled and are not counted.
        """
        region = Region(nodeid, label, expectations, self._settings.unknown_memory)
        label = region.label
        noter = self._noter()
        if noter is not None and any(each.derive for each in expectations):
            noter.note_models()
        with ExitStack() as stack:
            if not self._depth:
                self._enter_backends(stack, compiled)
            stack.enter_context(self._nested())
            if sites or self._settings.why or any(each.quantity in _OF_MEMORY for each in expectations):
                self._record_sites(self._settings.rootdir)
            memories = [(memory, memory.begin()) for memory in self._memories]
            flops = self._selection.flops
            mark = None if flops is None else flops.begin()
            self._open.append(region)
            try:
                yield region
            finally:
                self._open.remove(region)
                if noter is not None:
                    region.note(noter.model_calls(mark))
                tally = None if flops is None else flops.end(mark)
                parameters = None if flops is None else flops.parameters(mark)
                peaks = [memory.end(begun) for memory, begun in memories]
                watched: object = flops
                workload = watched.workload(mark) if isinstance(watched, WorkloadNoter) else Workload()
                region.close(replace(self._measurement(label, tally, parameters, peaks), workload=workload))

    @property
    def ran_as_written(self) -> int:
        """How many calls of compiled functions ran as written in the last outermost region."""
        flops: object = self._selection.flops
        return flops.ran_as_written if isinstance(flops, RunsCompiled) else 0

    @contextmanager
    def on(self, machine: Machine) -> Iterator[None]:
        """Measure what the block does on a simulated device, whose memory is then the only one that is told."""
        from pytest_flopguard.backends.simulated.memory import SimulatedMemory

        before, unavailable = self._memories, dict(self._unavailable)
        self._unavailable[HOST_MEMORY] = "a run on a simulated GPU measures its memory only"
        self._unavailable.setdefault("memory", "no tensor was allocated on the simulated GPU")
        self._memories = (SimulatedMemory(machine, self._selection.flops),)
        try:
            with machine.world():
                yield
        finally:
            self._memories, self._unavailable = before, unavailable

    def unmeasured(self, nodeid: str, expectations: Sequence[Expectation], reason: str) -> Region:
        """Return the region of a test that cannot run where it is to run: everything about it is undecided."""
        region = Region(nodeid, "", expectations)
        kinds = ("flops", "parameters", "memory", "cpu", "cuda", "sim")
        region.close(Measurement(unavailable=dict.fromkeys(kinds, reason)))
        return region

    def tell(self, tick: Callable[[], None]) -> None:
        """Call ``tick`` after each op call, if the engine sees them one by one."""
        flops: object = self._selection.flops
        if isinstance(flops, ProgressTeller):
            flops.tell(tick)

    def warm_up(self, run: Callable[[], object]) -> None:
        """Run something whose op calls are no part of any region; what it leaves allocated was there before."""
        with ExitStack() as stack:
            if self._selection.flops is not None:
                stack.enter_context(self._selection.flops.paused())
            run()

    def keep_snapshot(self, folder: Path, nodeid: str) -> Path | None:
        """Keep what an allocator recorded of the test that just ended as a file; None where nothing was recorded."""
        keepers: list[object] = list(self._memories)
        paths = (each.keep_snapshot(folder, nodeid) for each in keepers if isinstance(each, SnapshotKeeper))
        return next((path for path in paths if path is not None), None)

    def state(self, statement: Stated | Expectation) -> None:
        """Hold the innermost region that runs to what a test states; FlopguardError outside of all regions."""
        if not self._open:
            raise FlopguardError("nothing is measured here, so there is nothing to hold to a closed form")
        self._open[-1].state(statement)

    def check(
        self,
        nodeid: str,
        model: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        label: str,
        expectations: Sequence[Expectation] = (),
    ) -> Region:
        """Measure ``model(*args, **kwargs)``; its forward FLOPs are held against every cross-checking engine."""
        # A region engine tells of unknown ops for the whole test, which this call is part of.
        wanted = expectations if self.counts_regions else (*expectations, self.no_unknown_ops())
        with self.measure(nodeid, label, wanted) as region:
            region.output = model(*args, **kwargs)
        opinions = [self._trace(tracer, model, args, kwargs) for tracer in self._selection.cross_checks]
        seen = region.measurement
        tally, unavailable = seen.flops, dict(seen.unavailable)
        if self._selection.main_tracer is not None:
            own = self._trace(self._selection.main_tracer, model, args, kwargs)
            if isinstance(own, Unavailable):
                unavailable["flops"] = own.reason
            elif own.attention != self._attention:
                unavailable["flops"] = _other_convention(own, self._attention)
            else:
                tally = own
                del unavailable["flops"]
        region.close(
            replace(
                seen,
                flops=tally,
                other_tallies=tuple(each for each in opinions if isinstance(each, FlopTally)),
                unavailable=unavailable,
            ),
            opinions,
        )
        return region

    def _noter(self) -> ModelNoter | None:
        flops: object = self._selection.flops
        return flops if isinstance(flops, ModelNoter) else None

    def _follow_bytes(self) -> None:
        flops = self._selection.flops
        if isinstance(flops, ByteFollower):
            flops.follow_bytes()
        else:
            self._unavailable["bytes_moved"] = "this engine does not tell the bytes that ops move"

    def _trace(self, tracer: ModelTracer, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opinion:
        # A tracer runs the model once more by itself: that is no work of the test's.
        with ExitStack() as stack:
            if self._selection.flops is not None:
                stack.enter_context(self._selection.flops.paused())
            return tracer.trace(model, args, kwargs)

    def _measurement(
        self,
        label: str,
        tally: FlopTally | None,
        parameters: ParameterCount | None,
        found: Sequence[tuple[MemoryPeak, ...] | Unavailable],
    ) -> Measurement:
        unavailable = dict(self._unavailable)
        if tally is not None and tally.attention != self._attention:
            unavailable["flops"] = _other_convention(tally, self._attention)
            tally = None
        peaks: list[MemoryPeak] = []
        for each in found:
            if isinstance(each, Unavailable):
                unavailable["memory"] = each.reason
            else:
                peaks.extend(each)
        if peaks and tally is not None and tally.ran_elsewhere:
            peaks, unavailable["memory"] = [], _ELSEWHERE
        return Measurement(
            label=label,
            flops=tally,
            memory=tuple(sorted(peaks, key=lambda peak: -peak.peak_bytes)),
            parameters=parameters,
            unavailable=unavailable,
        )

    def _enter_backends(self, stack: ExitStack, compiled: bool) -> None:
        watched: object = self._selection.flops
        if isinstance(watched, RunsCompiled):
            watched.compile_for_real(compiled)
        # The FLOP backend goes in first: the live-storage backend listens to the same calls.
        if self._selection.flops is not None:
            stack.enter_context(self._selection.flops)
        for memory in self._memories:
            stack.enter_context(memory)
        self._record_sites(None)

    def _record_sites(self, root: Path | None) -> None:
        # It takes a walk up the stack for each block, so only where a reader will ask.
        for memory in self._memories:
            watched: object = memory
            if isinstance(watched, SiteRecorder):
                watched.record_sites(root)

    @contextmanager
    def _nested(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1


def _other_convention(tally: FlopTally, wanted: Attention) -> str:
    return f'the {tally.engine} engine counts {tally.attention} attention only, and attention = "{wanted}" is set'


def _dense(measurement: Measurement) -> Measurement:
    """Return the measurement as cross-checking engines count: masks hide nothing from them."""
    return measurement if measurement.flops is None else replace(measurement, flops=measurement.flops.dense())


def _agreement(opinion: Opinion) -> Expectation | Finding:
    return undecided(opinion.name, opinion.reason) if isinstance(opinion, Unavailable) else agreement(opinion)


def _no_form(expectation: Expectation, code: str, reason: str) -> Finding:
    return Finding(expectation=expectation, observed=None, status="undecided", code=code, reason=reason)
