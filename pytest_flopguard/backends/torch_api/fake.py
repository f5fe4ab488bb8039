"""Fake tensors: their mode, and what it raises where values are needed."""

from __future__ import annotations

from torch._subclasses import fake_impls, fake_tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
    unset_fake_temporarily,
)

__all__ = [
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "FakeTensor",
    "FakeTensorMode",
    "UnsupportedOperatorException",
    "fake_impls",
    "fake_tensor",
    "unset_fake_temporarily",
]
