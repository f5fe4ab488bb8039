"""Addresses and sizes of what a loaded shared library exports, from its own symbol table."""

from __future__ import annotations

import ctypes
from pathlib import Path

from pytest_flopguard.backends.simulated.cxx_headers import FactMissing


class _Found(ctypes.Structure):
    """dlfcn.h: Dl_info."""

    _fields_ = (
        ("library", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


class _Symbol(ctypes.Structure):
    """elf.h: Elf64_Sym."""

    _fields_ = (
        ("name", ctypes.c_uint32),
        ("info", ctypes.c_uint8),
        ("other", ctypes.c_uint8),
        ("section", ctypes.c_uint16),
        ("value", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
    )


def library(path: Path) -> ctypes.CDLL:
    """Return a library of the wheel. Raises FactMissing if it cannot be loaded."""
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise FactMissing(f"{path.name} cannot be loaded: {error}") from None


def address(of: ctypes.CDLL, symbol: str) -> int:
    """Return where a library keeps an exported symbol. Raises FactMissing."""
    try:
        return ctypes.addressof(ctypes.c_char.in_dll(of, symbol))
    except ValueError:
        raise FactMissing(f"{Path(of._name).name} does not export {symbol}") from None


def size_at(where: int) -> int | None:
    """Return the bytes of the exported object that starts at an address; None where no symbol table tells."""
    try:
        look_up = ctypes.CDLL(None).dladdr1
    except AttributeError:  # a C library without it, such as musl
        return None
    found, symbol = _Found(), ctypes.POINTER(_Symbol)()
    rtld_dl_syment = 1  # dlfcn.h
    look_up.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
    look_up.restype = ctypes.c_int
    if not look_up(where, ctypes.byref(found), ctypes.byref(symbol), rtld_dl_syment):
        return None
    return int(symbol.contents.size) if found.address == where else None
