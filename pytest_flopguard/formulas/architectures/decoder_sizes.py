"""The sizes of a decoder-only transformer: everything that its FLOPs and parameters depend on."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_flopguard.core.errors import SizeError, message
from pytest_flopguard.formulas.architectures.matrix import Matrix
from pytest_flopguard.formulas.architectures.pairs import checked_window
from pytest_flopguard.formulas.sizes import divided, positive, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts instead of one MLP: a router gives each token to ``top_k`` of ``number`` experts.

    ``ff`` is the width of one expert, ``shared_ff`` the width of all shared experts together, which every token
    meets; ``shared_gate`` weighs them by one more column, and ``shared_bias`` is theirs. Dropless: no token is left
    out.
    """

    number: int
    top_k: int
    ff: int
    gated: bool = True
    shared_ff: int = 0
    shared_gate: bool = False
    shared_bias: bool = False
    bias: bool = False
    router_bias: bool = False

    def __post_init__(self) -> None:
        positive("experts.number", self.number)
        positive("experts.ff", self.ff)
        whole("experts.shared_ff", self.shared_ff)
        if positive("experts.top_k", self.top_k) > self.number:
            rule = f"at most experts.number = {self.number}"
            raise SizeError(message("bad-size", name="experts.top_k", value=self.top_k, rule=rule))


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Multi-head latent attention: keys and values are rebuilt from ``kv_rank`` numbers a token.

    Each head's query and key have ``nope`` dimensions without and ``rope`` with a position; ``rope`` ones of the key
    are shared by all heads. ``q_rank=0`` projects queries directly.
    """

    kv_rank: int
    nope: int
    rope: int
    value: int
    q_rank: int = 0

    def __post_init__(self) -> None:
        for name in ("kv_rank", "nope", "rope", "value"):
            positive(f"latent.{name}", getattr(self, name))
        whole("latent.q_rank", self.q_rank)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSizes:
    """Sizes of a decoder-only transformer. ``kv_heads=0`` is one for each head, ``head_dim=0`` is width / heads.

    ``windows`` are the keys that each layer's queries see, one number a layer, 0 for all; empty for all layers 0.
    ``experts`` stand in every layer except ``dense_layers``, which keep the MLP of width ``ff``.
    Whether a block's two halves follow each other or run side by side changes no FLOPs.
    What changes only the number of parameters: ``tied`` head, ``*_bias``, ``positions`` (rows of a learned position
    table), ``layer_norms`` and ``outer_norms`` (vectors of width, doubled by ``norm_bias``), ``layer_extra`` (other
    elements of a layer, such as the norms of queries and keys).
    """

    name: str = "decoder"
    width: int
    layers: int
    heads: int
    ff: int
    vocab: int
    kv_heads: int = 0
    head_dim: int = 0
    gated: bool = False
    windows: tuple[int, ...] = ()
    experts: Experts | None = None
    dense_layers: tuple[int, ...] = ()
    latent: Latent | None = None
    tied: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    positions: int = 0
    layer_norms: int = 2
    outer_norms: int = 1
    norm_bias: bool = False
    layer_extra: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "vocab"):
            positive(name, getattr(self, name))
        for name in ("kv_heads", "head_dim", "positions", "layer_norms", "outer_norms", "layer_extra"):
            whole(name, getattr(self, name))
        if not self.kv_heads:
            object.__setattr__(self, "kv_heads", self.heads)
        divided("heads", self.heads, "kv_heads", self.kv_heads)
        if not self.head_dim:
            object.__setattr__(self, "head_dim", divided("width", self.width, "heads", self.heads))
        if self.experts is None or self.dense_layers:
            positive("ff", self.ff)
        whole("ff", self.ff)
        self._check_layers()

    def _check_layers(self) -> None:
        if self.windows and len(self.windows) != self.layers:
            rule = f"one for each of layers = {self.layers}"
            raise SizeError(message("bad-size", name="windows", value=f"{len(self.windows)} windows", rule=rule))
        for window in self.windows:
            checked_window("windows", window)
        for layer in self.dense_layers:
            if whole("dense_layers", layer) >= self.layers:
                rule = f"less than layers = {self.layers}"
                raise SizeError(message("bad-size", name="dense_layers", value=layer, rule=rule))

    @property
    def expert_layers(self) -> int:
        """How many layers have experts."""
        return 0 if self.experts is None else self.layers - len(set(self.dense_layers))

    @property
    def query_width(self) -> int:
        """Width of one head's query and key."""
        return self.latent.nope + self.latent.rope if self.latent else self.head_dim

    @property
    def value_width(self) -> int:
        """Width of one head's value."""
        return self.latent.value if self.latent else self.head_dim

    @property
    def symbols(self) -> dict[str, int]:
        """The values of the symbols that equations use."""
        found = {"h": self.width, "L": self.layers, "a": self.heads, "V": self.vocab}
        if self.latent is None:
            found |= {"g": self.kv_heads, "d": self.head_dim}
        else:
            found |= {"n": self.latent.nope, "r": self.latent.rope, "v": self.latent.value}
            found |= {"c": self.latent.kv_rank} | ({"q": self.latent.q_rank} if self.latent.q_rank else {})
        if self.experts is None or self.dense_layers:
            found["f"] = self.ff
        if self.experts is not None:
            found |= {"E": self.experts.number, "k": self.experts.top_k, "e": self.experts.ff}
            found |= {"S": self.experts.shared_ff} if self.experts.shared_ff else {}
        return found

    def attention_matrices(self) -> tuple[Matrix, ...]:
        """Return the projections of one layer's attention."""
        if self.latent is not None:
            return _latent_matrices(self, self.latent)
        h, inner, kv = self.width, self.heads * self.head_dim, self.kv_heads * self.head_dim
        return (
            Matrix(
                name="qkv",
                shape="h*(a*d + 2*g*d)",
                elements=h * (inner + 2 * kv),
                bias=(inner + 2 * kv) * self.qkv_bias,
            ),
            Matrix(name="out", shape="a*d*h", elements=inner * h, bias=h * self.out_bias),
        )

    def mlp_matrices(self) -> tuple[Matrix, ...]:
        """Return the matrices of one dense layer's MLP."""
        number, h, f = (3 if self.gated else 2), self.width, self.ff
        bias = ((number - 1) * f + h) * self.mlp_bias
        return (Matrix(name="mlp", shape=f"{number}*h*f", elements=number * h * f, bias=bias),)

    def expert_matrices(self) -> tuple[Matrix, ...]:
        """Return the router, the experts and the shared experts of one layer; none where there are no experts."""
        return () if self.experts is None else _expert_matrices(self.width, self.experts)

    def head_matrix(self) -> Matrix:
        """Return the matrix that makes logits; tied or not, it multiplies."""
        return Matrix(name="lm_head", shape="h*V", elements=self.width * self.vocab, bias=self.vocab * self.head_bias)


