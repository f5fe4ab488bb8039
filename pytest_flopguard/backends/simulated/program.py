"""Programs to run on a simulated GPU without a test, and how a user's own one is found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from pytest_flopguard.core.errors import UsageError, nearest, problem

# The parts of one step by name, in the order in which they run.
Spans = Mapping[str, Callable[[], object]]
# Builds what is needed on "cuda" for a batch and a sequence length, and returns one step, which is run several times.
Program = Callable[[int, int], Spans]


def own_program(text: str) -> Program:
    """Return ``function`` of ``"package.module:function"``, which returns one step; UsageError where there is none."""
    module, _, name = text.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(import_module(module), name)
    except (ModuleNotFoundError, ValueError) as error:
        raise _no_program(text, f"a module that can be imported ({error})") from error
    except AttributeError as error:
        known = vars(sys.modules[module]) if module in sys.modules else {}
        raise _no_program(text, f"a function of {module}{nearest(name, known)}") from error
    if not callable(found):
        raise _no_program(text, f"a function of (batch, seq), not {type(found).__name__}")
    return lambda batch, seq: {"step": _step(text, found(batch, seq))}


def _step(text: str, made: object) -> Callable[[], object]:
    if not callable(made):
        raise _no_program(text, f"a function that returns one step to be called, not {type(made).__name__}")
    return made


def _no_program(text: str, expected: str) -> UsageError:
    return UsageError([problem("bad-value", "command line", name="MODEL", value=text, expected=expected, hint="")])
