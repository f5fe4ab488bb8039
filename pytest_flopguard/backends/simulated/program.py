"""Programs to run on a simulated GPU without a test: steps of a transformers model, or of somebody's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from pytest_flopguard.backends.transformers_api import enable_checkpointing
from pytest_flopguard.core.errors import UsageError, nearest, problem

# Builds what is needed on "cuda" and returns one step, which is run several times.
Program = Callable[[int, int], Callable[[], object]]
_EXTRA = "pip install transformers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step is: training or inference without gradients, in which dtype, and how it is trained.

    ``checkpointing`` drops the activations inside each layer and computes them again in backward.
    """

    train: bool = False
    dtype: str = "bfloat16"
    optimizer: str = "adamw"
    checkpointing: bool = False


def transformers_program(config: Mapping[str, Any], step: Step) -> Program:
    """Return the program that trains or runs a language model of transformers' own class, with random weights."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        values = {"what": "flopguard memory MODEL", "package": "transformers", "install": _EXTRA}
        raise UsageError([problem("missing-extra", "command line", **values)]) from error

    logging: Any = transformers.logging
    logging.set_verbosity_error()  # it warns of what a config leaves out

    def program(batch: int, seq: int) -> Callable[[], object]:
        fields = {name: value for name, value in config.items() if name != "model_type"}
        built = transformers.AutoConfig.for_model(config["model_type"], **fields)
        with _default_dtype(getattr(torch, step.dtype)), torch.device("cuda"):
            auto: Any = transformers.AutoModelForCausalLM
            model = auto.from_config(built, attn_implementation="sdpa")
        tokens = torch.zeros(batch, seq, dtype=torch.long, device="cuda")
        if not step.train:
            model.eval()
            return lambda: _infer(model, tokens)
        model.train()
        if step.checkpointing:
            enable_checkpointing(model, use_reentrant=False)
        optimizer = _optimizer(step.optimizer, model)
        return lambda: _train(model, tokens, optimizer)

    return program


def own_program(text: str) -> Program:
    """Return ``function`` of ``"package.module:function"``; UsageError where it cannot be had."""
    module, _, name = text.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise _no_program(text, f"a module that can be imported ({error})") from error
    except AttributeError as error:
        known = vars(sys.modules[module])
        raise _no_program(text, f"a function of {module}{nearest(name, known)}") from error
    if not callable(found):
        raise _no_program(text, f"a function of (batch, seq), not {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _no_program(text: str, expected: str) -> UsageError:
    return UsageError([problem("bad-value", "command line", name="MODEL", value=text, expected=expected, hint="")])


def _infer(model: Any, tokens: torch.Tensor) -> None:
    with torch.no_grad():
        model(input_ids=tokens, use_cache=False)


def _train(model: Any, tokens: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def _optimizer(name: str, model: Any) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return (torch.optim.AdamW if name == "adamw" else torch.optim.Adam)(model.parameters(), fused=True)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
