"""Training compute from parameters and tokens: C = 6ND, and the unit petaFLOP/s-day."""

from __future__ import annotations

from pytest_flopguard.formulas.sizes import positive, whole

# 2 FLOPs for each parameter and token forward, twice that backward.
FORWARD = 2
TRAINING = 6
# In an encoder-decoder a token passes one half of the parameters.
ENCODER_DECODER_TRAINING = 3
PF_DAY = 10**15 * 24 * 60 * 60


def training_compute(parameters: int, tokens: int, *, per_parameter: int = TRAINING) -> int:
    """C = 6*N*D FLOPs, exact. Attention's share that grows with the context is left out.

    Which parameters N counts is the caller's choice: Kaplan leaves embeddings out, GPT-3 and PaLM take them in, and
    exact is N = matrix parameters with the output head once. ``per_parameter=3`` is GPT-3's rule for T5,
    whose tokens meet half of the parameters; 4 is a frozen layer that hands gradients on (2 forward, 2 backward).
    Kaplan et al. 2020 (arXiv 2001.08361) section 2.1; Brown et al. 2020 (arXiv 2005.14165) table D.1.
    """
    factor = positive("FLOPs per parameter and token", per_parameter)
    return factor * positive("parameters", parameters) * positive("tokens", tokens)


def forward_compute(parameters: int, tokens: int) -> int:
    """2*N*D FLOPs: a forward pass, attention's share that grows with the context left out."""
    return training_compute(parameters, tokens, per_parameter=FORWARD)


def inference_compute(parameters: int, *, batch: int, new_tokens: int, context: int, layers: int, width: int) -> int:
    """B*S*(2*N + 4*L*h*S') FLOPs of S new tokens that each meet S' keys, dense; N with the embedding, as printed.

    A systems engineer's quantitative analysis of Llama 3, section 2.
    """
    tokens = positive("batch", batch) * positive("new tokens", new_tokens)
    attention = 4 * positive("layers", layers) * positive("width", width) * whole("context", context)
    return tokens * (FORWARD * positive("parameters", parameters) + attention)


def pf_days(flops: int) -> float:
    """PetaFLOP/s-days: C / (1e15 * 86,400), a float."""
    return whole("FLOPs", flops) / PF_DAY
