"""Which releases of torch the simulated GPUs know."""

from __future__ import annotations

import torch

from pytest_flopguard.backends.simulated.releases import READ, cudnn_of, installed, unread


def test_the_installed_release_is_torchs_own_and_one_that_was_read() -> None:
    assert ".".join(map(str, installed())) == ".".join(torch.__version__.split(".")[:2])
    assert installed() in READ
    assert unread(installed()) is None


def test_a_later_release_is_told_to_be_unread() -> None:
    assert unread((2, 99)) == "kernels and workspaces of torch 2.99: those of 2.15 were taken"
    assert cudnn_of((2, 99)) == cudnn_of(READ[-1]) == 92_600
