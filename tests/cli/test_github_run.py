"""The whole step as a process of its own: pytest runs in it, and a real server is spoken to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from github_server import GitHubServer

from pytest_flopguard.reporters import json_file

# 2 * 4 * 8 * 8 = 512 FLOPs for each layer.
MODEL = """\
import torch
from torch import nn


def net():
    return nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range({layers})))
"""
TEST = """\
import pytest
import torch
from model import net


@pytest.mark.flop_budget(flops="1 kFLOP")
def test_net():
    print("::error::from a test")
    net()(torch.zeros(4, 8))
"""
SETTINGS = '[tool.pytest.ini_options]\npythonpath = ["."]\n'


class Done(NamedTuple):
    """A process that ended."""

    code: int
    log: str

    @property
    def commands(self) -> list[str]:
        """What the runner obeys: nothing between the two lines that stop and resume it."""
        found = re.fullmatch(r"(.*?)^::stop-commands::(\w+)$(.*?)^::\2::$(.*)", self.log, re.DOTALL | re.MULTILINE)
        if found is None:
            return re.findall("^::.*$", self.log, flags=re.MULTILINE)
        return Done(0, found[1]).commands + Done(0, found[4]).commands


Run = Callable[..., Done]


@pytest.fixture
def start(job: Any) -> Run:
    """Start a step of the job as a process."""

    def start(*arguments: str | Path) -> Done:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        done = subprocess.run(
            [sys.executable, "-m", "pytest_flopguard", "github", *map(str, arguments)],
            cwd=job.folder,
            env={**kept, "OMP_NUM_THREADS": "1", **job.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    return start


def project(folder: Path, layers: int = 1, test: str = TEST) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(MODEL.format(layers=layers))
    (folder / "test_net.py").write_text(test)
    (folder / "pyproject.toml").write_text(SETTINGS)


@pytest.mark.slow
def test_a_run_within_its_budget(start: Run, job: Any, github: GitHubServer) -> None:
    project(job.folder)
    job.environment["FLOPGUARD_ARGS"] = "-q -s --color=no"
    done = start("run")
    assert (done.code, done.commands) == (0, [])
    # It stands in the log, where nobody obeys it.
    assert "\n::error::from a test\n" in done.log
    report = Path(job.outputs["report-json"])
    assert [each.measurement.flops.total for each in json_file.load(report).records] == [512]
    assert (job.outputs["outcome"], job.outputs["tests"], job.outputs["broken"]) == ("passed", "1", "0")
    assert "1 measured" in job.summary
    assert job.bodies == []


@pytest.mark.slow
def test_over_the_budget_in_a_folder_and_sent_by_a_later_step(start: Run, job: Any) -> None:
    project(job.folder / "small", layers=2)
    job.environment |= {"FLOPGUARD_WORKING_DIRECTORY": "small", "FLOPGUARD_ID": "cpu", "FLOPGUARD_ARGS": "-q"}
    token = job.environment.pop("FLOPGUARD_TOKEN")
    done = start("run")
    assert done.code == 1
    (told,) = done.commands
    # 2 * 512 = 1,024 FLOPs against 1,000.
    assert told == (
        "::error file=small/test_net.py,line=6,title=flopguard%3A OVER test_net.py%3A%3Atest_net"
        "::FLOPs: 1.02 kFLOP, over the limit of 1 kFLOP by 24 FLOP (2.40%25) [over-budget]%0Alimit: test_net.py:6"
    )
    assert (job.outputs["outcome"], job.outputs["broken"]) == ("failed", "1")
    assert "1 broken of 1 measured" in job.summary
    assert job.bodies == []
    job.environment["FLOPGUARD_TOKEN"] = token
    assert start("comment", job.outputs["comment-json"]).code == 0
    (body,) = job.bodies
    assert body.startswith("<!-- flopguard:cpu -->\n### flopguard: 1 broken of 1 measured (`cpu`)\n")


@pytest.mark.slow
def test_the_tests_do_not_get_the_token(start: Run, job: Any) -> None:
    test = "import os\n\n\ndef test_a():\n    assert 'FLOPGUARD_TOKEN' not in os.environ\n"
    project(job.folder, test=test)
    assert start("run").code == 0


@pytest.mark.slow
def test_a_test_that_fails_by_itself_keeps_pytests_exit_code(start: Run, job: Any) -> None:
    project(job.folder, test=TEST + "    assert False\n")
    done = start("run")
    assert done.code == 1
    assert (job.outputs["outcome"], job.outputs["broken"]) == ("error", "0")
    assert done.commands == []
    assert "1 failed of 1 measured" in job.summary


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [("--no-such-option", 4), ("-k nothing", 5)],
)
def test_what_pytest_cannot_run_keeps_its_exit_code(start: Run, job: Any, arguments: str, code: int) -> None:
    project(job.folder)
    job.environment["FLOPGUARD_ARGS"] = arguments
    job.github.comment("octo/net", 7, "<!-- flopguard:default -->\nnumbers of an earlier run")
    done = start("run")
    assert ["no report" in each for each in job.bodies] == [code == 4]
    assert done.code == code
    assert job.outputs["outcome"] == "error"
    if code == 4:
        told = "pytest ended with 4 and left no report: its output above says why"
        assert done.commands == [f"::error title=flopguard::{told} [no-report]"]
        assert f"### flopguard: no report\n\n{told}" in job.summary
    else:
        # No measured test is to blame, so it is told what is.
        told = "pytest ended with 5, and not because of a measured test"
        assert f"### flopguard: 0 measured\n\n- {told}\n" in job.summary
        assert f"flopguard: fails the job: {told}\n" in done.log


def test_wrong_inputs_run_nothing(start: Run, job: Any) -> None:
    job.environment |= {"FLOPGUARD_ID": "a b\n::error::x", "FLOPGUARD_ARGS": "'"}
    done = start("run")
    assert done.code == 2
    (told,) = done.commands
    assert told.startswith("::error title=flopguard::input: id = ")
    assert "%0Ainput: args = " in told


@pytest.mark.slow
def test_reports_that_the_project_asks_for_are_written_too(start: Run, job: Any) -> None:
    project(job.folder)
    with (job.folder / "pyproject.toml").open("a") as stream:
        stream.write('[tool.flopguard]\nreport = ["own/flops.json"]\n')
    assert start("run").code == 0
    assert (job.folder / "own" / "flops.json").read_text() == Path(job.outputs["report-json"]).read_text()
