"""Formulas of single ops, one family a file, with the lists of free and uncounted ops."""

from __future__ import annotations

from pytest_flopguard.formulas.ops import attention, conv, fft, free, matmul, recurrent, uncounted

BUILT_IN = (matmul, conv, attention, recurrent, fft, free, uncounted)
