"""What the self-check's child process does: train on fake CUDA tensors, beside real training on the CPU."""

from __future__ import annotations

import contextlib
import importlib
from unittest.mock import patch

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pytest_flopguard.backends.simulated import cuda_abi
from pytest_flopguard.backends.torch_api.fake import FakeTensorMode


def trial() -> str | None:
    """Return what does not work, or None."""
    _keep_no_core_dump()
    before, accelerator = _train_on_cpu(), torch.accelerator.current_accelerator()
    refused = cuda_abi.install()
    if refused is not None:
        return refused.reason
    with cuda_abi.active():
        with FakeTensorMode(allow_non_fake_inputs=True):
            _train_simulated(fused=False)
            _train_simulated(fused=True)
        beside = _train_on_cpu()
    if not before == beside == _train_on_cpu():
        return "training on the CPU gives other values beside simulated CUDA"
    if torch.accelerator.current_accelerator() != accelerator:
        return f"the accelerator is still {torch.accelerator.current_accelerator()} afterwards, it was {accelerator}"
    return None


def _train_simulated(*, fused: bool) -> None:
    with torch.device("cuda"):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(2), nn.TransformerEncoderLayer(36, 4, 64, batch_first=True)
        )
        images = torch.randn(2, 3, 8, 8)
    optimizer = torch.optim.AdamW(model.parameters(), fused=fused, foreach=not fused)
    # autocast("cuda") switches itself off where these say no.
    with patch.multiple(torch.cuda, is_available=lambda: True, is_bf16_supported=lambda: True):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = checkpoint(model, images, use_reentrant=False).float().sum()
        loss.backward()
    optimizer.step()


def _train_on_cpu() -> list[float]:
    weight = torch.linspace(-1, 1, 16).reshape(4, 4).requires_grad_()
    optimizer = torch.optim.AdamW([weight])
    for _ in range(2):
        (weight @ weight).relu().sum().backward()
        optimizer.step()
    return [float(value) for value in weight.detach().flatten()]


def _keep_no_core_dump() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        resource = importlib.import_module("resource")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
