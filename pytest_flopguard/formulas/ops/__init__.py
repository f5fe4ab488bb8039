"""Formulas of single ops, one family a file, with the lists of free and uncounted ops."""

from __future__ import annotations

from pytest_flopguard.formulas.ops import (
    attention,
    conv,
    conv_kernels,
    distributed,
    extensions,
    fft,
    flex,
    free,
    linalg,
    linear,
    matmul,
    packed_attention,
    pairwise,
    quantized,
    recurrent,
    sparse,
    torchvision,
    uncounted,
)

BUILT_IN = (
    matmul,
    linalg,
    linear,
    conv,
    conv_kernels,
    attention,
    packed_attention,
    flex,
    recurrent,
    fft,
    pairwise,
    quantized,
    sparse,
    torchvision,
    extensions,
    distributed,
    free,
    uncounted,
)
