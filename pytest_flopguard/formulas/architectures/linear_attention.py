"""Linear attention: keys meet values first, phi(Q) (phi(K)^T V), so that the cost grows with n and not with n*n.

Every closed form is the mixer alone, without q, k, v and o: join ``projections`` of mixer.py. All are of the form that
lets every position see every other; causal ones in chunks are in chunked_attention.py. Feature maps that are
elementwise count 0. Backward is twice the forward unless said. Symbols: B batch, n positions, d width (all heads
together), h heads. 1 multiply-add = 2 FLOPs.
"""

from __future__ import annotations

from pytest_flopguard.formulas.architectures.mixer import breakdown, sizes
from pytest_flopguard.formulas.breakdown import Breakdown, Term
from pytest_flopguard.formulas.sizes import divided


def left_product(*, batch: int = 1, seq: int, width: int, heads: int) -> Breakdown:
    """(Q K^T) V without a softmax between: 4*B*n*n*d, the order that a causal mask of scores asks for.

    It is the dearer one where n > d/h; at n = d/h it costs what ``right_product`` does.
    Source: Qin et al. 2022 (arXiv 2210.10340), on kernels without a softmax.
    """
    B, n, d = sizes(batch=batch, seq=seq, width=width)
    divided("width", d, "heads", heads)
    one = 2 * B * n * n * d
    terms = (
        Term(name="scores", equation="2*B*n*n*d", each=one),
        Term(name="values", equation="2*B*n*n*d", each=one),
    )
    return breakdown("left product", "Qin et al. 2022 (arXiv 2210.10340)", terms, B=B, n=n, d=d, h=heads)


def right_product(*, batch: int = 1, seq: int, width: int, heads: int) -> Breakdown:
    """Q (K^T V): each head's state of d/h times d/h, 4*B*n*d*d/h. TransNormer's NormAttention is this and no more.

    Source: Qin et al. 2022 (arXiv 2210.10340), NormAttention.
    """
    B, n = sizes(batch=batch, seq=seq)
    divided("width", width, "heads", heads)
    terms = _products(B, n, width, heads, 1)
    return breakdown(
        "right product", "Qin et al. 2022 (arXiv 2210.10340), NormAttention", terms, B=B, n=n, d=width, h=heads, f=1
    )


def _products(B: int, n: int, d: int, h: int, f: int) -> tuple[Term, Term]:
    """K^T V and Q (K^T V) where feature maps make f features of each of a head's d/h."""
    one = 2 * B * n * f * d * d // h
    return (
        Term(name="state_update", equation="2*B*n*f*d*d//h", each=one),
        Term(name="state_read", equation="2*B*n*f*d*d//h", each=one),
    )


def linear_transformer(*, batch: int = 1, seq: int, width: int, heads: int) -> Breakdown:
    """Linear Transformer: elementwise features (elu + 1), right product, and a normaliser.

    4*B*n*d*d/h, and 2*B*n*d for phi(Q) with the sum of phi(K). Source: Katharopoulos et al. 2020 (arXiv 2006.16236),
    equation 5.
    """
    B, n = sizes(batch=batch, seq=seq)
    divided("width", width, "heads", heads)
    normaliser = Term(name="normalizer", equation="2*B*n*f*d", each=2 * B * n * width)
    terms = (*_products(B, n, width, heads, 1), normaliser)
    source = "Katharopoulos et al. 2020, equation 5"
    return breakdown("linear attention", source, terms, B=B, n=n, d=width, h=heads, f=1)


def cosformer(*, batch: int = 1, seq: int, width: int, heads: int) -> Breakdown:
    """Cosformer: relu features weighted by the cosine and by the sine of the position, twice as many features.

    8*B*n*d*d/h, and 4*B*n*d for the normaliser. Source: Qin et al. 2022 (arXiv 2202.08791), re-weighting by cosines.
    """
    B, n = sizes(batch=batch, seq=seq)
    divided("width", width, "heads", heads)
    normaliser = Term(name="normalizer", equation="2*B*n*f*d", each=4 * B * n * width)
    terms = (*_products(B, n, width, heads, 2), normaliser)
    return breakdown(
        "cosFormer attention", "Qin et al. 2022 (arXiv 2202.08791)", terms, B=B, n=n, d=width, h=heads, f=2
    )


def _random_features(
    name: str, source: str, B: int, n: int, d: int, h: int, m: int, maps: int, trained: bool
) -> Breakdown:
    """Queries and keys times m random directions for each head, of which ``maps`` functions make features."""
    directed, one = 2 * B * n * m * d, 2 * B * n * maps * m * d
    terms = (
        Term(
            name="features",
            equation="2*B*n*m*d",
            each=directed,
            times=2,
            backward_each=None if trained else directed,
        ),
        Term(name="state_update", equation="2*B*n*maps*m*d", each=one),
        Term(name="state_read", equation="2*B*n*maps*m*d", each=one),
        Term(name="normalizer", equation="2*B*n*maps*m*h", each=2 * B * n * maps * m * h),
    )
    return breakdown(name, source, terms, B=B, n=n, d=d, h=h, m=m, maps=maps)


def performer(*, batch: int = 1, seq: int, width: int, heads: int, features: int) -> Breakdown:
    """Performer (FAVOR+): m positive random features in each head.

    Features of q and k 4*B*n*m*d, products 4*B*n*m*d, normaliser 2*B*n*m*h. The directions are drawn, not trained: the
    features' backward is that of q and k alone, once the forward.
    Source: Choromanski et al. 2020 (arXiv 2009.14794), section 2.2.
    """
    B, n, m = sizes(batch=batch, seq=seq, features=features)
    divided("width", width, "heads", heads)
    source = "Choromanski et al. 2020, section 2.2"
    return _random_features("FAVOR+ attention", source, B, n, width, heads, m, maps=1, trained=False)


def rfa(*, batch: int = 1, seq: int, width: int, heads: int, features: int) -> Breakdown:
    """Random feature attention: the sine and the cosine along m random directions in each head.

    Features of q and k 4*B*n*m*d, products of 2m features 8*B*n*m*d (12*B*n*m*d together), normaliser 4*B*n*m*h. The
    directions' scale is trained, so the features' backward is twice their forward.
    Source: Peng et al. 2021 (arXiv 2103.02143), section 3.
    """
    B, n, m = sizes(batch=batch, seq=seq, features=features)
    divided("width", width, "heads", heads)
    source = "Peng et al. 2021, section 3"
    return _random_features("random feature attention", source, B, n, width, heads, m, maps=2, trained=True)
