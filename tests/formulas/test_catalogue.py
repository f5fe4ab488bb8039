"""The catalogue holds every formula, once, and its places lead to them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pytest_flopguard.formulas.architectures.presets import PRESETS
from pytest_flopguard.formulas.catalogue import KINDS, catalogue, modules

ROOT = Path(__file__).parents[2]


def test_places_lead_to_what_they_name() -> None:
    for each in catalogue():
        if not each.place:
            assert each.kind in ("free", "uncounted")
            continue
        path, line = each.place.rsplit(":", 1)
        text = (ROOT / path).read_text(encoding="utf-8").splitlines()[int(line) - 1]
        last = each.defined.rpartition(".")[2]
        assert any(part in text for part in (f"def {last}(", f'"{each.name}"', "@")), each.place


def test_every_formula_tells_what_it_computes() -> None:
    closed = [each for each in catalogue() if each.kind in KINDS.values()]
    assert [each.name for each in closed if not each.summary or not each.place or not each.signature] == []


def test_names_are_unique() -> None:
    names = [each.name for each in catalogue()]
    assert sorted({each for each in names if names.count(each) > 1}) == []
    assert set(PRESETS) <= set(names)


@pytest.mark.parametrize("room", KINDS)
def test_no_public_function_with_a_breakdown_is_left_out(room: str) -> None:
    listed = {each.defined for each in catalogue()}
    for module in modules(room):
        tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.returns is not None:
                breakdown = ast.unparse(node.returns) in ("Breakdown", "ByteTerms", "Footprint")
                assert not breakdown or f"{module.__name__}.{node.name}" in listed or node.name == "breakdown"


def test_a_formula_is_told_by_its_docstring_and_its_module() -> None:
    row = next(each for each in catalogue() if each.name == "compute.training_compute")
    assert row.kind == "scaling"
    assert row.defined == "pytest_flopguard.formulas.scaling.compute.training_compute"
    assert row.signature == "(parameters: int, tokens: int, *, per_parameter: int = 6) -> int"
    assert row.summary == "C = 6*N*D FLOPs, exact. Attention's share that grows with the context is left out."
    assert "table D.1" in row.text
    assert row.context.startswith("Training compute")


def test_rows_of_tables_tell_their_constants() -> None:
    rows = {each.name: each for each in catalogue()}
    assert "alpha = 0.33917" in rows["chinchilla"].text
    assert "arXiv 2203.15556" in rows["chinchilla"].summary
    assert rows["mixed-adamw"].summary.startswith("16 bytes per parameter")
    assert rows["h100"].summary.startswith("80 GB")
    assert rows["gpt2"].summary == "gpt2, 124.44 M parameters"
