"""Run the test suites of real projects, plain and guarded, and compare the outcome of every test.

    python downstream/run.py             all projects
    python downstream/run.py vit_pytorch one of them

The guard may not change any outcome: these projects have no budgets. Each project comes as the source distribution that
``downstream/NAME.txt`` pins with its hash, and runs in the environment of this Python, which has the guard installed.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

HERE = Path(__file__).parent
# What is run of each project: tests that need neither the network nor minutes.
PROJECTS = {
    "timm": ["tests/test_layers.py", "tests/test_layers_drop.py", "tests/test_layers_pool.py", "tests/test_optim.py"],
    "vit_pytorch": ["tests"],
}

Outcomes = dict[str, str]


def main(names: list[str]) -> int:
    """Return 1 if an outcome of any project differs under the guard, or if nothing was measured."""
    unknown = [name for name in names if name not in PROJECTS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; expected: {', '.join(PROJECTS)}")
        return 2
    return max([compare(name) for name in names or PROJECTS])


def compare(name: str) -> int:
    """Run one project both ways, print what differs, and return 1 if something does."""
    with tempfile.TemporaryDirectory() as folder:
        source = fetch(name, Path(folder))
        plain = outcomes(source, PROJECTS[name])
        guarded = outcomes(source, ["--flop-budget", "--flop-report=flops.json", *PROJECTS[name]])
        report = source / "flops.json"
        size = report.stat().st_size if report.exists() else 0
    changed = {test: (plain.get(test), guarded.get(test)) for test in plain | guarded}
    changed = {test: pair for test, pair in changed.items() if pair[0] != pair[1]}
    for test, (before, after) in sorted(changed.items()):
        print(f"{name}: {test}: {before} plain, {after} guarded")
    passed = sum(outcome == "passed" for outcome in plain.values())
    print(f"{name}: {len(plain)} tests, {passed} passed plain, {len(changed)} changed under the guard")
    return int(bool(changed) or not passed or not size)


def fetch(name: str, folder: Path) -> Path:
    """Download and unpack the pinned source distribution, and install it with what it needs."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    pinned = HERE / f"{name}.txt"
    download = ["download", "--quiet", "--no-deps", "--no-binary=:all:", "--require-hashes", f"--dest={folder}"]
    subprocess.run([*pip, *download, f"--requirement={pinned}"], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    source = folder / archive.name.removesuffix(".tar.gz")
    subprocess.run([*pip, "install", "--quiet", str(source)], check=True)
    return source


def outcomes(source: Path, arguments: list[str]) -> Outcomes:
    """Run pytest in a project's folder, and return the outcome of each test."""
    report = source / "junit.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short", f"--junit-xml={report}", *arguments]
    ended = subprocess.run(command, cwd=source, check=False)
    if ended.returncode not in (0, 1):
        raise SystemExit(f"pytest ended with {ended.returncode}: {' '.join(command)}")
    cases = ElementTree.parse(report).iter("testcase")
    return {f"{case.get('classname')}::{case.get('name')}": _outcome(case) for case in cases}


def _outcome(case: ElementTree.Element) -> str:
    kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
    return "+".join(kinds) or "passed"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
