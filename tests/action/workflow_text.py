"""What stands in workflows: their pins."""

from __future__ import annotations

import re
from pathlib import Path

PIN = re.compile(r"uses: (?P<name>[\w-]+/[\w-]+)@(?P<sha>[0-9a-f]{40}) # (?P<version>v[\d.]+)$", re.MULTILINE)


def pins(root: Path) -> set[tuple[str, str]]:
    """Return the actions of others that our workflows and pages use, with the commits that they are pinned to."""
    texts = [
        path.read_text(encoding="utf-8") for path in [*root.glob(".github/workflows/*"), *root.glob("docs/**/*.md")]
    ]
    return {(found["name"], found["sha"]) for text in texts for found in PIN.finditer(text)}
