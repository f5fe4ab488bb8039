"""The time and the utilisation of an estimate: a lower bound, and what a given share of the peak means."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_flopguard.core.figure import Figure, inapplicable, unknown
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.architectures.parameters import active_parameters, decoder_parameters
from pytest_flopguard.formulas.breakdown import Breakdown
from pytest_flopguard.formulas.dtypes import dtype_bytes, dtype_name
from pytest_flopguard.formulas.estimates.asked import Machine, Subject, Workload
from pytest_flopguard.formulas.estimates.least_work import least_flops
from pytest_flopguard.formulas.estimates.work import core_of, rule_factor, rule_flops, run_flops, step_tokens
from pytest_flopguard.formulas.hardware.roofline import Roofline, roofline
from pytest_flopguard.formulas.memory.decoder import decoder_kv_cache
from pytest_flopguard.formulas.scaling.compute import forward_compute
from pytest_flopguard.formulas.scaling.training_time import SECONDS_PER_HOUR, training_seconds, utilization

_FULL = {"compute": "at the full peak of compute", "memory": "at the full bandwidth of the memory"}
# What a chip can keep of one step for the next: none of the table has more caches, shared memory and registers.
_ON_CHIP = 256 * 2**20
_MOST_FLOAT32 = "tf32"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What the time is of: FLOPs that the model asks for, those that are really done, and those of the rule."""

    of: str
    tokens: int
    model: int
    done: int
    by_rule: int | None
    core: int | None


def time_figures(
    subject: Subject, work: Workload, form: Breakdown | None, machine: Machine | None
) -> dict[str, Figure]:
    """Return time and utilisation; unknown where no GPU is given, or nothing is said of how well it is used."""
    if machine is None:
        return {
            name: inapplicable("no --gpu")
            for name in ("time", "mfu", "hfu", "mfu_by_rule", "mfu_by_palm", "tokens_per_second")
        }
    job = _job(subject, work, form)
    peak = machine.gpu.peak(work.dtype, sparse=machine.sparse)
    rate = machine.gpus * peak
    seconds, how = _seconds(machine, job, peak)
    found = {
        "time.of": Figure(value=job.of, how=f"{machine.gpus:,} * {machine.gpu.name}"),
        "time.peak": Figure(value=rate, unit="FLOP/s", how=f"{machine.gpus:,} * {peak:,}, {_kind(machine)}"),
        **_bounds(subject, work, machine),
        "time.at_peak_seconds": _at_peak(subject, work, machine, job),
    }
    if seconds is None:
        reason = "say --mfu (a share of the peak), --seconds or --gpu-hours"
        named = ("time.seconds", "time.gpu_hours", "mfu", "hfu", "mfu_by_rule", "mfu_by_palm", "tokens_per_second")
        return found | {name: unknown(reason) for name in named}
    used = utilization(job.model, seconds=seconds, gpus=machine.gpus, peak=peak)
    return found | {
        "time.seconds": Figure(value=seconds, unit="s", how=how),
        "time.gpu_hours": Figure(value=seconds * machine.gpus / SECONDS_PER_HOUR, how="hours of one GPU"),
        "mfu": Figure(value=used, unit="share", how="what the model asks for / (time * peak)"),
        "hfu": _hardware(job, seconds, machine, peak),
        "mfu_by_rule": _by_rule(job, seconds, machine, peak, f"{rule_factor(subject, work)}*N*D / (time * peak)"),
        "mfu_by_palm": _by_palm(job, seconds, machine, peak),
        "tokens_per_second": (
            inapplicable("images are not tokens")
            if subject.reads_images
            else Figure(value=job.tokens / seconds, how="of all GPUs together")
        ),
    }


def _job(subject: Subject, work: Workload, form: Breakdown | None) -> _Job:
    if work.tokens:
        return _Job(
            of="training run",
            tokens=work.tokens,
            model=run_flops(subject, work, form, recompute=False),
            done=run_flops(subject, work, form),
            by_rule=rule_flops(subject, work, work.tokens),
            core=None if form is None else run_flops(subject, work, core_of(form), recompute=False),
        )
    tokens = step_tokens(subject, work)
    rule = rule_flops(subject, work, tokens)
    if form is None:
        flops = rule or 0  # only sizes can lack a rule
        again = forward_compute(subject.parameters, tokens) if work.recompute == "full" else 0
        return _Job(of=work.step, tokens=tokens, model=flops, done=flops + again, by_rule=flops, core=None)
    core = core_of(form)
    model = form.training_step if work.train else form.forward
    done = form.hardware_step if work.train else form.forward
    return _Job(
        of=work.step,
        tokens=tokens,
        model=model,
        done=done,
        by_rule=rule,
        core=core.training_step if work.train else core.forward,
    )


