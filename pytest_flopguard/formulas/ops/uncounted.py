"""Ops that do arithmetic which the convention leaves out: elementwise, normalisation, softmax, pooling, losses.

Ops that torch tags as pointwise or reduction need no row here, nor do derivatives of ops without products, nor the
same work on a list of tensors: see backends/op_traits.py. The convention is the literature's: only products (matrix
products, convolutions, attention, transforms, factorisations) count, since they are what grows with the square of
the width.
"""

from __future__ import annotations

_NORMALISATION = """
native_layer_norm native_group_norm native_batch_norm cudnn_batch_norm miopen_batch_norm _native_batch_norm_legit
_native_batch_norm_legit_functional _native_batch_norm_legit_no_training _batch_norm_no_update
_batch_norm_with_update _batch_norm_with_update_functional batch_norm_backward batch_norm_stats batch_norm_elemt
batch_norm_backward_reduce batch_norm_backward_elemt batch_norm_gather_stats batch_norm_gather_stats_with_counts
batch_norm_update_stats _fused_rms_norm _weight_norm_interface renorm
"""

_SOFTMAX_AND_LOSSES = """
_softmax _log_softmax _safe_softmax _masked_softmax _nested_tensor_softmax_with_shape softmax log_softmax
_logcumsumexp log_sigmoid_forward log_sigmoid_backward nll_loss_forward nll_loss_backward nll_loss2d_forward
nll_loss2d_backward mse_loss huber_loss smooth_l1_loss soft_margin_loss binary_cross_entropy
binary_cross_entropy_with_logits multi_margin_loss multilabel_margin_loss_forward multilabel_margin_loss_backward
_ctc_loss _cudnn_ctc_loss miopen_ctc_loss
"""

_ACTIVATIONS = """
glu glu_backward glu_backward_jvp hardswish _prelu_kernel rrelu_with_noise rrelu_with_noise_functional native_dropout
_fused_dropout _masked_scale _transform_bias_rescale_qkv
"""

# Pointwise by torch's tags since 2.12 only.
_TAGGED_LATER = "_conj_physical celu elu hardsigmoid hardtanh leaky_relu selu"

_POOLING_AND_SAMPLING = """
avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d
_adaptive_avg_pool3d max_pool2d_with_indices max_pool3d_with_indices max_pool2d_backward adaptive_max_pool2d
adaptive_max_pool3d max_unpool2d max_unpool3d fractional_max_pool2d fractional_max_pool3d mkldnn_max_pool2d
mkldnn_max_pool3d mkldnn_adaptive_avg_pool2d grid_sampler_2d grid_sampler_3d _grid_sampler_2d_cpu_fallback
cudnn_grid_sampler upsample_linear1d upsample_bilinear2d
upsample_bicubic2d upsample_trilinear3d upsample_nearest1d upsample_nearest2d upsample_nearest3d
_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d _upsample_bilinear2d_aa
_upsample_bicubic2d_aa _upsample_lanczos2d_aa col2im
"""

_REDUCTIONS = """
sum native_norm dist _aminmax median nanmedian mode all any cumsum cumprod cummax cummin logcumsumexp trace bincount
histc histogram _histogramdd_bin_edges _histogramdd_from_bin_cts _histogramdd_from_bin_tensors hash_tensor
_cummax_helper _cummin_helper trapezoid _nested_sum_backward
"""

_ACCUMULATION = """
embedding_dense_backward index_add index_reduce scatter_add scatter_reduce
segment_reduce _segment_reduce_backward _unsafe_masked_index_put_accumulate unfold_backward
"""

_ELEMENTWISE = """
add sub mul div floor_divide remainder pow polar copysign linalg_cross _add_relu __irshift__ _dirichlet_grad
_standard_gamma_grad _amp_foreach_non_finite_check_and_unscale _amp_update_scale _fused_adam _fused_adamw _fused_sgd
_fused_adagrad _foreach_powsum
"""

# What torch's own Python decompositions end in, under torch.func transforms for one; most are aten ops by name.
_PRIMS = """
bessel_i0 bessel_i0e bessel_i1 bessel_i1e cbrt erf_inv maximum_value minimum_value shift_left shift_right_arithmetic
xor_sum _low_memory_max_pool_with_offsets _low_memory_max_pool_offsets_to_indices prepare_softmax_online
inductor_cvt_e8m0_rceil
"""

# Gradients that are added up, and a rotation of pairs.
_ELSEWHERE = ("flex_lib.zeros_and_scatter", "inductor.accumulate_grad_", "onnx.RotaryEmbedding")

UNCOUNTED: tuple[str, ...] = (
    *(
        f"aten.{name}"
        for names in (
            _NORMALISATION,
            _SOFTMAX_AND_LOSSES,
            _ACTIVATIONS,
            _TAGGED_LATER,
            _POOLING_AND_SAMPLING,
            _REDUCTIONS,
            _ACCUMULATION,
            _ELEMENTWISE,
        )
        for name in names.split()
    ),
    *(f"prims.{name}" for name in _PRIMS.split()),
    *_ELSEWHERE,
)
