"""What a failure for want of memory shows, what it leaves to the next test, and the snapshots that are kept."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

Project = Callable[..., pytest.Pytester]

RUNS_OUT = """
class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(8, 1000, bias=False)

    def forward(self, x):
        kept = self.up(x)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

@pytest.mark.flop_budget(peak_memory="1 GiB")
def test_too_large():
    Wide()(torch.ones(100, 8))
"""

LEFT_BEHIND = """
import gc
import weakref

gc.disable()
held = []

def test_too_large():
    model = nn.Linear(8, 8)
    model.itself = [model]
    held.append(weakref.ref(model))
    raise torch.OutOfMemoryError("CUDA out of memory.")

def test_next():
    assert held[0]() is None
"""


def test_the_failure_shows_what_held_memory(project: Project) -> None:
    result = project(RUNS_OUT).runpytest("--flop-budget")
    result.assert_outcomes(failed=1)
    # [8, 1000] floats of weights are 32,000 bytes, [100, 1000] of a result 400,000, [100, 8] of an input 3,200:
    # 435,200 in all.
    result.stdout.fnmatch_lines(
        [
            "E *OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.",
            "*flopguard: memory ran out*",
            "What cpu held at its peak of 425 KiB until then",
            "*91.91%     390.62 KiB  activations",
            "*7.35%      31.25 KiB  parameters",
            "*0.74%       3.12 KiB  inputs",
            "Where it was held",
            "*390.62 KiB  activations  Wide.up  aten.mm  test_model.py:* in forward",
            "*31.25 KiB  parameters  Wide.up  *",
        ]
    )
    # The test's own error is its outcome: no verdict of ours takes its place.
    result.stdout.fnmatch_lines(["FAILED test_model.py::test_too_large - *OutOfMemoryError: CUDA out*"])


@pytest.mark.slow
@pytest.mark.parametrize(("clears", "outcomes"), [(True, {"failed": 1, "passed": 1}), (False, {"failed": 2})])
def test_the_next_test_starts_clean(project: Project, clears: bool, outcomes: dict[str, int]) -> None:
    pytester = project(LEFT_BEHIND)
    if not clears:
        # A model in a cycle of references, which nobody collects, lives on into the next test.
        pytester.makeconftest(
            """
            import pytest

            @pytest.hookimpl(trylast=True)
            def pytest_configure(config):
                config.pluginmanager.unregister(name="flopguard-memory-failures")
            """
        )
    pytester.runpytest_subprocess("--flop-budget").assert_outcomes(**outcomes)


def test_quiet_is_a_line_and_very_verbose_is_everything(project: Project) -> None:
    pytester = project(RUNS_OUT)
    quiet = pytester.runpytest("--flop-budget", "-q")
    quiet.stdout.fnmatch_lines(["peak memory on cpu: 435,200 B, most of it activations in Wide.up (91.91%)"])
    quiet.stdout.no_fnmatch_line("Where it was held")
    verbose = pytester.runpytest("--flop-budget", "-vv")
    verbose.stdout.fnmatch_lines(["*400,000 B   91.91%  activations  Wide.up  1 block  aten.mm*"])


@pytest.mark.slow
def test_a_junit_file_and_another_process_have_it_too(project: Project) -> None:
    pytester = project(RUNS_OUT)
    result = pytester.runpytest_subprocess("--flop-budget", "-n1", "--junit-xml=out.xml")
    result.stdout.fnmatch_lines(["*flopguard: memory ran out*", "What cpu held at its peak of 425 KiB until then"])
    failure = ET.parse(pytester.path / "out.xml").getroot().find(".//testcase[@name='test_too_large']/failure")
    assert failure is not None
    assert "What cpu held at its peak of 425 KiB until then" in (failure.text or "")


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        # More than any address space: the CPU's own allocator says so.
        ("torch.empty(1 << 62, dtype=torch.uint8)", {"failed": 1}),
        ("raise MemoryError", {"failed": 1}),
        ("try:\n        raise torch.OutOfMemoryError('no')\n    except RuntimeError as error:\n"
         "        raise ValueError('wrapped') from error", {"failed": 1}),
    ],
)  # fmt: skip
def test_other_ways_to_run_out(project: Project, body: str, outcome: dict[str, int]) -> None:
    pytester = project(f"def test_it():\n    x = torch.ones(1000)\n    y = x @ x\n    {body}\n")
    result = pytester.runpytest("--flop-budget")
    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines(["What cpu held at its peak of * until then"])


@pytest.mark.parametrize(
    ("mark", "body", "outcomes"),
    [
        ("", "assert False", {"failed": 1}),
        ("", "with pytest.raises(torch.OutOfMemoryError): raise torch.OutOfMemoryError('no')", {"passed": 1}),
        ("@pytest.mark.xfail(strict=True)", "raise torch.OutOfMemoryError('no')", {"xfailed": 1}),
    ],
)
def test_what_is_no_failure_for_want_of_memory_has_no_table(
    project: Project, mark: str, body: str, outcomes: dict[str, int]
) -> None:
    pytester = project(f"{mark}\ndef test_it():\n    x = torch.ones(1000)\n    y = x @ x\n    {body}\n")
    result = pytester.runpytest("--flop-budget")
    result.assert_outcomes(**outcomes)
    result.stdout.no_fnmatch_line("*memory ran out*")


# A memory backend that stands for the CUDA one where there is no GPU: it keeps a snapshot of each test.
RECORDS = """
import pytest
from pytest_flopguard.core.measurement import MemoryPeak

