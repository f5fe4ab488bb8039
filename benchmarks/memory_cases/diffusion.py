"""Nets of diffusion models in plain torch: a U-Net with times and attention, and a diffusion transformer."""

# A case says what it is by its name.
# ruff: noqa: D103

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import AdamW

from memory_cases.case import Mark, Step, Zoo, labels, mixed, training

ZOO = Zoo()
BF16 = torch.bfloat16


def wave(times: torch.Tensor, width: int) -> torch.Tensor:
    """Sines and cosines of a time."""
    rates = torch.exp(torch.arange(width // 2, device=times.device) * -0.1)
    angles = times[:, None].float() * rates[None]
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Residual(nn.Module):
    """Two convolutions after group norms, with the time added between them."""

    def __init__(self, before: int, after: int, time: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(32, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.time = nn.Linear(time, after)
        self.second = nn.Sequential(nn.GroupNorm(32, after), nn.SiLU(), nn.Conv2d(after, after, 3, padding=1))
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """One block."""
        h = self.first(x) + self.time(F.silu(time))[:, :, None, None]
        return self.shortcut(x) + self.second(h)


class PixelAttention(nn.Module):
    """Attention among all pixels."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(32, width)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One layer."""
        b, c, h, w = x.shape
        rows = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.project(rows).view(b, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        return x + self.out(found).transpose(1, 2).reshape(b, c, h, w)


class NoiseUNet(nn.Module):
    """Three levels of residual blocks, attention on the lowest."""

    def __init__(self, width: int = 128, channels: int = 4) -> None:
        super().__init__()
        time = 4 * width
        sizes = [width, 2 * width, 4 * width]
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        self.into = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(Residual(a, b, time) for a, b in zip([width, *sizes], sizes, strict=False))
        self.smaller = nn.ModuleList(nn.Conv2d(size, size, 3, 2, 1) for size in sizes[:-1])
        self.middle = PixelAttention(sizes[-1], 8)
        self.up = nn.ModuleList(
            Residual(2 * size, size // 2 if size > width else size, time) for size in reversed(sizes)
        )
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """The noise in noisy images."""
        time = self.time(wave(times, self.width).to(x.dtype))
        x, skips = self.into(x), []
        for level, block in enumerate(self.down):
            x = block(x, time)
            skips.append(x)
            if level < len(self.smaller):
                x = self.smaller[level](x)
        x = self.middle(x)
        for level, block in enumerate(self.up):
            if level:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(torch.cat([x, skips.pop()], dim=1), time)
        return self.out(x)


def noise_loss(model: nn.Module, device: str, batch: int, size: int) -> Callable[[], torch.Tensor]:
    """How well noise is found in new noisy images."""

    def loss() -> torch.Tensor:
        noise = torch.randn(batch, 4, size, size, device=device)
        clean = torch.randn(batch, 4, size, size, device=device)
        times = labels(device, batch, 1000)
        share = (times.float() / 1000)[:, None, None, None]
        return F.mse_loss(model(share * noise + (1 - share) * clean, times).float(), noise)

    return loss


@ZOO.case("diffusion")
def diffusion_unet_train_fp32(device: str) -> Step:
    model = NoiseUNet().to(device)
    return training(noise_loss(model, device, 8, 64), AdamW(model.parameters()))


@ZOO.case("diffusion")
def diffusion_unet_train_autocast_averaged(device: str) -> Step:
    model = NoiseUNet().to(device)
    average = [parameter.detach().clone() for parameter in model.parameters()]
    step = training(noise_loss(model, device, 8, 64), AdamW(model.parameters(), fused=True), autocast=BF16)

    def averaged(mark: Mark) -> None:
        step(mark)
        with torch.no_grad():
            torch._foreach_lerp_(average, [parameter.detach() for parameter in model.parameters()], 0.01)
        mark("average")

    return averaged


@ZOO.case("diffusion", steps=2)
def diffusion_unet_sample(device: str) -> Step:
    model = NoiseUNet().to(device).half().eval()

    def step(mark: Mark) -> None:
        with torch.no_grad():
            x = torch.randn(4, 4, 96, 96, device=device, dtype=torch.float16)
            for time in range(1000, 0, -200):
                found = model(x, torch.full((4,), time, device=device))
                x = x - 0.1 * found
                mark("denoise")
            del x, found

    return step


class DiffusionBlock(nn.Module):
    """A transformer block whose norms are scaled and shifted by the condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """One block."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.condition(condition)[:, None].chunk(6, -1)
        b, s, c = x.shape
        rows = self.project(self.norm(x) * (1 + scale) + shift)
        q, k, v = rows.view(b, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, s, c)
        x = x + gate * self.out(found)
        return x + gate_mlp * self.mlp(self.norm(x) * (1 + scale_mlp) + shift_mlp)


class DiffusionTransformer(nn.Module):
    """Patches of latents, blocks, patches again."""

    def __init__(self, layers: int = 12, width: int = 768, heads: int = 12) -> None:
        super().__init__()
        self.width = width
        self.into, self.out = nn.Conv2d(4, width, 2, 2), nn.Linear(width, 16)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(DiffusionBlock(width, heads) for _ in range(layers))

    def forward(self, x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """The noise in noisy latents."""
        size = x.shape[-1] // 2
        condition = self.time(wave(times, self.width).to(self.out.weight.dtype))
        rows = self.into(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            rows = block(rows, condition)
        return F.pixel_shuffle(self.out(rows).transpose(1, 2).reshape(x.shape[0], 16, size, size), 2)


@ZOO.case("diffusion")
def diffusion_transformer_train_autocast(device: str) -> Step:
    model = DiffusionTransformer().to(device)
    loss = noise_loss(model, device, 32, 32)
    return training(loss, AdamW(model.parameters(), fused=True), autocast=BF16, clip=model.parameters())


@ZOO.case("diffusion")
def diffusion_transformer_infer(device: str) -> Step:
    model = DiffusionTransformer().to(device).eval()

    def step(mark: Mark) -> None:
        with torch.inference_mode(), mixed(BF16):
            found = model(torch.randn(16, 4, 64, 64, device=device), labels(device, 16, 1000))
            mark("forward")
            del found

    return step
