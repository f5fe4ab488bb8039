"""The table of GPUs that can be simulated."""

from __future__ import annotations

import re

import pytest

from pytest_flopguard.backends.simulated.gpus import DEFAULT, gpu_named
from pytest_flopguard.core.errors import UnknownNameError


@pytest.mark.parametrize(
    ("text", "name", "sm"),
    [
        ("h100", "h100", "sm90"),
        ("H100", "h100", "sm90"),
        ("NVIDIA H100-SXM", "h100", "sm90"),
        ("a100", "a100-80gb", "sm80"),
        ("a100_40GB", "a100-40gb", "sm80"),
        ("RTX 4090", "rtx4090", "sm89"),
        ("t4", "t4", "sm75"),
        ("b200", "b200", "sm100"),
    ],
)
def test_names(text: str, name: str, sm: str) -> None:
    assert (gpu_named(text).name, gpu_named(text).sm) == (name, sm)


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=re.escape("did you mean 'h100'? [unknown-name]")):
        gpu_named("h1000")


def test_the_default_as_its_driver_describes_it() -> None:
    h100 = gpu_named(DEFAULT)
    # H100 whitepaper: 132 multiprocessors of 2048 threads. torch prints 81089 MB, of 2^20 bytes.
    assert (h100.multiprocessors, h100.threads_per_multiprocessor) == (132, 2048)
    assert h100.total_memory == 81_089 * 2**20
    assert 0 < h100.usable_memory < h100.total_memory


def test_cudnn_is_what_torchs_wheel_brings() -> None:
    assert gpu_named("h100").cudnn >= 91_900
    # Wheels for CUDA 13 have no Volta; those for CUDA 12.6 bring cuDNN 9.10.2.
    assert gpu_named("v100").cudnn == 91_002
