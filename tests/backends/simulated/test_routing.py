"""The way that ops take on a given GPU, seen from the ops that arrive below autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from simulation import Seen, gpu, ops_of
from torch import Tensor, nn
from torch.backends.cuda import (
    SDPAParams,
    can_use_cudnn_attention,
    can_use_efficient_attention,
    can_use_flash_attention,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right
from torch.optim.optimizer import _default_to_fused_or_foreach
from torch.utils._python_dispatch import _disable_current_modes

FLASH = "_scaled_dot_product_flash_attention"
EFFICIENT = "_scaled_dot_product_efficient_attention"
CUDNN = "_scaled_dot_product_cudnn_attention"
MATH = "_safe_softmax"
KERNELS = (FLASH, EFFICIENT, CUDNN, MATH)
HALF, BFLOAT, FLOAT, DOUBLE = torch.float16, torch.bfloat16, torch.float32, torch.float64


def zeros(*shape: int, dtype: torch.dtype = FLOAT, grad: bool = True) -> Tensor:
    return torch.zeros(*shape, device="cuda", dtype=dtype, requires_grad=grad)


def attend(
    *,
    dtype: torch.dtype = BFLOAT,
    width: int = 64,
    value_width: int | None = None,
    queries: int = 32,
    keys: int = 32,
    key_heads: int = 4,
    mask: torch.dtype | None = None,
    grad: bool = True,
    **options: Any,
) -> Tensor:
    query = zeros(2, 4, queries, width, dtype=dtype, grad=grad)
    key = zeros(2, key_heads, keys, width, dtype=dtype, grad=grad)
    value = zeros(2, key_heads, keys, value_width or width, dtype=dtype, grad=grad)
    attn_mask = None if mask is None else zeros(queries, keys, dtype=mask, grad=False)
    return F.scaled_dot_product_attention(query, key, value, attn_mask, **options)


def kernel_of(name: str, function: Callable[[], Any]) -> str:
    (found,) = [each for each in ops_of(name, function) if each in KERNELS]
    return found


@pytest.mark.parametrize(
    ("name", "call", "kernel"),
    [
        # sdp_utils.cpp, priority_order: cuDNN first on sm90 and sm100 with cuDNN over 9.15, flash elsewhere from sm80.
        ("h100", {}, CUDNN),
        ("b200", {}, CUDNN),
        ("a100", {}, FLASH),
        ("rtx5090", {}, FLASH),
        # check_flash_attention_hardware_support: nothing below sm80. The efficient kernel there has no bfloat16.
        ("t4", {"dtype": HALF}, EFFICIENT),
        ("v100", {"dtype": HALF}, EFFICIENT),
        ("t4", {}, MATH),
        # float32: efficient everywhere, float64 nowhere.
        ("h100", {"dtype": FLOAT}, EFFICIENT),
        ("t4", {"dtype": FLOAT}, EFFICIENT),
        ("h100", {"dtype": DOUBLE}, MATH),
        # Masks: cuDNN takes them, flash does not.
        ("h100", {"mask": torch.bool}, CUDNN),
        ("a100", {"mask": torch.bool}, EFFICIENT),
        ("a100", {"mask": BFLOAT}, EFFICIENT),
        # check_cudnn_tensor_shapes: heads in multiples of 8 up to 256; test_attention_choice.py has each release.
        ("h100", {"width": 128}, CUDNN),
        ("h100", {"width": 20}, FLASH),
        ("h100", {"width": 256}, CUDNN),
        ("h100", {"width": 264}, EFFICIENT),
        ("h100", {"width": 192, "value_width": 128}, CUDNN),
        # minimum_gemm_alignment: 8 for 16 bits, 4 for float32 with tensor cores, 1 without.
        ("a100", {"width": 260, "dtype": HALF}, MATH),
        ("a100", {"width": 20, "dtype": FLOAT}, EFFICIENT),
        ("a100", {"width": 18, "dtype": FLOAT}, MATH),
        ("t4", {"width": 18, "dtype": FLOAT}, EFFICIENT),
        ("h100", {"dropout_p": 0.125}, CUDNN),
        # check_flash_causal_non_square_seqlens.
        ("a100", {"is_causal": True}, FLASH),
        ("a100", {"is_causal": True, "keys": 16}, EFFICIENT),
        # Heads shared in groups: cuDNN and flash.
        ("h100", {"key_heads": 2, "enable_gqa": True}, CUDNN),
        ("a100", {"key_heads": 2, "enable_gqa": True}, FLASH),
        # A single key is none of cuDNN's.
        ("h100", {"keys": 1}, FLASH),
        # sm86 to sm89 have too little shared memory for the backward of wide heads.
        ("l4", {"width": 192}, FLASH),
        ("l4", {"width": 200}, EFFICIENT),
        ("l4", {"width": 200, "grad": False}, FLASH),
        ("l4", {"width": 256}, FLASH),
        ("l4", {"width": 256, "dropout_p": 0.1}, EFFICIENT),
    ],
)
def test_attention_runs_the_kernel_of_the_gpu(name: str, call: dict[str, Any], kernel: str) -> None:
    assert kernel_of(name, lambda: attend(**call)) == kernel


@pytest.mark.parametrize(
    ("backends", "first", "kernel"),
    [
        ([SDPBackend.FLASH_ATTENTION], False, FLASH),
        ([SDPBackend.MATH], False, MATH),
        ([SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION], False, EFFICIENT),
        ([SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION], True, MATH),
    ],
)
def test_the_kernels_that_a_test_chooses_are_taken(backends: list[SDPBackend], first: bool, kernel: str) -> None:
    def run() -> None:
        with sdpa_kernel(backends, set_priority=first):
            attend()

    assert kernel_of("h100", run) == kernel


def test_attention_without_an_allowed_kernel_fails_as_on_the_gpu() -> None:
    def run() -> None:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            attend(dtype=FLOAT)

    with pytest.raises(RuntimeError, match="No available kernel"):
        ops_of("h100", run)


def test_cudnn_attention_is_not_deterministic_and_can_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        assert kernel_of("h100", attend) == FLASH
    finally:
        torch.use_deterministic_algorithms(False)
    monkeypatch.setenv("TORCH_CUDNN_SDPA_DEPRIORITIZED", "1")
    assert kernel_of("h100", attend) == FLASH


def test_attention_without_a_batch_is_fused_from_torch_2_14_on() -> None:
    shapes = []

    def run() -> None:
        query, key = zeros(4, 32, 64, dtype=BFLOAT), zeros(4, 16, 64, dtype=BFLOAT)
        out = F.scaled_dot_product_attention(query, key, key, zeros(32, 16, dtype=BFLOAT, grad=False))
        out.sum().backward()
        shapes.extend((out.shape, query.grad.shape))

    assert kernel_of("h100", run) == (CUDNN if torch.__version__ >= (2, 14) else MATH)
    assert shapes == [(4, 32, 64), (4, 32, 64)]


def test_torch_is_told_what_the_kernels_can_do() -> None:
    def answers(device: str, dtype: torch.dtype) -> tuple[bool, bool, bool]:
        x = torch.zeros(2, 4, 16, 64, device=device, dtype=dtype)
        params = SDPAParams(x, x, x, None, 0.0, False, False)
        return can_use_cudnn_attention(params), can_use_flash_attention(params), can_use_efficient_attention(params)

    with gpu("h100"):
        assert answers("cuda", BFLOAT) == (True, True, True)
        assert answers("cuda", FLOAT) == (False, False, True)
        assert answers("cpu", BFLOAT) == (False, False, False)
    with gpu("t4"):
        assert answers("cuda", HALF) == (False, False, True)


def test_causal_biases_take_the_flash_kernel() -> None:
    # torch.nn.attention.bias asks what flash can do, and calls it by itself.
    bias = causal_lower_right(8, 16)

    def run() -> None:
        x = zeros(2, 4, 16, 64, dtype=BFLOAT)
        F.scaled_dot_product_attention(x[:, :, :8], x, x, bias)

    assert FLASH in ops_of("a100", run)


def test_flash_pads_heads_to_eights() -> None:
    def shapes() -> None:
        out = attend(width=20)
        assert (out.shape, out.stride(-2)) == ((2, 4, 32, 20), 24)

    assert ops_of("a100", shapes).count("constant_pad_nd") == 3


def test_efficient_attention_pads_masks_to_eights() -> None:
    # 32 queries x 31 keys of a mask: rows of 31 are padded to 32 and cut again.
    names = ops_of("a100", lambda: attend(mask=BFLOAT, keys=31))
    assert names[-4:] == ["constant_pad_nd", "slice", "expand", EFFICIENT]


def test_norms_and_activations_keep_their_fused_kernels() -> None:
    def run() -> None:
        x = zeros(4, 64)
        nn.RMSNorm(64, device="cuda")(x).sum().backward()
        F.silu(x).sum().backward()
        F.mish(x).sum().backward()

    names = ops_of("h100", run)
    assert {"_fused_rms_norm", "_fused_rms_norm_backward", "silu_backward", "mish_backward"} <= set(names)
    assert not {"rsqrt", "sigmoid"} & set(names)


def test_rms_norm_of_another_type_than_its_weight_is_composed() -> None:
    with pytest.warns(UserWarning, match="Mismatch dtype"):
        names = ops_of("h100", lambda: F.rms_norm(zeros(4, 64, dtype=BFLOAT), (64,), zeros(64)))
    assert "_fused_rms_norm" not in names
    assert "rsqrt" in names


@pytest.mark.parametrize(
    ("dtype", "shape", "affine", "kernel"),
    [
        # _select_batch_norm_backend: cuDNN from three dimensions on, affine, not in bfloat16.
        (FLOAT, (2, 8, 4, 4), True, "cudnn_batch_norm"),
        (FLOAT, (2, 8), True, "native_batch_norm"),
        (FLOAT, (2, 8, 4, 4), False, "native_batch_norm"),
        (BFLOAT, (2, 8, 4, 4), True, "native_batch_norm"),
        # Half inputs with float32 weights, as autocast makes them, but not half weights.
        (HALF, (2, 8, 4), True, "native_batch_norm"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(dtype: torch.dtype, shape: tuple[int, ...], affine: bool, kernel: str, training: bool) -> None:
    def run() -> None:
        weight = zeros(8, dtype=dtype) if affine else None
        mean, var = zeros(8, dtype=dtype, grad=False), zeros(8, dtype=dtype, grad=False)
        F.batch_norm(zeros(*shape, dtype=dtype), mean, var, weight, weight, training).sum().backward()

    assert kernel in ops_of("h100", run)


def test_batch_norm_of_halves_with_wide_weights_is_cudnns() -> None:
    def run() -> None:
        F.batch_norm(zeros(2, 8, 4, dtype=HALF), zeros(8, grad=False), zeros(8, grad=False), zeros(8), zeros(8), True)

    assert "cudnn_batch_norm" in ops_of("h100", run)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_one_op_each_way(layer: Callable[..., nn.Module]) -> None:
    def run() -> None:
        model = layer(16, 32, 2, bidirectional=True, batch_first=True, device="cuda")
        out, hidden = model(zeros(4, 10, 16))
        assert out.shape == (4, 10, 64)
        assert (hidden[0] if isinstance(hidden, tuple) else hidden).shape == (4, 4, 32)
        out.sum().backward()
        assert all(each.grad is not None and each.grad.shape == each.shape for each in model.parameters())

    names = ops_of("h100", run)
    assert (names.count("_cudnn_rnn"), names.count("_cudnn_rnn_backward")) == (1, 1)


def test_projected_and_packed_lstms() -> None:
    # Three sequences of 10, 7 and 3 steps: 20 rows.
    lengths = torch.tensor([3] * 3 + [2] * 4 + [1] * 3)

    def run() -> None:
        layer = nn.LSTM(16, 32, proj_size=8, device="cuda")
        states = zeros(1, 3, 8), zeros(1, 3, 32)
        out, hidden, cell = torch.lstm(zeros(20, 16), lengths, states, layer._flat_weights, True, 1, 0.0, True, False)
        assert (out.shape, hidden.shape, cell.shape) == ((20, 8), (1, 3, 8), (1, 3, 32))

    with gpu("h100"), Seen() as seen:
        run()
    assert "_cudnn_rnn" in seen.names


def test_convolutions_lie_as_cudnn_lays_them() -> None:
    with gpu("h100"):
        conv = nn.Conv2d(8, 16, 3, device="cuda")
        x = zeros(2, 8, 12, 12)
        assert conv(x).stride() == (1600, 100, 10, 1)
        assert conv(x.to(memory_format=torch.channels_last)).stride() == (1600, 1, 160, 16)
        # cuDNN's channels-last kernels have no float64.
        wide = nn.Conv2d(8, 16, 3, device="cuda", dtype=DOUBLE)
        assert wide(zeros(2, 8, 12, 12, dtype=DOUBLE).to(memory_format=torch.channels_last)).is_contiguous()


def test_the_bias_of_a_strided_input_is_added_in_place() -> None:
    names = ops_of("h100", lambda: nn.Linear(16, 8, device="cuda")(zeros(2, 16, 4).transpose(1, 2)))
    assert "add_" in names
    assert "add" not in names


def test_optimizers_and_clipping_take_lists() -> None:
    def run() -> None:
        parameters = [nn.Parameter(zeros(4, 4)) for _ in range(2)]
        assert _default_to_fused_or_foreach(parameters, False, use_fused=True) == (True, False)
        assert _default_to_fused_or_foreach(parameters, False, use_fused=False) == (False, True)
        for each in parameters:
            each.grad = zeros(4, 4, grad=False)
        nn.utils.clip_grad_norm_(parameters, 1.0)

    assert "_foreach_norm" in ops_of("h100", run)


def test_pinning_leaves_a_tensor_as_it_is() -> None:
    with gpu("h100"):
        x = torch.zeros(4)
        assert x.pin_memory().cuda(non_blocking=True).device.type == "cuda"


def test_inference_mode_takes_the_same_ways() -> None:
    @torch.inference_mode()
    def run() -> None:
        attend(grad=False)
        F.batch_norm(*[zeros(2, 8, 4, grad=False), *[zeros(8, grad=False)] * 4])
        F.rms_norm(zeros(4, 64, grad=False), (64,), zeros(64, grad=False))

    assert {CUDNN, "cudnn_batch_norm", "_fused_rms_norm"} <= set(ops_of("h100", run))


def test_the_innermost_gpu_counts() -> None:
    with gpu("h100"):
        assert kernel_of("a100", attend) == FLASH
        assert kernel_of("h100", attend) == CUDNN


def test_nothing_is_left_behind() -> None:
    def way(device: str) -> list[str]:
        with Seen() as seen:
            x = torch.zeros(2, 4, 16, 64, device=device, requires_grad=True)
            F.scaled_dot_product_attention(x, x, x).sum().backward()
            nn.RMSNorm(64, device=device)(x).sum().backward()
            nn.BatchNorm2d(4, device=device)(x).sum().backward()
        return seen.names

    def fail() -> None:
        with gpu("h100"):
            # Real tensors are not led anywhere within either.
            with _disable_current_modes():
                assert (way("cpu"), way("meta")) == before
            raise ZeroDivisionError

    before = way("cpu"), way("meta")
    with pytest.raises(ZeroDivisionError):
        fail()
    assert (way("cpu"), way("meta")) == before
    assert _default_to_fused_or_foreach([torch.zeros(1)], False, use_fused=False) == (False, False)
