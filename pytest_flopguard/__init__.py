"""pytest-flopguard: FLOP and peak-memory budgets for torch models, as ordinary tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "Breakdown",
    "Cost",
    "DecoderSizes",
    "Expectation",
    "Experts",
    "FlopGuard",
    "FlopguardError",
    "Latent",
    "MemoryPeak",
    "Origin",
    "Record",
    "Registry",
    "RunReport",
    "TensorSpec",
    "Term",
    "Unavailable",
    "Unknown",
    "__version__",
    "decoder",
]

if TYPE_CHECKING:
    from pytest_flopguard.backends.base import Unavailable
    from pytest_flopguard.core.errors import FlopguardError
    from pytest_flopguard.core.expectation import Expectation, Origin
    from pytest_flopguard.core.measurement import Cost, MemoryPeak
    from pytest_flopguard.core.record import Record, RunReport
    from pytest_flopguard.core.tensors import TensorSpec
    from pytest_flopguard.fixture import FlopGuard
    from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes, Experts, Latent
    from pytest_flopguard.formulas.architectures.transformer import decoder
    from pytest_flopguard.formulas.breakdown import Breakdown, Term
    from pytest_flopguard.formulas.registry import Registry, Unknown

# Found when asked for: pytest imports this package in every run, also where the guard is off.
_HOMES = {
    "Breakdown": "formulas.breakdown",
    "Cost": "core.measurement",
    "DecoderSizes": "formulas.architectures.decoder_sizes",
    "Expectation": "core.expectation",
    "Experts": "formulas.architectures.decoder_sizes",
    "FlopGuard": "fixture",
    "FlopguardError": "core.errors",
    "Latent": "formulas.architectures.decoder_sizes",
    "MemoryPeak": "core.measurement",
    "Origin": "core.expectation",
    "Record": "core.record",
    "Registry": "formulas.registry",
    "RunReport": "core.record",
    "TensorSpec": "core.tensors",
    "Term": "formulas.breakdown",
    "Unavailable": "backends.base",
    "Unknown": "formulas.registry",
    "decoder": "formulas.architectures.transformer",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
