"""Every name that is read of pytest and xdist exists in the installed releases and means what it is taken for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_flopguard import pytest_api

# Each hook writes what it sees; the controller and both workers have a file of their own.
CONFTEST = """
import json, pathlib, pytest
from pytest_flopguard import pytest_api

SEEN = pathlib.Path(__file__).parent

def pytest_configure(config):
    explicit = config.getoption("one", False)
    if explicit:
        pytest_api.run_in_one_process(config)

def pytest_addoption(parser):
    parser.addoption("--one", action="store_true")

def pytest_collection_finish(session):
    output = pytest_api.worker_output(session.config)
    name = session.config.workerinput["workerid"] if pytest_api.is_worker(session.config) else "controller"
    functions = sorted({pytest_api.function_name(item) for item in session.items})
    (SEEN / f"{name}.json").write_text(json.dumps([output is not None, pytest_api.workers(session.config), functions]))

def pytest_sessionfinish(session):
    output = pytest_api.worker_output(session.config)
    if output is not None:
        output["said"] = session.config.workerinput["workerid"]

@pytest.fixture(scope="session")
def shared(request):
    return pytest_api.item_of(request).name

def pytest_runtest_logreport(report):
    if report.when == "call":
        with open(SEEN / "outcomes.txt", "a") as stream:
            stream.write(f"{report.nodeid.split('::')[1]} {pytest_api.expected_to_fail(report)}\\n")

def pytest_terminal_summary(terminalreporter):
    text = pytest_api.painted(terminalreporter, "red", "red")
    seen = [pytest_api.terminal_width(terminalreporter), pytest_api.columns_left(terminalreporter), text]
    (SEEN / "terminal.json").write_text(json.dumps(seen))
"""
WORKERS = """
def pytest_testnodedown(node, error):
    with open(SEEN / "workers.txt", "a") as stream:
        stream.write(pytest_api.output_of_worker(node)["said"] + "\\n")
"""
TESTS = """
import pytest

@pytest.mark.parametrize("x", [1, 2])
def test_a(x, shared): assert shared.startswith("test_a[")

@pytest.mark.xfail
def test_fails(): assert False
"""


def read(folder: Path, name: str) -> object:
    return json.loads((folder / name).read_text())


def test_without_xdist(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    pytester.runpytest_inprocess("--color=yes", "-p", "no:xdist").assert_outcomes(passed=2, xfailed=1)
    assert read(pytester.path, "controller.json") == [False, 0, ["test_a", "test_fails"]]
    outcomes = (pytester.path / "outcomes.txt").read_text().splitlines()
    assert outcomes == ["test_a[1] False", "test_a[2] False", "test_fails True"]
    # The line is new: one column is left alone. ESC [31m is red, and ESC [0m ends it.
    assert read(pytester.path, "terminal.json") == [90, 89, "\x1b[31mred\x1b[0m"]


@pytest.mark.slow
def test_with_two_workers(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST + WORKERS)
    pytester.makepyfile(TESTS)
    pytester.runpytest_subprocess("-n", "2").assert_outcomes(passed=2, xfailed=1)
    for worker in ("gw0", "gw1"):
        assert read(pytester.path, f"{worker}.json") == [True, 0, ["test_a", "test_fails"]]
    assert sorted((pytester.path / "workers.txt").read_text().split()) == ["gw0", "gw1"]
    # A worker has an outcome of its own tests, and the controller of all.
    assert (pytester.path / "outcomes.txt").read_text().splitlines().count("test_fails True") == 2


@pytest.mark.slow
def test_one_process_where_the_command_line_asks_for_two(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    pytester.runpytest_subprocess("-n", "2", "--one").assert_outcomes(passed=2, xfailed=1)
    assert read(pytester.path, "controller.json") == [False, 2, ["test_a", "test_fails"]]
    assert not (pytester.path / "gw0.json").exists()


def test_options_before_the_first_conftest(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        early="""
        import pytest
        from pytest_flopguard import pytest_api

        def pytest_addoption(parser):
            parser.addoption("--number", type=int)

        def pytest_load_initial_conftests(early_config):
            early_config.seen = pytest_api.options_so_far(early_config).number, early_config.rootpath.is_dir()

        def pytest_report_header(config):
            return f"seen {config.seen}"
        """
    )
    pytester.syspathinsert()
    result = pytester.runpytest_inprocess("-p", "early", "--number=5")
    result.stdout.fnmatch_lines(["seen (5, True)"])


def test_a_worker_that_crashed_has_sent_nothing() -> None:
    assert pytest_api.output_of_worker(object()) == {}
