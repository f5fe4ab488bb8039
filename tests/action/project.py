"""A repository that uses the action, and the events that GitHub would send for it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = "octo/widget"
NUMBER = 7
# As the pages write it.
USES = "OWNER/pytest-flopguard@v0.1.0"
CHECKOUT = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1"

WORKFLOW = """\
on: [push, pull_request, merge_group, workflow_dispatch, schedule]
permissions:
  contents: read
  pull-requests: write
jobs:
  flops:
    runs-on: ubuntu-latest
    steps:
      - uses: {checkout}
        with:
          persist-credentials: false
      - id: flops
        uses: {uses}
        with:
          id: cpu
{more}      - if: ${{{{ always() && steps.flops.outputs.report-json }}}}
        env:
          REPORT: ${{{{ steps.flops.outputs.report-json }}}}
        run: mkdir -p "$STUB_ARTIFACTS/report" && cp "$REPORT" "$STUB_ARTIFACTS/report/"
"""
# 2 * 16 * 64 * 64 = 131,072 FLOPs in each layer.
LAYER = 131_072
MODEL = """\
import torch
from torch import nn


def run(layers):
    nn.Sequential(*(nn.Linear(64, 64) for _ in range(layers)))(torch.zeros(16, 64))
"""
TEST = """\
from model import run


def test_forward():
    run(layers={layers})
"""
BUDGET = """\
[tool.pytest.ini_options]
pythonpath = ["."]

[tool.flopguard.budgets."tests/test_model.py::test_forward"]
flops = "{flops}"
"""


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder; returns what it prints."""
    author = ("-c", "user.name=A Person", "-c", "user.email=person@example.org")
    run = subprocess.run(["git", *author, *arguments], cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return run.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A repository in a folder, and a Python that has the plugin."""

    folder: Path
    python: Path

    def write(self, files: dict[str, str]) -> None:
        """Write files, by name."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def model(self, *, layers: int, flops: str = "131.1 kFLOP", below: str = "") -> None:
        """Write a model of some layers with a budget, in a folder of the repository."""
        files = {"model.py": MODEL, "tests/test_model.py": TEST.format(layers=layers)}
        files["pyproject.toml"] = BUDGET.format(flops=flops)
        self.write({f"{below}{name}": text for name, text in files.items()})

    def nothing(self, below: str = "") -> None:
        """Write a test that measures nothing, for runs that need no torch: those are twice as quick."""
        self.write({f"{below}tests/test_model.py": "def test_forward():\n    pass\n"})

    def accept(self, reason: str = "", below: str = ".") -> None:
        """Write baselines of what the project in a folder measures now."""
        update = ["--flop-update=changed", f"--flop-reason={reason}"] if reason else ["--flop-update=new"]
        subprocess.run(
            [str(self.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--flop-budget", *update],
            cwd=self.folder / below,
            env={name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "CI", "COV_"))},
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def branch(self, name: str) -> None:
        """Go on in a new branch."""
        git(self.folder, "switch", "--quiet", "--create", name)

    def workflow(self, **inputs: str) -> None:
        """Write the workflow, with more inputs for the action."""
        more = "".join(f"          {name.replace('_', '-')}: {value}\n" for name, value in inputs.items())
        self.write({".github/workflows/flops.yml": WORKFLOW.format(uses=USES, checkout=CHECKOUT, more=more)})

    def commit(self, message: str = "Change") -> str:
        """Commit everything; returns the hash."""
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", f"--message={message}")
        return git(self.folder, "rev-parse", "HEAD").strip()

    def pull_request(self, *, head: str = REPOSITORY, branch: str = "change") -> dict[str, Any]:
        """Return the event of a pull request that holds the last commit."""
        sha = git(self.folder, "rev-parse", "HEAD").strip()
        return {
            "action": "synchronize",
            "number": NUMBER,
            "repository": {"full_name": REPOSITORY, "default_branch": "main"},
            "pull_request": {
                "number": NUMBER,
                "head": {"sha": sha, "ref": branch, "repo": {"full_name": head, "fork": head != REPOSITORY}},
                "base": {"sha": self.base(), "ref": "main", "repo": {"full_name": REPOSITORY}},
            },
        }

    def base(self) -> str:
        """Return the commit that main is at."""
        return git(self.folder, "rev-parse", "main").strip()
