"""Which kernel each supported release of torch runs attention with, whatever release is installed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from pytest_flopguard.backends.simulated.attention_choice import AttentionCall, can_use, chosen
from pytest_flopguard.backends.simulated.gpus import gpu_named
from pytest_flopguard.backends.simulated.releases import READ, Release

BFLOAT, FLOAT = torch.bfloat16, torch.float32
CUDNN, FLASH = SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION
EFFICIENT, MATH = SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH


def call(
    release: Release,
    *,
    dtype: torch.dtype = BFLOAT,
    width: int = 64,
    value_width: int | None = None,
    sizes: tuple[int, ...] = (2, 4),
    key_sizes: tuple[int, ...] | None = None,
    queries: int = 32,
    dropout: float = 0.0,
    grad: bool = True,
    enable_gqa: bool = False,
    offset: int = 0,
    mask: Tensor | None = None,
) -> AttentionCall:
    def zeros(*shape: int) -> Tensor:
        whole = torch.empty(torch.Size(shape).numel() + offset, dtype=dtype, device="meta", requires_grad=grad)
        return whole[offset:].view(shape)

    of_keys = sizes if key_sizes is None else key_sizes
    return AttentionCall(
        query=zeros(*sizes, queries, width),
        key=zeros(*of_keys, 32, width),
        value=zeros(*of_keys, 32, value_width or width),
        mask=mask,
        dropout=dropout,
        is_causal=False,
        enable_gqa=enable_gqa,
        release=release,
    )


def by_release(name: str, **options: object) -> list[SDPBackend]:
    return [chosen(call(release, **options), gpu_named(name)) for release in READ]  # type: ignore[arg-type]


def test_the_releases_are_those_that_the_rows_below_speak_of() -> None:
    assert READ == ((2, 11), (2, 12), (2, 13), (2, 14), (2, 15))


@pytest.mark.parametrize(
    ("name", "options", "kernels"),
    [
        ("h100", {}, [CUDNN] * 5),
        ("a100", {}, [FLASH] * 5),
        # check_cudnn_dropout came with 2.12: multiples of 1/16.
        ("h100", {"dropout": 0.1}, [CUDNN, FLASH, FLASH, FLASH, FLASH]),
        ("h100", {"dropout": 0.125}, [CUDNN] * 5),
        # check_cudnn_tensor_shapes: to 256 on sm90; from 2.14 on also on sm100, with few widths for a backward.
        ("h100", {"width": 136, "grad": False}, [CUDNN] * 5),
        ("h100", {"width": 136}, [CUDNN, CUDNN, CUDNN, FLASH, FLASH]),
        ("h100", {"width": 256}, [CUDNN] * 5),
        ("h100", {"width": 264, "grad": False}, [EFFICIENT] * 5),
        ("h100", {"width": 20}, [FLASH] * 5),
        ("h100", {"width": 192, "value_width": 128}, [CUDNN] * 5),
        ("b200", {"width": 192, "value_width": 128}, [CUDNN] * 5),
        ("b200", {"width": 256}, [FLASH, FLASH, FLASH, CUDNN, CUDNN]),
        ("b200", {"width": 136, "grad": False}, [FLASH, FLASH, FLASH, CUDNN, CUDNN]),
        ("b200", {"width": 136}, [FLASH] * 5),
        # is_cudnn_attention_decode_disabled of 2.14: one query on sm100 with the wheel's cuDNN 9.24.0; 9.26 is fine.
        ("b200", {"queries": 1}, [CUDNN, CUDNN, CUDNN, FLASH, CUDNN]),
        ("h100", {"queries": 1}, [CUDNN] * 5),
        # From 2.13 on 65,535 batches or heads are the most for cuDNN, from 2.15 on for flash.
        ("h100", {"sizes": (65_535, 1)}, [CUDNN] * 5),
        ("h100", {"sizes": (65_536, 1)}, [CUDNN, CUDNN, FLASH, FLASH, EFFICIENT]),
        # check_data_ptr_alignment_mem_efficient came with 2.13: from sm80 on 16 bytes, so 4 of float32.
        ("a100", {"dtype": FLOAT, "offset": 4}, [EFFICIENT] * 5),
        ("a100", {"dtype": FLOAT, "offset": 2}, [EFFICIENT, EFFICIENT, MATH, MATH, MATH]),
        ("t4", {"dtype": FLOAT, "offset": 2}, [EFFICIENT] * 5),
        # supports_gqa of can_use_mem_efficient_attention: from 2.14 on.
        ("a100", {"dtype": FLOAT, "key_sizes": (2, 2), "enable_gqa": True}, [MATH, MATH, MATH, EFFICIENT, EFFICIENT]),
        ("a100", {"key_sizes": (2, 2), "enable_gqa": True}, [FLASH] * 5),
        # supports_mqa of 2.14: one head of keys and values serves all of queries, unasked.
        ("h100", {"key_sizes": (2, 1)}, [MATH, MATH, MATH, CUDNN, CUDNN]),
        ("a100", {"key_sizes": (2, 1)}, [MATH, MATH, MATH, FLASH, FLASH]),
        ("a100", {"key_sizes": (2, 1), "dtype": FLOAT}, [MATH, MATH, MATH, EFFICIENT, EFFICIENT]),
        ("a100", {"key_sizes": (2, 2)}, [MATH] * 5),
        # normalize_unbatched_input of 2.14: a batch of one.
        ("h100", {"sizes": (4,)}, [MATH, MATH, MATH, CUDNN, CUDNN]),
        ("h100", {"sizes": (4,), "mask": torch.zeros(32, 32)}, [MATH, MATH, MATH, CUDNN, CUDNN]),
        ("h100", {"sizes": ()}, [MATH] * 5),
    ],
)
def test_each_release_has_its_kernel(name: str, options: dict[str, object], kernels: list[SDPBackend]) -> None:
    assert by_release(name, **options) == kernels


def test_a_release_that_nobody_has_read_runs_what_the_newest_does() -> None:
    wide = call((2, 99), width=256)
    assert chosen(wide, gpu_named("b200")) == CUDNN
    assert can_use(FLASH, wide, gpu_named("b200"))
