"""Loss as a function of parameters N and tokens D: L = E + A/N^alpha + B/D^beta, by named fits. All are floats.

Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models" (arXiv 2203.15556), equation 10. The
constants as printed, rounded, put the optimum elsewhere than the paper's own figure 4; the unrounded ones of its TeX
source agree with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pow, sqrt
from types import MappingProxyType

from pytest_flopguard.core.errors import unknown_name
from pytest_flopguard.formulas.sizes import positive

FLOPS_PER_PARAMETER_AND_TOKEN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Constants of L = E + A/N^alpha + B/D^beta in nats per token."""

    name: str
    irreducible: float
    parameters: float
    data: float
    alpha: float
    beta: float
    source: str

    def loss(self, parameters: int, tokens: int) -> float:
        """L(N, D)."""
        n, d = positive("parameters", parameters), positive("tokens", tokens)
        return self.irreducible + self.parameters / pow(n, self.alpha) + self.data / pow(d, self.beta)

    @property
    def parameter_exponent(self) -> float:
        """The a of N_opt ~ C^a: beta / (alpha + beta)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def data_exponent(self) -> float:
        """The b of D_opt ~ C^b: alpha / (alpha + beta)."""
        return self.alpha / (self.alpha + self.beta)

    def optimum(self, compute: int) -> tuple[int, int]:
        """(N, D) of least loss with 6*N*D = C, each to the nearest whole number.

        N = G (C/6)^a, D = (C/6)^b / G, G = (alpha A / (beta B))^(1/(alpha + beta)); equation 4 of the paper.
        """
        work = positive("compute", compute) / FLOPS_PER_PARAMETER_AND_TOKEN
        scale = pow(self.alpha * self.parameters / (self.beta * self.data), 1 / (self.alpha + self.beta))
        return max(1, round(scale * pow(work, self.parameter_exponent))), max(
            1, round(pow(work, self.data_exponent) / scale)
        )


_ROWS = (
    Fit(
        name="chinchilla",
        irreducible=1.6934,
        parameters=406.401,
        data=410.723,
        alpha=0.33917,
        beta=0.28491,
        source="Hoffmann et al. 2022 (arXiv 2203.15556), equation 10, unrounded in the TeX source",
    ),
    Fit(
        name="chinchilla-rounded",
        irreducible=1.69,
        parameters=406.4,
        data=410.7,
        alpha=0.34,
        beta=0.28,
        source="Hoffmann et al. 2022 (arXiv 2203.15556), equation 10, as printed",
    ),
    Fit(
        name="besiroglu",
        irreducible=1.8172,
        parameters=482.01,
        data=2085.43,
        alpha=0.3478,
        beta=0.3658,
        source="Besiroglu et al. 2024, Chinchilla Scaling: A replication attempt (arXiv 2404.10102)",
    ),
)
FITS: Mapping[str, Fit] = MappingProxyType({each.name: each for each in _ROWS})

# (a, b) of N_opt ~ C^a and D_opt ~ C^b: Hoffmann et al. table 2, and Kaplan et al. 2020.
EXPONENTS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "chinchilla-approach-1": (0.50, 0.50),
        "chinchilla-approach-2": (0.49, 0.51),
        "chinchilla-approach-3": (0.46, 0.54),
        "kaplan": (0.73, 0.27),
    }
)


def fit(name: str | Fit) -> Fit:
    """Return a fit by name, or one of one's own as it is; UnknownNameError names the nearest."""
    if isinstance(name, Fit):
        return name
    if name not in FITS:
        raise unknown_name("fit", name, FITS)
    return FITS[name]


def twenty_tokens(compute: int) -> tuple[int, int]:
    """(N, D) of the rule of thumb D = 20 N: N = sqrt(C/120), to the nearest whole number."""
    parameters = max(1, round(sqrt(positive("compute", compute) / 120)))
    return parameters, 20 * parameters
