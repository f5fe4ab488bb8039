"""A run against the commit that it starts at: its baselines, or a run of its tests in the same job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Each runs pytest two or three times.
pytestmark = pytest.mark.slow
Git = Callable[..., str]
# 2 * 4 * 8 * 8 = 512 FLOPs for each layer.
LAYER = 512
MODEL = """\
from torch import nn


def net():
    return nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range({layers})))
"""
TEST = """\
import torch
from model import net


def test_net():
    net()(torch.zeros(4, 8))
"""
MORE = "\n\ndef test_more():\n    net()(torch.zeros(4, 8))\n"
SETTINGS = '[tool.pytest.ini_options]\npythonpath = ["."]\n'


class Project:
    """A repository with one project in ``small``, and a job for its pull request."""

    def __init__(self, job: Any, git: Git) -> None:
        self.job, self.git, self.folder = job, git, job.folder / "small"
        self.folder.mkdir()
        # What the job leaves in its folder is none of the repository's.
        (job.folder / ".gitignore").write_text("/*\n!/small\n__pycache__\n.pytest_cache\n")
        job.environment |= {"FLOPGUARD_WORKING_DIRECTORY": "small", "FLOPGUARD_ARGS": "-q --color=no"}

    def commit(self, layers: int, test: str = TEST) -> str:
        (self.folder / "model.py").write_text(MODEL.format(layers=layers))
        (self.folder / "test_net.py").write_text(test)
        (self.folder / "pyproject.toml").write_text(SETTINGS)
        self.git("add", ".")
        self.git("commit", "-q", "--allow-empty", "-m", f"{layers} layers")
        return self.git("rev-parse", "HEAD")

    def accept(self, *options: str) -> None:
        command = [sys.executable, "-m", "pytest", "-q", "--flop-budget", "--flop-update-in-ci", *options]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)
        self.git("add", ".")
        self.git("commit", "-q", "-m", "baseline")

    def branch(self) -> None:
        base = self.git("rev-parse", "HEAD")
        self.git("checkout", "-q", "-b", "change")
        self.job.start("pull_request", {"pull_request": {"number": 7, "base": {"sha": base}, "head": {"sha": "x"}}})

    def run(self, **inputs: str) -> tuple[int, str]:
        """Run the step; return its exit code and log."""
        given = {f"FLOPGUARD_{name.upper()}": value for name, value in inputs.items()}
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        done = subprocess.run(
            [sys.executable, "-m", "pytest_flopguard", "github", "run"],
            cwd=self.job.folder,
            env={**kept, "OMP_NUM_THREADS": "1", **self.job.environment, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout


@pytest.fixture
def project(job: Any, git: Git) -> Project:
    return Project(job, git)


def test_no_baseline_yet_is_a_notice(project: Project) -> None:
    project.commit(1)
    project.branch()
    project.commit(2)
    code, log = project.run(compare_to="base", fail_on="undecided")
    assert code == 0
    assert "::notice title=flopguard::nothing to compare with: no baseline is committed at " in log
    assert (project.job.outputs["flops-delta"], project.job.outputs["memory-delta"]) == ("", "")
    assert "nothing to compare with" in project.job.summary
    # Nothing moved, as far as anybody can tell.
    assert project.job.bodies == []


def test_a_rise_that_was_accepted_is_told_and_fails_nothing(project: Project) -> None:
    project.commit(1)
    project.accept("--flop-update=new")
    project.branch()
    project.commit(3)
    project.accept("--flop-update=changed", "--flop-reason=deeper, #812")
    code, log = project.run(compare_to="base", fail_on="undecided")
    assert (code, "::error" in log, "::warning" in log) == (0, False, False)
    assert project.job.outputs["flops-delta"] == str(2 * LAYER)
    (body,) = project.job.bodies
    assert body.startswith("<!-- flopguard:default -->\n### flopguard: 1 accepted of 1 measured\n")
    assert "accepted: deeper, " in body
    assert "Against base " in body


def test_the_base_is_measured_in_a_tree_of_its_own(project: Project, tmp_path: Path) -> None:
    project.commit(1, TEST + MORE)
    project.branch()
    project.commit(3)
    code, log = project.run(compare_to="base-run", fail_on="regression")
    assert code == 1
    assert "\nflopguard: fails the job: test_net.py::test_net: dearer than base " in log
    assert "::error file=small/test_net.py,line=5,title=flopguard%3A regression test_net.py%3A%3Atest_net::" in log
    assert project.job.outputs["flops-delta"] == str(2 * LAYER)
    assert project.job.outputs["outcome"] == "failed"
    (body,) = project.job.bodies
    assert "1 dearer, 1 gone of 1 measured" in body
    # The checkout is as it was.
    assert project.git("status", "--porcelain") == ""
    assert project.git("worktree", "list").count("\n") == 0


def test_a_base_that_imports_from_the_checkout_gives_no_numbers(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project.commit(1)
    project.branch()
    # As an editable installation does it, which comes before every search path.
    finder = (
        "import importlib.util, sys\n"
        "class Finder:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        file = {str(project.folder / 'model.py')!r}\n"
        "        return importlib.util.spec_from_file_location(name, file) if name == 'model' else None\n"
        "sys.meta_path.insert(0, Finder)\n"
    )
    path = tmp_path_factory.mktemp("installed")
    (path / "editable_finder.py").write_text(finder)
    project.job.environment["PYTHONPATH"] = str(path)
    project.commit(3)
    code, log = project.run(compare_to="base-run", args="-q -p editable_finder", fail_on="regression")
    assert code == 0
    assert "imported model of this checkout instead [no-base]" in log
    assert project.job.outputs["flops-delta"] == ""


def _copy_into_environment(project: Project, environment: Path, how: str) -> None:
    """Install ``small/lib/mypkg`` of the checkout as a copy, the way that ``how`` names."""
    packages = environment / "site-packages"
    if how == "copied":
        shutil.copytree(project.folder / "lib", packages)
        return
    source = project.folder
    if how == "from a wheel":
        hatchling = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(project.folder / "dist")]
        subprocess.run(hatchling, cwd=project.folder, check=True, capture_output=True)
        (source,) = (project.folder / "dist").glob("*.whl")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        f"--target={packages}",
    ]
    subprocess.run([*pip, str(source)], check=True, capture_output=True)


PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "my-pkg"
version = "1"

[tool.hatch.build.targets.wheel]
packages = ["lib/mypkg"]
"""


