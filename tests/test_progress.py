"""The line of progress: late, seldom, as wide as there is room, and gone at the end."""

from __future__ import annotations

from pytest_flopguard.progress import Progress


class Terminal:
    """A clock that each look moves on by ``step`` seconds, and a line with ``room`` characters."""

    def __init__(self, step: float, room: int = 60) -> None:
        self.now = 0.0
        self.step = step
        self.room = room
        self.written: list[str] = []
        self.progress = Progress(self.written.append, lambda: self.room, self.clock)

    def clock(self) -> float:
        self.now += self.step
        return self.now

    def calls(self, number: int) -> None:
        for _ in range(number):
            self.progress.tick()


def test_a_short_test_shows_nothing() -> None:
    terminal = Terminal(step=0.1)
    terminal.progress.begin("test_a")
    # Ten looks of 0.1 seconds: not yet a second after the first.
    terminal.calls(9)
    terminal.progress.end()
    assert terminal.written == []


def test_a_long_test_tells_its_time_and_its_calls_and_cleans_up() -> None:
    terminal = Terminal(step=0.5)
    terminal.progress.begin("test_a")
    terminal.calls(4)
    assert terminal.written == [
        "\x1b7 1 s, 2 op calls of test_a\x1b[K\x1b8",
        "\x1b7 2 s, 3 op calls of test_a\x1b[K\x1b8",
        "\x1b7 2 s, 4 op calls of test_a\x1b[K\x1b8",
    ]
    terminal.progress.end()
    assert terminal.written[-1] == "\x1b[K"
    terminal.progress.end()
    assert terminal.written.count("\x1b[K") == 1


def test_between_two_words_there_is_a_pause() -> None:
    terminal = Terminal(step=0.1)
    terminal.progress.begin("test_a")
    terminal.calls(30)
    # From 1.1 to 3.1 seconds, at most one in a quarter of a second: each third look of 0.1.
    assert len(terminal.written) == 7


def test_the_text_is_cut_to_the_room_and_not_written_where_there_is_none() -> None:
    terminal = Terminal(step=2, room=20)
    terminal.progress.begin("test_with_a_name\x1b[31m that goes on")
    terminal.calls(1)
    assert terminal.written == ["\x1b7 2 s, 1 op call of …\x1b[K\x1b8"]
    terminal.room = 11
    terminal.calls(1)
    assert len(terminal.written) == 1


def test_counting_starts_anew_with_each_test() -> None:
    terminal = Terminal(step=2)
    for name in ("test_a", "test_b"):
        terminal.progress.begin(name)
        terminal.calls(1)
        terminal.progress.end()
    assert [each for each in terminal.written if "s, " in each] == [
        f"\x1b7 2 s, 1 op call of {name}\x1b[K\x1b8" for name in ("test_a", "test_b")
    ]


def test_a_name_cannot_speak_to_the_terminal() -> None:
    terminal = Terminal(step=2)
    terminal.progress.begin("test\x1b[2J")
    terminal.calls(1)
    assert "test\\x1b[2J" in terminal.written[0]
