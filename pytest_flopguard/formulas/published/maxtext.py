"""MaxText's TFLOP per step: learnable weights and attention told apart, forward and backward.

AI-Hypercomputer/maxtext, pull requests 644, 1988 and 2009. Before 1988 attention was dense (12), since then causal (6).
"""

from __future__ import annotations

from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.published.linear_elements import layer_elements
from pytest_flopguard.formulas.sizes import positive


def learnable_flops(sizes: DecoderSizes, *, batch: int, sequence: int) -> int:
    """6*B*s*(matrix elements that a token meets, routers and unembedding in, embedding lookup out)."""
    tokens = positive("batch", batch) * positive("sequence", sequence)
    return 6 * tokens * (layer_elements(sizes, routing=True) + sizes.width * sizes.vocab)


def attention_flops(sizes: DecoderSizes, *, batch: int, sequence: int, causal: bool = True) -> int:
    """12*B*s^2*a*d per layer dense, 6 causal; under a window w < s 12*B*a*d*(s*w - w^2/2) either way.

    For keys and values of unlike width, d is their mean (latent attention: 6 or 3 * B*s^2*a*(n + r + v)).
    """
    both = sizes.heads * (sizes.query_width + sizes.value_width) * positive("batch", batch)
    s = positive("sequence", sequence)
    windows = sizes.windows or (0,) * sizes.layers
    full = 3 * s * s if causal else 6 * s * s
    # 6 * (s*w - w^2/2) is whole as it stands here.
    return both * sum(6 * s * w - 3 * w * w if 0 < w < s else full for w in windows)


def training_flops(sizes: DecoderSizes, *, batch: int, sequence: int, causal: bool = True) -> int:
    """Return the sum that MaxText divides by the step's time."""
    return learnable_flops(sizes, batch=batch, sequence=sequence) + attention_flops(
        sizes, batch=batch, sequence=sequence, causal=causal
    )