@pytest.mark.parametrize("how", ["copied", "from the folder", "from a wheel"])
def test_a_base_of_an_installed_package_is_measured_with_its_own_files(
    project: Project, tmp_path_factory: pytest.TempPathFactory, how: str
) -> None:
    def commit(layers: int) -> None:
        package = project.folder / "lib" / "mypkg"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(MODEL.format(layers=layers))
        (project.folder / "test_net.py").write_text(TEST.replace("from model", "from mypkg"))
        (project.folder / "pyproject.toml").write_text(PYPROJECT)
        project.git("add", ".")
        project.git("commit", "-q", "-m", f"{layers} layers")

    commit(1)
    project.branch()
    commit(3)
    environment = tmp_path_factory.mktemp("environment")
    _copy_into_environment(project, environment, how)
    project.job.environment["PYTHONPATH"] = str(environment / "site-packages")
    code, log = project.run(compare_to="base-run", fail_on="regression")
    assert code == 1, log
    assert project.job.outputs["flops-delta"] == str(2 * LAYER)


def test_flops_of_changed_inputs_are_in_the_delta(project: Project) -> None:
    project.commit(1)
    project.accept("--flop-update=new")
    project.branch()
    # 16 times the rows: 2 * 64 * 8 * 8 = 8,192 FLOPs.
    project.commit(1, TEST.replace("zeros(4, 8)", "zeros(64, 8)"))
    project.accept("--flop-update=changed", "--flop-reason=larger batch")
    code, _ = project.run(compare_to="base", fail_on="undecided")
    assert code == 0
    assert project.job.outputs["flops-delta"] == str(15 * LAYER)
    (body,) = project.job.bodies
    assert "no number moved" not in body
