"""What tests of the action share: a runner, the tree as GitHub hands it out, a project, and a small GitHub.

act runs the steps on this machine, so every run gets a home, a cache and a Python that are thrown away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent
STUBS = Path(__file__).parent / "stubs"

# All that is asked for is there already. Without these pip would fetch what builds the plugin, each time; for pip, 0
# here means that there is no isolation.
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
# act loses what a step prints last where it ends at once: on a busy machine in one run of ten.
BASH = '#!/bin/sh\n/bin/bash "$@"\ncode=$?\nsleep 0.2\nexit $code\n'
# Installing takes half of a run, so most runs leave it out.
INSTALLED = '#!/bin/sh\n[ "$2" = pip ] && exit 0\nexec "{python}" "$@"\n'

# Test folders are no packages; this makes the modules beside the tests known, and nothing else.
_ACTION = ModuleType("action")
_ACTION.__path__ = [str(Path(__file__).parent)]
sys.modules.setdefault("action", _ACTION)

from action.act import Act  # noqa: E402
from action.github_server import GitHubServer, running  # noqa: E402
from action.project import REPOSITORY, USES, Project, git  # noqa: E402
from action.workflow_text import pins  # noqa: E402


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    """A GitHub of this test."""
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as ``uses: owner/repo@ref`` gets it: files of the repository, and no .git."""
    folder = tmp_path_factory.mktemp("exported")
    # New files count too, so that the tests hold what will be committed.
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory, exported: Path) -> Path:
    """A Python for the jobs that has the plugin, and into which the action may install it again.

    It sees the packages of the tests' own Python: torch in each new environment would be gigabytes and minutes.
    Installing there neither fetches nor changes anything of ours.
    """
    folder = tmp_path_factory.mktemp("python")
    venv.create(folder, symlinks=True, with_pip=False)
    own = sysconfig.get_path("purelib", vars={"base": str(folder)})
    seen = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    # Its lines become search paths, and files like it in those are not read: our editable install is not seen.
    Path(own, "tests.pth").write_text("\n".join(seen) + "\n", encoding="utf-8")
    found = folder / "bin" / "python"
    subprocess.run(
        [str(found), "-m", "pip", "install", "--quiet", str(exported)],
        env={"PATH": os.defpath, "HOME": str(folder), **OFFLINE},
        check=True,
    )
    write_program(folder / "bin" / "bash", BASH)
    return found


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory, python: Path) -> Path:
    """Programs for the jobs: the same Python, for which everything is installed already."""
    folder = tmp_path_factory.mktemp("scripts")
    for name in ("python", "python3"):
        write_program(folder / name, INSTALLED.format(python=python))
    write_program(folder / "bash", BASH)
    return folder


def write_program(path: Path, text: str) -> None:
    """Write a script that can be started."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def act_program(folders: str) -> Path:
    """Return act; skips where it is missing, and fails where FLOPGUARD_REQUIRE_ACT is set."""
    found = shutil.which("act", path=folders)
    if found is not None:
        return Path(found)
    reason = "act is not installed: python -m pip install --require-hashes -r tests/action/requirements.txt"
    if os.environ.get("FLOPGUARD_REQUIRE_ACT"):
        pytest.fail(f"{reason} (FLOPGUARD_REQUIRE_ACT is set, so this is no reason to skip)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def find_act() -> Callable[[str], Path]:
    """Give what finds act in folders."""
    return act_program


@pytest.fixture
def act(tmp_path: Path, exported: Path, scripts: Path, github: GitHubServer) -> Act:
    """A runner of this test that talks to this test's GitHub."""
    stubs = {f"{name}@{sha}": STUBS / name.replace("/", "-") for name, sha in pins(exported)}
    (tmp_path / "artifacts").mkdir()
    return Act(
        program=act_program(os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])),
        scripts=scripts,
        folder=tmp_path / "act",
        actions={USES: exported, **stubs},
        environment={
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_API_URL": github.url,
            "GITHUB_GRAPHQL_URL": f"{github.url}/graphql",
            # act would give it to every step; the real runner gives it to none.
            "GITHUB_TOKEN": "",
            "STUB_ARTIFACTS": str(tmp_path / "artifacts"),
            **OFFLINE,
        },
    )


@pytest.fixture
def installing_act(act: Act, python: Path) -> Act:
    """The same runner, where pip does what it is asked to."""
    return replace(act, scripts=python.parent)


@pytest.fixture
def project(tmp_path: Path, python: Path) -> Project:
    """An empty repository."""
    folder = tmp_path / "project"
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(folder)], check=True)
    return Project(folder=folder, python=python)


@pytest.fixture
def artifact(tmp_path: Path) -> Callable[[str], Path]:
    """Give the one file of an artifact that a run has uploaded."""

    def artifact(name: str) -> Path:
        (found,) = [path for path in (tmp_path / "artifacts" / name).rglob("*") if path.is_file()]
        return found

    return artifact
