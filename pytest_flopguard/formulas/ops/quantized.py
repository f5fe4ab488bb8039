"""Products on quantized numbers. An integer multiply-add counts as one on floats does: 2 FLOPs.

Packed weights hide their shape. A linear layer's follows from its input and its result; a convolution's is unpacked
for its size. Scaling before and after is elementwise and left out.
"""

from __future__ import annotations

from math import prod
from typing import Any

from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops import matmul
from pytest_flopguard.formulas.registry import formula

_PACKING = """
conv1d_prepack conv1d_unpack conv2d_prepack conv2d_unpack conv2d_unpack_sizes conv3d_prepack conv3d_unpack
conv_prepack conv_unpack conv_transpose1d_prepack conv_transpose1d_unpack conv_transpose2d_prepack
conv_transpose2d_unpack conv_transpose3d_prepack conv_transpose3d_unpack embedding_bag_prepack embedding_bag_unpack
embedding_bag_2bit_prepack embedding_bag_2bit_unpack embedding_bag_4bit_prepack embedding_bag_4bit_unpack
embedding_bag_byte_prepack embedding_bag_byte_unpack linear_prepack linear_prepack_fp16 linear_unpack
linear_unpack_fp16 linear_prepack_legacy linear_prepack_fp16_legacy embedding_bag_2bit_prepack_with_rowwise_min_max
embedding_bag_4bit_prepack_with_rowwise_min_max embedding_bag_byte_prepack_with_rowwise_min_max
make_quantized_cell_params make_quantized_cell_params_dynamic make_quantized_cell_params_fp16
"""

# The same under older names, and the layouts of other libraries.
_OLD_PACKING = """
_quantized._wrapped_linear_prepack _quantized.conv2d_prepack _quantized.conv3d_prepack
_quantized.conv_transpose1d_prepack _quantized.conv_transpose2d_prepack _quantized.conv_transpose3d_prepack
_quantized.linear_prepack _quantized.linear_prepack_fp16 _quantized.linear_prepack_fp16_legacy
_quantized.linear_prepack_legacy _quantized.wrapped_fbgemm_pack_gemm_matrix_fp16 mkl._mkl_reorder_linear_weight
mkldnn._get_mkldnn_serialized_md mkldnn._nbytes mkldnn._reorder_convolution_transpose_weight
mkldnn._reorder_convolution_weight mkldnn._reorder_linear_weight mkldnn.data_ptr mkldnn_prepacked.conv2d_prepack
onednn.linear_prepack_fp16 onednn.qconv_prepack onednn.qlinear_prepack sparse.qlinear_prepack
"""

_QUESTIONS = "stride padding output_padding dilation groups transpose"

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
    *(f"quantized.{name}" for name in _PACKING.split()),
    *(
        f"quantized.{conv}_{question}"
        for conv in ("conv2d", "conv3d", "conv_transpose2d", "conv_transpose3d")
        for question in _QUESTIONS.split()
    ),
    *_OLD_PACKING.split(),
    "quantized_decomposed.convert_element_type",
)

# "quantized.add" and its kin are told by the op on floats that they are named after.
_ELEMENTWISE = """
add_out add_relu add_relu_out add_scalar add_scalar_out add_scalar_relu add_scalar_relu_out mul_out mul_relu
mul_relu_out mul_scalar mul_scalar_out mul_scalar_relu mul_scalar_relu_out batch_norm batch_norm1d batch_norm1d_relu
batch_norm2d batch_norm2d_relu batch_norm3d batch_norm3d_relu batch_norm_relu cat cat_out cat_relu cat_relu_out
dropout embedding_4bit embedding_byte group_norm instance_norm layer_norm max_pool1d max_pool2d prelu relu6
"""

# What the exported graph of a quantized model calls: scales from minimum and maximum, rounding, and back.
_DECOMPOSED = """
choose_qparams choose_qparams_per_token choose_qparams_per_token_asymmetric choose_qparams_symmetric
dequantize_per_channel dequantize_per_channel_group dequantize_per_tensor dequantize_per_token fake_quant_per_channel
quantize_per_channel quantize_per_channel_group quantize_per_tensor quantize_per_token
"""

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
    *(f"quantized.{name}" for name in _ELEMENTWISE.split()),
    *(f"quantized_decomposed.{name}" for name in _DECOMPOSED.split()),
    "_quantized.add",
    "quantization._Bfloat16QuantizedToFloat",
    "quantization._FloatToBfloat16Quantized",
    *(f"onednn.{name}" for name in ("qadd", "qadd_relu", "qmul", "qbatch_norm2d")),
)


