"""``flopguard memory``: the peak of a model's GPU memory, whether it fits, and what would: run on a simulated GPU."""

from __future__ import annotations

import argparse
import json
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_flopguard.backends.simulated.gpus import DEFAULT, Gpu, gpu_named
from pytest_flopguard.cli.mistakes import Mistakes, amount
from pytest_flopguard.cli.model_argument import HELP, config_of
from pytest_flopguard.cli.picture_file import PLOT_HELP, write
from pytest_flopguard.core.errors import FlopguardError, SizeError, UsageError, message, problem
from pytest_flopguard.core.units import Unit
from pytest_flopguard.formulas.architectures.families import FAMILIES, from_config
from pytest_flopguard.formulas.architectures.models import position_limit
from pytest_flopguard.reporters import memory_chart, memory_table
from pytest_flopguard.reporters.picture import check_suffix

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from pytest_flopguard.backends.simulated.fitting import Peaks, Target
    from pytest_flopguard.backends.simulated.program import Program

T = TypeVar("T")
_MOST = {"batch": 2**16, "seq": 2**22}
_SEQ = 2048
_DTYPES = ("bfloat16", "float16", "float32")
_OPTIMIZERS = ("adamw", "adam", "sgd")


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "memory",
        help="predict the peak of a model's GPU memory, and what fits",
        description="Run a model's step at full size on a simulated GPU: the peak of its memory, what uses it, whether "
        "it fits, and the largest batch or sequence that does. Inference is a prefill and a decode step with a cache. "
        "Weights, gradients and optimizer states are all in --dtype; flopguard estimate --recipe computes mixed "
        "precision. Needs torch, and transformers for its models.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=f"{HELP}; or package.module:function, which is called with (batch, seq), builds on 'cuda', and returns "
        "one step to be called",
    )
    work = parser.add_argument_group("work")
    work.add_argument("--batch", default="1", metavar="B", help="sequences, 1 by default")
    work.add_argument("--seq", metavar="S", help=f"tokens of each sequence; {_SEQ}, or the model's most, by default")
    work.add_argument("--train", action="store_true", help="a training step: forward, backward, optimizer")
    work.add_argument("--dtype", metavar="DTYPE", help=f"of all tensors: {', '.join(_DTYPES)}; {_DTYPES[0]} by default")
    work.add_argument("--optimizer", metavar="NAME", help=f"{', '.join(_OPTIMIZERS)}; adamw by default; with --train")
    work.add_argument("--checkpointing", action="store_true", help="compute activations again; with --train")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--gpu", default=DEFAULT, metavar="NAME", help=f"{DEFAULT} by default")
    machine.add_argument("--capacity", metavar="SIZE", help="its memory, such as '40 GiB'; default: the real GPU's")
    machine.add_argument("--allocator", metavar="TEXT", help="settings, in place of PYTORCH_CUDA_ALLOC_CONF's")
    parser.add_argument("--largest", metavar="WHAT", help="batch or seq: find the largest one that fits")
    parser.add_argument("--plot", metavar="FILE", help=f"memory over time: {PLOT_HELP}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="everything that is alive at the peak")
    parser.set_defaults(run=run)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What is run, where, and on how much: ``positions`` is the longest sequence, None where there is no longest."""

    program: Program
    target: Target
    batch: int
    seq: int
    positions: int | None


def run(options: argparse.Namespace) -> int:
    """Print what a step takes."""
    mistakes = Mistakes()
    gpu = mistakes.read(lambda: gpu_named(options.gpu))
    question = _question(options, mistakes, gpu)
    mistakes.check()
    # check() has raised where one of them could not be read.
    assert gpu is not None
    assert question is not None
    from pytest_flopguard.backends.simulated.fitting import peaks_of

    peaks = _ran(options.model, lambda: peaks_of(question.program, question.batch, question.seq, question.target))
    found = _ran(options.model, lambda: _largest(options.largest, question))
    capacity = question.target.capacity
    available = gpu.usable_memory if capacity is None else capacity
    if options.json:
        print(json.dumps(_document(options, gpu, question, available, peaks, found), indent=2))
    else:
        answers = [(f"largest {options.largest}", _answer(found, options.largest, question))] if options.largest else []
        title = f"{options.model}, {_step(options)}, {_size(options, question)} on {gpu.product}"
        spans = (
            {"building": peaks.building} | dict(peaks.spans) if len(peaks.spans) > 1 else {"building": peaks.building}
        )
        print(
            memory_table.render(
                title, peaks.step, spans, peaks.reserved, available, answers, verbosity=2 * options.verbose
            )
        )
        if options.train and ":" not in options.model:
            print(f"\n{_recipe(options)}")
    if options.plot:
        chart = memory_chart.timeline(peaks.run)
        if chart is not None:
            write({"title": f"{options.model}, {_step(options)}"} | chart, options.plot)
    return 0 if peaks.reserved <= available else 1


def _question(options: argparse.Namespace, mistakes: Mistakes, gpu: Gpu | None) -> _Question | None:
    batch, seq = mistakes.number("--batch", options.batch), mistakes.number("--seq", options.seq)
    given = options.capacity
    capacity = None if given is None else mistakes.read(lambda: amount("--capacity", given, Unit.BYTE))
    if options.plot:
        mistakes.read(lambda: check_suffix(options.plot))
    for name, allowed in (("dtype", _DTYPES), ("optimizer", _OPTIMIZERS), ("largest", tuple(_MOST))):
        value = getattr(options, name)
        if value is not None and value not in allowed:
            mistakes.expected(f"--{name}", value, f"{', '.join(allowed[:-1])} or {allowed[-1]}")
    own = ":" in options.model
    for name in ("train", "dtype", "optimizer", "checkpointing"):
        if own and getattr(options, name):
            mistakes.expected(f"--{name}", getattr(options, name), "none: a program of your own decides that")
        elif name in ("optimizer", "checkpointing") and getattr(options, name) and not options.train:
            mistakes.expected(f"--{name}", getattr(options, name), "--train with it")
    made = mistakes.read(lambda: _program(options, seq))
    if made is None or gpu is None or mistakes.problems:
        return None
    from pytest_flopguard.backends.simulated.fitting import Target

    program, positions = made
    return _Question(
        program=program,
        target=Target(gpu=gpu.name, allocator=options.allocator, capacity=capacity),
        batch=batch or 1,
        seq=seq or min(_SEQ, positions or _SEQ),
        positions=positions,
    )


def _program(options: argparse.Namespace, seq: int | None) -> tuple[Program, int | None]:
    """Return the program, and the longest sequence that it can read; None where there is no longest."""
    if ":" in options.model:
        from pytest_flopguard.backends.simulated.program import own_program

        return _ran(options.model, lambda: own_program(options.model)), None
    config = config_of(options.model)
    from pytest_flopguard.backends.simulated.transformers_model import Step, transformers_model, transformers_program

    model = transformers_model(config)
    if model.kind == "image" and (seq is not None or options.largest == "seq"):
        rule = "none: an image has a size of its own"
        raise SizeError(message("bad-size", name="--seq", value=seq, rule=rule))
    if options.checkpointing and not model.checkpoints:
        raise SizeError(message("bad-size", name="--checkpointing", value=True, rule=f"none: {model.name} has none"))
    # A known family says it in its sizes; the table of others is found in the model.
    known = str(config.get("model_type", "")) in FAMILIES
    positions = position_limit(from_config(config)) if known else model.positions
    if seq is not None and positions is not None and seq > positions:
        rule = f"at most {positions}: the model has a table of {positions} positions"
        raise SizeError(message("bad-size", name="--seq", value=seq, rule=rule))
    step = Step(
        train=options.train,
        dtype=options.dtype or _DTYPES[0],
        optimizer=options.optimizer or _OPTIMIZERS[0],
        checkpointing=options.checkpointing,
    )
    return transformers_program(model, step), positions


def _ran(model: str, work: Callable[[], T]) -> T:
    """Return the result of a program; UsageError with its last line of the user's where it raises."""
    try:
        return work()
    except FlopguardError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [each for each in frames if Path(each.filename).is_relative_to(Path.cwd())]
        last = (own or frames)[-1]
        values = {"program": model, "error": f"{type(error).__name__}: {error}"}
        raise UsageError([problem("program-raised", f"{last.filename}:{last.lineno}", **values)]) from error


def _largest(what: str | None, question: _Question) -> int | None:
    if what is None:
        return None
    from pytest_flopguard.backends.simulated.fitting import fits, largest

    program, target = question.program, question.target
    if what == "batch":
        return largest(lambda batch: fits(program, batch, question.seq, target), _MOST[what])
    return largest(lambda seq: fits(program, question.batch, seq, target), _most(what, question))


def _most(what: str, question: _Question) -> int:
    return min(_MOST[what], question.positions or _MOST[what]) if what == "seq" else _MOST[what]


def _answer(found: int | None, what: str, question: _Question) -> str:
    other = f"seq {question.seq:,}" if what == "batch" else f"batch {question.batch:,}"
    if not found:
        return f"none: not even 1 fits at {other}"
    if found < _most(what, question):
        return f"{found:,} at {other} ({found + 1:,} runs out of memory)"
    return f"{found:,} at {other} (all positions of the model)" if found < _MOST[what] else f"{found:,} or more"


def _size(options: argparse.Namespace, question: _Question) -> str:
    return f"batch {question.batch:,} x seq {question.seq:,}"


def _step(options: argparse.Namespace) -> str:
    if ":" in options.model:
        return "its own step"
    if not options.train:
        return f"inference in {options.dtype or _DTYPES[0]}"
    recompute = ", checkpointing" if options.checkpointing else ""
    return f"training step in {options.dtype or _DTYPES[0]} with {options.optimizer or _OPTIMIZERS[0]}{recompute}"


def _recipe(options: argparse.Namespace) -> str:
    """Return what a parameter takes: weight, gradient, and the optimizer's states, all in one dtype."""
    dtype = options.dtype or _DTYPES[0]
    # AdamW and Adam have two states, SGD with momentum one.
    each = (4 if dtype == "float32" else 2) * (3 if options.optimizer == "sgd" else 4)
    return (
        f"recipe: weights, gradients and optimizer states in {dtype}, {each} bytes per parameter, no float32 master "
        "weights; flopguard estimate --recipe shows mixed precision"
    )


def _document(
    options: argparse.Namespace, gpu: Gpu, question: _Question, capacity: int, peaks: Peaks, found: int | None
) -> dict[str, Any]:
    peak = peaks.step
    spans = {name: each for name, each in {"building": peaks.building, **peaks.spans}.items() if each is not None}
    return {
        "model": options.model,
        "step": _step(options),
        "batch": question.batch,
        "seq": question.seq,
        "gpu": asdict(gpu),
        "capacity_bytes": capacity,
        "peak_bytes": peak.peak_bytes,
        "is_lower_bound": peak.is_lower_bound,
        **peak.detail,
        "reserved_peak_bytes": peaks.reserved,
        "fits": peaks.reserved <= capacity,
        "by_category": dict(peak.by_category),
        "spans": {name: {"peak_bytes": each.peak_bytes, **each.detail} for name, each in spans.items()},
        "recipe": _recipe(options) if options.train and ":" not in options.model else None,
        "largest": {options.largest: found} if options.largest else {},
        "prediction": None if peaks.run.prediction is None else asdict(peaks.run.prediction),
    }
