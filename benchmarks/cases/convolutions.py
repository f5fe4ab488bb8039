"""Convolutions, direct and by Fourier transform.

An output position of one output channel takes (input channels / groups) * kernel size multiply-adds; positions that
meet padding count like others. A transposed convolution does so for its input positions and channels.
"""

# A case says what it is by its name.
# ruff: noqa: D103

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from cases.case import Function, Program, case, rand

# Batch, input and output channels, and the side of the image.
B, C, D, S = 2, 8, 16, 12


@case("nn.Conv1d", 2 * B * D * C * 3 * 10)
def conv1d() -> Program:
    return nn.Conv1d(C, D, 3), (rand(B, C, 12),)


@case("nn.Conv2d", 2 * B * D * C * 3**2 * S**2)
def conv2d() -> Program:
    return nn.Conv2d(C, D, 3, padding=1), (rand(B, C, S, S),)


@case("nn.Conv2d, padding='same', 5x3", 2 * B * D * C * (5 * 3) * S**2)
def conv2d_same() -> Program:
    return nn.Conv2d(C, D, (5, 3), padding="same"), (rand(B, C, S, S),)


@case("nn.Conv2d 1x1", 2 * B * D * C * S**2)
def conv2d_pointwise() -> Program:
    return nn.Conv2d(C, D, 1), (rand(B, C, S, S),)


# Stride 2 and a kernel that reaches over 5: (12 - 5) // 2 + 1 = 4 positions a side.
@case("nn.Conv2d, stride 2, dilation 2", 2 * B * D * C * 3**2 * 4**2)
def conv2d_dilated() -> Program:
    return nn.Conv2d(C, D, 3, stride=2, dilation=2), (rand(B, C, S, S),)


@case("nn.Conv2d, 4 groups", 2 * B * D * (C // 4) * 3**2 * S**2)
def conv2d_grouped() -> Program:
    return nn.Conv2d(C, D, 3, padding=1, groups=4), (rand(B, C, S, S),)


@case("nn.Conv2d, depthwise", 2 * B * C * 1 * 3**2 * S**2)
def conv2d_depthwise() -> Program:
    return nn.Conv2d(C, C, 3, padding=1, groups=C), (rand(B, C, S, S),)


# Of the two gradients, only the weight's is asked for.
@case("nn.Conv2d, input without gradient", 2 * B * D * C * 3**2 * S**2, 2 * B * D * C * 3**2 * S**2)
def conv2d_first_layer() -> Program:
    return nn.Conv2d(C, D, 3, padding=1), (rand(B, C, S, S, grad=False),)


@case("F.conv2d, one kernel for each image", 2 * B * D * C * 3**2 * S**2)
def conv2d_per_image() -> Program:
    def run(x: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x.reshape(1, B * C, S, S), kernels, padding=1, groups=B)

    return Function(run), (rand(B, C, S, S), rand(B * D, C, 3, 3))


@case("nn.Conv3d", 2 * B * D * C * 3**3 * 6**3)
def conv3d() -> Program:
    return nn.Conv3d(C, D, 3, padding=1), (rand(B, C, 6, 6, 6),)


# Each of the 12 x 12 input positions of each input channel spreads over D channels of a 4 x 4 patch.
@case("nn.ConvTranspose2d", 2 * B * C * D * 4**2 * S**2)
def transposed() -> Program:
    return nn.ConvTranspose2d(C, D, 4, stride=2, padding=1), (rand(B, C, S, S),)


@case("nn.ConvTranspose2d, 4 groups", 2 * B * C * (D // 4) * 4**2 * S**2)
def transposed_grouped() -> Program:
    return nn.ConvTranspose2d(C, D, 4, stride=2, padding=1, groups=4), (rand(B, C, S, S),)


# Scaling the weight is elementwise.
@case("nn.Conv1d, weight norm", 2 * B * D * C * 3 * 10)
def weight_norm() -> Program:
    return parametrizations.weight_norm(nn.Conv1d(C, D, 3)), (rand(B, C, 12),)


# Padded by 3 on both sides, 12 + 3 positions are made, and 12 of them kept.
@case("causal depthwise conv1d", 2 * B * C * 4 * 15)
def causal() -> Program:
    layer = nn.Conv1d(C, C, 4, padding=3, groups=C)
    return Function(lambda x: layer(x)[..., :12], layer), (rand(B, C, 12),)


@case("unfold, then matmul", 2 * B * D * (C * 3**2) * S**2)
def unfolded() -> Program:
    def run(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return w @ F.unfold(x, 3, padding=1)

    return Function(run), (rand(B, C, S, S), rand(D, C * 9))


# Real transforms of 64 points: 2.5 * 64 * log2(64) = 960 FLOPs. B*C signals and C kernels there, B*C products back.
# Backward: the gradient of a transform to real values is a real transform (960), that of a transform of real values
# is a complex one (1920): autograd fills up the half that the forward left out.
@case("FFT convolution", 960 * (B * C + C + B * C), 960 * B * C + 1920 * (B * C + C))
def fft() -> Program:
    def run(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft(torch.fft.rfft(x, n=64) * torch.fft.rfft(kernel, n=64), n=64)[..., :32]

    return Function(run), (rand(B, C, 32), rand(C, 32))


# 5 * N * log2(N) for N = 16 * 16 complex points: 5 * 256 * 8.
@case("torch.fft.fft2", 5 * 256 * 8 * B, 5 * 256 * 8 * B)
def fft2() -> Program:
    return Function(torch.fft.fft2), (rand(B, 16, 16, dtype=torch.complex64),)
