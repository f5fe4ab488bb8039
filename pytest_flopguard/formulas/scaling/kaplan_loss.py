"""Kaplan et al.'s power laws of the loss, in nats per token. All are floats.

"Scaling Laws for Neural Language Models", 2020 (arXiv 2001.08361). N leaves embeddings out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pow
from types import MappingProxyType

from pytest_flopguard.core.errors import unknown_name
from pytest_flopguard.formulas.sizes import positive


@dataclass(frozen=True, slots=True, kw_only=True)
class KaplanFit:
    """Exponents and scales of (N_c/N)^alpha_N and (D_c/D)^alpha_D."""

    name: str
    alpha_n: float
    alpha_d: float
    n_c: float
    d_c: float
    source: str

    def from_parameters(self, parameters: int) -> float:
        """L(N) = (N_c/N)^alpha_N, data without end."""
        return pow(self.n_c / positive("parameters", parameters), self.alpha_n)

    def from_data(self, tokens: int) -> float:
        """L(D) = (D_c/D)^alpha_D, a model as large as one likes, stopped early."""
        return pow(self.d_c / positive("tokens", tokens), self.alpha_d)

    def loss(self, parameters: int, tokens: int) -> float:
        """L(N, D) = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D, equation 1.5."""
        by_size = pow(self.n_c / positive("parameters", parameters), self.alpha_n / self.alpha_d)
        return pow(by_size + self.d_c / positive("tokens", tokens), self.alpha_d)

    @property
    def parameter_exponent(self) -> float:
        """The a of N_opt ~ C^a: alpha_D / (alpha_N + alpha_D)."""
        return self.alpha_d / (self.alpha_n + self.alpha_d)

    @property
    def data_exponent(self) -> float:
        """The b of D_opt ~ C^b: alpha_N / (alpha_N + alpha_D)."""
        return self.alpha_n / (self.alpha_n + self.alpha_d)

    def optimum(self, compute: int) -> tuple[int, int]:
        """(N, D) of least loss with 6*N*D = C, each to the nearest whole number.

        With r = alpha_N/alpha_D the derivative of (N_c/N)^r + 6*D_c*N/C is 0 at N = (r*N_c^r*C/(6*D_c))^(1/(1 + r)).
        """
        r, work = self.alpha_n / self.alpha_d, positive("compute", compute) / 6
        parameters = pow(r * pow(self.n_c, r) * work / self.d_c, 1 / (1 + r))
        return max(1, round(parameters)), max(1, round(work / parameters))


# The joint equation has constants of its own (table 2); those of L(N) and L(D) alone are often put into it by mistake.
_ROWS = (
    KaplanFit(
        name="kaplan-single", alpha_n=0.076, alpha_d=0.095, n_c=8.8e13, d_c=5.4e13, source="equations 1.1 and 1.2"
    ),
    KaplanFit(name="kaplan-joint", alpha_n=0.076, alpha_d=0.103, n_c=6.4e13, d_c=1.8e13, source="table 2"),
)
KAPLAN_FITS: Mapping[str, KaplanFit] = MappingProxyType({each.name: each for each in _ROWS})


def kaplan_fit(name: str | KaplanFit) -> KaplanFit:
    """Return a Kaplan fit by name, or one of one's own as it is; UnknownNameError names the nearest."""
    if isinstance(name, KaplanFit):
        return name
    if name not in KAPLAN_FITS:
        raise unknown_name("Kaplan fit", name, KAPLAN_FITS)
    return KAPLAN_FITS[name]


def data_against_overfitting(parameters: int) -> float:
    """Tokens from which on overfitting stays below the noise of the loss: 5e3 * N^0.74, equation 4.4."""
    return 5e3 * pow(positive("parameters", parameters), 0.74)
