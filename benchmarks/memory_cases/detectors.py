"""Detection in plain torch: a pyramid of maps with a convolutional head, and a transformer with object queries."""

# A case says what it is by its name.
# ruff: noqa: D103

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW

from memory_cases.case import Step, Zoo, images, inference, training
from memory_cases.convnets import ResNet

ZOO = Zoo()
CLASSES, ANCHORS = 80, 9


class PyramidDetector(nn.Module):
    """ResNet-50, a feature pyramid of its last three stages, and one head of classes and boxes for all levels."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.backbone = ResNet()
        del self.backbone.head
        self.across = nn.ModuleList(nn.Conv2d(size, width, 1) for size in (512, 1024, 2048))
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.head = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
        )
        self.classes = nn.Conv2d(width, ANCHORS * CLASSES, 3, padding=1)
        self.boxes = nn.Conv2d(width, ANCHORS * 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the classes and offsets of the boxes of every anchor of every level."""
        maps = [across(each) for across, each in zip(self.across, self.backbone.maps(x)[1:], strict=True)]
        for low in (1, 0):
            maps[low] = maps[low] + F.interpolate(maps[low + 1], size=maps[low].shape[-2:], mode="nearest")
        found = [self.head(smooth(each)) for smooth, each in zip(self.smooth, maps, strict=True)]
        classes = torch.cat([self._rows(self.classes(each), CLASSES) for each in found], dim=1)
        return classes, torch.cat([self._rows(self.boxes(each), 4) for each in found], dim=1)

    @staticmethod
    def _rows(x: torch.Tensor, width: int) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, width)


def focal_loss(model: PyramidDetector, device: str, batch: int, size: int) -> Callable[[], torch.Tensor]:
    """The focal loss of the classes and the smooth distance of the boxes, of random targets."""

    def loss() -> torch.Tensor:
        logits, boxes = model(images(device, batch, size))
        target = (torch.rand_like(logits) > 0.99).float()
        error = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        chance = torch.exp(-error)
        return ((1 - chance) ** 2 * error).mean() + F.smooth_l1_loss(boxes, torch.randn_like(boxes))

    return loss


@ZOO.case("detection")
def pyramid_detector_train_fp32(device: str) -> Step:
    model = PyramidDetector().to(device)
    return training(focal_loss(model, device, 2, 512), SGD(model.parameters(), lr=0.01, momentum=0.9))


@ZOO.case("detection")
def pyramid_detector_train_autocast(device: str) -> Step:
    model = PyramidDetector().to(device)
    optimizer = AdamW(model.parameters(), foreach=True)
    return training(focal_loss(model, device, 4, 480), optimizer, autocast=torch.bfloat16, clip=model.parameters())


@ZOO.case("detection")
def pyramid_detector_infer_topk(device: str) -> Step:
    model = PyramidDetector().to(device).eval()

    def best() -> object:
        logits, boxes = model(images(device, 4, 640))
        scores, at = logits.flatten(1).sigmoid().topk(1000)
        return scores, boxes.gather(1, (at // CLASSES)[..., None].expand(-1, -1, 4))

    return inference(best)


class QueryDetector(nn.Module):
    """ResNet-50, then torch's transformer: its decoder turns 100 learned queries into objects."""

    def __init__(self, width: int = 256, queries: int = 100) -> None:
        super().__init__()
        self.backbone = ResNet()
        del self.backbone.head
        self.into = nn.Conv2d(2048, width, 1)
        self.places = nn.Parameter(torch.randn(1, 1024, width))
        self.queries = nn.Parameter(torch.randn(1, queries, width))
        self.transformer = nn.Transformer(width, 8, 6, 6, 2048, dropout=0.1, batch_first=True)
        self.classes, self.boxes = nn.Linear(width, CLASSES + 1), nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the classes and the boxes of every query."""
        rows = self.into(self.backbone.maps(x)[-1]).flatten(2).transpose(1, 2)
        rows = rows + self.places[:, : rows.shape[1]]
        found = self.transformer(rows, self.queries.expand(x.shape[0], -1, -1))
        return self.classes(found), self.boxes(found).sigmoid()


@ZOO.case("detection")
def query_detector_train(device: str) -> Step:
    model = QueryDetector().to(device)

    def loss() -> torch.Tensor:
        logits, boxes = model(images(device, 4, 480))
        target = torch.randint(0, CLASSES + 1, logits.shape[:2], device=device)
        return F.cross_entropy(logits.flatten(0, 1), target.flatten()) + F.l1_loss(boxes, torch.rand_like(boxes))

    return training(loss, AdamW(model.parameters()), clip=model.parameters())


@ZOO.case("detection")
def query_detector_infer(device: str) -> Step:
    model = QueryDetector().to(device).eval()
    return inference(lambda: model(images(device, 8, 512)), mode=True)
