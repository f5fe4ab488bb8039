"""Settings of the caching allocator, as ``PYTORCH_CUDA_ALLOC_CONF`` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pytest_flopguard.backends.simulated.allocator_text import LARGE_SEGMENT, NO_DIVISIONS, ParsedText
from pytest_flopguard.backends.simulated.blocks import ROUNDING
from pytest_flopguard.core.errors import UsageError

# ``CUDAAllocatorConfig::instance`` (c10/cuda/CUDAAllocatorConfig.h) reads the first of these that is set.
VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
# With "1" every tensor has a cudaMalloc of its own (``forceUncachedAllocator``, c10/cuda/CUDACachingAllocator.cpp).
UNCACHED = "PYTORCH_NO_CUDA_MEMORY_CACHING"


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorSettings:
    """How the caching allocator is set; sizes in bytes, the defaults are torch's (c10/core/AllocatorConfig.h).

    ``unmodelled`` says which settings the model leaves out though they may change device memory, each with its reason,
    and ``without_effect`` which concern something else than device memory. ``replaced_by`` names what makes torch use
    no caching allocator at all, so that nothing modelled here would be true.
    """

    max_split_size: int | None = None
    max_non_split_rounding: int = LARGE_SEGMENT
    large_segment_size: int = LARGE_SEGMENT
    roundup_power2_divisions: tuple[int, ...] = NO_DIVISIONS
    garbage_collection_threshold: float = 0.0
    expandable_segments: bool = False
    per_process_memory_fraction: float = 1.0
    unmodelled: tuple[str, ...] = ()
    without_effect: tuple[str, ...] = ()
    replaced_by: str = ""
    text: str = ""

    @classmethod
    def parse(cls, text: str, where: str = VARIABLES[0]) -> AllocatorSettings:
        """Read the text of the variable; raise UsageError with every mistake in it, each at ``where``."""
        parsed = ParsedText(text, where)
        if parsed.problems:
            raise UsageError(parsed.problems)
        large = parsed.sizes.get("large_segment_size_mb", LARGE_SEGMENT)
        return cls(
            max_split_size=parsed.sizes.get("max_split_size_mb"),
            max_non_split_rounding=parsed.sizes.get("max_non_split_rounding_mb", large),
            large_segment_size=large,
            roundup_power2_divisions=parsed.divisions,
            garbage_collection_threshold=parsed.fractions.get("garbage_collection_threshold", 0.0),
            expandable_segments=parsed.expandable_segments,
            per_process_memory_fraction=parsed.fractions.get("per_process_memory_fraction", 1.0),
            unmodelled=tuple(parsed.unmodelled),
            without_effect=tuple(parsed.without_effect),
            replaced_by=parsed.replaced_by,
            text=",".join(parsed.written),
        )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> AllocatorSettings:
        """Read the variable that torch would read; raise UsageError with every mistake in it."""
        name = next((name for name in VARIABLES if name in environment), VARIABLES[0])
        settings = cls.parse(environment.get(name, ""), name)
        if environment.get(UNCACHED) != "1":
            return settings
        reason = f"{UNCACHED}=1 (every tensor is taken from the device by itself)"
        return replace(settings, replaced_by=f"{UNCACHED}=1", unmodelled=(*settings.unmodelled, reason))

    def rounded(self, size: int) -> int:
        """Return what a request of so many bytes takes of a block (``round_size``)."""
        if size < ROUNDING:
            return ROUNDING
        if self.roundup_power2_divisions is not NO_DIVISIONS:
            # The list begins at 1 MiB, and its last entry stands for everything above.
            interval = min(max(size.bit_length() - 21, 0), len(NO_DIVISIONS) - 1)
            divisions = self.roundup_power2_divisions[interval]
            if divisions > 1 and size > ROUNDING * divisions:
                return next_division(size, divisions)
        return -(-size // ROUNDING) * ROUNDING

    def __str__(self) -> str:
        return self.text or "default"


def next_division(size: int, divisions: int) -> int:
    """Round up to the next of the equal steps between two powers of two (``roundup_power2_next_division``).

    1200 in 4 divisions: the steps from 1024 to 2048 are 256 wide, so 1280.
    """
    if size & (size - 1) == 0:
        return size
    floor = 1 << (size.bit_length() - 1)
    step = floor >> (divisions.bit_length() - 1)
    return floor << 1 if step == 0 else -(-size // step) * step