class Recorder:
    name = "recorder"
    warms_up = False

    def __enter__(self): return self
    def __exit__(self, *exc): pass
    def begin(self): pass

    def end(self, mark):
        size = 20 if self.warms_up else 100
        return (MemoryPeak(device="cuda:sm90", backend=self.name, start_bytes=10, peak_bytes=size),)

    def keep_snapshot(self, folder, nodeid):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{nodeid.rpartition(':')[2]}.pickle"
        path.write_text("a snapshot")
        return path

def pytest_flopguard_backends(backends):
    backends.memory("recorded", lambda costs, engine: Recorder())
"""
KEPT = ".flopguard/memory-snapshots"


def recorded(project: Project, body: str, pyproject: str = "") -> pytest.Pytester:
    pytester = project(body, pyproject)
    pytester.makeconftest(RECORDS)
    return pytester


OVER = """
@pytest.mark.flop_budget(peak_memory={"cuda": "50 B"})
def test_over(): forward()

@pytest.mark.flop_budget(peak_memory={"cuda": "200 B"})
def test_within(): forward()

@pytest.mark.flop_budget(peak_memory={"cuda": "200 B"})
def test_wrong():
    forward()
    assert False
"""


@pytest.mark.parametrize("workers", [[], pytest.param(["-n1"], marks=pytest.mark.slow)])
def test_a_broken_limit_of_memory_keeps_the_history_and_names_it(project: Project, workers: list[str]) -> None:
    pytester = recorded(project, OVER)
    result = pytester.runpytest("--flop-budget", *workers)
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(
        [
            "peak memory on cuda:sm90: 100 B, over the limit of 50 B by 50 B*",
            "*flopguard: memory snapshot*",
            f"{KEPT}/test_over.pickle: the allocator's history, to be opened at https://*/memory_viz",
            "*flopguard memory snapshots*",
            f"{KEPT}/test_over.pickle",
        ]
    )
    assert [each.name for each in (pytester.path / KEPT).iterdir()] == ["test_over.pickle"]


def test_with_why_every_history_is_kept(project: Project) -> None:
    pytester = recorded(project, "def test_within(): forward()\n")
    result = pytester.runpytest("--flop-why")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*flopguard memory snapshots*", f"{KEPT}/test_within.pickle"])
    quiet = recorded(project, "def test_plain(): forward()\n").runpytest("--flop-budget")
    quiet.stdout.no_fnmatch_line("*memory snapshots*")


def test_running_out_keeps_the_history_too(project: Project) -> None:
    result = recorded(project, RUNS_OUT).runpytest("--flop-budget")
    result.stdout.fnmatch_lines(["*flopguard: memory ran out*", f"{KEPT}/test_too_large.pickle: *"])


def test_warm_up_is_handed_to_the_backend(project: Project) -> None:
    test = '@pytest.mark.flop_budget(peak_memory={"cuda": "50 B"})\ndef test_it(): forward()\n'
    recorded(project, test).runpytest("--flop-budget").assert_outcomes(failed=1)
    warm = recorded(project, test, "[tool.flopguard]\nwarm-up = true\n")
    warm.runpytest("--flop-budget").assert_outcomes(passed=1)


WARMED = """
model = nn.Linear(8, 8, bias=False)
x = torch.zeros(16, 8)
calls = []

def once():
    calls.append(1)
    return model(x)

@pytest.mark.flop_budget(flops=2048)
def test_measure(flopguard):
    with flopguard.measure("product", warm_up=once, flops=2048):
        once()
    assert len(calls) == 2

@pytest.mark.flop_budget(flops=2048)
def test_check(flopguard):
    calls.clear()
    checked = flopguard.check(once, warm_up=3)
    assert (checked.flops.total, len(calls)) == (2048, 4)
"""


def test_what_warms_up_is_counted_nowhere(project: Project) -> None:
    project(WARMED).runpytest("--flop-budget").assert_outcomes(passed=2)
    # With the guard off there is nothing to warm up for.
    off = 'def test_off(flopguard):\n    with flopguard.measure("x", warm_up=lambda: 1 / 0):\n        forward()\n'
    project(off).runpytest().assert_outcomes(passed=1)
