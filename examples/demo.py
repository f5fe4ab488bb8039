"""Guard a full-size GPT-2 twice: within its budget, and over it on purpose. Exits 0 when both end as they should."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

EXAMPLE = Path(__file__).parent / "gpt2"
BROKEN = [("tests/test_gpt2.py::test_train_step", "over-budget")]


def guard(*options: str) -> tuple[int, list[tuple[str, str]]]:
    """Run the example; return pytest's exit code and (test, code) of every finding that is not met."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = ["-m", "pytest", "-p", "no:cacheprovider", "--flop-budget", *options]
        print(f"$ cd examples/{EXAMPLE.name} && python {' '.join(command)}", flush=True)
        run = subprocess.run([sys.executable, *command, f"--flop-report={report}"], cwd=EXAMPLE, check=False)
        if not report.exists():
            return run.returncode, [("no report was written", "")]
        records = json.loads(report.read_text(encoding="utf-8"))["records"]
    found = [(each["nodeid"], one["code"]) for each in records for one in each["findings"] if one["status"] != "met"]
    return run.returncode, found


def main() -> int:
    print("1. GPT-2 124M, 1024 tokens, within its budget: this passes.\n", flush=True)
    within = guard()
    print("\n2. Somebody switches activation checkpointing on, and the budget is broken: this fails.\n", flush=True)
    over = guard("--over")
    if within == (0, []) and over == (1, BROKEN):
        print("\nBoth runs ended as they should: the first passed, the second failed on its FLOP budget.")
        return 0
    print(f"\nThe demo did not end as it should: {within=}, {over=}; expected (0, []) and (1, {BROKEN})")
    return 1


if __name__ == "__main__":
    sys.exit(main())