def _seconds(machine: Machine, job: _Job, peak: int) -> tuple[float | None, str]:
    if machine.mfu is not None:
        seconds = training_seconds(job.model, gpus=machine.gpus, peak=peak, mfu=machine.mfu)
        return seconds, f"at {machine.mfu:.2%} of the peak"
    if machine.gpu_hours is not None:
        return machine.gpu_hours * SECONDS_PER_HOUR / machine.gpus, "from the GPU-hours"
    return machine.seconds, "as measured"


def _bounds(subject: Subject, work: Workload, machine: Machine) -> dict[str, Figure]:
    """Return a time that every implementation takes at least, and what sets it."""
    names = ("time.at_least_seconds", "time.bound")
    if subject.sizes is None:
        reason = "a number of parameters gives no lower bound: an embedding is looked up, and experts are left out"
        return dict.fromkeys(names, unknown(reason))
    flops = least_flops(subject.sizes, work)
    if work.tokens:
        flops = flops * work.tokens // step_tokens(subject, work)
    # Products of float32 may run on the tensor cores, if torch is told so.
    tf32 = dtype_name(work.dtype) == "float32" and _MOST_FLOAT32 in machine.gpu.dense and not machine.sparse
    least = roofline(
        flops=flops,
        moved=max(0, _read(subject, work) - machine.gpus * _ON_CHIP),
        on=machine.gpu,
        dtype=_MOST_FLOAT32 if tf32 else work.dtype,
        gpus=machine.gpus,
        sparse=machine.sparse,
    )
    how = f"lower bound for every implementation: {_FULL[least.bound]}{' in tf32' if tf32 else ''}"
    return {
        names[0]: Figure(value=least.seconds, unit="s", how=how),
        names[1]: Figure(value=least.bound, how=f"at least {least.flops:,} FLOP, {_traffic(least)}"),
    }


def _at_peak(subject: Subject, work: Workload, machine: Machine, job: _Job) -> Figure:
    found = roofline(
        flops=job.done,
        moved=_read(subject, work),
        on=machine.gpu,
        dtype=work.dtype,
        gpus=machine.gpus,
        sparse=machine.sparse,
    )
    how = f"estimate, not a bound: the FLOPs of this {job.of}, {_FULL[found.bound]}"
    return Figure(value=found.seconds, unit="s", how=how)


def _read(subject: Subject, work: Workload) -> int:
    """Bytes of the matrices that every token meets, once, and of the cache that a decode step reads.

    Embeddings are looked up a row at a time, and of experts at least those of one token are read. Training reads and
    writes far more, of which none is stated.
    """
    sizes = subject.sizes
    if not isinstance(sizes, DecoderSizes) or work.train:
        return 0
    parts = decoder_parameters(sizes)
    looked_up = parts.get("positions", 0) + (0 if sizes.tied else parts["embedding"])
    weights = dtype_bytes(work.dtype, active_parameters(sizes) - looked_up)
    cache = decoder_kv_cache(sizes, tokens=work.past, dtype=work.dtype, batch=work.batch) if work.past else 0
    return weights + cache


def _traffic(least: Roofline) -> str:
    if not least.moved:
        return "memory traffic left out"
    return f"{least.moved:,} B from memory in {least.memory_seconds:.4g} s"


def _hardware(job: _Job, seconds: float, machine: Machine, peak: int) -> Figure:
    if job.done == job.model:
        return inapplicable("nothing is computed again")
    done = utilization(job.done, seconds=seconds, gpus=machine.gpus, peak=peak)
    return Figure(value=done, unit="share", how="what the hardware does / (time * peak)")


def _by_rule(job: _Job, seconds: float, machine: Machine, peak: int, how: str) -> Figure:
    if job.by_rule is None:
        return inapplicable("its tokens do not meet every parameter once")
    used = utilization(job.by_rule, seconds=seconds, gpus=machine.gpus, peak=peak)
    return Figure(value=used, unit="share", how=how)


def _by_palm(job: _Job, seconds: float, machine: Machine, peak: int) -> Figure:
    if job.core is None or job.by_rule is None:
        return inapplicable("the rule of thumb or the FLOPs of attention are not known")
    used = utilization(job.by_rule + job.core, seconds=seconds, gpus=machine.gpus, peak=peak)
    how = "the rule of thumb and attention over the context: Chowdhery et al. 2022 (PaLM), appendix B"
    return Figure(value=used, unit="share", how=how)


def _kind(machine: Machine) -> str:
    return "sparse" if machine.sparse else "dense"
