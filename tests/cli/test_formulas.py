"""flopguard formulas: one list of all that is known, and one formula by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pytest_flopguard.cli import main
from pytest_flopguard.formulas.catalogue import KINDS

Ask = Callable[..., dict[str, Any]]
Told = Callable[..., str]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("addbmm", ["aten.addbmm"]),
        ("ddbmm", ["aten.addbmm", "aten.baddbmm", "aten.baddbmm[sparse]"]),
        ("aten.bmm*", ["aten.bmm", "aten.bmm[sparse]"]),
        ("aten.?mm", ["aten.bmm"]),
        ("llama-2*", ["llama-2-7b", "llama-2-13b", "llama-2-70b"]),
        ("*attention_overhead", ["de_vries.attention_overhead"]),
        ("training_flops", ["chinchilla.training_flops", "maxtext.training_flops", "megatron.training_flops",
                            "verl.training_flops"]),
        ("parametric", ["parametric_loss.twenty_tokens"]),
        ("besiroglu", ["besiroglu"]),
        ("h100*", ["h100-nvl", "h100-pcie", "h100"]),
        ("h100-sxm", ["h100"]),
        ("aten.mm", ["aten.mm"]),
    ],
)  # fmt: skip
def test_formulas_by_name_part_or_glob(pattern: str, names: list[str], ask: Ask) -> None:
    assert [each["name"] for each in ask("formulas", pattern)["formulas"]] == names


def test_the_list_tells_kind_place_and_the_first_line(told: Told) -> None:
    lines = told("formulas", "ddbmm").splitlines()
    assert lines[0].split() == ["name", "kind", "defined", "in", "what"]
    row = next(line for line in lines if line.split()[0] == "aten.baddbmm")
    assert "counted" in row
    assert "pytest_flopguard.formulas.ops.matmul.baddbmm" in row


def test_all_kinds_are_listed(ask: Ask) -> None:
    kinds = {each["kind"] for each in ask("formulas")["formulas"]}
    assert kinds == {*KINDS.values(), "model", "fit", "recipe", "optimizer", "gpu", "counted", "free", "uncounted"}


def test_one_formula_shows_equation_symbols_source_and_place(told: Told) -> None:
    text = told("formulas", "transformer.decoder")
    assert text == told("formulas", "transformer.decoder")
    for part in (
        "transformer.decoder  (closed form)",
        "pytest_flopguard/formulas/architectures/transformer.py:",
        "2*B*s*h*(a*d + 2*g*d)",
        "B batch, s new tokens",
        "1 multiply-add = 2 FLOPs",
        "arXiv 2205.05198",
        "-> Breakdown",
    ):
        assert part in text


def test_the_last_part_of_a_name_is_enough_where_it_is_alone(told: Told) -> None:
    assert told("formulas", "twenty_tokens") == told("formulas", "parametric_loss.twenty_tokens")


def test_a_model_shows_its_config(told: Told) -> None:
    text = told("formulas", "llama-2-7b")
    assert "6,738,415,616 parameters" in text
    assert "intermediate_size = 11008" in text


def test_a_name_that_nothing_fits_exits_1_and_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formulas", "aten.addbmmm"]) == 1
    assert capsys.readouterr().out == "no formula fits 'aten.addbmmm'; did you mean 'aten.addbmm'?\n"
    assert main(["formulas", "llama-2-7c", "--json"]) == 1
    assert "did you mean 'llama-2-7b'?" in capsys.readouterr().out


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formulas", "aten.mm", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["format_version"] == 1
    assert set(document["formulas"][0]) == {
        "name", "kind", "summary", "defined", "place", "signature", "text", "context",
    }  # fmt: skip
