"""Products on quantized numbers. An integer multiply-add counts as one on floats does: 2 FLOPs."""

from __future__ import annotations

FREE = (
    "aten._convert_weight_to_int4pack",
    "aten._convert_weight_to_int4pack_for_cpu",
    "aten._dyn_quant_pack_4bit_weight",
    "aten._empty_per_channel_affine_quantized",
    "aten._make_per_channel_quantized_tensor",
    "aten._make_per_tensor_quantized_tensor",
    "aten.empty_quantized",
    "aten.int_repr",
    "aten.q_per_channel_scales",
    "aten.q_per_channel_zero_points",
)

UNCOUNTED = (
    "aten._fake_quantize_learnable_per_channel_affine",
    "aten._fake_quantize_learnable_per_tensor_affine",
    "aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
    "aten._fused_moving_avg_obs_fq_helper",
    "aten._fused_moving_avg_obs_fq_helper_functional",
    "aten.dequantize",
    "aten.fake_quantize_per_channel_affine_cachemask",
    "aten.fake_quantize_per_tensor_affine_cachemask",
    "aten.quantize_per_channel",
    "aten.quantize_per_tensor",
    "aten.quantize_per_tensor_dynamic",
    "aten.quantized_batch_norm",
    "aten.quantized_max_pool1d",
    "aten.quantized_max_pool2d",
    "aten.quantized_max_pool3d",
)
