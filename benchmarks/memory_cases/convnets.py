"""ResNet-50 and a U-Net in plain torch."""

# A case says what it is by its name.
# ruff: noqa: D103

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW

from memory_cases.case import Step, Zoo, images, inference, labels, training

ZOO = Zoo()
BF16 = torch.bfloat16


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with batch norms, beside a shortcut."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One block."""
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    """ResNet of bottlenecks; the stages (3, 4, 6, 3) make ResNet-50. ``maps`` gives the four stages' outputs."""

    def __init__(self, stages: tuple[int, ...] = (3, 4, 6, 3), classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        self.stages = nn.ModuleList()
        before = 64
        for number, blocks in enumerate(stages):
            width = 64 << number
            first = Bottleneck(before, width, 2 if number else 1)
            rest = [Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            before = 4 * width
        self.head = nn.Linear(before, classes)

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The outputs of the stages."""
        x, found = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the classes."""
        return self.head(self.maps(x)[-1].mean((2, 3)))


def resnet_50(device: str, *, last: bool = False) -> nn.Module:
    """ResNet-50 on the device; ``last``: channels innermost in memory."""
    model = ResNet().to(device)
    return model.to(memory_format=torch.channels_last) if last else model


def class_loss(
    model: nn.Module, device: str, batch: int, size: int = 224, *, last: bool = False
) -> Callable[[], torch.Tensor]:
    """The loss of the class of new images."""
    return lambda: F.cross_entropy(model(images(device, batch, size, last=last)), labels(device, batch, 1000))


def momentum(model: nn.Module) -> SGD:
    """SGD as convolutional nets are trained with."""
    return SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)


@ZOO.case("resnet")
def resnet_50_train_fp32(device: str) -> Step:
    model = resnet_50(device)
    return training(class_loss(model, device, 32), momentum(model))


@ZOO.case("resnet")
def resnet_50_train_autocast(device: str) -> Step:
    model = resnet_50(device)
    return training(class_loss(model, device, 32), momentum(model), autocast=BF16)


@ZOO.case("resnet")
def resnet_50_train_channels_last(device: str) -> Step:
    model = resnet_50(device, last=True)
    return training(class_loss(model, device, 32, last=True), momentum(model), autocast=BF16)


@ZOO.case("resnet")
def resnet_50_train_odd_sizes(device: str) -> Step:
    model = resnet_50(device)
    return training(class_loss(model, device, 7, 201), AdamW(model.parameters()))


@ZOO.case("resnet")
def resnet_50_infer_inference_mode(device: str) -> Step:
    model = resnet_50(device).eval()
    return inference(lambda: model(images(device, 64, 224)), mode=True)


@ZOO.case("resnet")
def resnet_50_infer_fp16_channels_last(device: str) -> Step:
    model = resnet_50(device, last=True).half().eval()
    return inference(lambda: model(images(device, 64, 224, last=True).half()))


def double(before: int, after: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch norms."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(),
    )  # fmt: skip


class UNet(nn.Module):
    """The U-Net of segmentation: four times down, four times up by transposed convolutions, skips joined."""

    def __init__(self, width: int = 64, classes: int = 2) -> None:
        super().__init__()
        sizes = [width << level for level in range(5)]
        self.down = nn.ModuleList(double(before, after) for before, after in zip([3, *sizes], sizes, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * size, size, 2, 2) for size in reversed(sizes[:-1]))
        self.join = nn.ModuleList(double(2 * size, size) for size in reversed(sizes[:-1]))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the class of each pixel."""
        skips = []
        for level, down in enumerate(self.down):
            x = down(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([skips.pop(), up(x)], dim=1))
        return self.head(x)


def pixel_loss(
    model: nn.Module, device: str, batch: int, size: int, *, last: bool = False
) -> Callable[[], torch.Tensor]:
    """The loss of the class of each pixel of new images."""

    def loss() -> torch.Tensor:
        target = torch.randint(0, 2, (batch, size, size), device=device)
        return F.cross_entropy(model(images(device, batch, size, last=last)), target)

    return loss


@ZOO.case("unet")
def unet_train_fp32(device: str) -> Step:
    model = UNet().to(device)
    return training(pixel_loss(model, device, 4, 256), AdamW(model.parameters()))


@ZOO.case("unet")
def unet_train_channels_last_autocast(device: str) -> Step:
    model = UNet().to(device).to(memory_format=torch.channels_last)
    loss = pixel_loss(model, device, 4, 256, last=True)
    return training(loss, AdamW(model.parameters(), fused=True), autocast=BF16)


@ZOO.case("unet")
def unet_infer_no_grad(device: str) -> Step:
    model = UNet().to(device).eval()
    return inference(lambda: model(images(device, 2, 400)))
