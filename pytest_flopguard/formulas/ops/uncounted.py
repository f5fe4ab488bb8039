"""Ops that do arithmetic which the convention leaves out: elementwise, normalisation, softmax, pooling, losses.

Ops that torch tags as pointwise or reduction need no row here. The convention is the literature's: only products
(matrix products, convolutions, attention) count, since they are what grows with the square of the width.
"""

from __future__ import annotations

_NORMALISATION = """
native_layer_norm native_layer_norm_backward native_group_norm native_group_norm_backward native_batch_norm
native_batch_norm_backward cudnn_batch_norm cudnn_batch_norm_backward miopen_batch_norm miopen_batch_norm_backward
_native_batch_norm_legit _native_batch_norm_legit_functional _native_batch_norm_legit_no_training
_batch_norm_no_update _batch_norm_with_update _batch_norm_with_update_functional batch_norm_backward batch_norm_stats
batch_norm_elemt batch_norm_backward_reduce batch_norm_backward_elemt batch_norm_gather_stats
batch_norm_gather_stats_with_counts batch_norm_update_stats _fused_rms_norm _fused_rms_norm_backward
_weight_norm_interface _weight_norm_interface_backward renorm
"""

_SOFTMAX_AND_LOSSES = """
_softmax _softmax_backward_data _log_softmax _log_softmax_backward_data _safe_softmax _masked_softmax
_masked_softmax_backward softmax log_softmax logsumexp _logcumsumexp log_sigmoid_forward log_sigmoid_backward
nll_loss_forward nll_loss_backward nll_loss2d_forward nll_loss2d_backward mse_loss mse_loss_backward huber_loss
huber_loss_backward smooth_l1_loss smooth_l1_loss_backward soft_margin_loss soft_margin_loss_backward
binary_cross_entropy binary_cross_entropy_backward binary_cross_entropy_with_logits multi_margin_loss
multi_margin_loss_backward multilabel_margin_loss_forward multilabel_margin_loss_backward _ctc_loss
_ctc_loss_backward _cudnn_ctc_loss
"""

_ACTIVATIONS = """
glu glu_backward gelu_backward elu_backward leaky_relu_backward hardsigmoid_backward hardswish hardswish_backward
hardtanh_backward hardshrink_backward softshrink_backward softplus_backward threshold_backward sigmoid_backward
tanh_backward silu_backward mish_backward _prelu_kernel _prelu_kernel_backward rrelu_with_noise
rrelu_with_noise_backward native_dropout native_dropout_backward _fused_dropout _masked_scale
"""

_POOLING_AND_SAMPLING = """
avg_pool1d avg_pool2d avg_pool2d_backward avg_pool3d avg_pool3d_backward adaptive_avg_pool1d _adaptive_avg_pool2d
_adaptive_avg_pool2d_backward _adaptive_avg_pool3d _adaptive_avg_pool3d_backward max_pool2d_with_indices
max_pool2d_with_indices_backward max_pool3d_with_indices max_pool3d_with_indices_backward adaptive_max_pool2d
adaptive_max_pool2d_backward adaptive_max_pool3d adaptive_max_pool3d_backward max_unpool2d max_unpool3d
fractional_max_pool2d fractional_max_pool2d_backward fractional_max_pool3d fractional_max_pool3d_backward
mkldnn_max_pool2d mkldnn_max_pool3d mkldnn_adaptive_avg_pool2d grid_sampler_2d grid_sampler_2d_backward
grid_sampler_3d grid_sampler_3d_backward _grid_sampler_2d_cpu_fallback affine_grid_generator upsample_linear1d
upsample_linear1d_backward upsample_bilinear2d upsample_bilinear2d_backward upsample_bicubic2d
upsample_bicubic2d_backward upsample_trilinear3d upsample_trilinear3d_backward upsample_nearest1d
upsample_nearest1d_backward upsample_nearest2d upsample_nearest2d_backward upsample_nearest3d
upsample_nearest3d_backward _upsample_nearest_exact1d _upsample_nearest_exact1d_backward _upsample_nearest_exact2d
_upsample_nearest_exact2d_backward _upsample_nearest_exact3d _upsample_nearest_exact3d_backward
_upsample_bilinear2d_aa _upsample_bilinear2d_aa_backward _upsample_bicubic2d_aa _upsample_bicubic2d_aa_backward
col2im
"""

_REDUCTIONS = """
sum mean prod var var_mean std std_mean nansum norm native_norm linalg_vector_norm dist amax amin aminmax _aminmax
max min median nanmedian mode all any count_nonzero cumsum cumprod cummax cummin logcumsumexp trace bincount histc
_cummax_helper _cummin_helper trapezoid
"""

_ACCUMULATION = """
embedding_dense_backward _embedding_bag _embedding_bag_forward_only _embedding_bag_backward
_embedding_bag_dense_backward index_add index_reduce scatter_add scatter_reduce segment_reduce
_segment_reduce_backward _unsafe_masked_index_put_accumulate unfold_backward reflection_pad1d_backward
reflection_pad2d_backward reflection_pad3d_backward replication_pad1d_backward replication_pad2d_backward
replication_pad3d_backward
"""

_ELEMENTWISE = """
add sub mul div floor_divide remainder pow polar abs copysign heaviside linalg_cross _add_relu
_amp_foreach_non_finite_check_and_unscale _amp_update_scale _fused_adam _fused_adamw _fused_sgd _fused_adagrad
_foreach_norm _foreach_powsum quantize_per_tensor quantize_per_channel quantize_per_tensor_dynamic dequantize
fake_quantize_per_tensor_affine_cachemask fake_quantize_per_channel_affine_cachemask
_fake_quantize_per_tensor_affine_cachemask_tensor_qparams _compute_linear_combination
"""

# One row per elementwise function that optimizers apply to lists of tensors.
_FOREACH = """
abs acos add addcdiv addcmul asin atan ceil clamp_max clamp_min clone copy cos cosh div erf erfc exp expm1 floor
frac lerp lgamma log log10 log1p log2 max maximum minimum mul neg pow reciprocal round rsqrt sigmoid sign sin sinh
sqrt sub tan tanh trunc zero
"""

# What torch's own Python decompositions end in, under torch.func transforms for one.
_PRIMS = """
acos acosh add asin asinh atan atan2 atanh bessel_i0 bessel_i0e bessel_i1 bessel_i1e bessel_j0 bessel_j1 bitwise_and
bitwise_or bitwise_xor cbrt ceil cos cosh div eq erf erf_inv erfc erfcx exp expm1 floor fmod frexp gcd ge gt isfinite
le lgamma log log10 log1p lt maximum_value minimum_value mul ndtri ne neg pow prod remainder round shift_left
shift_right_arithmetic sin sinh spherical_bessel_j0 sqrt sub sum tan tanh xor_sum zeta
"""

UNCOUNTED: tuple[str, ...] = (
    *(
        f"aten.{name}"
        for names in (
            _NORMALISATION,
            _SOFTMAX_AND_LOSSES,
            _ACTIVATIONS,
            _POOLING_AND_SAMPLING,
            _REDUCTIONS,
            _ACCUMULATION,
            _ELEMENTWISE,
        )
        for name in dict.fromkeys(names.split())
    ),
    *(f"aten._foreach_{name}" for name in _FOREACH.split()),
    *(f"prims.{name}" for name in _PRIMS.split()),
)
