"""A marker is found again in the test file, keyword by keyword."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from pytest_flopguard.budgets.declared import read_marker
from pytest_flopguard.budgets.marker_origin import MarkerOrigin, marker_origin

Find = Callable[..., MarkerOrigin]


@pytest.fixture
def find(tmp_path: Path) -> Find:
    """Give a function that looks for a marker in a file with this text."""

    def look(text: str, function: str, kwargs: dict[str, object], line: int | None = None) -> MarkerOrigin:
        file = tmp_path / "tests" / "test_x.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(dedent(text).removeprefix("\n"), encoding="utf-8")
        return marker_origin(file, tmp_path, function, kwargs, line)

    return look


def test_each_keyword_stands_on_its_own_line(find: Find) -> None:
    text = """
        import pytest

        @pytest.mark.flop_budget(
            flops="9 GFLOP",
            peak_memory={
                "cpu": "1 GiB",
            },
        )
        def test_f():
            pass
        """
    where = find(text, "test_f", {"flops": "9 GFLOP", "peak_memory": {"cpu": "1 GiB"}})
    assert str(where.origin) == "tests/test_x.py:3"
    assert [(str(each), each.text) for each in (where.locate(("flops",)), where.locate(("peak_memory", "cpu")))] == [
        ("tests/test_x.py:4", 'flops="9 GFLOP"'),
        ("tests/test_x.py:5", 'peak_memory={ "cpu": "1 GiB", }'),
    ]
    assert where.locate(()) == where.locate(("parameters",)) == where.origin
    budget, _ = read_marker((), {"flops": "9 GFLOP"}, where, {})
    assert (str(budget.origin), str(budget.expectations[0].origin)) == ("tests/test_x.py:3", "tests/test_x.py:4")


NEAREST = """
    import pytest

    pytestmark = [pytest.mark.slow, pytest.mark.flop_budget(flops=1)]
    small = pytest.mark.flop_budget(flops=2)

    @pytest.mark.flop_budget(flops=3)
    class TestModel:
        pytestmark: list = [pytest.mark.flop_budget(flops=4)]

        @pytest.mark.flop_budget(flops=5)
        def test_f(self):
            pass

        @pytest.mark.flop_budget(flops=1)
        class TestInner:
            @pytest.mark.parametrize("size", [
                pytest.param(1, marks=pytest.mark.flop_budget(flops=6)),
                pytest.param(2, marks=[pytest.mark.flop_budget(flops=7)]),
                pytest.param(3, marks=pytest.mark.flop_budget(flops=True)),
            ])
            @pytest.mark.flop_budget
            async def test_g(self, size):
                pass

    @small
    @pytest.mark.flop_budget(flops=5)
    def test_h():
        pass

    if True:
        @pytest.mark.flop_budget(flops=5)
        def test_f():
            pass
    """


@pytest.mark.parametrize(
    ("function", "kwargs", "line"),
    [
        ("TestModel.test_f", {"flops": 5}, 10),
        ("TestModel.test_f", {"flops": 4}, 8),
        ("TestModel.test_f", {"flops": 3}, 6),
        ("TestModel.test_f", {"flops": 1}, 3),
        ("TestModel.TestInner.test_g", {"flops": 6}, 17),
        ("TestModel.TestInner.test_g", {"flops": 7}, 18),
        # True is equal to 1 for Python, not for a budget.
        ("TestModel.TestInner.test_g", {"flops": True}, 19),
        ("TestModel.TestInner.test_g", {"flops": 1}, 14),
        ("TestModel.TestInner.test_g", {}, 21),
        ("TestModel.TestInner.test_g", {"flops": 4}, 8),
        ("test_h", {"flops": 5}, 26),
        # An alias stands where it is made.
        ("test_h", {"flops": 2}, 4),
        ("test_f", {"flops": 5}, 31),
        # Nobody wrote these: the function's own line.
        ("test_h", {"flops": 99}, 27),
        ("test_h", {"flops": 5, "parameters": 1}, 27),
        ("TestModel.TestInner.test_g", {"parameters": 1}, 22),
    ],
)
def test_the_nearest_marker_with_equal_arguments_is_found(
    find: Find, function: str, kwargs: dict[str, object], line: int
) -> None:
    assert find(NEAREST, function, kwargs).origin.line == line


COMPUTED = """
    import pytest
    from pytest import mark

    LIMIT = 9
    MORE = {"parameters": 1}

    @pytest.mark.flop_budget(flops=5)
    class TestModel:
        @mark.flop_budget(flops=LIMIT, severity="warn")
        @mark.flop_budget(flops=LIMIT)
        def test_f(self):
            pass

        @mark.flop_budget(
            flops=2**30,
            **MORE,
        )
        def test_g(self):
            pass

    flop_budget = pytest.mark.flop_budget

    @flop_budget(flops=f"{LIMIT} GFLOP")
    def test_h():
        pass

    @flop_budget(**MORE)
    def test_i():
        pass

    def test_j():
        pass
    """


@pytest.mark.parametrize(
    ("function", "kwargs", "line", "text"),
    [
        ("TestModel.test_f", {"flops": 9}, 10, "flops=LIMIT"),
        ("TestModel.test_f", {"flops": 9, "severity": "warn"}, 9, "flops=LIMIT"),
        # The class says 5 in plain sight; what the function says is not known.
        ("TestModel.test_f", {"flops": 5}, 7, "flops=5"),
        ("TestModel.test_g", {"flops": 2**30, "parameters": 1}, 15, "flops=2**30"),
        ("test_h", {"flops": "9 GFLOP"}, 23, 'flops=f"{LIMIT} GFLOP"'),
        # Not proven anywhere near: the function's own line.
        ("test_j", {"flops": 9}, 31, ""),
        ("TestModel.test_f", {"flops": 9, "severity": "error"}, 11, ""),
    ],
)
def test_arguments_that_are_not_literal_are_found_by_their_place(
    find: Find, function: str, kwargs: dict[str, object], line: int, text: str
) -> None:
    found = find(COMPUTED, function, kwargs).locate(("flops",))
    assert (found.line, found.text) == (line, text)


def test_arguments_from_a_mapping_stand_where_the_marker_does(find: Find) -> None:
    where = find(COMPUTED, "test_i", {"parameters": 1})
    assert (str(where.locate(("parameters",))), where.origin.text) == ("tests/test_x.py:27", "flop_budget(**MORE)")


def test_text_past_ascii_is_taken_from_the_right_columns(find: Find) -> None:
    where = find(
        '@pytest.mark.flop_budget(**{"é": 1}, flops="9 GFLOP")\ndef test_ü(): pass\n',
        "test_ü",
        {"é": 1, "flops": "9 GFLOP"},
    )
    assert where.locate(("flops",)).text == 'flops="9 GFLOP"'


@pytest.mark.parametrize(
    ("text", "function", "expected"),
    [
        ("def test_f(): pass\n", "test_f", 1),
        ("def test_f(): pass\n", "test_inherited", 40),
        ("class TestX: pass\n", "TestX.test_inherited", 40),
        ("def test_f(:\n", "test_f", 40),
        ("\x00", "test_f", 40),
    ],
)
def test_what_cannot_be_found_stands_where_the_caller_says(find: Find, text: str, function: str, expected: int) -> None:
    where = find(text, function, {"flops": 1}, 40)
    assert (where.origin.path, where.origin.line) == ("tests/test_x.py", expected)


def test_a_file_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    where = marker_origin(tmp_path / "gone.py", tmp_path, "test_f", {"flops": 1})
    assert str(where.origin) == "gone.py"


def test_a_file_outside_of_the_rootdir_is_named_from_it(tmp_path: Path) -> None:
    file = tmp_path / "test_x.py"
    file.write_text("def test_f(): pass\n")
    where = marker_origin(file, tmp_path / "other", "test_f", {"flops": 1})
    assert str(where.origin) == "../test_x.py:1"


def test_a_file_that_changed_is_read_again(find: Find, tmp_path: Path) -> None:
    assert find("@flop_budget(flops=1)\ndef test_f(): pass\n", "test_f", {"flops": 1}).origin.line == 1
    before = (tmp_path / "tests" / "test_x.py").stat().st_mtime_ns
    where = find("\n\n@flop_budget(flops=1)\ndef test_f(): pass\n", "test_f", {"flops": 1})
    # A clock too coarse to tell the two files apart would make this test mean nothing.
    assert (tmp_path / "tests" / "test_x.py").stat().st_mtime_ns != before
    assert where.origin.line == 2


def test_a_file_that_the_compiler_warns_of_is_read_all_the_same(find: Find) -> None:
    text = 'PATTERN = "\\d"\n@flop_budget(flops=1)\ndef test_f(): pass\n'
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find(text, "test_f", {"flops": 1}).origin.line == 2
