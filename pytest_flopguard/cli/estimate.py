"""``flopguard estimate``: parameters, FLOPs, memory and time of a model, before there is any."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_flopguard.cli.mistakes import Mistakes, amount, number
from pytest_flopguard.cli.model_argument import HELP, subject
from pytest_flopguard.formulas.architectures.models import checked_length
from pytest_flopguard.formulas.architectures.pairs import CONVENTIONS
from pytest_flopguard.formulas.estimates.asked import RECIPES_BY_DTYPE, Machine, Subject, Workload
from pytest_flopguard.formulas.estimates.estimate import estimate
from pytest_flopguard.formulas.hardware.datasheets import gpu
from pytest_flopguard.formulas.rates import above_zero, share
from pytest_flopguard.reporters import estimate_json, estimate_table

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_TIMES = ("mfu", "seconds", "gpu_hours")
_LAYOUT = ("gpus", "tensor", "pipeline", "zero")
_ONLY_IN_TRAINING: Mapping[str, str | bool | None] = MappingProxyType(
    {"recipe": "", "optimizer": "", "recompute": "none", "zero": None, "sequence_parallel": False}
)


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "estimate",
        help="show the parameters, FLOPs, memory and time of a model",
        description="Show what a forward pass, a decode step or a training step of a model costs, by closed forms. "
        "What is not known is shown as unknown, with the reason. flopguard memory predicts the peak on a GPU.",
    )
    parser.add_argument("model", metavar="MODEL", help=f"{HELP}, or a number of parameters (7B)")
    work = parser.add_argument_group("work")
    work.add_argument("--batch", default="1", metavar="B", help="sequences, 1 by default")
    work.add_argument("--seq", metavar="S", help="tokens of each sequence")
    work.add_argument("--train", action="store_true", help="a training step: forward, backward, optimizer states")
    work.add_argument("--decode", action="store_true", help="one new token, the S-th, with the others in the cache")
    work.add_argument("--attention", default="dense", help=f"{' or '.join(CONVENTIONS)}; dense by default")
    work.add_argument("--dtype", default="bfloat16", help="of weights, activations and products; bfloat16 by default")
    work.add_argument("--recompute", default="none", help="none, selective (scores and values) or full; with --train")
    work.add_argument("--tokens", metavar="D", help="tokens of a whole training run, such as 15T; implies --train")
    recipe = work.add_mutually_exclusive_group()
    recipe.add_argument("--recipe", default="", help=f"bytes per parameter in training; {_usual()} by default")
    recipe.add_argument("--optimizer", default="", help="one of torch's, with all its states in --dtype")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--gpu", metavar="NAME", help="whose peak, memory and bandwidth to take, such as h100")
    machine.add_argument("--gpus", metavar="N", help="how many of them; 1 by default")
    machine.add_argument("--sparse", action="store_true", help="the peak with 2:4 sparse weights")
    machine.add_argument("--tensor", metavar="T", help="tensor-parallel size")
    machine.add_argument("--sequence-parallel", action="store_true", help="divide norms by --tensor, too; with --train")
    machine.add_argument("--pipeline", metavar="P", help="pipeline stages")
    machine.add_argument("--zero", metavar="STAGE", help="ZeRO stage of the data-parallel copies, 0 to 3")
    machine.add_argument("--mfu", metavar="SHARE", help="the share of the peak that you expect, such as 0.4 or 40%%")
    machine.add_argument("--seconds", metavar="T", help="the time that it took, to get the MFU")
    machine.add_argument("--gpu-hours", metavar="H", help="the GPU-hours that it took, such as 6.4M")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def _usual() -> str:
    return ", ".join(f"{recipe} for {dtype}" for dtype, recipe in RECIPES_BY_DTYPE.items())


def run(options: argparse.Namespace) -> int:
    """Print the estimate."""
    mistakes = Mistakes()
    model = mistakes.read(lambda: subject(options.model, counts=True))
    work = _work(options, mistakes, model)
    machine = _machine(options, mistakes)
    mistakes.check()
    # check() has raised where one of them could not be read.
    assert model is not None
    assert work is not None
    found = estimate(model, work, machine)
    if options.json:
        asked = {"work": asdict(work), "machine": None if machine is None else _told(machine)}
        document = estimate_json.document(found.figures, found.form, found.parameter_terms)
        print(json.dumps({"model": model.name, "asked": asked, **document}, indent=2, allow_nan=False))
    else:
        print(estimate_table.render(found.figures, found.form, title=f"{model.name}, {work.step}"))
    return 0


def _work(options: argparse.Namespace, mistakes: Mistakes, model: Subject | None) -> Workload | None:
    tokens = mistakes.number("--tokens", options.tokens)
    if model is not None and options.seq is None and model.sizes is not None and not model.reads_images:
        mistakes.expected("--seq", None, "the tokens of each sequence")
    batch, seq = mistakes.number("--batch", options.batch), mistakes.number("--seq", options.seq)
    if model is not None and model.sizes is not None and seq is not None:
        sizes = model.sizes
        mistakes.read(lambda: checked_length(sizes, seq))
    trains = options.train or tokens is not None
    for name, usual in _ONLY_IN_TRAINING.items():
        if not trains and getattr(options, name) != usual:
            mistakes.expected(_flag(name), getattr(options, name), "--train beside it")
    # Each field by itself first, so that every mistake is told.
    for name in ("attention", "dtype", "recipe", "optimizer", "recompute"):
        value = getattr(options, name)
        if value:
            mistakes.read(lambda name=name, value=value: Workload(**{name: value}))  # type: ignore[misc]
    if mistakes.problems:
        return None
    return mistakes.read(
        lambda: Workload(
            batch=batch or 1,
            seq=seq or 1,
            train=trains,
            decode=options.decode,
            attention=options.attention,
            dtype=options.dtype,
            recipe=options.recipe,
            optimizer=options.optimizer,
            recompute=options.recompute,
            tokens=tokens or 0,
        ),
    )


def _machine(options: argparse.Namespace, mistakes: Mistakes) -> Machine | None:
    if options.gpu is None:
        for name in (*_LAYOUT, *_TIMES, "sparse", "sequence_parallel"):
            if getattr(options, name) not in (None, False):
                mistakes.expected(_flag(name), getattr(options, name), "--gpu beside it")
        return None
    row = mistakes.read(lambda: gpu(options.gpu))
    if row is not None:
        mistakes.read(lambda: row.peak(options.dtype, sparse=options.sparse))
    times = {
        name: mistakes.read(lambda name=name: _time(name, getattr(options, name)))  # type: ignore[misc]
        for name in _TIMES
        if getattr(options, name) is not None
    }
    if len(times) > 1:
        what = f"only one of {', '.join(map(_flag, times))}, as each of them tells the time"
        mistakes.expected(_flag(first := next(iter(times))), getattr(options, first), what)
    sizes = {name: mistakes.number(_flag(name), getattr(options, name)) for name in _LAYOUT if name != "zero"}
    stage = mistakes.read(lambda: _stage(options.zero))
    if mistakes.problems or row is None:
        return None
    return mistakes.read(
        lambda: Machine(
            gpu=row,
            gpus=sizes["gpus"] or 1,
            sparse=options.sparse,
            tensor=sizes["tensor"],
            pipeline=sizes["pipeline"],
            zero=stage,
            sequence_parallel=options.sequence_parallel,
            **times,
        ),
    )


def _told(machine: Machine) -> dict[str, object]:
    return {**{each.name: getattr(machine, each.name) for each in fields(machine)}, "gpu": machine.gpu.name}


def _time(name: str, text: str) -> float:
    if name == "gpu_hours":
        return float(amount(_flag(name), text))
    value = number(_flag(name), text)
    return share(_flag(name), value) if name == "mfu" else above_zero(_flag(name), value)


def _stage(text: str | None) -> int | None:
    return None if text is None else int(text) if text.isdecimal() else int(number("--zero", text))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
