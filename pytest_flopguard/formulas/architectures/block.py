"""A block of a transformer that reads all positions at once: the part that encoders, T5, ViT and Whisper share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_flopguard.core.errors import SizeError, message
from pytest_flopguard.formulas.architectures.matrix import Matrix
from pytest_flopguard.formulas.breakdown import Term
from pytest_flopguard.formulas.sizes import divided, positive, whole

_PROJECTIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Sizes of one block. ``head_dim=0`` is width / heads.

    ``qkv_biases`` says how many of queries, keys and values have a bias; ``norms`` are vectors of width, doubled by
    ``norm_bias``.
    """

    width: int
    heads: int
    ff: int
    head_dim: int = 0
    gated: bool = False
    qkv_biases: int = _PROJECTIONS
    out_bias: bool = True
    mlp_bias: bool = True
    norms: int = 2
    norm_bias: bool = True

    def __post_init__(self) -> None:
        for name in ("width", "heads", "ff"):
            positive(name, getattr(self, name))
        for name in ("head_dim", "norms"):
            whole(name, getattr(self, name))
        if whole("qkv_biases", self.qkv_biases) > _PROJECTIONS:
            raise SizeError(message("bad-size", name="qkv_biases", value=self.qkv_biases, rule="at most 3"))
        if not self.head_dim:
            object.__setattr__(self, "head_dim", divided("width", self.width, "heads", self.heads))

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_dim

    @property
    def symbols(self) -> dict[str, int]:
        """The values of the symbols that equations use."""
        return {"h": self.width, "a": self.heads, "d": self.head_dim, "f": self.ff}

    @property
    def mlp(self) -> Matrix:
        """The matrices of the MLP."""
        number = 3 if self.gated else 2
        bias = ((number - 1) * self.ff + self.width) * self.mlp_bias
        return Matrix(name="mlp", shape=f"{number}*h*f", elements=number * self.width * self.ff, bias=bias)

    def attention_parameters(self) -> int:
        """Parameters of one attention: queries, keys, values and the projection back."""
        biases = self.qkv_biases * self.inner + self.width * self.out_bias
        return (_PROJECTIONS + 1) * self.width * self.inner + biases

    def parameters(self, attentions: int = 1) -> int:
        """Parameters of the block; with ``attentions=2`` it has one over an encoder's output and a norm for that."""
        norms = (self.norms + attentions - 1) * self.width * (2 if self.norm_bias else 1)
        return attentions * self.attention_parameters() + self.mlp.parameters + norms

    def self_attention(self, batch: int, s: int, keys: int, pairs: tuple[int, str], layers: int) -> Iterator[Term]:
        """Yield the terms of ``s`` new positions that attend to each other and to a cache: ``pairs`` of them."""
        each = 2 * batch * self.width * self.inner
        yield Term(name="qkv", equation="2*B*s*3*h*a*d", each=_PROJECTIONS * each * s, times=layers)
        yield from self.core(batch, pairs, layers)
        yield Term(name="out", equation="2*B*s*a*d*h", each=each * s, times=layers)

    def core(self, batch: int, pairs: tuple[int, str], layers: int, prefix: str = "attention") -> Iterator[Term]:
        """Yield scores and values for a number of pairs of query and key."""
        each = 2 * batch * self.inner * pairs[0]
        for name in ("scores", "values"):
            yield Term(name=f"{prefix}_{name}", equation=f"2*B*a*d*{pairs[1]}", each=each, times=layers)

    def cross_attention(
        self, batch: int, s: int, source: int, layers: int, *, cached: bool = False, source_gradient: bool = True
    ) -> Iterator[Term]:
        """Yield the terms of ``s`` positions that attend to ``source`` ones of an encoder: always all of them.

        Queries and the projection back are for s positions, keys and values for those of the source, once: ``cached``
        leaves them out. Without ``source_gradient`` their backward is the gradient of the weights alone.
        """
        each = 2 * batch * self.width * self.inner
        yield Term(name="cross_q", equation="2*B*s*h*a*d", each=each * s, times=layers)
        if not cached:
            both = 2 * each * source
            weights = None if source_gradient else both
            yield Term(name="cross_kv", equation="2*B*S*2*h*a*d", each=both, times=layers, backward_each=weights)
        yield from self.core(batch, (s * source, "s*S"), layers, prefix="cross")
        yield Term(name="cross_out", equation="2*B*s*a*d*h", each=each * s, times=layers)
