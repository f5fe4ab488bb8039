"""Weight matrices that tokens are multiplied with: their FLOPs and their parameters come from one description."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_flopguard.formulas.breakdown import Term


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One or several weight matrices under one name.

    ``shape`` is ``elements`` in symbols (``"h*(a*d + 2*g*d)"``), ``bias`` the elements of their bias vectors.
    ``copies`` are the alike ones that exist and ``used`` those that a token meets: experts.
    """

    name: str
    shape: str
    elements: int
    bias: int = 0
    copies: int = 1
    used: int = 1
    used_symbol: str = ""

    @property
    def parameters(self) -> int:
        """Parameters of all copies, biases included."""
        return self.copies * (self.elements + self.bias)

    @property
    def active_parameters(self) -> int:
        """Parameters of the copies that one token meets."""
        return self.used * (self.elements + self.bias)

    def term(self, tokens: int, symbol: str, times: int = 1) -> Term:
        """Multiply a number of tokens with the matrices: 2 FLOPs for each element and token; biases are additions."""
        used = f"{self.used_symbol}*" if self.used_symbol else ""
        return Term(
            name=self.name,
            equation=f"2*{symbol}*{used}{self.shape}",
            each=2 * tokens * self.used * self.elements,
            times=times,
        )
