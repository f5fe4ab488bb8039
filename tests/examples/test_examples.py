"""The example projects pass within their budgets, and fail as ordinary tests with one budget broken on purpose."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

# The FLOPs of every region, by test and label (none for a whole test): (forward, backward).
FLOPS = {
    "gpt2": {
        # 12 layers x (24 x 1024 x 768^2 + 4 x 1024^2 x 768) + 2 x 1024 x 768 x 50257, and backward twice that.
        ("tests/test_gpt2.py::test_forward", ""): (291_648_307_200, 0),
        ("tests/test_gpt2.py::test_train_step", ""): (291_648_307_200, 583_296_614_400),
    },
    "llama": {
        # 2 x 8192 x 7_504_658_432 weights in matrices + 32 layers x 4 x 8192^2 x 4096, and backward twice that.
        ("tests/test_llama.py::test_prefill", ""): (158_140_695_838_720, 0),
        ("tests/test_llama.py::test_train_step", ""): (158_140_695_838_720, 316_281_391_677_440),
        # The same with one query: 2 x 7_504_658_432 + 32 x 4 x 8192 x 4096.
        ("tests/test_llama.py::test_decode_one_token", ""): (19_304_284_160, 0),
    },
    "resnet": {
        # 4_089_184_256 multiply-adds in convolutions and the classifier.
        ("tests/test_resnet.py::test_classify", ""): (8_178_368_512, 0),
        # Two images; backward leaves out the images' own gradient, 2 x 236_027_904.
        ("tests/test_resnet.py::test_train_step", ""): (16_356_737_024, 32_241_418_240),
        ("tests/test_resnet.py::test_train_step", "forward"): (16_356_737_024, 0),
        ("tests/test_resnet.py::test_train_step", "backward"): (0, 32_241_418_240),
    },
}
# With one budget broken on purpose: the test, and its (forward, backward, recompute) FLOPs.
BROKEN = {
    # Checkpointing runs the 12 layers again, each up to its last product: nothing is saved of the output of the MLP's
    # second matrix. 12 x (24 x 1024 x 768^2 + 4 x 1024^2 x 768) - 12 x 2 x 1024 x 3072 x 768.
    "gpt2": ("tests/test_gpt2.py::test_train_step", (291_648_307_200, 583_296_614_400, 154_618_822_656)),
    # Without its cache, one token costs what the whole context does.
    "llama": ("tests/test_llama.py::test_decode_one_token", (158_140_695_838_720, 0, 0)),
    # (8_178_368_512 - 2 x 2048 x 1000) x (256 / 224)^2 + 2 x 2048 x 1000: all but the classifier grows with the image.
    "resnet": ("tests/test_resnet.py::test_classify", (10_680_696_832, 0, 0)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    code: int
    output: str
    records: list[dict[str, Any]]
    junit: ET.Element

    def region(self, nodeid: str, label: str = "") -> dict[str, Any]:
        (found,) = [each for each in self.records if (each["nodeid"], each["label"]) == (nodeid, label)]
        return found

    @property
    def failed(self) -> list[str]:
        return [each["nodeid"] for each in self.records if each["outcome"] != "passed"]


def run_example(name: str, folder: Path, *options: str) -> Run:
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    command = [sys.executable, "-m", "pytest", "--flop-budget", "--flop-report=out.json", "--junitxml=out.xml"]
    run = subprocess.run(
        [*command, *options],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (folder / "out.json").exists(), run.stdout
    report = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert report["format_version"] == 1
    suite = ET.parse(folder / "out.xml").getroot().find("testsuite")
    assert suite is not None
    return Run(code=run.returncode, output=run.stdout, records=report["records"], junit=suite)


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOPS)
def test_an_example_passes_within_its_budgets(name: str, tmp_path: Path) -> None:
    run = run_example(name, tmp_path / name)
    assert run.code == 0, run.output
    assert run.failed == []
    seen = {
        (each["nodeid"], each["label"]): (each["flops"]["forward"], each["flops"]["backward"]) for each in run.records
    }
    assert seen == FLOPS[name]
    assert all(each["flops"]["total"] == sum(seen[each["nodeid"], each["label"]]) for each in run.records)
    assert run.junit.findall(".//failure") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_an_example_over_budget_fails_one_test(name: str, tmp_path: Path) -> None:
    nodeid, parts = BROKEN[name]
    run = run_example(name, tmp_path / name, "--over")
    assert run.code == 1, run.output
    assert run.failed == [nodeid]
    assert len(run.junit.findall(".//failure")) == 1
    assert (run.junit.get("failures"), run.junit.get("errors")) == ("1", "0")
    broken = [each for each in run.region(nodeid)["findings"] if each["status"] != "met"]
    assert [(each["quantity"], each["code"]) for each in broken] == [("flops", "over-budget")]
    flops = run.region(nodeid)["flops"]
    assert (flops["forward"], flops["backward"], flops["recompute"]) == parts
    assert broken[0]["observed"] == flops["total"] == sum(parts) > broken[0]["high"]
    assert broken[0]["origin"]["path"] == "pyproject.toml"
    assert f"pyproject.toml:{broken[0]['origin']['line']}" in run.output


@pytest.mark.slow
def test_the_demo_fails_where_its_runs_do_not_end_as_they_should(tmp_path: Path, capfd: Any) -> None:
    spec = importlib.util.spec_from_file_location("demo", EXAMPLES / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "conftest.py").write_text("def pytest_addoption(parser):\n    parser.addoption('--over')\n")
    (tmp_path / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    demo.EXAMPLE = tmp_path
    assert demo.main() == 1
    assert "did not end as it should: within=(0, [])" in capfd.readouterr().out
