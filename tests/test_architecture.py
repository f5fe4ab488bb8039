"""The floors hold, and each guard that says so can fail."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pytest_flopguard"
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports({arguments}))"
HEAVY = {"torch", "fvcore", "numpy", "tabulate", "transformers", "jinja2", "vl_convert"}
LIMIT = 400
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc"}


def lint(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    code = LINT.format(arguments=f"no_logo=True, no_cache=True, limit_to_contracts={contracts!r}")
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def heavy_after(statement: str) -> set[str]:
    """Run a statement in a fresh interpreter and return the heavy packages that it loaded."""
    code = f"{statement}\nimport sys; print(*sorted({HEAVY!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def too_long(folder: Path) -> list[str]:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules(folder)}
    return [f"{path.relative_to(folder)}: {count} lines" for path, count in lines.items() if count > LIMIT]


def vague(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in modules(folder) if VAGUE & {path.stem, path.parent.name}]


def imported_names(path: Path) -> set[str]:
    """Return every dotted name that a module imports: ``a.b`` of ``import a.b``, ``a.b.c`` of ``from a.b import c``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{each.name}" for each in node.names}
    return found


def exported(path: Path) -> list[str]:
    """Return ``__all__`` as it is written, empty where a module has none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return []


@pytest.fixture
def package_copy(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_contracts_are_kept(package_copy: Path) -> None:
    run = lint(package_copy)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("module", "bad_import", "contract"),
    [
        ("core/units.py", "pytest_flopguard.budgets", "floors"),
        ("formulas/registry.py", "pytest_flopguard.reporters", "floors"),
        ("plugin.py", "pytest_flopguard.cli", "floors"),
        ("utils.py", "json", "floors"),
        ("core/units.py", "numpy", "plain-rooms"),
        ("formulas/registry.py", "torch", "plain-rooms"),
        ("budgets/settings.py", "pytest", "plain-rooms"),
        ("session.py", "_pytest", "no-pytest-below"),
        ("session.py", "torch", "torch-at-home"),
        ("backends/base.py", "pytest_flopguard.formulas", "backends-without-formulas"),
        ("fixture.py", "pytest_flopguard.plugin", "plugin-on-top"),
        ("reporters/terminal.py", "tomli", "one-reader-of-settings"),
    ],
)
def test_a_bad_import_breaks_its_contract(package_copy: Path, module: str, bad_import: str, contract: str) -> None:
    with (package_copy / PACKAGE.name / module).open("a", encoding="utf-8") as file:
        # Inside a function: an import that is put off is still an import.
        file.write(f"\n\ndef _late():\n    import {bad_import}\n")
    run = lint(package_copy, contract)
    assert run.returncode == 1, run.stdout + run.stderr
    assert module.removesuffix(".py").replace("/", ".").removesuffix(".__init__") in run.stdout


@pytest.mark.parametrize(
    "module", ["pytest_flopguard", "pytest_flopguard.plugin", "pytest_flopguard.fixture", "pytest_flopguard.cli"]
)
def test_importing_the_surface_loads_nothing_heavy(module: str) -> None:
    assert heavy_after(f"import {module}") == set()


@pytest.mark.slow
def test_the_check_for_heavy_imports_can_fail() -> None:
    assert "torch" in heavy_after("import pytest_flopguard.backends.dispatch")
    assert heavy_after("import tabulate") == {"tabulate"}


@pytest.mark.parametrize("folder", ["pytest_flopguard", "tests", "examples"])
def test_no_module_is_longer_than_the_limit(folder: str) -> None:
    assert too_long(ROOT / folder) == []


def test_the_length_check_can_fail(tmp_path: Path) -> None:
    (tmp_path / "fits.py").write_text("\n" * LIMIT)
    (tmp_path / "long.py").write_text("\n" * (LIMIT + 1))
    assert too_long(tmp_path) == [f"long.py: {LIMIT + 1} lines"]


def test_no_module_is_named_after_nothing() -> None:
    assert vague(PACKAGE) == []


def test_the_name_check_can_fail(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").touch()
    (tmp_path / "helpers.py").touch()
    assert vague(tmp_path) == ["common/__init__.py", "helpers.py"]


def test_the_architecture_page_tells_every_room() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if (path.is_dir() or path.suffix == ".py") and path.stem[0] != "_"}
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    assert {room for room in rooms if not re.search(rf"^\| \d \| `{room}` \|", page, re.MULTILINE)} == set()


def test_exports_are_sorted_and_exist() -> None:
    import pytest_flopguard

    lists = {path: exported(path) for path in modules(PACKAGE)}
    assert [str(path) for path, names in lists.items() if names != sorted(names)] == []
    public = lists[PACKAGE / "__init__.py"]
    assert public
    assert [name for name in public if not hasattr(pytest_flopguard, name)] == []


def test_the_export_check_reads_what_is_written(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('__all__ = ["b", "a"]\n')
    assert exported(module) == ["b", "a"]


def test_reporters_never_decide_and_the_judge_never_formats() -> None:
    deciding = [path.name for path in modules(PACKAGE / "reporters") if any("judge" in n for n in imported_names(path))]
    assert deciding == []
    formatting = {"pytest_flopguard.core.errors.message", "pytest_flopguard.core.units.format_amount"}
    assert imported_names(PACKAGE / "core" / "verdict.py") & formatting == set()


def test_the_vocabulary_needs_the_standard_library_only() -> None:
    tops = {name.partition(".")[0] for path in modules(PACKAGE / "core") for name in imported_names(path)}
    assert tops - set(sys.stdlib_module_names) == {"pytest_flopguard"}


def test_import_reading_sees_late_and_from_imports(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("import a.b\n\ndef late():\n    from c.d import e as f\n")
    assert imported_names(module) == {"a.b", "c.d.e"}


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
