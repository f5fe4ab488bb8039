"""CUDA streams and events of a simulated device: they order memory, and no time passes on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch

from pytest_flopguard.backends.simulated.value_reads import refuse


class Streams:
    """The streams of one device. ``changed`` is told the number of each stream that becomes the current one."""

    def __init__(self, changed: Callable[[int], None], synchronized: Callable[[int | None], None]) -> None:
        self.changed = changed
        self.synchronized = synchronized
        self.stream = _stream_of(self, count())
        self.default = self.stream()
        self.current = self.default

    def make_current(self, stream: Stream) -> None:
        """Let what follows run on a stream."""
        self.current = stream
        self.changed(stream.stream_id)

    def context(self, stream: Stream | None) -> StreamContext:
        """Return the context in which a stream is the current one; None changes nothing."""
        return StreamContext(self, stream)


class Stream:
    """Stands for torch.cuda.Stream."""

    def __init__(self, streams: Streams, number: int) -> None:
        self._streams = streams
        self._before: list[Stream] = []
        self.stream_id = self.cuda_stream = self.native_handle = number
        self.device = torch.device("cuda", 0)
        self.device_index = 0
        self.device_type = 1  # c10::DeviceType::CUDA
        self.priority = 0

    def __enter__(self) -> Stream:
        self._before.append(self._streams.current)
        self._streams.make_current(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._streams.make_current(self._before.pop())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.stream_id == self.stream_id

    def __hash__(self) -> int:
        return self.stream_id

    def synchronize(self) -> None:
        """Finish what is queued here."""
        self._streams.synchronized(self.stream_id)

    def query(self) -> bool:
        """Say that all work is done."""
        return True

    def is_capturing(self) -> bool:
        """Say that no graph is being captured."""
        return False

    def record_event(self, event: Event | None = None) -> Event:
        """Return an event of this moment."""
        return event or Event()

    def wait_stream(self, other: Stream) -> None:
        """Wait for another stream, which takes no time."""

    def wait_event(self, event: Event) -> None:
        """Wait for an event, which takes no time."""


def _stream_of(streams: Streams, numbers: Iterator[int]) -> Callable[..., Stream]:
    """Return what stands for torch.cuda.Stream: a class, for libraries name it in the types of what they define."""

    class NewStream(Stream):
        """A new stream, whatever its priority."""

        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(streams, next(numbers))

    return NewStream


class StreamContext:
    """Stands for torch.cuda.StreamContext."""

    def __init__(self, streams: Streams, stream: Stream | None) -> None:
        self._streams = streams
        self._stream = stream

    def __enter__(self) -> None:
        if self._stream is not None:
            self._stream.__enter__()

    def __exit__(self, *exc: object) -> None:
        if self._stream is not None:
            self._stream.__exit__(*exc)


class Event:
    """Stands for torch.cuda.Event: it can be waited for, and knows no time."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.device = torch.device("cuda", 0)

    def record(self, stream: Any = None) -> None:
        """Note this moment."""

    def wait(self, stream: Any = None) -> None:
        """Wait, which takes no time."""

    def query(self) -> bool:
        """Say that all work is done."""
        return True

    def synchronize(self) -> None:
        """Wait, which takes no time."""

    def elapsed_time(self, end: Event) -> float:
        """Raise ValueRead: nothing runs here that could take time."""
        raise refuse("the time between two CUDA events")