def _latent_matrices(sizes: DecoderSizes, latent: Latent) -> tuple[Matrix, ...]:
    h, a, q, c, n, r, v = (
        sizes.width, sizes.heads, latent.q_rank, latent.kv_rank, latent.nope, latent.rope, latent.value,
    )  # fmt: skip
    queries: tuple[Matrix, ...] = (Matrix(name="q", shape="h*a*(n + r)", elements=h * a * (n + r)),)
    if q:
        queries = (
            Matrix(name="q_down", shape="h*q", elements=h * q, bias=q * sizes.qkv_bias),
            Matrix(name="q_up", shape="q*a*(n + r)", elements=q * a * (n + r)),
        )
    return (
        *queries,
        Matrix(name="kv_down", shape="h*(c + r)", elements=h * (c + r), bias=(c + r) * sizes.qkv_bias),
        Matrix(name="kv_up", shape="c*a*(n + v)", elements=c * a * (n + v)),
        Matrix(name="out", shape="a*v*h", elements=a * v * h, bias=h * sizes.out_bias),
    )


def _expert_matrices(h: int, experts: Experts) -> tuple[Matrix, ...]:
    number, e, shared = (3 if experts.gated else 2), experts.ff, experts.shared_ff
    found = [
        Matrix(name="router", shape="h*E", elements=h * experts.number, bias=experts.number * experts.router_bias),
        Matrix(
            name="experts",
            shape=f"{number}*h*e",
            elements=number * h * e,
            bias=((number - 1) * e + h) * experts.bias,
            copies=experts.number,
            used=experts.top_k,
            used_symbol="k",
        ),
    ]
    if shared:
        bias = ((number - 1) * shared + h) * experts.shared_bias
        found.append(Matrix(name="shared_expert", shape=f"{number}*h*S", elements=number * h * shared, bias=bias))
    if experts.shared_gate:
        found.append(Matrix(name="shared_gate", shape="h", elements=h))
    return tuple(found)
