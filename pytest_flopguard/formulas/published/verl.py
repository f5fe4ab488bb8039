"""verl's ``FlopsCounter``: FLOPs of one training step over sequences of unlike lengths.

verl-project/verl, verl/utils/flops_counter.py. The embedding lookup is counted as a product (2Vh and not Vh), and a
window w as s*min(s, w)/2 pairs and not as s*w - w^2/2: both are kept here as the tool has them.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.published.linear_elements import layer_elements
from pytest_flopguard.formulas.sizes import positive


def training_flops(
    sizes: DecoderSizes, lengths: Sequence[int], *, causal: bool = True, query_key_norms: bool = False
) -> int:
    """6*(2Vh + linear)*sum(s) + c*sum(s*min(s, w))*a*d over the layers, c = 6, and 12 before it became causal.

    ``query_key_norms`` adds h + g*d elements a layer, which the tool counts as products for Apertus only.
    Latent attention: 3*sum(s^2)*a*(n + r + v). Its dense version was wrong, 12*sum(s^2)*a*(n + r), and is kept.
    """
    per_token = 2 * sizes.vocab * sizes.width + layer_elements(sizes, routing=True)
    if query_key_norms:
        per_token += sizes.layers * (sizes.width + sizes.kv_heads * sizes.head_dim)
    windows = sizes.windows or (0,) * sizes.layers
    pairs = sum(each * (min(each, w) if w else each) for w in windows for each in lengths)
    core = 3 * (sizes.query_width + sizes.value_width) if causal else 12 * sizes.query_width
    return 6 * per_token * sum(positive("length", each) for each in lengths) + core * sizes.heads * pairs
