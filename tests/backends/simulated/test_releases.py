"""Which releases of torch the simulated GPUs know."""

from __future__ import annotations

import pytest
import torch

from pytest_flopguard.backends.simulated import releases
from pytest_flopguard.backends.simulated.machine import Machine
from pytest_flopguard.backends.simulated.releases import READ, cudnn_of, installed, unread


def test_the_installed_release_is_torchs_own_and_one_that_was_read() -> None:
    assert ".".join(map(str, installed())) == ".".join(torch.__version__.split(".")[:2])
    assert installed() in READ
    assert unread(installed()) is None


def test_a_later_release_is_told_to_be_unread() -> None:
    assert unread((2, 99)) == "kernels and workspaces of torch 2.99 are those of 2.15, the newest known"
    assert cudnn_of((2, 99)) == cudnn_of(READ[-1]) == 92_600


def test_a_prediction_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine.start("h100", allocator="")
    assert isinstance(machine, Machine)
    assert machine.assumed == ()
    monkeypatch.setattr(releases, "installed", lambda: (2, 99))
    assert machine.assumed == (unread((2, 99)),)
