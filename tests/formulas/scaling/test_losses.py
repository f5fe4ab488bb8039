from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.errors import SizeError, UnknownNameError
from pytest_flopguard.formulas.scaling.isoflop import best, frontier, isoflop_slice, point
from pytest_flopguard.formulas.scaling.kaplan_loss import (
    KAPLAN_FITS,
    KaplanFit,
    data_against_overfitting,
    kaplan_fit,
)
from pytest_flopguard.formulas.scaling.parametric_loss import EXPONENTS, FITS, Fit, fit, twenty_tokens

N, D = 70 * 10**9, 15 * 10**12
CHINCHILLA = 576 * 10**21


# L(70B, 15T): 1.86 is printed in a guide to scaling laws (from the rounded constants: 1.857); the other two follow
# from their constants.
@pytest.mark.parametrize(("name", "loss"), [("chinchilla-rounded", 1.857), ("chinchilla", 1.851), ("besiroglu", 1.930)])
def test_losses_of_llama_3(name: str, loss: float) -> None:
    assert fit(name).loss(N, D) == pytest.approx(loss, abs=0.0005)


@pytest.mark.parametrize(("name", "loss"), [("kaplan-single", 1.72), ("kaplan-joint", 1.68)])
def test_kaplan_losses_of_llama_3(name: str, loss: float) -> None:
    # The guide's 1.72 puts the constants of L(N) and L(D) into the joint equation; table 2's own give 1.680.
    assert kaplan_fit(name).loss(N, D) == pytest.approx(loss, abs=0.005)


def test_kaplan_by_hand() -> None:
    single = KAPLAN_FITS["kaplan-single"]
    # At N_c and D_c both laws are 1.
    assert single.from_parameters(88 * 10**12) == pytest.approx(1.0)
    assert single.from_data(54 * 10**12) == pytest.approx(1.0)
    # Data without end leaves L(N).
    assert single.loss(10**9, 10**30) == pytest.approx(single.from_parameters(10**9), rel=1e-6)


def test_data_against_overfitting() -> None:
    # "models smaller than 10^9 parameters can be trained with minimal overfitting on the 22B token dataset"
    assert data_against_overfitting(10**9) / 1e9 == pytest.approx(22.9, abs=0.05)


# N_opt of the Chinchilla budget: 40B in figure 4, which the printed constants miss.
@pytest.mark.parametrize(
    ("name", "billions", "exponent"),
    [("chinchilla-rounded", 32.2, 0.4516), ("chinchilla", 40.4, 0.4565), ("besiroglu", 72.2, 0.5126)],
)
def test_the_optimum_of_the_chinchilla_budget(name: str, billions: float, exponent: float) -> None:
    found = fit(name)
    parameters, tokens = found.optimum(CHINCHILLA)
    assert parameters / 1e9 == pytest.approx(billions, abs=0.05)
    assert found.parameter_exponent == pytest.approx(exponent, abs=0.0001)
    assert found.parameter_exponent + found.data_exponent == pytest.approx(1.0)
    assert 6 * parameters * tokens == pytest.approx(CHINCHILLA, rel=1e-9)


def test_twenty_tokens() -> None:
    # Besiroglu's refit is the one that agrees with the rule: 18.4 tokens per parameter.
    assert best(CHINCHILLA, by="besiroglu").tokens_per_parameter == pytest.approx(18.4, abs=0.05)
    parameters, tokens = twenty_tokens(CHINCHILLA)
    assert tokens == 20 * parameters
    assert parameters / 1e9 == pytest.approx(69.3, abs=0.05)


def test_printed_exponents() -> None:
    # Table 2 of Hoffmann et al.: .50/.50, .49/.51, .46/.54; the third is the parametric fit's.
    assert EXPONENTS["chinchilla-approach-1"] == (0.50, 0.50)
    assert EXPONENTS["chinchilla-approach-2"] == (0.49, 0.51)
    found = FITS["chinchilla"]
    assert (round(found.parameter_exponent, 2), round(found.data_exponent, 2)) == EXPONENTS["chinchilla-approach-3"]


@given(st.sampled_from(sorted(FITS)), st.integers(10**17, 10**28), st.floats(0.2, 5.0))
def test_nothing_of_equal_compute_beats_the_optimum(name: str, compute: int, factor: float) -> None:
    least = best(compute, by=name)
    other = point(compute, max(1, round(least.parameters * factor)), by=name)
    # N is rounded and D is cut to a whole token, which moves the loss by less than one part in either of them.
    assert other.loss >= least.loss * (1 - 1 / least.parameters - 1 / least.tokens)


@given(st.sampled_from(sorted(FITS)), st.integers(10**17, 10**28), st.integers(2, 1000))
def test_more_compute_is_never_worse(name: str, compute: int, times: int) -> None:
    low, high = frontier([compute, times * compute], by=name)
    assert (low.loss, low.parameters, low.tokens) >= (high.loss, 0, 0)
    assert low.parameters <= high.parameters
    assert low.tokens <= high.tokens
    assert high.loss > fit(name).irreducible


def test_a_slice_is_a_valley() -> None:
    points = isoflop_slice(CHINCHILLA, points=5, span=4.0)
    losses = [each.loss for each in points]
    assert losses == sorted(losses[:3], reverse=True) + sorted(losses[3:])
    middle = points[2]
    assert middle.parameters == best(CHINCHILLA).parameters
    assert [each.parameters / middle.parameters for each in points] == pytest.approx([0.25, 0.5, 1, 2, 4])
    for each in points:
        # At most one token's worth of compute is left over.
        assert 0 <= CHINCHILLA - 6 * each.parameters * each.tokens < 6 * each.parameters


def test_one_point_is_the_optimum() -> None:
    [only] = isoflop_slice(10**20, points=1)
    assert only.parameters == best(10**20).parameters


def test_the_frontier_is_a_straight_line_in_logarithms() -> None:
    # N_opt grows by 100^a over two decades.
    low, high = frontier([10**20, 10**22])
    assert high.parameters / low.parameters == pytest.approx(100 ** FITS["chinchilla"].parameter_exponent, rel=1e-6)


def test_fits_of_ones_own() -> None:
    mine = Fit(name="mine", irreducible=1.0, parameters=2.0, data=3.0, alpha=1.0, beta=1.0, source="here")
    # 1 + 2/2 + 3/3
    assert fit(mine).loss(2, 3) == 3.0
    # G = (2/3)^(1/2), sqrt(C/6) = 10: N = 8.16, D = 12.2
    assert mine.optimum(600) == (8, 12)
    other = KaplanFit(name="mine", alpha_n=1.0, alpha_d=1.0, n_c=4.0, d_c=6.0, source="here")
    assert kaplan_fit(other).loss(2, 3) == 4.0


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown fit 'chinchila'.*did you mean 'chinchilla'\?"):
        best(10**20, by="chinchila")
    with pytest.raises(UnknownNameError, match=r"unknown Kaplan fit 'kaplan'"):
        kaplan_fit("kaplan")


def test_bad_sizes() -> None:
    with pytest.raises(SizeError, match="compute = 0"):
        best(0)
    with pytest.raises(SizeError, match="points = 0"):
        isoflop_slice(10**20, points=0)
    with pytest.raises(SizeError, match="span = 0"):
        isoflop_slice(10**20, span=0.0)
    # 6 * 10 parameters for one token: 59 FLOPs do not suffice, 60 do.
    with pytest.raises(SizeError, match="parameters = 10: expected compute // 6 = 9 or less"):
        point(59, 10)
    assert point(60, 10).tokens == 1
