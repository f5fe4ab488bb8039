"""flopguard frontier: Chinchilla's optimum by named fits, curves of equal compute, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_flopguard.formulas.scaling.kaplan_loss import kaplan_fit

Ask = Callable[..., dict[str, Any]]
Told = Callable[..., str]
Refused = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("fit", "billions"),
    [
        ("chinchilla", 40.4),  # 40B in figure 4 of the paper
        ("chinchilla-rounded", 32.2),  # the constants as printed put it elsewhere
        ("besiroglu", 72.3),  # 18.4 tokens per parameter
    ],
)
def test_gophers_compute(fit: str, billions: float, ask: Ask) -> None:
    found = ask("frontier", "--compute", "5.76e23", "--fit", fit)
    best = found["frontier"][0]
    assert best["compute"] == 576 * 10**21
    assert best["parameters"] / 1e9 == pytest.approx(billions, abs=0.1)
    assert best["tokens"] == best["compute"] // (6 * best["parameters"])


def test_the_least_point_of_each_curve_is_on_the_frontier(ask: Ask) -> None:
    found = ask("frontier", "--points", "41")
    assert [each["compute"] for each in found["frontier"]] == [
        each * 10**18 for each in (6, 10, 30, 60, 100, 300, 600, 1000, 3000)
    ]
    for best, curve in zip(found["frontier"], found["slices"], strict=True):
        assert curve["compute"] == best["compute"]
        assert len(curve["points"]) == 41
        assert min(curve["points"], key=lambda each: each["loss"]) == best


def test_exponents_sum_to_one(ask: Ask) -> None:
    found = ask("frontier", "--compute", "1e20")["exponents"]
    # beta / (alpha + beta) of the unrounded constants
    assert found["parameters"] == pytest.approx(0.4565, abs=0.0001)
    assert found["parameters"] + found["tokens"] == pytest.approx(1)


def test_a_range_is_in_steps_of_ten(ask: Ask) -> None:
    found = ask("frontier", "--compute", "1e20:5e22")
    assert [each["compute"] for each in found["frontier"]] == [10**20, 10**21, 10**22, 5 * 10**22]


def test_the_table(told: Told) -> None:
    text = told("frontier", "--compute", "5.76e23", "--fit", "besiroglu")
    assert "72.25 B" in text
    assert "18.4" in text
    assert "arXiv 2404.10102" in text


@pytest.mark.parametrize("suffix", [".svg", ".png", ".html"])
def test_the_chart_is_written(suffix: str, tmp_path: Path, told: Told) -> None:
    path = tmp_path / f"out{suffix}"
    told("frontier", "--plot", str(path))
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") if suffix == ".png" else b"loss (nats per token)" in content


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--fit", "chinchila"],
            "unknown fit 'chinchila'; known are besiroglu, chinchilla, chinchilla-rounded, kaplan-joint, kaplan",
        ),
        (["--compute", "0"], "--compute = 0: expected a whole number, 1 or more"),
        (["--compute", "1e21 FLOP/s"], "is a rate; a budget is a count"),
        (["--compute", "1e21:1e20"], "expected a range that begins with its least"),
        (["--points", "0"], "--points = 0: expected a whole number, 1 or more"),
        (["--span", "-1"], "--span = -1.0: expected a number above 0"),
        (["--span", "wide"], "--span = 'wide': expected a number"),
        (["--plot", "out.pdf"], "no reporter writes '.pdf' files (out.pdf)"),
        (["--compute", "5"], "parameters = 1: expected compute // 6 = 0 or less"),
    ],
)
def test_wrong_input_is_one_clear_error(arguments: list[str], told: str, refused: Refused) -> None:
    (line,) = refused("frontier", *arguments)
    assert told in line


def test_kaplans_laws_have_a_frontier_too(ask: Ask) -> None:
    """The optimum of L(N, C/(6N)) is lower than a size 1 % to either side; N_opt ~ C^(alpha_D/(alpha_N + alpha_D))."""
    for name in ("kaplan-single", "kaplan-joint"):
        best = ask("frontier", "--compute", "6.3e24", "--fit", name)["frontier"][0]
        law = kaplan_fit(name)
        for factor in (0.99, 1.01):
            parameters = round(best["parameters"] * factor)
            assert law.loss(parameters, 6_300_000 * 10**18 // (6 * parameters)) > best["loss"]
    # 0.095 / (0.076 + 0.095)
    found = ask("frontier", "--compute", "6.3e24", "--fit", "kaplan-single")
    assert found["exponents"]["parameters"] == pytest.approx(0.5556, abs=0.0001)
