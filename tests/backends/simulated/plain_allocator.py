"""The caching allocator once more, as plainly as it can be said: lists, no links, no order kept, every search in full.

It shares no line with the model that it checks and speaks the shapes of ``torch.cuda.memory._snapshot()``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

KIB = 1024
MIB = 1024 * KIB
FREE, LIVE, WAITING, UNMAPPED = "free", "live", "waiting", "unmapped"
STATES = {FREE: "inactive", LIVE: "active_allocated", WAITING: "active_pending_free"}


@dataclass
class Part:
    size: int
    state: str = FREE
    requested: int = 0


@dataclass
class Segment:
    address: int
    small: bool
    stream: int
    page: int = 0
    parts: list[Part] = field(default_factory=list)

    def places(self) -> Iterator[tuple[int, int, Part]]:
        """Each part as (place in the list, address, part)."""
        address = self.address
        for place, part in enumerate(self.parts):
            yield place, address, part
            address += part.size

    def join(self) -> None:
        """Make neighbours that are both free, or both unmapped, one."""
        joined: list[Part] = []
        for part in self.parts:
            if joined and joined[-1].state == part.state and part.state in (FREE, UNMAPPED):
                joined[-1].size += part.size
            else:
                joined.append(part)
        self.parts = joined


class PlainAllocator:
    """``addresses`` yields where the driver puts what is reserved next; ``trace`` is as torch records it."""

    def __init__(
        self, addresses: Iterator[int], *, expandable: bool = False, divisions: int = 0, max_split: int | None = None
    ) -> None:
        self.addresses = addresses
        self.expandable = expandable
        self.divisions = divisions
        self.max_split = max_split
        self.segments: list[Segment] = []
        self.trace: list[dict[str, object]] = []
        self.peaks = {"allocated": 0, "active": 0, "requested": 0, "reserved": 0}

    def tell(self, action: str, address: int, size: int, stream: int) -> None:
        self.trace.append(
            {"action": action, "addr": address, "size": size, "stream": stream, "frames": [], "time_us": 1}
        )
        for name, now in self.totals().items():
            self.peaks[name] = max(self.peaks[name], now)

    def totals(self) -> dict[str, int]:
        parts = [part for segment in self.segments for part in segment.parts]
        return {
            "allocated": sum(part.size for part in parts if part.state == LIVE),
            "active": sum(part.size for part in parts if part.state in (LIVE, WAITING)),
            "requested": sum(part.requested for part in parts if part.state in (LIVE, WAITING)),
            "reserved": sum(part.size for part in parts if part.state != UNMAPPED),
        }

    def rounded(self, size: int) -> int:
        size = max(size, 512)
        if self.divisions > 1 and size > 512 * self.divisions:
            power = 1
            while power * 2 <= size:
                power *= 2
            return next(
                power + power * n // self.divisions for n in range(99) if power + power * n // self.divisions >= size
            )
        return (size + 511) // 512 * 512

    def malloc(self, requested: int, stream: int) -> int:
        size = self.rounded(requested)
        small = size <= MIB
        found = self.best(size, small, stream)
        if found is None:
            found = self.grown(size, small, stream) if self.expandable else self.new(size, small, stream)
        segment, place = found
        part = segment.parts[place]
        rest = part.size - size
        if small or self.expandable:
            splits = rest >= 512
        else:
            splits = rest > MIB and (self.max_split is None or size < self.max_split)
        if splits:
            segment.parts[place : place + 1] = [Part(size), Part(rest)]
        part = segment.parts[place]
        part.state, part.requested = LIVE, requested
        address = next(address for at, address, _ in segment.places() if at == place)
        self.tell("alloc", address, requested, stream)
        return address

    def best(self, size: int, small: bool, stream: int) -> tuple[Segment, int] | None:
        fits = []
        for segment in self.segments:
            if (segment.small, segment.stream) == (small, stream):
                for place, address, part in segment.places():
                    if part.state == FREE and part.size >= size:
                        fits.append((part.size, address, segment, place))
        if not fits:
            return None
        fits.sort(key=lambda fit: fit[:2])
        chosen = fits[0]
        if self.expandable:
            for fit in fits[1:]:
                if self.reach(fit[2], fit[3]) >= self.reach(chosen[2], chosen[3]):
                    break
                chosen = fit
        if self.max_split is not None:
            if size < self.max_split and chosen[0] >= self.max_split:
                return None
            if size >= self.max_split and chosen[0] >= size + 20 * MIB:
                return None
        return chosen[2], chosen[3]

    @staticmethod
    def reach(segment: Segment, place: int) -> int:
        after = segment.parts[place + 1 : place + 2]
        return segment.parts[place].size + sum(part.size for part in after if part.state == UNMAPPED)

    def new(self, size: int, small: bool, stream: int) -> tuple[Segment, int]:
        length = 2 * MIB if small else 20 * MIB if size < 10 * MIB else (size + 2 * MIB - 1) // (2 * MIB) * 2 * MIB
        segment = Segment(next(self.addresses), small, stream, parts=[Part(length)])
        self.segments.append(segment)
        self.tell("segment_alloc", segment.address, length, stream)
        return segment, 0

    def grown(self, size: int, small: bool, stream: int) -> tuple[Segment, int]:
        segment, place = self.room(size, small, stream)
        while segment.parts[place].state != FREE or segment.parts[place].size < size:
            unmapped = place if segment.parts[place].state == UNMAPPED else place + 1
            have = 0 if unmapped == place else segment.parts[place].size
            part = segment.parts[unmapped]
            length = min((size - have + segment.page - 1) // segment.page * segment.page, part.size)
            address = next(address for at, address, _ in segment.places() if at == unmapped)
            left = [Part(part.size - length, UNMAPPED)] if part.size > length else []
            segment.parts[unmapped : unmapped + 1] = [Part(length), *left]
            # A part that was free before the gap stays where it is, so the place of the whole stays too.
            segment.join()
            self.tell("segment_map", address, length, stream)
        return segment, place

    def room(self, size: int, small: bool, stream: int) -> tuple[Segment, int]:
        for segment in sorted(self.segments, key=lambda segment: segment.address):
            if (segment.small, segment.stream) != (small, stream):
                continue
            for place, part in enumerate(segment.parts):
                if part.state != UNMAPPED:
                    continue
                start = place - 1 if place and segment.parts[place - 1].state == FREE else place
                length = 0
                for after in segment.parts[start:]:
                    if after.state not in (FREE, UNMAPPED):
                        break
                    length += after.size
                if length >= size:
                    return segment, start
        page = 2 * MIB if small else 20 * MIB
        segment = Segment(next(self.addresses), small, stream, page, [Part(1 << 44, UNMAPPED)])
        self.segments.append(segment)
        return segment, 0

    def at(self, address: int) -> tuple[Segment, Part]:
        return next((s, part) for s in self.segments for _, start, part in s.places() if start == address)

    def free(self, address: int, *, waits: bool = False) -> None:
        segment, part = self.at(address)
        part.state = WAITING
        self.tell("free_requested", address, part.requested, segment.stream)
        if not waits:
            self.finish(address)

    def finish(self, address: int) -> None:
        segment, part = self.at(address)
        self.tell("free_completed", address, part.requested, segment.stream)
        part.state, part.requested = FREE, 0
        segment.join()

    def empty_cache(self) -> None:
        for small in (False, True):
            # By stream, then by size, then by address: the order of the set that torch walks.
            held = sorted(
                (segment.stream, part.size, address, segment.page)
                for segment in self.segments
                for _, address, part in segment.places()
                if segment.small == small and part.state == FREE
            )
            for stream, size, address, page in held:
                segment, _ = self.at(address)
                if not page and len(segment.parts) == 1:
                    self.segments.remove(segment)
                    self.tell("segment_free", address, size, stream)
            for stream, size, address, page in held:
                if page:
                    self.unmap(address, size, stream)

    def unmap(self, address: int, size: int, stream: int) -> None:
        segment, _ = self.at(address)
        page = segment.page
        begin = segment.address + (address - segment.address + page - 1) // page * page
        end = segment.address + (address + size - segment.address) // page * page
        if begin >= end:
            return
        place = next(at for at, start, _ in segment.places() if start == address)
        pieces = [Part(begin - address), Part(end - begin, UNMAPPED), Part(address + size - end)]
        segment.parts[place : place + 1] = [piece for piece in pieces if piece.size]
        segment.join()
        self.tell("segment_unmap", begin, end - begin, stream)
        if [piece.state for piece in segment.parts] == [UNMAPPED]:
            self.segments.remove(segment)

    def plain_segments(self) -> list[dict[str, object]]:
        """What torch shows: a segment for each run of mapped parts, by address."""
        runs: list[dict[str, object]] = []
        for segment in sorted(self.segments, key=lambda segment: segment.address):
            blocks: list[dict[str, object]] = []
            for _, address, part in segment.places():
                if part.state == UNMAPPED:
                    blocks = []
                    continue
                if not blocks:
                    runs.append(
                        {
                            "device": 0,
                            "address": address,
                            "stream": segment.stream,
                            "segment_type": "small" if segment.small else "large",
                            "segment_pool_id": (0, 0),
                            "is_expandable": bool(segment.page),
                            "blocks": blocks,
                        }
                    )
                state, requested = STATES[part.state], part.requested
                blocks.append({"address": address, "size": part.size, "requested_size": requested, "state": state})
        for run in runs:
            run["total_size"] = sum(block["size"] for block in run["blocks"])  # type: ignore[index,attr-defined]
        return runs

    def snapshot(self) -> dict[str, object]:
        settings = []
        if self.expandable:
            settings.append("expandable_segments:True")
        if self.divisions:
            settings.append(f"roundup_power2_divisions:{self.divisions}")
        if self.max_split is not None:
            settings.append(f"max_split_size_mb:{self.max_split // MIB}")
        return {
            "segments": self.plain_segments(),
            "device_traces": [list(self.trace)],
            "allocator_settings": {"PYTORCH_CUDA_ALLOC_CONF": ",".join(settings)},
        }
