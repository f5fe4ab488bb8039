"""Checkpointing the layers of a transformers model, whose method has another name since 5.23."""

from __future__ import annotations

from typing import Any


def checkpoint_layers(model: Any, keywords: dict[str, Any] | None = None, **options: Any) -> None:
    """Checkpoint the layers of a model, with the keywords of torch's checkpoint."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable(keywords, **options)
