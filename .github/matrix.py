"""Print, for a workflow's matrix, the Pythons that the classifiers of pyproject.toml name."""

from __future__ import annotations

import json
import re
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def pythons(pyproject: str) -> list[str]:
    """Return the minor versions of the classifiers, oldest first."""
    found = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', pyproject)
    return sorted(found, key=lambda version: int(version.split(".")[1]))


if __name__ == "__main__":
    print(f"python={json.dumps(pythons(PYPROJECT.read_text('utf-8')))}")
