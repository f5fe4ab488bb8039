"""What lies on one device, by what it is for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from pytest_flopguard.formulas.sizes import whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes on one device, exact; ``a + b`` adds part by part."""

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    kv_cache: int = 0

    def __post_init__(self) -> None:
        for name, value in self.parts().items():
            whole(f"bytes of {name}", value)

    def __add__(self, other: Footprint) -> Footprint:
        if not isinstance(other, Footprint):
            return NotImplemented
        return Footprint(**{name: value + getattr(other, name) for name, value in self.parts().items()})

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """Bytes by part, in the order of the fields."""
        return asdict(self)

    def with_parts(self, **parts: int) -> Footprint:
        """Return the same with some parts in place of what they were."""
        return replace(self, **parts)
