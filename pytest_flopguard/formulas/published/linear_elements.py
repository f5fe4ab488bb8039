"""Elements of weight matrices that one token is multiplied with, as training tools count them."""

from __future__ import annotations

from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes

_ROUTING = ("router", "shared_gate")


def layer_elements(sizes: DecoderSizes, *, routing: bool) -> int:
    """Return the elements of all layers that one token meets, chosen experts only, the head left out.

    ``routing`` takes the router (and the gate of shared experts) in, which some tools leave out.
    """
    attention = sum(each.elements for each in sizes.attention_matrices())
    dense = sum(each.elements for each in sizes.mlp_matrices())
    experts = sum(each.used * each.elements for each in sizes.expert_matrices() if routing or each.name not in _ROUTING)
    return sizes.layers * attention + (sizes.layers - sizes.expert_layers) * dense + sizes.expert_layers * experts
