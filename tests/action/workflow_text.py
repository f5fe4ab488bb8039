"""What can be said of workflows and actions by their text: pins, schemas, and what an audit finds."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from pathlib import Path

SCRIPTS = Path(sysconfig.get_path("scripts"))
PIN = re.compile(r"uses: (?P<name>[\w-]+/[\w-]+)@(?P<sha>[0-9a-f]{40}) # (?P<version>v[\d.]+)$", re.MULTILINE)


def pins(root: Path) -> set[tuple[str, str]]:
    """Return the actions of others that our workflows and pages use, with the commits that they are pinned to."""
    texts = [
        path.read_text(encoding="utf-8") for path in [*root.glob(".github/workflows/*"), *root.glob("docs/**/*.md")]
    ]
    return {(found["name"], found["sha"]) for text in texts for found in PIN.finditer(text)}


def check_schema(schema: str, *files: Path) -> tuple[int, str]:
    """Return check-jsonschema's exit code and what it says."""
    command = [str(SCRIPTS / "check-jsonschema"), "--builtin-schema", f"vendor.{schema}", *map(str, files)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout + run.stderr


def audit(folder: Path, *paths: str) -> tuple[int, list[str]]:
    """Return zizmor's exit code and what it finds, from medium severity on."""
    command = [str(SCRIPTS / "zizmor"), "--offline", "--no-progress", "--min-severity", "medium", "--format", "json"]
    run = subprocess.run(
        [*command, "--strict-collection", *paths], cwd=folder, capture_output=True, text=True, check=False
    )
    assert run.stdout, run.stderr
    return run.returncode, [each["ident"] for each in json.loads(run.stdout)]