@formula(
    "aten._weight_int4pack_mm",
    "aten._weight_int4pack_mm_for_cpu",
    "aten._weight_int4pack_mm_with_scales_and_zeros",
    "aten._weight_int8pack_mm",
    "aten._mixed_dtypes_linear",
    "aten._dyn_quant_matmul_4bit",
    "aten.fbgemm_linear_int8_weight",
    "aten.fbgemm_linear_fp16_weight",
    "quantized.int4mm_packed_weight_cpu",
    "quantized.linear",
    "quantized.linear_relu",
    "quantized.linear_leaky_relu",
    "quantized.linear_tanh",
    "quantized.linear_dynamic",
    "quantized.linear_relu_dynamic",
    "quantized.linear_dynamic_fp16",
    "quantized.linear_relu_dynamic_fp16",
    "quantized.linear_dynamic_fp16_unpacked_weight",
    "quantized.linear_with_input_q_dq_qweight_dq_output_fp32",
    "quantized.linear_with_input_q_dq_qweight_dq_relu_output_fp32",
    "_quantized.linear",
    "_quantized.linear_dynamic",
    "_quantized._wrapped_quantized_linear_prepacked",
    "_quantized.wrapped_quantized_linear",
    "_quantized.wrapped_fbgemm_linear_fp16_weight",
    "onednn.linear_dynamic_fp16",
    "onednn.linear_relu_dynamic_fp16",
    "onednn.qlinear_pointwise",
)
def linear(x: TensorSpec, *_: Any, out: TensorSpec, **__: Any) -> int:
    """[*, K] and a weight of [N, K]: 2 * numel(x) * N, with N from the result."""
    return 2 * x.numel * out.shape[-1]


@formula("quantized.matmul")
def product(a: TensorSpec, b: TensorSpec, *_: Any) -> int:
    """As matmul."""
    return matmul.matmul(a, b)


def _passes(weight: TensorSpec, positions: TensorSpec) -> int:
    return 2 * weight.numel * positions.shape[0] * prod(positions.shape[2:])


def _packed_weight(arguments: tuple[Any, ...]) -> TensorSpec:
    weight: TensorSpec = next(each.weight for each in arguments if hasattr(each, "weight"))
    return weight


@formula(
    "quantized.conv1d",
    "quantized.conv1d_relu",
    "quantized.conv1d_dynamic",
    "quantized.conv2d",
    "quantized.conv2d_relu",
    "quantized.conv2d_add",
    "quantized.conv2d_add_relu",
    "quantized.conv2d_dynamic",
    "quantized.conv3d",
    "quantized.conv3d_relu",
    "quantized.conv3d_dynamic",
    "_quantized.conv2d",
    "_quantized.conv2d_relu",
    "_quantized.conv3d",
    "_quantized.conv3d_relu",
)
def convolution(x: TensorSpec, *rest: Any, out: TensorSpec, **_: Any) -> int:
    """The packed weight once for each batch item and output position: 2 * numel(weight) * batch * positions."""
    return _passes(_packed_weight(rest), out)


@formula(
    "quantized.conv_transpose1d",
    "quantized.conv_transpose1d_dynamic",
    "quantized.conv_transpose2d",
    "quantized.conv_transpose2d_dynamic",
    "quantized.conv_transpose3d",
    "quantized.conv_transpose3d_dynamic",
    "_quantized.conv_transpose1d",
    "_quantized.conv_transpose2d",
)
def transposed_convolution(x: TensorSpec, *rest: Any, **_: Any) -> int:
    """The packed weight once for each batch item and input position."""
    return _passes(_packed_weight(rest), x)


@formula("onednn.qconv_pointwise", "onednn.qconv1d_pointwise", "onednn.qconv2d_pointwise", "onednn.qconv3d_pointwise")
def onednn_convolution(
    x: TensorSpec, x_scale: Any, x_zero_point: Any, weight: TensorSpec, *_: Any, out: TensorSpec, **__: Any
) -> int:
    """The weight, with its groups in a dimension of their own or not, once for each output position."""
    return _passes(weight, out)


@formula(
    "quantized.embedding_bag_byte",
    "quantized.embedding_bag_4bit",
    "quantized.embedding_bag_byte_rowwise_offsets",
    "quantized.embedding_bag_4bit_rowwise_offsets",
    "quantized.embedding_bag_2bit_rowwise_offsets",
)
def embedding_bag(table: Any, indices: TensorSpec, *rest: Any, out: TensorSpec, **_: Any) -> int:
    """With weights 2 * indices * D; else sums alone: 0."""
    weights = rest[4] if len(rest) > 4 else None
    return 2 * indices.numel * out.shape[-1] if weights is not None else 0
