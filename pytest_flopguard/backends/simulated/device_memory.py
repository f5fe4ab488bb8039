"""The memory of a device under the caching allocator: what ``cudaMalloc`` and ``cuMemMap`` would give."""

from __future__ import annotations

from collections.abc import Callable

from pytest_flopguard.backends.simulated.blocks import MIB

# The driver hands out whole pages of this size, and every segment is a multiple of it.
DRIVER_PAGE = 2 * MIB
FIRST_ADDRESS = 0x7F00_0000_0000
# With no capacity told, a range that no simulated run can fill.
UNBOUNDED_RANGE = 1 << 44


class DeviceMemory:
    """Bytes of a device: at most ``capacity`` in use at once (None: no end), at addresses that only rise.

    Which address the driver would choose is not known; ``addresses`` says it where a recording does.
    """

    __slots__ = ("addresses", "capacity", "in_use", "next_address")

    def __init__(self, capacity: int | None, addresses: Callable[[int], int] | None = None) -> None:
        self.capacity = capacity
        self.addresses = addresses
        self.in_use = 0
        self.next_address = FIRST_ADDRESS

    def has(self, size: int) -> bool:
        """Tell whether so many bytes more can be had."""
        return self.capacity is None or self.in_use + size <= self.capacity

    def allocate(self, size: int) -> int | None:
        """Return the address of so many new bytes, or None where the device has no more (``cudaMalloc``)."""
        if not self.has(size):
            return None
        self.in_use += size
        return self.reserve(size)

    def map(self, size: int) -> bool:
        """Put memory behind so many reserved bytes, all or nothing (``ExpandableSegment::map``)."""
        if not self.has(size):
            return False
        self.in_use += size
        return True

    def release(self, size: int) -> None:
        """Give bytes back to the device (``cudaFree``, ``cuMemUnmap``)."""
        self.in_use -= size

    def reserve(self, size: int) -> int:
        """Return the address of so many bytes with nothing behind them (``cuMemAddressReserve``)."""
        if self.addresses is not None:
            return self.addresses(size)
        address = self.next_address
        self.next_address += -(-size // DRIVER_PAGE) * DRIVER_PAGE
        return address

    @property
    def range_size(self) -> int:
        """Addresses that one expandable segment sets aside: 1 1/8 of the device (``find_expandable_block``)."""
        return UNBOUNDED_RANGE if self.capacity is None else self.capacity + self.capacity // 8
