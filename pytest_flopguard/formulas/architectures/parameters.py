"""How many parameters a decoder has, part by part, from the sizes that its FLOPs come from."""

from __future__ import annotations

from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes


def decoder_parameters(sizes: DecoderSizes) -> dict[str, int]:
    """Parameters of a decoder by part, exact, each shared one once.

    Embedding V*h and a learned position table; each layer its matrices and biases and norms; the last norms; the head
    V*h unless it is tied. Checks: Llama 2*V*h + L*(h*(h + 2*kv) + h^2 + 3*h*f + 2*h) + h; GPT-2 V*h + n*h +
    L*(12*h^2 + 13*h) + 2*h; BLOOM V*h + L*(12*h^2 + 13*h) + 4*h.
    """
    norm = sizes.width * (2 if sizes.norm_bias else 1)
    found = {"embedding": sizes.vocab * sizes.width}
    if sizes.positions:
        found["positions"] = sizes.positions * sizes.width
    for matrix in sizes.attention_matrices():
        found[matrix.name] = sizes.layers * matrix.parameters
    dense = sizes.layers - sizes.expert_layers
    if dense:
        found |= {each.name: dense * each.parameters for each in sizes.mlp_matrices()}
    if sizes.expert_layers:
        found |= {each.name: sizes.expert_layers * each.parameters for each in sizes.expert_matrices()}
    latent = sizes.latent
    inner = 0 if latent is None else latent.q_rank + latent.kv_rank
    found["norms"] = sizes.layers * (sizes.layer_norms * norm + inner + sizes.layer_extra) + sizes.outer_norms * norm
    if not sizes.tied:
        found["lm_head"] = sizes.head_matrix().parameters
    return {name: number for name, number in found.items() if number}


def active_parameters(sizes: DecoderSizes) -> int:
    """Parameters that one token meets: all but the experts it is not given to, embedding and head included."""
    found = sum(decoder_parameters(sizes).values())
    for matrix in sizes.expert_matrices():
        found -= sizes.expert_layers * (matrix.parameters - matrix.active_parameters)
    return found


def matrix_parameters(sizes: DecoderSizes) -> int:
    """Parameters that one token is multiplied with: the matrices of its layers, its experts and the head.

    No embedding that is only looked up, no biases, no norms. Twice this is a token's forward without attention over the
    context.
    """
    dense = sizes.layers - sizes.expert_layers
    layered = (
        (sizes.layers, sizes.attention_matrices()),
        (dense, sizes.mlp_matrices() if dense else ()),
        (sizes.expert_layers, sizes.expert_matrices()),
        (1, (sizes.head_matrix(),)),
    )
    return sum(times * each.used * each.elements for times, matrices in layered for each in matrices)
