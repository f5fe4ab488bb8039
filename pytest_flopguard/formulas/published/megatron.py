"""Megatron-LM's ``num_floating_point_operations`` (megatron/training/training.py): FLOPs of one training step.

Core attention is causal, s/2 keys a token, and packed sequences count each by its own length; routers are left out;
latent attention adds its two norms. Forward and backward (three times forward), nothing recomputed.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_flopguard.core.errors import SizeError, message
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.published.linear_elements import layer_elements
from pytest_flopguard.formulas.sizes import positive, whole


def training_flops(sizes: DecoderSizes, lengths: Sequence[int], *, mtp_layers: int = 0) -> int:
    """FLOPs of one step over sequences of some lengths.

    6*T*(linear + hV(1 + m) + m(3h + 2h^2)) + 6*sum(s^2)*a*d*L, or for latent attention 3*sum(s^2)*a*(n + r + v)*L
    with a*(n + r) and a*v as the widths. ``sizes.vocab`` is the padded vocabulary; m = ``mtp_layers`` are layers of
    multi-token prediction, each one more layer of the last layer's kind. Windows are not known to it: SizeError.
    """
    if any(sizes.windows):
        rule = "no window: Megatron-LM's formula counts full causal attention"
        raise SizeError(message("bad-size", name="windows", value=max(sizes.windows), rule=rule))
    m, h = whole("mtp layers", mtp_layers), sizes.width
    tokens = sum(positive("length", each) for each in lengths)
    linear = layer_elements(sizes, routing=False) + sizes.layers * _latent_norms(sizes)
    if m:
        linear += m * (_last_layer(sizes) + _latent_norms(sizes) + 3 * h + 2 * h * h)
    per_token = linear + h * sizes.vocab * (1 + m)
    core = sizes.heads * (sizes.query_width + sizes.value_width) * (sizes.layers + m)
    return 6 * tokens * per_token + 3 * core * sum(each * each for each in lengths)


def _latent_norms(sizes: DecoderSizes) -> int:
    return 0 if sizes.latent is None else sizes.latent.q_rank + sizes.latent.kv_rank


def _last_layer(sizes: DecoderSizes) -> int:
    experts = sizes.experts is not None and sizes.layers - 1 not in sizes.dense_layers
    mixing = sizes.expert_matrices() if experts else sizes.mlp_matrices()
    found = (*sizes.attention_matrices(), *mixing)
    return sum(each.used * each.elements for each in found if each.name not in ("router", "shared_gate"))
