"""ResNet-50 for 1000 classes, one image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification


@pytest.fixture
def model() -> ResNetForImageClassification:
    return ResNetForImageClassification(ResNetConfig(num_labels=1000))


def test_classify(model: ResNetForImageClassification, over: bool) -> None:
    size = 256 if over else 224
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, size, size))


def test_train_step(model: ResNetForImageClassification, flopguard: Any) -> None:
    images, labels = torch.zeros(2, 3, 224, 224), torch.zeros(2, dtype=torch.long)
    with flopguard.measure("forward") as forward:
        loss = model.train()(images, labels=labels).loss
    with flopguard.measure("backward") as backward:
        loss.backward()
    # Twice the forward work, less the gradient of the images, which nothing asks for:
    # 2 images x 2 x 112 x 112 x 64 x 3 x 7 x 7 FLOPs of the first convolution.
    assert backward.flops.total == 2 * forward.flops.total - 2 * 2 * 112 * 112 * 64 * 3 * 7 * 7
