"""Attention where each query meets a few keys, chosen by position: strides, blocks, windows, low rank.

Every closed form is the mixer alone, without q, k, v and o: join ``projections`` of mixer.py. Unless a docstring says
otherwise, pairs inside a block count whether a mask hides them or not, as kernels compute them; softmax, masks and
gathering are elementwise or moves, 0; backward is twice the forward. Symbols: B batch, n positions, d width (all heads
together). 1 multiply-add = 2 FLOPs.
"""

from __future__ import annotations

from pytest_flopguard.formulas.architectures.mixer import breakdown, sizes
from pytest_flopguard.formulas.breakdown import Breakdown, Term
from pytest_flopguard.formulas.sizes import divided, whole


def softmax(*, batch: int = 1, seq: int, width: int, keys: int | None = None) -> Breakdown:
    """Every query meets every key: 4*B*n*m*d; a mask changes nothing of it. ``keys`` m is n where not given.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), equation 1.
    """
    B, n, d, m = sizes(batch=batch, seq=seq, width=width, keys=seq if keys is None else keys)
    one = 2 * B * n * m * d
    terms = (
        Term(name="scores", equation="2*B*n*m*d", each=one),
        Term(name="values", equation="2*B*n*m*d", each=one),
    )
    return breakdown("softmax attention", "Vaswani et al. 2017, equation 1", terms, B=B, n=n, m=m, d=d)


def _pairs(name: str, source: str, pairs: str, count: int, B: int, d: int, **symbols: int) -> Breakdown:
    """A breakdown of scores and values for a number of (query, key) pairs, which an equation tells."""
    each = 2 * B * d * count
    equation = f"2*B*d*({pairs})"
    terms = (Term(name="scores", equation=equation, each=each), Term(name="values", equation=equation, each=each))
    return breakdown(name, source, terms, B=B, d=d, **symbols)


def sparse_strided(*, batch: int = 1, seq: int, width: int, stride: int, causal: bool = False) -> Breakdown:
    """Sparse Transformer, strided: a window of s positions and every s-th position before.

    In blocks, a query meets its own and the previous block and one position of each block: n*(2s + n/s) pairs, which
    with s = sqrt(n) is 3*n^1.5. ``causal`` counts the allowed pairs alone: i - j <= s or s divides i - j, for j <= i.
    Code that masks a full score matrix costs ``softmax``, 4*B*n*n*d, instead.
    Source: Child et al. 2019 (arXiv 1904.10509), section 4.3.
    """
    B, d = sizes(batch=batch, width=width)
    m = divided("seq", seq, "stride", stride)
    n, s = seq, stride
    dense, exact = "n*(2*s + n//s)", "n*(s + 1) - s*(s + 1)//2 + s*(n//s - 1)*(n//s - 2)//2"
    count = n * (s + 1) - s * (s + 1) // 2 + s * (m - 1) * (m - 2) // 2 if causal else n * (2 * s + m)
    source = "Child et al. 2019, section 4.3"
    return _pairs("strided attention", source, exact if causal else dense, count, B, d, n=n, s=s)


def sparse_fixed(
    *, batch: int = 1, seq: int, width: int, stride: int, summary: int = 1, causal: bool = False
) -> Breakdown:
    """Sparse Transformer, fixed: a query's own block of s positions, and the last c positions of every block.

    n*(s + c*n/s) pairs, with s = sqrt(n) and c = 1 it is 2*n^1.5. ``causal`` counts the allowed pairs alone.
    Source: Child et al. 2019 (arXiv 1904.10509), section 4.3.
    """
    B, d, c = sizes(batch=batch, width=width, summary=summary)
    m = divided("seq", seq, "stride", stride)
    n, s = seq, stride
    dense, exact = "n*(s + c*n//s)", "n*(s + 1)//2 + s*c*(n//s)*(n//s - 1)//2"
    count = n * (s + 1) // 2 + s * c * m * (m - 1) // 2 if causal else n * (s + c * m)
    source = "Child et al. 2019, section 4.3"
    return _pairs("fixed sparse attention", source, exact if causal else dense, count, B, d, n=n, s=s, c=c)


def blockwise(*, batch: int = 1, seq: int, width: int, blocks: int) -> Breakdown:
    """BlockBERT: each head's blocks of queries meet one permuted block of keys: n*n/blocks pairs.

    Source: Qiu et al. 2019 (arXiv 1911.02972), section 3.1.
    """
    B, d = sizes(batch=batch, width=width)
    size = divided("seq", seq, "blocks", blocks)
    source = "Qiu et al. 2019, section 3.1"
    return _pairs("blockwise attention", source, "n*(n//b)", seq * size, B, d, n=seq, b=blocks)


