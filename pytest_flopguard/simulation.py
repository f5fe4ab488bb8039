"""Which tests run on a simulated GPU, and the machine of each."""

from __future__ import annotations

import linecache
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.early_answers import EarlyAnswer, EarlyAnswers
from pytest_flopguard.backends.simulated import self_check
from pytest_flopguard.backends.simulated.gpus import DEFAULT, GPUS, gpu_named, gpus_with
from pytest_flopguard.budgets.resolve import Resolution
from pytest_flopguard.budgets.settings import Settings
from pytest_flopguard.core.errors import Problem, UnknownNameError, code_of, message
from pytest_flopguard.core.expectation import matches_device
from pytest_flopguard.core.shown_path import shown_path

if TYPE_CHECKING:
    from pytest_flopguard.backends.simulated.machine import Machine

_SIMULATED = "sim"
_NO_GPU = "cpu"
# Of the answers that concern one test.
_MOST_SHOWN = 4
_MACHINE = pytest.StashKey["Machine | Unavailable"]()
_SIMULATION = pytest.StashKey["Simulation"]()
_TEARDOWN = pytest.StashKey[ExitStack]()


class Simulation:
    """Gives each test that is to run on a simulated GPU a machine of its own, for its fixtures and its call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._gpus = gpus_with(settings.gpus)
        self._early = EarlyAnswers(self._gpus)
        self._collecting = ExitStack()
        # Files of the collected tests.
        self.test_files: frozenset[str] = frozenset()

    @staticmethod
    def of(config: pytest.Config, settings: Settings) -> Simulation:
        """Return the simulation of a run, which answers what is asked about CUDA until ``collected``."""
        found = config.stash.get(_SIMULATION, None)
        if found is None or (found._settings.device, found._settings.gpus) != (settings.device, settings.gpus):
            if found is not None:
                found.collected()
            found = config.stash[_SIMULATION] = Simulation(settings)
            with suppress(UnknownNameError):  # reported with all others once tests are collected
                found._collecting.enter_context(found._early.answering(found._gpu(settings.device)))
            config.add_cleanup(found.collected)
        found._settings = settings
        return found

    def collected(self) -> None:
        """Give torch its own answers back; those that a test needs before its call come from ``asked_for``."""
        self._collecting.close()

    def asked_for(self, gpu: str, *, shared: bool) -> AbstractContextManager[None]:
        """Return the context for what runs before a test: its skip conditions, and fixtures that it shares."""
        return self._early.answering(gpu) if gpu or shared else nullcontext()

    def answered_early(self, item: pytest.Item, gpu: str, *, skipped: bool = False) -> str:
        """Return the message on answers that a test's file, or one that it may use, was given for another device."""
        found = self._early.differing(gpu, str(item.path), self.test_files, skipped=skipped)
        if not found:
            return ""
        shown = (self._shown(each, gpu) for each in found[:_MOST_SHOWN])
        more = [f"{len(found) - _MOST_SHOWN} more"] if len(found) > _MOST_SHOWN else []
        device = f"{_SIMULATED}:{gpu}" if gpu else _NO_GPU
        return message("answered-early", device=device, asked=" and ".join([*shown, *more]))

    def _shown(self, each: EarlyAnswer, gpu: str) -> str:
        where = f"{shown_path(Path(each.path), self._settings.rootdir)}:{each.line}"
        source = linecache.getline(each.path, each.line).strip()
        expected = self._early.expected(gpu, each)
        would = "an error" if isinstance(expected, Exception) else repr(expected)
        return f"{where} ({source}) got {each.answer!r} from {each.call} and not {would}"

    def prepare(self) -> None:
        """Begin to find out whether simulating works here, if this run asks for it: that takes seconds."""
        if self._settings.device.startswith(_SIMULATED):
            self_check.start()

    def hand_down(self) -> None:
        """Let the processes that are started from now on inherit what was found out."""
        if self._settings.device.startswith(_SIMULATED):
            self_check.hand_down()

    def problems(self, plans: Mapping[str, Resolution]) -> Iterator[Problem]:
        """Yield the GPUs that do not exist, with where they are written."""
        written = {each.device: str(each.device_origin) for each in plans.values() if each.device}
        written.setdefault(self._settings.device, str(self._settings.origin("device")))
        for device, where in written.items():
            try:
                self._gpu(device)
            except UnknownNameError as error:
                yield Problem(code=code_of(error)[0], text=str(error), where=where)

    def gpu(self, plan: Resolution | None) -> str:
        """Return the GPU that a test is to run on, empty where it runs on what there is."""
        device = (plan.device if plan is not None else "") or self._settings.device
        return self._gpu(device) or ("" if plan is None else _predicted(plan))

    def _gpu(self, device: str) -> str:
        """Return the GPU that a device names, empty where it names none; UnknownNameError if there is no such GPU."""
        kind, _, name = device.partition(":")
        return gpu_named(name or DEFAULT, self._gpus).name if kind == _SIMULATED else ""

    def machine(self, item: pytest.Item, plan: Resolution | None) -> Machine | Unavailable | None:
        """Return the machine of a test, None where it runs on what there is."""
        if _MACHINE not in item.stash:
            gpu = self.gpu(plan)
            if not gpu:
                return None
            from pytest_flopguard.backends.simulated.machine import Machine

            item.stash[_MACHINE] = Machine.start(self._gpus[gpu])
        return item.stash[_MACHINE]

    @contextmanager
    def fixture(self, item: pytest.Item, plan: Resolution | None) -> Iterator[None]:
        """Set a fixture of one test up on its machine, if it has one: models may be built there."""
        machine = self.machine(item, plan)
        if machine is None or isinstance(machine, Unavailable):
            yield
            return
        if _TEARDOWN not in item.stash:
            # Before any fixture of the test has a finalizer: it is the last to run.
            item.stash[_TEARDOWN] = ExitStack()
            item.addfinalizer(item.stash[_TEARDOWN].close)
        with nullcontext() if machine.is_running else machine.running():
            yield

    @staticmethod
    def teardown(item: pytest.Item) -> None:
        """Tear a test's own fixtures down where they were set up; those that tests share come later, and outside."""
        entered, machine = item.stash.get(_TEARDOWN, None), item.stash.get(_MACHINE, None)
        if entered is not None and machine is not None and not isinstance(machine, Unavailable):
            # After all others have theirs: it is the first to run.
            item.addfinalizer(partial(entered.enter_context, machine.running()))

    @staticmethod
    def forget(item: pytest.Item) -> None:
        """Let a test's machine go."""
        if _TEARDOWN in item.stash:
            item.stash[_TEARDOWN].close()
            del item.stash[_TEARDOWN]
        if _MACHINE in item.stash:
            del item.stash[_MACHINE]


def _predicted(plan: Resolution) -> str:
    """Return a GPU for the limits that ask for a prediction, where none can be measured."""
    wanted = [each.device for each in plan.expectations if each.predict and each.device]
    if not wanted:
        return ""
    from pytest_flopguard.backends.device import default_device  # imports torch

    if default_device() == "cuda":
        return ""
    fitting = (gpu.name for gpu in GPUS.values() if matches_device(wanted[0], f"cuda:{gpu.sm}"))
    return DEFAULT if matches_device(wanted[0], f"cuda:{GPUS[DEFAULT].sm}") else next(fitting, DEFAULT)
