"""The ops that attention is written with, by what they do to scores and weights."""

from __future__ import annotations

# Where the two operands stand, and before them what is added.
PRODUCTS = {
    "aten.mm": 0,
    "aten.bmm": 0,
    "aten.matmul": 0,
    "aten.linear": 0,
    "aten.addmm": 1,
    "aten.baddbmm": 1,
    "aten.addbmm": 1,
}
SOFTMAX = {"aten._softmax", "aten._safe_softmax", "aten.softmax", "aten.special_softmax"}
SOFTMAX_BACKWARD = {"aten._softmax_backward_data"}
ADDED = {"aten.add", "aten.add_", "aten.sub", "aten.sub_"}
FILLED = {"aten.masked_fill", "aten.masked_fill_"}
CHOSEN = {"aten.where"}
# What leaves each pair where it is, and a hidden one hidden.
KEEP = {
    "aten._reshape_copy",
    "aten._to_copy",
    "aten._unsafe_view",
    "aten.cat",
    "aten.clone",
    "aten.copy",
    "aten.div",
    "aten.div_",
    "aten.expand_copy",
    "aten.mul",
    "aten.mul_",
    "aten.native_dropout",
    "aten.native_dropout_backward",
    "aten.slice_backward",
    "aten.tanh",
    "aten.tanh_",
    "aten.tanh_backward",
    "aten.view_copy",
}
# What may be given a mask and the number to write there.
WRITE = ("fill", "scatter", "index_put", "index_copy", "copy_", "put")
# What takes single numbers or sums out of scores: no scores any more.
PICK = {"aten.gather", "aten.index", "aten.index_select", "aten.take", "aten.diagonal_copy", "aten.select_backward"}
FLEX = {"higher_order.flex_attention", "higher_order.flex_attention_backward"}
# Arguments of fused attention that hold a mask: true or a finite number is a pair to compute.
MASK_ARGUMENTS = ("attn_mask", "attn_bias", "bias")
OWN_MASK = {"aten._native_multi_head_attention", "aten._transformer_encoder_layer_fwd"}