def sliding_window(*, batch: int = 1, seq: int, width: int, window: int) -> Breakdown:
    """Longformer as the paper draws it: w keys on either side and the query's own: n*(2w + 1) pairs.

    Positions beyond the ends are counted. What is shipped computes more: see ``longformer``.
    Source: Beltagy et al. 2020 (arXiv 2004.05150), section 3.1.
    """
    B, n, d, w = sizes(batch=batch, seq=seq, width=width, window=window)
    source = "Beltagy et al. 2020, section 3.1"
    return _pairs("sliding window attention", source, "n*(2*w + 1)", n * (2 * w + 1), B, d, n=n, w=w)


def longformer(*, batch: int = 1, seq: int, width: int, window: int, global_tokens: int = 0) -> Breakdown:
    """Longformer as transformers ships it: overlapping chunks of 2w, w keys on either side of a query.

    Scores: n/w - 1 chunks of 2w queries and 2w keys, 8*B*w*(n - w)*d. Values: n/w chunks of w queries and 3w keys,
    6*B*n*w*d. With g global tokens in each sequence, all queries also meet them, and they meet all keys by
    projections of their own; their queries' projection is for g positions, keys' and values' for n.
    Its ``attention_window`` is 2w, and n is a multiple of it.
    Source: Beltagy et al. 2020 (arXiv 2004.05150), section 3.1; transformers, LongformerSelfAttention.
    """
    B, d, w = sizes(batch=batch, width=width, window=window)
    divided("seq", seq, "2 * window", 2 * w)
    n, g = seq, whole("global_tokens", global_tokens)
    chunks: tuple[Term, ...] = (
        Term(name="scores", equation="8*B*w*(n - w)*d", each=8 * B * w * (n - w) * d),
        Term(name="values", equation="6*B*n*w*d", each=6 * B * n * w * d),
    )
    if g:
        one = 2 * B * g * n * d
        chunks += (
            Term(name="global_keys", equation="2*B*g*n*d", each=one, times=2),
            Term(name="global_queries", equation="2*B*g*n*d", each=one, times=2),
            Term(name="global_projections", equation="2*B*(g + 2*n)*d*d", each=2 * B * (g + 2 * n) * d * d),
        )
    return breakdown("Longformer attention", "Beltagy et al. 2020, section 3.1", chunks, B=B, n=n, d=d, w=w, g=g)


def bigbird(*, batch: int = 1, seq: int, width: int, block: int, random_blocks: int) -> Breakdown:
    """BigBird in blocks of b: nb = n/b of them, r random keys' blocks for each block of queries.

    The first and the last block meet all nb, the second and the last but one 4 + r, the others 5 + r (3 of a window, 2
    global ones): b*b*(2nb + 2(4 + r) + (nb - 4)(5 + r)) pairs. Up to (5 + 2r)*b positions transformers computes the
    full matrix, and so does this formula.
    Source: Zaheer et al. 2020 (arXiv 2007.14062), section 2 and appendix D; transformers, BigBirdBlockSparseAttention.
    """
    B, d = sizes(batch=batch, width=width)
    nb = divided("seq", seq, "block", block)
    b, r = block, whole("random_blocks", random_blocks)
    equation, count = "b*b*(2*nb + 2*(4 + r) + (nb - 4)*(5 + r))", b * b * (2 * nb + 2 * (4 + r) + (nb - 4) * (5 + r))
    if nb <= 5 + 2 * r:
        equation, count = "b*b*nb*nb", b * b * nb * nb
    source = "Zaheer et al. 2020, appendix D"
    return _pairs("BigBird attention", source, equation, count, B, d, b=b, nb=nb, r=r)


def linformer(*, batch: int = 1, seq: int, width: int, rank: int) -> Breakdown:
    """Linformer: keys and values are projected from n to k positions, [k, n] @ [n, d] each, then all queries meet k.

    Projections 4*B*k*n*d, attention 4*B*n*k*d. The projections may be shared by heads; that changes no count.
    Source: Wang et al. 2020 (arXiv 2006.04768), equation 7.
    """
    B, n, d, k = sizes(batch=batch, seq=seq, width=width, rank=rank)
    one = 2 * B * n * k * d
    terms = (
        Term(name="length_projection", equation="2*B*n*k*d", each=one, times=2),
        Term(name="scores", equation="2*B*n*k*d", each=one),
        Term(name="values", equation="2*B*n*k*d", each=one),
    )
    return breakdown("Linformer attention", "Wang et al. 2020, equation 7", terms, B=B, n=n, d=d, k=k)
