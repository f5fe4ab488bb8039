"""A test that has a baseline and is gone fails as an item that no hook of anybody trips over."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]

BEFORE = """
class TestStep:
    @pytest.mark.parametrize("size", [1, 2])
    def test_old(self, size): forward()

def test_kept(): forward()
"""
# What hooks of conftest files and plugins read of a test function.
READS = """
import inspect
import pytest

@pytest.fixture(autouse=True)
def for_every_test(request):
    # It would build a model, or ask for a GPU.
    assert request.node.name != "TestStep::test_old[1]"
    yield

def read(item):
    if "gpu" in item.fixturenames or "gpu" in item.keywords:
        item.add_marker("gpu")
    if hasattr(item, "callspec"):
        assert item.callspec.params
    assert item.function.__name__ and item.module.__name__ and item.module.__file__ and item.originalname
    assert item.cls is None or item.cls.__name__
    assert callable(item.obj) and item.parent.obj is not None and item.getparent(pytest.Module).obj is item.module
    assert inspect.getsource(item.function) and inspect.signature(item.obj) is not None
    assert item.path.name == "test_model.py" and item.location and item.reportinfo() and item.listchain()
    item.get_closest_marker("slow"), list(item.iter_markers()), item.own_markers, item.funcargs, item.instance
    item.user_properties, item.function.__doc__, item.stash, item.getparent(pytest.Class), item.nodeid.split("::")

def pytest_collection_modifyitems(items):
    for item in items:
        read(item)

def pytest_collection_finish(session):
    for item in session.items:
        read(item)

def pytest_runtest_setup(item):
    read(item)

def pytest_runtest_call(item):
    read(item)

def pytest_runtest_makereport(item):
    read(item)

def pytest_runtest_teardown(item):
    read(item)
"""


@pytest.fixture
def gone(project: Project, run: Run, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project whose two tests of a class were renamed after their baselines were written."""
    monkeypatch.delenv("CI", raising=False)
    project(BEFORE)
    run("--flop-update=new").assert_outcomes(passed=3)
    pytester = project(BEFORE.replace("test_old", "test_new"))
    pytester.makeconftest(READS)
    return pytester


def test_hooks_can_read_all_that_a_test_function_has(gone: pytest.Pytester, run: Run) -> None:
    result = run("--flop-budget", "--junitxml=junit.xml")
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*the baseline of 'TestStep::test_old[[]1[]]' is for no test*stale-baseline*",
            "*the baseline of 'TestStep::test_old[[]2[]]' is for no test*stale-baseline*",
            "FAILED test_model.py::TestStep::test_old[[]1[]] *",
            "FAILED test_model.py::TestStep::test_old[[]2[]] *",
        ]
    )
    assert 'classname="test_model.TestStep" name="test_old[1]"' in (gone.path / "junit.xml").read_text()


def test_marks_and_hooks_of_the_module_do_not_hide_it(gone: pytest.Pytester, run: Run) -> None:
    module = gone.path / "test_model.py"
    module.write_text(module.read_text() + "\npytestmark = pytest.mark.skip(reason='no GPU')\n")
    with (gone.path / "conftest.py").open("a") as conftest:
        conftest.write(
            "\n@pytest.hookimpl(trylast=True)\ndef pytest_itemcollected(item):\n    item.add_marker('all')\n"
        )
    run("--flop-budget", "-W", "ignore").assert_outcomes(skipped=3, failed=2)


def test_a_list_of_tests_names_only_those_that_can_run(gone: pytest.Pytester, run: Run) -> None:
    result = run("--flop-budget", "--collect-only", "-q")
    assert "test_old" not in result.stdout.str()
    result.stdout.fnmatch_lines(["test_model.py::TestStep::test_new[[]1[]]"])


def test_a_module_that_is_gone_leaves_tests_of_the_same_kind(gone: pytest.Pytester, run: Run) -> None:
    (gone.path / "test_model.py").unlink()
    gone.makepyfile(test_other="def test_other(): pass")
    conftest = gone.path / "conftest.py"
    conftest.write_text(READS.replace('item.path.name == "test_model.py" and ', ""))
    run("--flop-budget").assert_outcomes(passed=1, failed=3)
