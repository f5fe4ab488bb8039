"""``flopguard memory``: the peak of a model's GPU memory, whether it fits, and what would: run on a simulated GPU."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_flopguard.backends.simulated.gpus import DEFAULT, Gpu, gpu_named
from pytest_flopguard.cli.mistakes import Mistakes, amount
from pytest_flopguard.cli.model_argument import HELP, config_of
from pytest_flopguard.cli.picture_file import PLOT_HELP, write
from pytest_flopguard.core.measurement import MemoryPeak
from pytest_flopguard.core.units import Unit
from pytest_flopguard.reporters import memory_chart, memory_table
from pytest_flopguard.reporters.picture import check_suffix

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from pytest_flopguard.backends.simulated.fitting import Target
    from pytest_flopguard.backends.simulated.program import Program

_MOST = {"batch": 2**16, "seq": 2**22}
_DTYPES = ("bfloat16", "float16", "float32")
_OPTIMIZERS = ("adamw", "adam", "sgd")


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "memory",
        help="predict the peak of a model's GPU memory, and what fits",
        description="Run a model's step on a simulated GPU, at full size and without one: the peak of its memory, who "
        "holds it, whether it fits, and the largest batch or sequence that does. Needs torch, and transformers for "
        "its models.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=f"{HELP}; or package.module:function, which is called with (batch, seq), builds on 'cuda', and returns "
        "one step to be called",
    )
    work = parser.add_argument_group("work")
    work.add_argument("--batch", default="1", metavar="B", help="sequences, 1 by default")
    work.add_argument("--seq", default="2048", metavar="S", help="tokens of each sequence, 2048 by default")
    work.add_argument("--train", action="store_true", help="a training step: forward, backward, optimizer")
    work.add_argument("--dtype", default="bfloat16", choices=_DTYPES, help="of weights and activations")
    work.add_argument("--optimizer", default="adamw", choices=_OPTIMIZERS, help="adamw by default; with --train")
    work.add_argument("--checkpointing", action="store_true", help="compute activations again; with --train")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--gpu", default=DEFAULT, metavar="NAME", help=f"{DEFAULT} by default")
    machine.add_argument("--capacity", metavar="SIZE", help="bytes that it has, such as '40 GiB'; as many as the real")
    machine.add_argument("--allocator", metavar="TEXT", help="settings, in place of PYTORCH_CUDA_ALLOC_CONF's")
    parser.add_argument("--largest", choices=tuple(_MOST), help="find the largest batch or sequence that fits")
    parser.add_argument("--plot", metavar="FILE", help=f"memory over time: {PLOT_HELP}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="everything that is alive at the peak")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what a step takes."""
    mistakes = Mistakes()
    gpu = mistakes.read(lambda: gpu_named(options.gpu))
    batch, seq = mistakes.number("--batch", options.batch), mistakes.number("--seq", options.seq)
    given = options.capacity
    capacity = None if given is None else mistakes.read(lambda: amount("--capacity", given, Unit.BYTE))
    if options.plot:
        mistakes.read(lambda: check_suffix(options.plot))
    program = mistakes.read(lambda: _program(options))
    mistakes.check()
    assert gpu is not None
    assert program is not None
    from pytest_flopguard.backends.simulated.fitting import Target, peak_of

    target = Target(gpu=gpu.name, allocator=options.allocator, capacity=capacity)
    size = (batch or 1, seq or 1)
    peak = peak_of(program, *size, target)
    found = _largest(options.largest, program, size, target)
    available = gpu.usable_memory if capacity is None else capacity
    if options.json:
        print(json.dumps(_document(options, gpu, size, available, peak, found), indent=2))
    else:
        answers = [(f"largest {options.largest}", _told(found, options.largest, size))] if options.largest else []
        title = f"{options.model}, {_step(options)}, batch {size[0]:,} x seq {size[1]:,} on {gpu.product}"
        print(memory_table.render(title, peak, available, answers, verbosity=2 * options.verbose))
    if options.plot:
        chart = memory_chart.timeline(peak)
        if chart is not None:
            write({"title": f"{options.model}, {_step(options)}"} | chart, options.plot)
    return 0 if peak.detail["reserved_peak_bytes"] <= available else 1


def _program(options: argparse.Namespace) -> Program:
    if ":" in options.model:
        from pytest_flopguard.backends.simulated.program import own_program

        return own_program(options.model)
    config = config_of(options.model)
    from pytest_flopguard.backends.simulated.program import Step, transformers_program

    step = Step(
        train=options.train,
        dtype=options.dtype,
        optimizer=options.optimizer,
        checkpointing=options.checkpointing,
    )
    return transformers_program(config, step)


def _largest(what: str | None, program: Program, size: tuple[int, int], target: Target) -> int | None:
    if what is None:
        return None
    from pytest_flopguard.backends.simulated.fitting import fits, largest

    if what == "batch":
        return largest(lambda batch: fits(program, batch, size[1], target), _MOST["batch"])
    return largest(lambda seq: fits(program, size[0], seq, target), _MOST["seq"])


def _told(found: int | None, what: str, size: tuple[int, int]) -> str:
    other = f"seq {size[1]:,}" if what == "batch" else f"batch {size[0]:,}"
    if not found:
        return f"none: not even 1 fits at {other}"
    return f"{found:,} at {other} ({found + 1:,} runs out of memory)" if found < _MOST[what] else f"{found:,} or more"


def _step(options: argparse.Namespace) -> str:
    if ":" in options.model:
        return "its own step"
    if not options.train:
        return f"inference in {options.dtype}"
    recompute = ", checkpointing" if options.checkpointing else ""
    return f"training step in {options.dtype} with {options.optimizer}{recompute}"


def _document(
    options: argparse.Namespace, gpu: Gpu, size: tuple[int, int], capacity: int, peak: MemoryPeak, found: int | None
) -> dict[str, Any]:
    return {
        "model": options.model,
        "step": _step(options),
        "batch": size[0],
        "seq": size[1],
        "gpu": asdict(gpu),
        "capacity_bytes": capacity,
        "peak_bytes": peak.peak_bytes,
        "is_lower_bound": peak.is_lower_bound,
        **peak.detail,
        "by_category": dict(peak.by_category),
        "largest": {options.largest: found} if options.largest else {},
        "prediction": None if peak.prediction is None else asdict(peak.prediction),
    }
