"""The text of ``PYTORCH_CUDA_ALLOC_CONF``: keys, values and lists, with every mistake told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from pytest_flopguard.backends.simulated.blocks import LARGE_SEGMENT_LIMIT, MIB
from pytest_flopguard.core.errors import Problem, nearest, problem

# 1 MiB to 64 GiB by powers of two (``kRoundUpPowerOfTwoIntervals``, c10/core/AllocatorConfig.cpp).
NO_DIVISIONS: tuple[int, ...] = (0,) * 16

# ``large_segment_size_``
LARGE_SEGMENT = 20 * MIB

_LARGE = "large_segment_size_mb"

# Settings that are read and told, and that the model does not follow: why, and whether True or False is expected.
UNMODELLED: Mapping[str, tuple[str, bool]] = MappingProxyType(
    {
        "graph_capture_record_stream_reuse": ("memory of CUDA graphs is not modelled", True),
        "throw_on_cudamalloc_oom": ("an early out-of-memory error is not modelled", True),
    }
)
WITHOUT_EFFECT: Mapping[str, tuple[str, bool]] = MappingProxyType(
    {
        "pinned_use_background_threads": ("host memory", True),
        "pinned_use_cuda_host_register": ("host memory", True),
        "pinned_use_hip_host_register": ("host memory", True),
        "pinned_num_register_threads": ("host memory", False),
        "pinned_reserve_segment_size_mb": ("host memory", False),
        "pinned_free_catch_all": ("host memory", True),
        "pinned_max_round_threshold_mb": ("host memory", False),
        "pinned_max_cached_size_mb": ("host memory", False),
        "release_lock_on_cudamalloc": ("locking", True),
        "release_lock_on_hipmalloc": ("locking", True),
    }
)
MODELLED = (
    "backend",
    "expandable_segments",
    "garbage_collection_threshold",
    _LARGE,
    "max_non_split_rounding_mb",
    "max_split_size_mb",
    "per_process_memory_fraction",
    "roundup_power2_divisions",
)
KNOWN = (*MODELLED, *UNMODELLED, *WITHOUT_EFFECT)

_ENTRY = re.compile(r"([^,:\[\]]*):(\[[^\]]*\]|[^,\[\]]*)$")


class ParsedText:
    """What the text sets, entry by entry as ``AcceleratorAllocatorConfig::parseArgs`` goes through it.

    ``sizes`` in bytes, ``written`` the entries without white space, ``problems`` every mistake.
    """

    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self.problems: list[Problem] = []
        self.written: list[str] = []
        self.sizes: dict[str, int] = {}
        self.fractions: dict[str, float] = {}
        self.expandable_segments = False
        self.divisions = NO_DIVISIONS
        self.unmodelled: list[str] = []
        self.without_effect: list[str] = []
        self.replaced_by = ""
        entries = _entries("".join(text.split()))
        # The large segment bounds other sizes wherever it stands, so it is read before them.
        for entry in sorted(entries, key=lambda entry: not entry.startswith(f"{_LARGE}:")):
            self._entry(entry)
        self.written = [entry for entry in entries if entry in self.written]

    def _entry(self, entry: str) -> None:
        match = _ENTRY.match(entry)
        if match is None:
            self._wrong("entry", entry, "key:value")
            return
        key, value = match.groups()
        self.written.append(entry)
        if key in UNMODELLED:
            self._told(self.unmodelled, key, value, *UNMODELLED[key])
        elif key in WITHOUT_EFFECT:
            self._told(self.without_effect, key, value, *WITHOUT_EFFECT[key])
        elif key == "backend":
            self._backend(value)
        elif key == "expandable_segments":
            self.expandable_segments = self._boolean(key, value)
        elif key in ("garbage_collection_threshold", "per_process_memory_fraction"):
            self._fraction(key, value)
        elif key == "roundup_power2_divisions":
            self._divisions(value)
        elif key in MODELLED:
            self._size(key, value)
        else:
            self.problems.append(problem("unknown-setting", self.where, name=key, hint=nearest(key, KNOWN)))

    def _wrong(self, name: str, value: str, expected: str, hint: str = "") -> None:
        self.problems.append(problem("bad-value", self.where, name=name, value=value, expected=expected, hint=hint))

    def _told(self, told: list[str], key: str, value: str, reason: str, yes_or_no: bool) -> None:
        if yes_or_no:
            self._boolean(key, value)
        elif not value.isdecimal():
            self._wrong(key, value, "a whole number")
        told.append(f"{key}:{value} ({reason})")

    def _boolean(self, key: str, value: str) -> bool:
        if value not in ("True", "False"):
            self._wrong(key, value, "True or False", nearest(value, ("True", "False")))
        return value == "True"

    def _backend(self, value: str) -> None:
        self.replaced_by = f"backend:{value}" if value == "cudaMallocAsync" else ""
        if self.replaced_by:
            self.unmodelled.append(f"backend:{value} (the driver's pool allocates, not the caching allocator)")
        elif value != "native":
            known = ("native", "cudaMallocAsync")
            self._wrong("backend", value, " or ".join(known), nearest(value, known))

    def _fraction(self, key: str, value: str) -> None:
        one_is_fine = key == "per_process_memory_fraction"
        number = _number(value)
        if number is None or not (0 <= number <= 1 if one_is_fine else 0 < number < 1):
            bounds = "from 0 to 1" if one_is_fine else "between 0 and 1, both excluded"
            self._wrong(key, value, f"a number {bounds}")
        else:
            self.fractions[key] = number

    def _size(self, key: str, value: str) -> None:
        least = LARGE_SEGMENT_LIMIT // MIB + 1 if key == _LARGE else self.sizes.get(_LARGE, LARGE_SEGMENT) // MIB
        if not value.isdecimal() or int(value) < least:
            self._wrong(key, value, f"a whole number of MiB, at least {least}")
        else:
            self.sizes[key] = int(value) * MIB

    def _divisions(self, value: str) -> None:
        name = "roundup_power2_divisions"
        if not value.startswith("["):
            if _power(value) is None:
                self._wrong(name, value, "a power of two, or a list such as [256:1,512:2,>:4]")
            else:
                self.divisions = (int(value),) * len(NO_DIVISIONS)
            return
        table, last, first = list(NO_DIVISIONS), 0, True
        for pair in filter(None, value[1:-1].split(",")):
            boundary, _, divisions = pair.partition(":")
            parts = 0 if divisions == "0" else _power(divisions)
            from_mib = _power(boundary)
            if parts is None or (from_mib is None and boundary != ">"):
                self._wrong(name, pair, "a size in MiB, or >, and a number of divisions, both powers of two")
            elif from_mib is None:
                table[last + 1 :] = [parts] * (len(table) - last - 1)
            else:
                last = min(from_mib.bit_length() - 1, len(table) - 1)
                if first:
                    table[:last] = [parts] * last
                table[last], first = parts, False
        self.divisions = tuple(table)


def _entries(text: str) -> list[str]:
    """Split at the commas that stand in no list."""
    # Torch too reads over a comma at the end.
    return re.split(r",(?![^\[]*\])", text.removesuffix(",")) if text else []


def _power(text: str) -> int | None:
    """Return the power of two that is written, or None."""
    number = int(text) if text.isdecimal() else 0
    return number if number and number & (number - 1) == 0 else None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", text) else None
