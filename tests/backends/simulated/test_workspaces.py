"""Memory that kernels take for themselves, op by op, worked by hand. Tensors are meta: only their layout counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_flopguard.backends.simulated.gpus import gpu_named
from pytest_flopguard.backends.simulated.hidden_memory import EstimatedWorkspace
from pytest_flopguard.backends.simulated.workspaces import TABLE, UnknownWorkspace, hidden

aten = torch.ops.aten
HALF, BFLOAT, FLOAT = torch.float16, torch.bfloat16, torch.float32


def meta(*shape: int, dtype: torch.dtype = FLOAT) -> Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def taken(op: Any, *args: Any, out: Any = None, gpu: str = "h100", **kwargs: Any) -> tuple[int, ...]:
    found = hidden(op, args, kwargs, op(*args, **kwargs) if out is None else out, gpu_named(gpu))
    assert isinstance(found, tuple), found
    return found


def unknown(op: Any, *args: Any, out: Any = (), gpu: str = "h100", **kwargs: Any) -> UnknownWorkspace:
    found = hidden(op, args, kwargs, out, gpu_named(gpu))
    assert isinstance(found, UnknownWorkspace), found
    return found


@pytest.mark.parametrize(
    ("op", "args"),
    [
        (aten.add.Tensor, (meta(4, 4), meta(4, 4))),
        (aten.mul_.Tensor, (meta(4, 4), meta(4, 4))),
        (aten.view.default, (meta(4, 4), [16])),
        (aten.gelu.default, (meta(4, 4),)),
        (aten.cat.default, ([meta(4, 4), meta(4, 4)],)),
        (aten._foreach_add.Scalar, ([meta(4, 4)], 1)),
        (aten.embedding.default, (meta(10, 4), meta(3, dtype=torch.int64))),
        (aten.maximum.default, (meta(1 << 20), meta(1 << 20))),
    ],
)
def test_elementwise_ops_views_and_lists_take_none(op: Any, args: tuple[Any, ...]) -> None:
    assert taken(op, *args) == ()


def test_products_copy_what_lies_neither_by_rows_nor_by_columns() -> None:
    rows, columns = meta(8, 16), meta(32, 16).t()
    assert taken(aten.mm.default, rows, columns) == ()
    # Every second column of [8, 32] is strided both ways: a clone of 8 * 16 * 4 B.
    assert taken(aten.mm.default, meta(8, 32)[:, ::2], columns) == (512,)
    assert taken(aten.addmm.default, meta(32), meta(8, 32)[:, ::2], columns) == (512,)
    # Rows of a wider matrix are read where they are.
    assert taken(aten.mm.default, meta(8, 64)[:, :16], columns) == ()
    # One row expanded to 128: its stride is 0, less than its length.
    expanded = meta(8, 1, 64).expand(8, 128, 64)
    assert taken(aten.bmm.default, expanded, meta(8, 64, 4)) == (8 * 128 * 64 * 4,)


def test_where_moves_cpu_scalars_and_casts() -> None:
    condition, x = meta(1000, dtype=torch.bool), meta(1000)
    on_cpu = torch.tensor(0.0)
    assert taken(aten.where.self, condition, x, x, out=x) == ()
    assert taken(aten.where.self, condition, on_cpu, x, out=x) == (4,)
    # bfloat16 joins float32: 1000 elements are cast.
    assert taken(aten.where.self, condition, meta(1000, dtype=BFLOAT), x, out=x) == (4000,)


def test_sums_widen_what_they_add_up() -> None:
    # test_reductions.py works these two out: 128 partial sums and one semaphore.
    assert taken(aten.sum.default, meta(1 << 20)) == (512, 4)
    # 16 bits: 8 values at once change nothing here, and partial sums are float32.
    assert taken(aten.sum.default, meta(1 << 20, dtype=BFLOAT)) == (512, 4)
    # bool is summed in int64, which is a copy of 8 B an element; partial sums are int64 too.
    assert taken(aten.sum.default, meta(1 << 20, dtype=torch.bool)) == (8 << 20, 1024, 4)
    assert taken(aten.sum.dim_IntList, meta(8192, 3072), [0]) == (4 * 3072 * 88 * 128, 96)
    assert taken(aten.sum.dim_IntList, meta(8192, 3072), [1]) == ()
    assert taken(aten.mean.dim, meta(8192, 3072), [0]) == (4 * 3072 * 88 * 128, 96)


def test_reductions_with_more_than_a_number_take_more() -> None:
    # A value and its place are 16 B, mean and variance with their counts as well; a flag is one.
    assert taken(aten.argmax.default, meta(1 << 20)) == (16 * 128, 4)
    assert taken(aten.max.dim, meta(1 << 20), 0) == (16 * 128, 4)
    assert taken(aten.max.default, meta(1 << 20)) == (512, 4)
    assert taken(aten.max.other, meta(1 << 20), meta(1 << 20)) == ()
    assert taken(aten.var_mean.correction, meta(1 << 20)) == (16 * 128, 4)
    assert taken(aten.any.default, meta(1 << 20, dtype=torch.bool)) == (128, 4)
    assert taken(aten.linalg_vector_norm.default, meta(1 << 20)) == (512, 4)


def test_logsumexp_keeps_maxima_and_a_difference() -> None:
    # 64 rows of 1000: 64 maxima, and x less them; rows of 1000 are not shared.
    assert taken(aten.logsumexp.default, meta(64, 1000), [1]) == (256, 256_000)


def test_the_backward_of_a_softmax_multiplies_first() -> None:
    # tmp = grad * output, of the output's size.
    scores = meta(2, 4, 64, 64, dtype=BFLOAT)
    args = (scores, scores, -1, BFLOAT)
    assert taken(aten._softmax_backward_data.default, *args) == (2 * 4 * 64 * 64 * 2,)
    assert taken(aten._log_softmax_backward_data.default, *args) == ()


def test_flash_attention_keeps_sums_in_float32_on_the_way_back() -> None:
    q = meta(2, 16, 1000, 80, dtype=BFLOAT)
    # softmax_d: 4 B * 2 * 16 * 1024 (1000 in whole blocks of 128); dq_accum: with heads of 96 (80 in steps of 32).
    softmax = 4 * 2 * 16 * 1024
    assert flash_backward(q, q) == (softmax, softmax * 96)
    # Four heads of keys and values: dk and dv are first made for all 16, 2 B * 2 * 1000 * 16 * 80 each.
    every = 2 * 2 * 1000 * 16 * 80
    assert flash_backward(q, meta(2, 4, 1000, 80, dtype=BFLOAT)) == (softmax, softmax * 96, every, every)


def flash_backward(query: Tensor, key: Tensor) -> tuple[int, ...]:
    grad = query.transpose(1, 2).contiguous().transpose(1, 2)
    args = (grad, query, key, key, grad, meta(2, 16, 1000), None, None, 1000, 1000, 0.0, True, None, None)
    return taken(aten._scaled_dot_product_flash_attention_backward.default, *args, out=(query, key, key))


def test_flash_attention_copies_gradients_that_lie_otherwise() -> None:
    q = meta(2, 16, 128, 64, dtype=BFLOAT)
    args = (q, q, q, q, q, meta(2, 16, 128), None, None, 128, 128, 0.0, True, None, None)
    found = taken(aten._scaled_dot_product_flash_attention_backward.default, *args, out=(q, q, q))
    # Gradient and output are [B, H, T, D] in memory, and the kernel reads [B, T, H, D].
    assert found[:2] == (q.numel() * 2,) * 2


def test_flash_attention_splits_keys_where_queries_are_few() -> None:
    def forward(queries: int, keys: int, dropout: float = 0.0) -> tuple[int, ...]:
        q, k = meta(1, 8, queries, 64, dtype=BFLOAT), meta(1, 8, keys, 64, dtype=BFLOAT)
        return taken(aten._scaled_dot_product_flash_attention.default, q, k, k, dropout, out=(q,))

    # Training: 1 * 8 * 2048 / 64 = 256 blocks of queries, over 0.8 * 2 * 132.
    assert forward(2048, 2048) == ()
    # Decoding one token over 4096: 8 blocks for 264 places; 16 blocks of 256 keys. 16 parts are 128 blocks, 128 / 264
    # of a wave, the best; 0.85 of that begin at 16 (8 parts: 64 / 264). Sums: 4 B * 16 * 8, outputs 64 times that.
    assert forward(1, 4096) == (512, 512 * 64)
    assert forward(1, 4096, dropout=0.1) == ()


def test_efficient_attention_in_float32_multiplies_gradient_and_output() -> None:
    q = meta(2, 4, 100, 64)
    grad = q.transpose(1, 2).contiguous().transpose(1, 2)
    args = (grad, q, q, q, None, grad, meta(2, 4, 128), None, None, 0.0, [True] * 3 + [False])
    # grad_out * out of 2 * 4 * 100 * 64 floats and its sum over heads' width.
    found = taken(aten._scaled_dot_product_efficient_attention_backward.default, *args, out=(q, q, q, None))
    assert found == (4 * 2 * 4 * 100 * 64, 4 * 2 * 4 * 100)


def test_efficient_attention_in_16_bits_accumulates_in_tiles() -> None:
    q = meta(2, 4, 100, 64, dtype=HALF)
    grad = q.transpose(1, 2).contiguous().transpose(1, 2)
    args = (grad, q, q, q, None, grad, meta(2, 4, 128), None, None, 0.0, [True] * 3 + [False])
    # Two tiles of 64 queries for each of 8 heads: 64 x 64 float32 and four words.
    found = taken(aten._scaled_dot_product_efficient_attention_backward.default, *args, out=(q, q, q, None))
    assert found == (4 * 2 * 4 * 100, 4 * 8 * 2 * (64 * 64 + 4))


def test_efficient_attention_of_grouped_heads_writes_gradients_of_every_query_head() -> None:
    q, k, v = meta(2, 4, 100, 64), meta(2, 2, 50, 64), meta(2, 2, 50, 32)
    grad = meta(2, 100, 4, 32).transpose(1, 2)
    args = (grad, q, k, v, None, grad, meta(2, 4, 128), None, None, 0.0, [True] * 3 + [False])
    found = unknown(aten._scaled_dot_product_efficient_attention_backward.default, *args, out=(q, k, v, None))
    # grad_out * out and its sum; then 2 * 4 heads * 50 keys of 64 and of 32 floats.
    alone = (4 * 2 * 4 * 100 * 32, 4 * 2 * 4 * 100)
    assert found.known == (*alone, 4 * 2 * 4 * 50 * 64, 4 * 2 * 4 * 50 * 32)
    assert "grouped heads" in found.reason


def test_index_put_sorts_what_it_accumulates() -> None:
    weight, ids = meta(10_000, 256), meta(4096, dtype=torch.int64)
    values = meta(4096, 256)
    # Recorded: five int64 for each of 4096, and 72,191 B of cub: keys up to 9,999 have 14 bits, two passes.
    # 2 * 256 counts of 8 B, 2 blocks * 256 of 4 B, two counters in 256 B, 2 * 8 B * 4096, and 255 to align it.
    found = taken(aten.index_put.default, weight, [ids], values, True, gpu="a100")
    assert found == (32_768,) * 5 + (72_191,)
    assert taken(aten.index_put.default, weight, [ids], values) == ()
    assert taken(aten.index_put_.default, weight, [ids], values, True, gpu="a100") == found
    # A row for all is first written out: 4096 * 256 floats.
    assert taken(aten.index_put.default, weight, [ids], meta(256), True)[0] == 4096 * 256 * 4


def test_indices_on_the_cpu_are_copied_to_the_gpu() -> None:
    weight, ids, values = meta(10, 4), torch.zeros(3, dtype=torch.int64), meta(3, 4)
    assert taken(aten.index.Tensor, weight, [meta(3, dtype=torch.int64)], out=values) == ()
    assert taken(aten.index.Tensor, weight, [ids], out=values) == (24,)
    assert taken(aten.index_put.default, weight, [None, ids], torch.tensor(0.0), out=weight) == (24, 4)


def test_few_indices_are_sorted_in_one_block() -> None:
    found = taken(aten.index_put.default, meta(100, 8), [meta(2304, dtype=torch.int64)], meta(2304, 8), True)
    assert found == (18_432,) * 5 + (1,)


def test_the_backward_of_an_embedding_sums_parts_of_rows() -> None:
    def backward(number: int, rows: int, dtype: torch.dtype = FLOAT) -> tuple[int, ...]:
        ids, grad = meta(number, dtype=torch.int64), meta(number, 768, dtype=dtype)
        return taken(aten.embedding_dense_backward.default, grad, ids, rows, -1, False)

    assert backward(3072, 50_257) == ()
    # 8192 ids of 50,257 rows: at most 8192 segments, 819 + 8192 parts. Two orders and the segments' starts, 8 B each;
    # two numbers; parts of a segment and where they start; and where each part starts; sums of 768 floats.
    ids = 8 * 8192
    assert backward(8192, 50_257) == (ids, ids, ids, 8, ids, ids, 8, 8 * 9011, 4 * 9011 * 768)
    # 16-bit gradients are summed in float32 as well.
    assert backward(8192, 50_257, BFLOAT)[-1] == 4 * 9011 * 768


def test_an_embedding_of_few_rows_is_summed_another_way() -> None:
    found = unknown(
        aten.embedding_dense_backward.default, meta(8192, 8), meta(8192, dtype=torch.int64), 2, -1, False, gpu="h100"
    )
    assert "8192 indices of 2 rows" in found.reason


def test_norms_sum_gradients_of_many_short_rows_in_parts() -> None:
    def backward(rows: int, width: int) -> tuple[int, ...]:
        x, w = meta(rows, width), meta(width)
        stat = meta(rows, 1)
        args = (x, x, [width], stat, stat, w, w, [True] * 3)
        return taken(aten.native_layer_norm_backward.default, *args, out=(x, w, w))

    assert backward(8192, 768) == ()
    assert backward(65_536, 768) == ()
    # Over 64 Ki rows: 768 / 32 = 24 blocks across, under 132 / 2; 32,768 / 24 = 1365 down, less than 65,537 / 32.
    # Two of 1365 x 768 floats, then summed: 32 x 4 threads, 1365 / 4 = 342 values, 6 output blocks of 128 outputs:
    # min(2112 / 6, 342 / 16) = 22 blocks share them: 4 B * 768 * 22 * 128.
    partial = 1365 * 768 * 4
    assert backward(65_537, 768) == (partial, partial, 4 * 768 * 22 * 128, 24)


def test_group_norm_scales_channels() -> None:
    x, w = meta(8, 256, 32, 32), meta(256)
    # Scale and shift of 8 * 256 channels.
    assert taken(aten.native_group_norm.default, x, w, w, 8, 256, 1024, 32, 1e-5) == (8192, 8192)
    stat = meta(8, 32)
    args = (x, x, stat, stat, w, 8, 256, 1024, 32, [True] * 3)
    # Two sums a channel; a factor a channel and two a group of 8 * 32.
    assert taken(aten.native_group_norm_backward.default, *args, out=(x, w, w)) == (8192, 8192, 8192, 1024, 1024)


def test_the_norm_of_a_list_has_a_part_for_every_chunk() -> None:
    # 1,000,000 elements are 16 chunks of 65,536: as many for each of 20 tensors, in float32.
    assert taken(aten._foreach_norm.Scalar, [meta(1000, 1000)] * 20) == (20 * 16 * 4,)


def test_losses_are_made_for_every_element_first() -> None:
    x, target = meta(512, 512), meta(512, 512)
    # 2^18 floats, and their mean: 512 threads of 512 values, 512 / 16 = 32 blocks.
    assert taken(aten.mse_loss.default, x, target) == (1 << 20, 128, 4)
    assert taken(aten.mse_loss.default, x, target, 0) == ()
    assert taken(aten.mse_loss.default, x, target, reduction=0) == ()
    # The logarithm of the sigmoid besides.
    logits = (x, target, None, None)
    assert taken(aten.binary_cross_entropy_with_logits.default, *logits, 1) == (1 << 20, 1 << 20, 128, 4)
    assert taken(aten.binary_cross_entropy_with_logits.default, *logits, 0) == (1 << 20,)


def test_ops_of_several_steps_keep_what_is_between() -> None:
    scores = meta(2, 4, 16, 16)
    # softmax in float32, a flag an element and a row, and two scalars.
    assert taken(aten._safe_softmax.default, scores, -1) == (2 * 4 * 16 * 16 * 4, 4, 2048, 128, 4)
    assert taken(aten.isinf.default, scores) == (8192,)
    assert taken(aten.isinf.default, meta(4, dtype=torch.int64)) == ()
    assert taken(aten.roll.default, scores, [1], [0]) == ()
    assert taken(aten.roll.default, scores, [1, 1], [0, 1]) == (8192,)


def test_ops_of_others_are_unknown() -> None:
    @torch.library.custom_op("flopguard_test_workspaces::twice", mutates_args=())
    def twice(x: Tensor) -> Tensor:
        return 2 * x

    twice.register_fake(torch.empty_like)
    op = torch.ops.flopguard_test_workspaces.twice.default
    assert unknown(op, meta(4)).reason == "what flopguard_test_workspaces::twice takes for itself over 4 float32"


@pytest.mark.parametrize(
    ("op", "args", "reason"),
    [
        (aten._fft_r2c.default, (meta(8, 64), [1], 0, True), "cuFFT's workspace over 8x64 float32"),
        (aten.linalg_cholesky_ex.default, (meta(8, 8),), "cuSOLVER's workspace over 8x8 float32"),
        (aten.kthvalue.default, (meta(100), 5), "what selecting the k-th value takes over 100 float32"),
        (aten.sort.default, (meta(2, 5000),), "cub's storage for sorting rows of 5000"),
        (aten.topk.default, (meta(1 << 20), 100), "the storage of topk over 1 rows of 1048576"),
        (aten.cumsum.default, (meta(1 << 20), 0), "cub's storage for a scan over 1048576"),
        (
            aten._scaled_dot_product_cudnn_attention.default,
            (meta(2, 4, 64, 64, dtype=BFLOAT),) * 3,
            "cuDNN's workspace for attention over 2x4x64x64 bfloat16",
        ),
    ],
)
def test_what_only_a_library_knows_is_told_by_name(op: Any, args: tuple[Any, ...], reason: str) -> None:
    assert unknown(op, *args).reason == reason


@pytest.mark.parametrize(
    ("op", "args"),
    [
        (aten.linalg_cross.default, (meta(4, 3), meta(4, 3))),
        (aten.sort.default, (meta(2, 4096),)),
        (aten.topk.default, (meta(4096, 64), 2)),
        (aten.cumsum.default, (meta(4, 4096), 1)),
    ],
)
def test_small_sorts_and_scans_of_rows_take_none(op: Any, args: tuple[Any, ...]) -> None:
    assert taken(op, *args) == ()


def convolution(x: Tensor, weight: Tensor, groups: int = 1, gpu: str = "h100") -> tuple[int, ...] | UnknownWorkspace:
    args = (x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], groups)
    # No padding: 16 - 3 + 1.
    out = meta(x.shape[0], weight.shape[0], 14, 14, dtype=x.dtype)
    found = hidden(aten.convolution.default, args, {}, out, gpu_named(gpu))
    assert not isinstance(found, EstimatedWorkspace)
    return found


def test_convolutions_are_cudnns() -> None:
    x, weight = meta(2, 8, 16, 16), meta(16, 8, 3, 3)
    found = convolution(x, weight)
    assert isinstance(found, UnknownWorkspace)
    assert found.reason == "cuDNN's workspace for a convolution over 2x8x16x16 float32 and 16x8x3x3 float32"
    assert found.known == ()
    # Channels last on one side: the other is copied to lie so.
    last = convolution(x.to(memory_format=torch.channels_last), weight)
    assert isinstance(last, UnknownWorkspace)
    assert last.known == (16 * 8 * 9 * 4,)


def test_one_filter_a_channel_is_torchs_own() -> None:
    assert convolution(meta(2, 8, 16, 16), meta(8, 1, 3, 3), groups=8) == ()


def test_bfloat16_convolutions_need_an_ampere() -> None:
    found = convolution(meta(2, 8, 16, 16, dtype=BFLOAT), meta(16, 8, 3, 3, dtype=BFLOAT), gpu="t4")
    # torch's own kernel unfolds one sample: 8 x 3 x 3 x 14 x 14 of 2 bytes.
    assert found == (28_224,)


def test_every_name_in_the_table_is_an_op_of_torch() -> None:
    known = {name.split(".")[0] for name in torch._C._dispatch_get_all_op_names()}
    assert set(TABLE) <= known
