"""The names of GPUs, with every spelling that is accepted: one table for datasheets, simulated GPUs and options.

The tables of facts (peaks and bandwidth, multiprocessors and memory) are keyed by the names of this table. A family
name means the usual board: ``a100`` is the 80 GB SXM board, ``v100`` the 16 GB one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar

from pytest_flopguard.core.errors import UnknownNameError, message, nearest

T = TypeVar("T")

# Each name with its aliases. Case, spaces, hyphens, underscores and the maker's brands do not matter, so "RTX 4090" and
# "NVIDIA GeForce RTX 4090" need no alias. What torch.cuda.get_device_name() prints is an alias where it differs.
ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "v100": ("v100-16gb", "v100-sxm-16gb", "v100-sxm2-16gb"),
        "v100-32gb": ("v100-sxm-32gb", "v100-sxm2-32gb"),
        "v100-pcie-16gb": ("v100-pcie",),
        "v100-pcie-32gb": (),
        "t4": (),
        "a100-40gb": ("a100-sxm-40gb", "a100-sxm4-40gb"),
        "a100-80gb": ("a100", "a100-sxm", "a100-sxm-80gb", "a100-sxm4-80gb"),
        "a100-pcie-40gb": (),
        "a100-pcie-80gb": ("a100-pcie", "a100-80gb-pcie"),
        "a800": ("a800-80gb", "a800-sxm", "a800-sxm-80gb", "a800-sxm4-80gb"),
        "a800-pcie": ("a800-pcie-80gb", "a800-80gb-pcie"),
        "a30": (),
        "a10": (),
        "a10g": (),
        "a40": (),
        "a6000": ("rtx-a6000",),
        "rtx3080": ("3080", "rtx3080-10gb"),
        "rtx3090": ("3090",),
        "l4": (),
        "l40": (),
        "l40s": (),
        "rtx6000-ada": ("6000-ada", "rtx6000-ada-generation"),
        "rtx4080": ("4080",),
        "rtx4090": ("4090",),
        "h100": ("h100-80gb", "h100-sxm", "h100-sxm5", "h100-sxm-80gb", "h100-sxm5-80gb", "h100-80gb-hbm3"),
        "h100-pcie": ("h100-pcie-80gb",),
        "h100-nvl": (),
        "h800": ("h800-sxm", "h800-sxm5"),
        "h20": (),
        "h200": ("h200-sxm", "h200-sxm5"),
        "gh200": ("gh200-96gb", "gh200-480gb"),
        "b200": ("b200-sxm",),
        "b300": ("b300-sxm", "b300-sxm6-ac"),
        "rtx5080": ("5080",),
        "rtx5090": ("5090",),
        "tpu-v4": (),
        "tpu-v5e": (),
        "tpu-v5p": (),
    }
)
_BRANDS = ("nvidia", "tesla", "geforce")


def spelled(text: str) -> str:
    """Return a spelling without case, separators and the maker's brands: ``"rtx4090"``."""
    found = re.sub(r"[\s_-]+", "", text.lower())
    for brand in _BRANDS:
        found = found.removeprefix(brand)
    return found


_NAMES = MappingProxyType({spelled(each): name for name, others in ALIASES.items() for each in (name, *others)})


def gpu_name(text: str) -> str:
    """Return the name of a GPU in this table, or the text itself where it has none."""
    return _NAMES.get(spelled(text), text)


def gpu_row(kind: str, text: str, rows: Mapping[str, T]) -> T:
    """Return the row of a GPU from a table keyed by names of this one, or by the text itself.

    UnknownNameError of ``kind`` names the nearest spelling and all names of the table.
    """
    name = text if text in rows else gpu_name(text)
    if name not in rows:
        hint = nearest(text.lower(), _spellings(rows))
        raise UnknownNameError(message("unknown-name", kind=kind, name=text, known=", ".join(rows), hint=hint))
    return rows[name]


def _spellings(rows: Mapping[str, object]) -> Iterator[str]:
    for name in rows:
        yield name
        yield from ALIASES.get(name, ())
