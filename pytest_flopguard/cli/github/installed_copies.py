"""Packages of the checkout that are installed as copies, which imports find instead of the files of another commit."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

_ENVIRONMENTS = ("site-packages", "dist-packages")
# The guard itself measures both commits.
_GUARD = "pytest_flopguard"


def is_environment(path: Path) -> bool:
    """Whether a path lies in the folder of an environment's packages."""
    return any(part in _ENVIRONMENTS for part in path.parts)


def installed_copies(files: Iterable[str], top: Path) -> dict[str, str]:
    """Return the import names that are copies, each with the folder of its source, relative to ``top``.

    ``files`` are those that git tracks below ``top``. The folder is empty if none of them is the source: of a namespace
    package, or of a module that was generated. A module is a copy if pip installed it from the checkout, if no
    distribution has it, or if it came from an index and has the same text as the checkout's.
    """
    owners = {name: names for name, names in packages_distributions().items() if name != _GUARD}
    found = {
        name: "" for name, names in owners.items() if any(_is_of_checkout(distribution(each), top) for each in names)
    }
    search = [each for each in sys.path if is_environment(Path(each).resolve())]
    for name, source in _importable(files):
        spec = PathFinder.find_spec(name, search)
        if spec is None or spec.origin is None or name == _GUARD:
            continue
        if name in found or name not in owners or _same_text(Path(spec.origin), top / source):
            package = source.name == "__init__.py"
            found[name] = str(source.parent.parent if package else source.parent)
    return found


def _importable(files: Iterable[str]) -> Iterator[tuple[str, PurePosixPath]]:
    """Yield the name that imports a tracked module or package from outside any package, and its file."""
    paths = [PurePosixPath(each) for each in files if each.endswith(".py")]
    packages = {path.parent for path in paths if path.name == "__init__.py"}
    for path in paths:
        module = path.parent if path.name == "__init__.py" else path
        if module.parent not in packages and module.name:
            yield module.stem, path


def _same_text(installed: Path, source: Path) -> bool:
    try:
        text = installed.read_bytes()
        return bool(text.strip()) and text == source.read_bytes()
    except OSError:
        return False


def _is_of_checkout(owner: Distribution, top: Path) -> bool:
    # PEP 610: pip records what a distribution was installed from, unless that was an index.
    text = owner.read_text("direct_url.json")
    if text is None:
        return False
    origin = json.loads(text)
    if origin.get("dir_info", {}).get("editable"):
        return False  # imported from the checkout itself
    url = urlsplit(origin.get("url", ""))
    return url.scheme == "file" and Path(unquote(url.path)).resolve().is_relative_to(top)
