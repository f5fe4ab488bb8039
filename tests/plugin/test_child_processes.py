"""Child processes of a guarded test: their work is unknown by name, and processes without such work change nothing."""

from __future__ import annotations

import concurrent.futures.process  # noqa: F401  # runs in this process must not import them anew
import multiprocessing.pool  # noqa: F401
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
Report = Callable[[], dict[str, Any]]

HEAD = """
import multiprocessing as mp
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import torch.multiprocessing
from torch.utils.data import DataLoader

def work(rank=0):
    torch.ones(64, 64) @ torch.ones(64, 64)

def load(rank=0):
    return torch.stack([torch.ones(4), torch.ones(4)])

def in_pool(method, function):
    with ProcessPoolExecutor(1, mp_context=mp.get_context(method)) as pool:
        pool.submit(function).result()

def in_process(method, function):
    process = mp.get_context(method).Process(target=function)
    process.start()
    process.join()
    assert process.exitcode == 0

def in_fork(function):
    child = os.fork()
    if not child:
        function()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

def in_map(function):
    with mp.get_context("fork").Pool(1) as pool:
        pool.map(function, [0])

def loaded(collate):
    for batch in DataLoader([1, 2], num_workers=1, collate_fn=collate):
        pass

@pytest.mark.flop_budget(flops="1 kFLOP", peak_memory="1 GiB")
"""
ANEW = [
    pytest.param(call, marks=pytest.mark.slow)  # another interpreter imports torch
    for call in (
        "in_pool('spawn', {0})",
        "in_pool('forkserver', {0})",
        "in_process('spawn', {0})",
        "torch.multiprocessing.spawn({0})",
    )
]
CALLS = ["in_pool('fork', {0})", "in_process('fork', {0})", "in_fork({0})", "in_map({0})", "loaded({0})", *ANEW]


@pytest.fixture
def body(project: Project, run: Run, report: Report) -> Callable[..., dict[str, Any]]:
    """Run one guarded test of a line and return its record."""

    def body(line: str, **outcome: int) -> dict[str, Any]:
        project(f"{HEAD}def test_it():\n    torch.ones(2)\n    {line}\n")
        run("--flop-budget", "--flop-report=report.json").assert_outcomes(**outcome)
        record: dict[str, Any] = report()["records"][0]
        return record

    return body


@pytest.mark.parametrize("call", CALLS)
def test_work_of_a_child_is_unknown_by_name(body: Callable[..., dict[str, Any]], call: str) -> None:
    record = body(call.format("work"), failed=1)
    (unknown,) = record["flops"]["unknown_ops"]
    assert (unknown["op"], unknown["call"]) == ("python.process", "aten.mm in a child process")
    assert "python.process" in record["unavailable"]["memory"]


@pytest.mark.parametrize("call", CALLS)
def test_a_child_that_only_moves_data_changes_nothing(body: Callable[..., dict[str, Any]], call: str) -> None:
    record = body(call.format("load"), passed=1)
    assert (record["flops"]["total"], record["flops"]["unknown_ops"]) == (0, [])


@pytest.mark.parametrize(
    "command", ["subprocess.run([sys.executable, '-c', '1'])", "os.system(f'{sys.executable} -c 1')"]
)
def test_a_python_program_is_unknown_by_name(body: Callable[..., dict[str, Any]], command: str) -> None:
    (unknown,) = body(command, failed=1)["flops"]["unknown_ops"]
    assert unknown["op"] == "python.process"
    assert 'measure = "off"' in unknown["reason"]


def test_a_console_script_is_unknown_by_name(body: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    script = tmp_path / "train-model"
    script.write_text("#!/usr/bin/env python3\n", encoding="utf-8")
    script.chmod(0o755)
    line = f"os.environ['PATH'] += os.pathsep + {str(tmp_path)!r}; subprocess.run(['train-model'], check=True)"
    (unknown,) = body(line, failed=1)["flops"]["unknown_ops"]
    assert (unknown["op"], unknown["call"]) == ("python.process", "the program train-model")


def test_a_pipe_among_the_arguments_is_left_alone(body: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    # Opening a pipe that nothing writes to would wait for ever.
    os.mkfifo(tmp_path / "pipe")
    line = f"subprocess.run(['test', '-p', {str(tmp_path / 'pipe')!r}], check=True)"
    assert body(line, passed=1)["flops"]["unknown_ops"] == []


def test_another_program_changes_nothing(body: Callable[..., dict[str, Any]]) -> None:
    assert body("subprocess.run(['true'], check=True)", passed=1)["flops"]["unknown_ops"] == []


def test_nothing_stays_installed(body: Callable[..., dict[str, Any]]) -> None:
    body("in_process('fork', load); assert 'run' not in vars(mp.get_context('fork').Process(target=load))", passed=1)
    import multiprocessing.process
    import subprocess

    assert multiprocessing.process.BaseProcess.start.__module__ == "multiprocessing.process"
    assert subprocess.Popen.__init__.__module__ == "subprocess"


@pytest.mark.slow
def test_a_memory_limit_of_a_gpu_is_not_decided_by_one_of_two_processes(project: Project, run: Run) -> None:
    project(
        f"""{HEAD}
@pytest.mark.flop_budget(peak_memory={{"sim": "1 GiB"}})
def test_it():
    torch.ones(2, device="cuda")
    in_process("fork", work)
"""
    )
    result = run("--flop-budget", "--flop-device=sim:h100")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*peak memory: not measured*a child process may have used memory of the same device*"])
