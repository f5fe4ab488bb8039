"""``--junitxml``: numbers and codes as properties of each test, also under -n 2."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import pytest

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]

TESTS = """
@pytest.mark.flop_budget(flops=4095)
def test_step(record_property):
    record_property("mine", 3)
    forward().sum().backward()

def test_regions(flopguard):
    with flopguard.measure("a<b"):
        forward()

@pytest.mark.flop_budget(flops=1)
@pytest.mark.xfail(strict=True)
def test_known(): forward()

@pytest.mark.flop_budget(flops=1)
def test_broken():
    forward()
    raise AssertionError("its own")

def test_without(): pass
"""


def test_the_properties_of_every_test(project: Project, run_both: Run) -> None:
    pytester = project(TESTS)
    run_both("--flop-budget", "--junitxml=junit.xml").assert_outcomes(passed=2, failed=2, xfailed=1)
    suite = ElementTree.parse(pytester.path / "junit.xml").getroot()
    found = {
        case.get("name"): [(each.get("name"), each.get("value")) for each in case.iter("property")]
        for case in suite.iter("testcase")
    }
    step = dict(found["test_step"])
    assert len(found["test_step"]) == len(step)
    assert step["mine"] == "3"
    assert (step["flopguard.outcome"], step["flopguard.codes"]) == ("failed", "over-budget")
    assert (step["flopguard.flops"], step["flopguard.forward_flops"], step["flopguard.backward_flops"]) == (
        ("4096", "2048", "2048")
    )
    assert int(step["flopguard.peak_memory[cpu]"]) == int(step["flopguard.memory_growth[cpu]"]) > 0
    assert (step["flopguard.parameters"], step["flopguard.parameter_bytes"]) == ("72", "288")
    regions = dict(found["test_regions"])
    assert regions["flopguard[a<b].flops"] == regions["flopguard.flops"] == "2048"
    assert dict(found["test_known"])["flopguard.codes"] == "over-budget"
    assert dict(found["test_broken"])["flopguard.complete"] == "false"
    assert found["test_without"] == []


def test_without_the_guard_there_are_none(project: Project, run: Run) -> None:
    pytester = project(TESTS)
    run("--junitxml=junit.xml")
    assert "flopguard" not in (pytester.path / "junit.xml").read_text().partition("<property")[2].replace(
        "flopguard is off", ""
    )
