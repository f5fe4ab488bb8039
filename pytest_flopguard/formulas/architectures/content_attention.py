"""Attention where each query meets a few keys, chosen by content: hashes, clusters, sorted blocks.

Every closed form is the mixer alone, without the projections of queries, keys, values and the output: join
``projections`` of mixer.py, 3 of them where queries and keys are one. What chooses (hashes, distances to centroids)
passes no gradient, so its backward is 0; all else costs twice its forward there. Sorting, top-k, gathering and softmax
count 0. Symbols: B batch, n positions, d width (all heads together). 1 multiply-add = 2 FLOPs.
"""

from __future__ import annotations

from pytest_flopguard.formulas.architectures.mixer import breakdown, sizes
from pytest_flopguard.formulas.breakdown import Breakdown, Term
from pytest_flopguard.formulas.sizes import divided, whole


def reformer(
    *, batch: int = 1, seq: int, width: int, chunk: int, hashes: int, buckets: int, before: int = 1, after: int = 0
) -> Breakdown:
    """Reformer's LSH attention: in each of r rounds, sorted chunks of c meet themselves and neighbours.

    A hash is a product with buckets/2 random directions: B*n*d*r*nb. Scores and values: 2*B*r*n*c*(1 + before +
    after)*d each, which is 8*B*n*c*d*r together with one chunk before. Queries and keys are one: 3 projections.
    ``buckets`` nb is the sum of its factors where it is factorised. Reversible layers run again in backward with their
    hashes kept: with F the forward of the layers, forward, recompute and backward are 4*F - 3*hash.
    Source: Kitaev et al. 2020 (arXiv 2001.04451), sections 2 and 3; transformers, LSHSelfAttention.
    """
    B, d, r = sizes(batch=batch, width=width, hashes=hashes)
    divided("seq", seq, "chunk", chunk)
    divided("buckets", buckets, "the two signs of a direction", 2)
    n, c, near = seq, chunk, 1 + whole("before", before) + whole("after", after)
    hashed, one = B * n * d * r * buckets, 2 * B * r * n * c * near * d
    terms = (
        Term(name="hash", equation="B*n*d*r*nb", each=hashed, backward_each=0),
        Term(name="scores", equation="2*B*r*n*c*near*d", each=one),
        Term(name="values", equation="2*B*r*n*c*near*d", each=one),
    )
    symbols = {"B": B, "n": n, "d": d, "c": c, "r": r, "nb": buckets, "near": near}
    return breakdown("LSH attention", "Kitaev et al. 2020, section 2", terms, **symbols)


def chunked_local(*, batch: int = 1, seq: int, width: int, chunk: int, before: int = 1, after: int = 0) -> Breakdown:
    """Reformer's local layers: chunks of c meet themselves and their neighbours, 4 projections.

    4*B*n*c*(1 + before + after)*d. The first chunk's neighbour is the last one: every chunk has as many.
    Source: transformers, LocalSelfAttention of Reformer.
    """
    B, d = sizes(batch=batch, width=width)
    divided("seq", seq, "chunk", chunk)
    n, c, near = seq, chunk, 1 + whole("before", before) + whole("after", after)
    one = 2 * B * n * c * near * d
    terms = (
        Term(name="scores", equation="2*B*n*c*near*d", each=one),
        Term(name="values", equation="2*B*n*c*near*d", each=one),
    )
    return breakdown("local attention", "Kitaev et al. 2020", terms, B=B, n=n, d=d, c=c, near=near)


def routing(*, batch: int = 1, seq: int, width: int, clusters: int, causal: bool = True) -> Breakdown:
    """Routing Transformer: each of k clusters takes the n/k nearest positions, which meet one another.

    Distances to centroids 2*B*n*k*d, once in a causal model, where keys are the queries (3 projections), and for
    queries and keys otherwise. Scores and values 4*B*n*(n/k)*d; with k = sqrt(n) all of it is O(n^1.5 * d).
    Centroids move by a running mean: elementwise. Source: Roy et al. 2020 (arXiv 2003.05997), section 4.1, Algorithm 1.
    """
    B, d = sizes(batch=batch, width=width)
    members = divided("seq", seq, "clusters", clusters)
    n, k = seq, clusters
    one = 2 * B * n * members * d
    terms = (
        Term(name="hash", equation="2*B*n*k*d", each=2 * B * n * k * d, times=1 if causal else 2, backward_each=0),
        Term(name="scores", equation="2*B*n*(n//k)*d", each=one),
        Term(name="values", equation="2*B*n*(n//k)*d", each=one),
    )
    return breakdown("routing attention", "Roy et al. 2020, Algorithm 1", terms, B=B, n=n, d=d, k=k)


def clustered(
    *, batch: int = 1, seq: int, width: int, heads: int, clusters: int, bits: int, top_keys: int = 0
) -> Breakdown:
    """Clustered attention: C centroids of queries meet all keys; ``top_keys`` k > 0 is the improved form.

    Hash of queries by ``bits`` directions in each head 2*B*n*bits*d; K-means on the bits, means and broadcasts are
    elementwise or moves. Centroids: scores 2*B*C*n*d, values 2*B*C*n*d. Improved: every query also meets the k best
    keys of its cluster itself, 2*B*n*k*d for scores and for values.
    Source: Vyas et al. 2020 (arXiv 2007.04825), sections 3.2 and 3.3.
    """
    B, n, h, C, bits = sizes(batch=batch, seq=seq, heads=heads, clusters=clusters, bits=bits)
    divided("width", width, "heads", h)
    d, k = width, whole("top_keys", top_keys)
    one = 2 * B * C * n * d
    terms: tuple[Term, ...] = (
        Term(name="hash", equation="2*B*n*bits*d", each=2 * B * n * bits * d, backward_each=0),
        Term(name="scores", equation="2*B*C*n*d", each=one),
        Term(name="values", equation="2*B*C*n*d", each=one),
    )
    if k:
        best = 2 * B * n * k * d
        terms += (
            Term(name="top_scores", equation="2*B*n*k*d", each=best),
            Term(name="top_values", equation="2*B*n*k*d", each=best),
        )
    source = "Vyas et al. 2020, sections 3.2 and 3.3"
    return breakdown("clustered attention", source, terms, B=B, n=n, d=d, C=C, k=k, bits=bits)


def sinkhorn(*, batch: int = 1, seq: int, width: int, blocks: int) -> Breakdown:
    """Sparse Sinkhorn attention: k blocks of b = n/k; a query meets its own block and one that was sorted to it.

    Sorting logits of pooled blocks (one linear layer for each head) 2*B*k*k*d; keys and values are each multiplied with
    the soft permutation [k, k] @ [k, b*d]: 2*B*k*n*d twice; scores and values of 2b keys 8*B*n*b*d. Balancing is
    elementwise. Source: Tay et al. 2020 (arXiv 2002.11296), sections 3.1 and 3.2.
    """
    B, d = sizes(batch=batch, width=width)
    b = divided("seq", seq, "blocks", blocks)
    n, k = seq, blocks
    terms = (
        Term(name="sort_logits", equation="2*B*k*k*d", each=2 * B * k * k * d),
        Term(name="sort", equation="2*B*k*n*d", each=2 * B * k * n * d, times=2),
        Term(name="scores", equation="4*B*n*b*d", each=4 * B * n * b * d),
        Term(name="values", equation="4*B*n*b*d", each=4 * B * n * b * d),
    )
    return breakdown("Sinkhorn attention", "Tay et al. 2020, section 3", terms, B=B, n=n, d=d, k=k, b=b)
