"""Every pytest hook of the guard, in the order in which pytest calls them.

1. ``pytest_configure``: pyproject and the command line become Settings. No torch.
2. ``pytest_collection_modifyitems``: markers and pyproject budgets become expectations. Every mistake in them is
   told before any test runs.
3. ``pytest_runtest_call``: the test's call runs inside ``session.measure``; one that is to run on a simulated GPU
   runs there, and so do, in ``pytest_fixture_setup`` and at teardown, the fixtures that are its own.
4. The memory backends wrap the FLOP backend; what an op call costs comes from an injected function.
5. ``judge(measurement, expectations)`` gives findings; both become a Record on the item.
6. The same wrapper raises the failure (the user's own goes first), so xfail, JUnit and ``-x`` just work.
7. ``pytest_runtest_makereport`` attaches the records as plain JSON to the report: it carries, never decides.
8. ``pytest_runtest_logreport`` collects them, also from xdist workers; the summary and the files are rendered from
   that one RunReport.

With the guard off (no ``--flop-budget``, no ``enabled = true``) only the marker, the options and the fixture exist.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flopguard import __version__, hookspecs, pytest_api
from pytest_flopguard.budgets.options import OPTIONS
from pytest_flopguard.core.errors import UsageError
from pytest_flopguard.fixture import FlopGuard, asks_for_guard

if TYPE_CHECKING:
    from pytest_flopguard.budgets.settings import Settings
    from pytest_flopguard.guard import Guard
    from pytest_flopguard.reporters.paint import Tone

_GUARD: pytest.StashKey[Guard | None] = pytest.StashKey()
_SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
_UNGUARDED = pytest.StashKey[int]()
_PROBLEMS = pytest.StashKey[list[str]]()
# What xdist workers say at their end, beside the reports of their tests.
_WORKER_UNGUARDED = "flopguard_unguarded"
_WORKER_PROBLEMS = "flopguard_problems"
_WORKER_VANISHED = "flopguard_vanished"
_MARKER = (
    "flop_budget(*, flops, forward_flops, backward_flops, peak_memory, memory_growth, parameters, parameter_bytes, "
    "formula, tolerance, severity): limits of this test, held by pytest --flop-budget"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add one flag for each option that has one; every default is None, so that it hides no pyproject value."""
    from argparse import BooleanOptionalAction

    group = parser.getgroup("flopguard", "FLOP and peak-memory budgets")
    for option in OPTIONS:
        if not option.flag:
            continue
        if isinstance(option.default, bool) and not option.off:
            group.addoption(option.flag, action="store_true", default=None, help=option.help)
        elif option.bare is not None:
            group.addoption(option.flag, nargs="?", const=option.bare, default=None, help=option.help)
        elif isinstance(option.default, bool):
            group.addoption(option.flag, action=BooleanOptionalAction, default=None, help=option.help)
        else:
            action = "append" if isinstance(option.default, list) else "store"
            group.addoption(option.flag, action=action, default=None, help=option.help)
    group.addoption(
        "--flop-explain",
        metavar="NODEID",
        default=None,
        help="Say which budgets hold for a test and why, and run nothing.",
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Offer the hooks of hookspecs.py."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """Answer for a simulated GPU before a conftest.py asks torch which GPU there is."""
    from pytest_flopguard.budgets.settings import load_settings
    from pytest_flopguard.requests import read_command_line

    with suppress(UsageError):  # raised once more, and reported, when pytest is configured
        given = read_command_line(early_config, pytest_api.options_so_far(early_config))
        settings = load_settings(early_config.rootpath, given)
        if settings.enabled:
            from pytest_flopguard.simulation import Simulation

            Simulation.of(early_config, settings)
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Read the settings; switch on only if they say so."""
    config.addinivalue_line("markers", _MARKER)
    config.stash[_GUARD] = None
    from pytest_flopguard.budgets.settings import load_settings
    from pytest_flopguard.requests import read_command_line

    if config.getoption("flop_explain") is not None:
        pytest_api.run_in_one_process(config)  # xdist's controller collects nothing; it looks here after us
    try:
        settings = load_settings(config.rootpath, read_command_line(config))
        if settings.update or settings.reason:
            from pytest_flopguard.budgets.baseline_update import check_update

            check_update(settings, os.environ)
    except UsageError as error:
        raise _told(error) from error
    config.stash[_SETTINGS] = settings
    if settings.enabled:
        from pytest_flopguard import builtin, memory_failures
        from pytest_flopguard.guard import Guard

        config.pluginmanager.register(builtin, "flopguard-builtin")
        config.pluginmanager.register(memory_failures, "flopguard-memory-failures")
        guard = Guard(config, settings)
        try:
            guard.run.find_reporters()
        except UsageError as error:
            raise _told(error) from error
        guard.simulation.prepare()
        config.stash[_GUARD] = guard
        config.pluginmanager.register(guard, "flopguard-guard")
        config.pluginmanager.register(guard.run, "flopguard-run")


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Show on a terminal that long measurements are alive; only now pytest's own reporter is there."""
    guard = session.config.stash[_GUARD]
    if guard is not None:
        from pytest_flopguard.progress import progress_of

        progress = progress_of(session.config, os.environ)
        guard.tick = None if progress is None else progress.tick


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Tell the workers that are about to start what this process has found out."""
    guard = config.stash[_GUARD]
    if guard is not None:
        guard.simulation.hand_down()


def pytest_report_header(config: pytest.Config) -> str | list[str] | None:
    """Show that the guard is on, with what, and which libraries are newer than the tested ones."""
    guard, settings = config.stash[_GUARD], config.stash[_SETTINGS]
    if guard is None:
        from pytest_flopguard.requests import enabled_around

        around = enabled_around(settings)
        advice = f"pytest's root directory is {settings.rootdir}; pass --flop-budget, or --rootdir"
        return f"flopguard {__version__}: off, though {around} turns it on: {advice}" if around else None
    from pytest_flopguard.core.tested_releases import newer_releases

    checks = f", cross-checked by {', '.join(settings.cross_check)}" if settings.cross_check else ""
    missing = ""
    # The table may stand where this run's root directory is not: then no budget holds, and nothing else would tell.
    if settings.pyproject is None:
        missing = f", no settings: there is no {settings.rootdir / 'pyproject.toml'}"
    elif not settings.written:
        missing = f", no settings in {settings.pyproject}"
    on = f"flopguard {__version__}: on, engine {settings.engine}{checks}, attention {settings.attention}{missing}"
    return [on, *(f"flopguard: {each}" for each in newer_releases())]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Find the budgets of all collected tests, before any is deselected; add those that are gone, after all others."""
    guard = config.stash[_GUARD]
    try:
        if guard is None:
            from pytest_flopguard.requests import check_off

            check_off(config.stash[_SETTINGS], items)
        else:
            guard.plan(items, complete=not session.testsfailed)
    except UsageError as error:
        output = pytest_api.worker_output(config)
        if output is None:
            raise _told(error) from error
        # An error raised in a worker would reach nobody: run nothing, and let the controller tell it.
        output[_WORKER_PROBLEMS] = str(_told(error))
        items.clear()
    yield
    if guard is None:
        return
    if guard.plans.gone and not config.option.collectonly:
        from pytest_flopguard.gone_tests import gone_tests

        items.extend(gone_tests(session, guard.plans.gone))
    output = pytest_api.worker_output(config)
    if guard.plans.vanished and output is not None:
        output[_WORKER_VANISHED] = guard.plans.vanished


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Count the selected tests that ask for the guard where it is off."""
    guard = session.config.stash[_GUARD]
    if guard is not None:
        guard.simulation.collected()
    else:
        session.config.stash[_UNGUARDED] = sum(asks_for_guard(item) for item in session.items)


def pytest_report_collectionfinish(config: pytest.Config) -> str | None:
    """Say how many baselines there are, or that the guard is off, if there are tests that ask for it."""
    guard = config.stash[_GUARD]
    if guard is not None:
        if config.get_verbosity() < 0 or config.getoption("flop_explain") is not None:
            return None
        nearer = "".join(f", settings of {each} for the tests below it" for each in guard.projects.files)
        if guard.baselines.kept:
            return f"flopguard: {guard.baselines.count} baseline(s){nearer}"
        if not guard.settings.update:
            return f"flopguard: no baseline yet (--flop-update=new writes one){nearer}"
        return f"flopguard: {nearer[2:]}" if nearer else None
    number = config.stash.get(_UNGUARDED, 0)
    return _off(number) if number else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Explain instead of running, if asked."""
    nodeid = session.config.getoption("flop_explain")
    guard = session.config.stash[_GUARD]
    if nodeid is None or guard is None:
        return None
    texts = guard.explain(nodeid)
    if not texts:
        raise pytest.UsageError(f"--flop-explain: no collected test is {nodeid!r}{guard.plans.nearest_to(nodeid)}")
    terminal: Any = session.config.pluginmanager.getplugin("terminalreporter")
    for text in texts:
        terminal.write_line(text)
    return True


@pytest.fixture
def flopguard(request: pytest.FixtureRequest) -> FlopGuard:
    """Measure named regions: ``with flopguard.measure("forward") as fwd: ...``, then ``fwd.flops.total``."""
    guard = request.config.stash[_GUARD]
    if guard is None or guard.plans.is_off(request.node):
        return FlopGuard(request.node.nodeid)
    return FlopGuard(guard.plans.test(request.node), guard.session, guard.read_limits, guard.locate)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any, request: Any) -> Generator[None, object, object]:
    """Build what a fixture builds for one test on the simulated GPU that the test will run on."""
    guard = request.config.stash[_GUARD]
    if guard is None:
        return (yield)
    if fixturedef.scope == "function":
        with guard.setup_fixture(request.node):
            return (yield)
    with guard.around_setup(pytest_api.item_of(request), shared=True):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Answer skip conditions for the simulated GPU of a test, and fail one that was skipped by another's answer."""
    guard = item.config.stash[_GUARD]
    if guard is None:
        return (yield)
    with guard.around_setup(item):
        try:
            return (yield)
        except pytest.skip.Exception:
            reason = guard.wrongly_skipped(item)
            if not reason:
                raise
            raise pytest.fail.Exception(reason, pytrace=False) from None


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Run the test measured, and raise what its budgets say."""
    guard = item.config.stash[_GUARD]
    if guard is None or not guard.plans.watches(item):
        return (yield)
    return (yield from guard.call(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the records, after xfail and others had their say; xdist brings them to the controller by itself."""
    report = yield
    guard = item.config.stash[_GUARD]
    if guard is not None and call.when == "call":
        report.flopguard = guard.records_of(item)  # type: ignore[attr-defined]
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Tear a test's fixtures down on its simulated GPU, and let that go."""
    guard = item.config.stash[_GUARD]
    if guard is None:
        return (yield)
    guard.simulation.teardown(item)
    try:
        return (yield)
    finally:
        guard.simulation.forget(item)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over what a worker could not say on a report."""
    output = pytest_api.output_of_worker(node)
    node.config.stash[_UNGUARDED] = output.get(_WORKER_UNGUARDED, 0)
    guard = node.config.stash[_GUARD]
    if guard is not None and _WORKER_VANISHED in output:
        guard.plans.vanished = [(module, test) for module, test in output[_WORKER_VANISHED]]
    if _WORKER_PROBLEMS in output:
        node.config.stash[_PROBLEMS] = [output[_WORKER_PROBLEMS]]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the report files, whole or not at all."""
    config = session.config
    guard = config.stash[_GUARD]
    problems = config.stash.setdefault(_PROBLEMS, [])
    if problems:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR
    output = pytest_api.worker_output(config)
    if output is not None:
        output[_WORKER_UNGUARDED] = config.stash.get(_UNGUARDED, 0)
    elif guard is not None:
        try:
            guard.run.write_reports(interrupted=exitstatus == pytest.ExitCode.INTERRUPTED)
        except UsageError as error:
            problems.extend(map(str, error.problems))
            session.exitstatus = session.exitstatus or pytest.ExitCode.USAGE_ERROR
        for step in () if config.option.collectonly else (guard.run.update_baselines, guard.run.check_why):
            try:
                step()
            except UsageError as error:
                problems.append(str(_told(error)))
                session.exitstatus = pytest.ExitCode.USAGE_ERROR


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table."""
    guard = config.stash[_GUARD]
    if guard is None:
        for text in config.stash.get(_PROBLEMS, []):
            terminalreporter.write_line(f"ERROR: {text}", red=True)
        if config.stash.get(_UNGUARDED, 0) and config.pluginmanager.hasplugin("dsession"):
            terminalreporter.write_line(_off(config.stash[_UNGUARDED]))
        return
    # Above our first section and not below its title, where the line of the last file would end by itself.
    terminalreporter.ensure_newline()
    for text in config.stash.get(_PROBLEMS, []):
        terminalreporter.write_line(f"ERROR: {text}", red=True)
    text = guard.run.table(
        terminalreporter.verbosity, pytest_api.terminal_width(terminalreporter), partial(_painted, terminalreporter)
    )
    if text:
        terminalreporter.section("flopguard")
        terminalreporter.write_line(text)
    for text in guard.run.why(terminalreporter.verbosity):
        terminalreporter.section("flopguard: why")
        terminalreporter.write_line(text)
    lines = guard.run.baseline_lines()
    if lines:
        terminalreporter.section("flopguard baselines")
        terminalreporter.write_line("\n".join(lines))


def _painted(terminalreporter: Any, text: str, tone: Tone) -> str:
    # pytest's writer knows what --color and NO_COLOR say, and whether this is a terminal at all.
    colours = {"bad": "red", "open": "yellow", "good": "green"}
    return pytest_api.painted(terminalreporter, text, colours[tone])


def _off(number: int) -> str:
    return f"flopguard {__version__}: off, {number} guarded test(s) run unguarded (turn on with --flop-budget)"


def _told(error: UsageError) -> pytest.UsageError:
    return pytest.UsageError(f"flopguard found {len(error.problems)} problem(s)\n{error}")
