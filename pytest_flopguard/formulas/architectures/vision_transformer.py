"""Vision transformers: an image in patches, an encoder, labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from pytest_flopguard.formulas.architectures.block import Block
from pytest_flopguard.formulas.architectures.pairs import dense_pairs
from pytest_flopguard.formulas.breakdown import Breakdown, Term
from pytest_flopguard.formulas.sizes import divided, positive, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionSizes:
    """Sizes of a vision transformer on square images; ``image`` and ``patch`` in pixels, ``tokens`` before the patches.

    ``labels=0`` is no head, ``pooler`` the width of a pooler on the first position, 0 for none.
    """

    name: str = "vit"
    block: Block
    layers: int
    image: int
    patch: int
    channels: int = 3
    tokens: int = 1
    labels: int = 0
    pooler: int = 0
    patch_bias: bool = True

    def __post_init__(self) -> None:
        for name in ("layers", "channels"):
            positive(name, getattr(self, name))
        for name in ("tokens", "labels", "pooler"):
            whole(name, getattr(self, name))
        if positive("patch", self.patch) > positive("image", self.image):
            divided("image", self.image, "patch", self.patch)

    @property
    def patches(self) -> int:
        """Patches of an image; what is left of a row does not make one."""
        return (self.image // self.patch) ** 2


def vision_transformer(
    sizes: VisionSizes,
    *,
    batch: int = 1,
    image_gradient: bool = False,
    modules: Mapping[str, str] | None = None,
) -> Breakdown:
    """FLOPs of a vision transformer on ``batch`` images.

    Patches 2*B*P*h*(C*p^2), then each layer on s = P + 1 positions as an encoder's: 2*B*s*(4*h^2 + 2*h*f) + 4*B*s^2*h;
    labels 2*B*h*c. In multiply-adds: P*h*C*p^2 + L*(s*(4*h^2 + 2*h*f) + 2*s^2*h) + h*c.

    Symbols: B batch, P patches, p patch size, C channels, s positions, h width, a heads, d head width, f MLP width,
    c labels. The patch projection's backward is its weight's gradient alone, unless the image wants one.
    Conventions: 1 multiply-add = 2 FLOPs; attention is dense; biases, norms, softmax and activations are left out.

    Source: Dosovitskiy et al. 2020 (arXiv 2010.11929) section 3.1 and table 1; torchvision prints GMACs.
    """
    positive("batch", batch)
    block, h = sizes.block, sizes.block.width
    s = sizes.patches + sizes.tokens
    patch = 2 * batch * sizes.patches * h * sizes.channels * sizes.patch**2
    terms = [
        Term(
            name="patch",
            equation="2*B*P*h*C*p*p",
            each=patch,
            backward_each=None if image_gradient else patch,
        ),
        *block.self_attention(batch, s, s, dense_pairs(s, s), sizes.layers),
        block.mlp.term(batch * s, "B*s", times=sizes.layers),
    ]
    if sizes.pooler:
        terms.append(Term(name="pooler", equation="2*B*h*o", each=2 * batch * h * sizes.pooler))
    if sizes.labels:
        terms.append(Term(name="classifier", equation="2*B*h*c", each=2 * batch * h * sizes.labels))
    symbols = {"B": batch, "P": sizes.patches, "p": sizes.patch, "C": sizes.channels, "s": s, "t": s}
    symbols |= block.symbols | {"L": sizes.layers, "c": sizes.labels, "o": sizes.pooler}
    return Breakdown(
        name=sizes.name,
        terms=tuple(replace(each, modules=(modules or {}).get(each.name, "")) for each in terms),
        symbols=MappingProxyType(symbols),
        source="Dosovitskiy et al. 2020, arXiv 2010.11929, section 3.1",
    )


def vision_parameters(sizes: VisionSizes) -> dict[str, int]:
    """Parameters of a vision transformer by part, exact: patches, tokens and positions, blocks, a norm, heads."""
    block, h = sizes.block, sizes.block.width
    found = {
        "patch": h * (sizes.channels * sizes.patch**2 + sizes.patch_bias),
        "positions": (sizes.patches + 2 * sizes.tokens) * h,
        "norms": (1 + sizes.layers * block.norms) * h * (2 if block.norm_bias else 1),
        "attention": sizes.layers * block.attention_parameters(),
        "mlp": sizes.layers * block.mlp.parameters,
        "pooler": (h + 1) * sizes.pooler,
        "classifier": (h + 1) * sizes.labels,
    }
    return {name: number for name, number in found.items() if number}
