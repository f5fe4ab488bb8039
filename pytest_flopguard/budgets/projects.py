"""Several projects in one repository: for each test the settings of the pyproject.toml that is nearest to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from pytest_flopguard.budgets.declared import Budget
from pytest_flopguard.budgets.draft import Draft
from pytest_flopguard.budgets.options import OPTIONS
from pytest_flopguard.budgets.resolve import Resolution, resolve
from pytest_flopguard.budgets.settings import (
    PYPROJECT,
    Settings,
    place_of,
    read_limits,
    read_table,
    read_value,
    refuse_unknown,
)
from pytest_flopguard.budgets.tolerances import Tolerances
from pytest_flopguard.budgets.unmatched import Covered, unmatched
from pytest_flopguard.core.errors import Problem
from pytest_flopguard.core.shown_path import shown_path

_COMMAND_LINE = "command line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What is declared for the tests below a folder, whose budgets name tests from there; ``""`` is the root."""

    folder: str
    tolerance: Tolerances
    budgets: tuple[Budget, ...]

    @property
    def file(self) -> str:
        """The settings file, from the root directory."""
        return f"{self.folder}/{PYPROJECT}" if self.folder else PYPROJECT

    def inside(self, nodeid: str) -> str:
        """Return a node id as it begins in this folder."""
        return nodeid.removeprefix(f"{self.folder}/") if self.folder else nodeid


# Of a test outside the root directory that no settings are for.
_NOTHING = Project(folder="..", tolerance={}, budgets=())


class Projects:
    """The projects of a run: the root directory, and each folder below with a ``[tool.flopguard]`` table of its own.

    The nearest table replaces those around it, so that a test has the same limits wherever pytest is started. Tests
    outside the root directory have only what is nearest to them there, unless the root ``covers_outside``.
    """

    def __init__(self, settings: Settings, *, covers_outside: bool = False) -> None:
        self._settings = settings
        self._covers_outside = covers_outside
        self._root = Project(folder="", tolerance=settings.tolerance, budgets=settings.budgets)
        self._read: dict[str, Project | None] = {"": self._root}

    @property
    def files(self) -> list[str]:
        """The settings files below the root's that hold for some test, from the root directory."""
        return sorted(each.file for each in self._read.values() if each is not None and each is not self._root)

    def of(self, nodeid: str) -> Project:
        """Return the project of a test, or of a file, that begins at the root directory."""
        for folder in _around(nodeid):
            project = self._read.get(folder)
            if project is not None:
                return project
        return _NOTHING if _is_outside(nodeid) and not self._covers_outside else self._root

    def tolerance_of(self, nodeid: str) -> Tolerances:
        """Return the tolerances of a test's project."""
        return self.of(nodeid).tolerance

    def read(self, nodeids: Iterable[str]) -> list[Problem]:
        """Read the settings files around these tests; return what is wrong in them."""
        problems: list[Problem] = []
        for folder in sorted({folder for nodeid in nodeids for folder in _around(nodeid)} - self._read.keys()):
            self._read[folder] = _read_project(self._settings, folder, problems)
        return sorted(problems, key=place_of)

    def resolve(self, nodeid: str, markers: Sequence[Budget]) -> Resolution:
        """Choose the budgets of a test among its markers and what its project declares."""
        project = self.of(nodeid)
        return replace(resolve(project.inside(nodeid), markers, project.budgets), nodeid=nodeid)

    def unmatched(self, nodeids: Sequence[str], covered: Covered) -> list[Problem]:
        """Return the budgets of every project that fit none of its tests."""
        homes = {nodeid: self.of(nodeid) for nodeid in nodeids}
        problems: list[Problem] = []
        for project in [each for each in self._read.values() if each is not None]:
            own = [project.inside(nodeid) for nodeid, home in homes.items() if home is project]
            others = {
                project.inside(nodeid): home.file
                for nodeid, home in homes.items()
                if home is not project and home.folder.startswith(f"{project.folder}/" if project.folder else "")
            }
            problems += unmatched(project.budgets, own, _inside(project, covered), others)
        return problems


def enabled_elsewhere(settings: Settings, folders: Iterable[Path]) -> Iterator[Problem]:
    """Yield a problem for each folder whose settings file turns the guard on, which is off in this run."""
    for folder in sorted(set(folders) - {settings.rootdir}):
        file = folder / PYPROJECT
        problems: list[Problem] = []
        written, draft = read_table(file, shown_path(file, settings.rootdir), problems)
        if written is not None and written.get("enabled") is True:
            draft.complain(
                "run-wide-setting",
                ("enabled",),
                name="enabled",
                value=True,
                other=False,
                from_=settings.origin("enabled"),
                ways=f"pass --flop-budget, set it in {PYPROJECT}, or start pytest in {folder}",
            )
            yield from problems


def _around(nodeid: str) -> list[str]:
    """Return the folders around a test, the nearest first, without the root."""
    return [folder.as_posix() for folder in PurePath(nodeid.partition("::")[0]).parents if folder.parts]


def _is_outside(nodeid: str) -> bool:
    """Whether a path is not below the root directory: it leads out of it, or is a whole path."""
    path = PurePath(nodeid.partition("::")[0])
    return path.is_absolute() or path.parts[:1] == ("..",)


def _inside(project: Project, covered: Covered) -> Covered:
    if covered == "everything" or not project.folder:
        return covered
    return lambda file: covered(f"{project.folder}/{file}")


def _read_project(settings: Settings, folder: str, problems: list[Problem]) -> Project | None:
    """Read the settings of a folder; None where it has no table of ours, or none that can be read."""
    file = f"{folder}/{PYPROJECT}"
    written, draft = read_table(settings.rootdir / file, file, problems)
    if written is None:
        return None
    refuse_unknown(written, draft)
    _refuse_other_values(settings, written, draft, folder)
    limits = read_limits(written, draft)
    return Project(folder=folder, tolerance=limits["tolerance"], budgets=limits["budgets"])


def _refuse_other_values(settings: Settings, written: Mapping[str, object], draft: Draft, folder: str) -> None:
    """Complain of options that one run can have one value of, where the file wants another than this run has."""
    if "gpus" in written:
        draft.complain(
            "run-wide-setting",
            ("gpus",),
            name="gpus",
            value=sorted(map(str, written["gpus"])) if isinstance(written["gpus"], Mapping) else written["gpus"],
            other=sorted(settings.gpus),
            from_=settings.origin("gpus"),
            ways=f"describe them in {PYPROJECT}, or start pytest in {folder}",
        )
    for option in OPTIONS:
        if option.parse is None or option.typed or option.name not in written:
            continue
        value = read_value(option, written[option.name], draft, option.name)
        origin = settings.origin(option.name)
        if value is None or origin.path == _COMMAND_LINE:
            continue
        if option.name == "report":
            paths = value if isinstance(value, tuple) else ()
            value = tuple(settings.rootdir / folder / each for each in paths)
        other = getattr(settings, option.attribute)
        if value != other:
            ways = f"set it in {PYPROJECT}, or start pytest in {folder}"
            shown = [str(each) for each in other] if isinstance(other, tuple) else other
            path = (option.name,)
            draft.complain(
                "run-wide-setting",
                path,
                name=option.name,
                value=written[option.name],
                other=shown,
                from_=origin,
                ways=ways,
            )
