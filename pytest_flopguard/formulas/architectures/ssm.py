"""Selective state spaces: Mamba and Mamba-2, whole layers, projections included.

The recurrence itself is elementwise in Mamba, 0; in Mamba-2 it is matrix products of chunks. Norms, gates, the step's
softplus and skips are elementwise. Backward is twice the forward. Symbols: B batch, n positions, d width, e inner width
(2d mostly), N state, k taps of the short convolution. 1 multiply-add = 2 FLOPs.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_flopguard.formulas.architectures.mixer import breakdown, sizes
from pytest_flopguard.formulas.breakdown import Breakdown, Term
from pytest_flopguard.formulas.sizes import divided


def mamba(*, batch: int = 1, seq: int, width: int, inner: int, state: int, rank: int, taps: int = 4) -> Breakdown:
    """One layer of Mamba: in 2*B*n*d*2e, step and matrices B and C 2*B*n*e*(r + 2N), step 2*B*n*r*e, out 2*B*n*e*d.

    Besides, C reads the state, 2*B*n*e*N, and the depthwise convolution computes n + k - 1 positions of which n are
    kept, 2*B*(n + k - 1)*e*k. The scan, about n*e*N updates, is elementwise. r is ``rank``, the step's.
    Source: Gu and Dao 2023 (arXiv 2312.00752), Algorithm 2 and section 3.4.
    """
    B, n, d, e = sizes(batch=batch, seq=seq, width=width, inner=inner)
    N, r, k = sizes(state=state, rank=rank, taps=taps)
    terms = (
        Term(name="in_proj", equation="4*B*n*d*e", each=4 * B * n * d * e),
        Term(name="conv", equation="2*B*(n + k - 1)*e*k", each=2 * B * (n + k - 1) * e * k),
        Term(name="x_proj", equation="2*B*n*e*(r + 2*N)", each=2 * B * n * e * (r + 2 * N)),
        Term(name="dt_proj", equation="2*B*n*r*e", each=2 * B * n * r * e),
        Term(name="scan", equation="0", each=0),
        Term(name="state_read", equation="2*B*n*e*N", each=2 * B * n * e * N),
        Term(name="out_proj", equation="2*B*n*e*d", each=2 * B * n * e * d),
    )
    source = "Gu and Dao 2023, Algorithm 2"
    return breakdown("Mamba", source, terms, B=B, n=n, d=d, e=e, N=N, r=r, k=k)


def mamba_step(*, batch: int = 1, width: int, inner: int, state: int, rank: int, taps: int = 4) -> Breakdown:
    """One new position of a layer of Mamba, the same after any text: the layer's products, k taps for one position.

    Source: Gu and Dao 2023 (arXiv 2312.00752), Algorithm 2, as a recurrence.
    """
    layer = mamba(batch=batch, seq=1, width=width, inner=inner, state=state, rank=rank, taps=taps)
    # Old inputs of the taps are at hand, where a text of one position has to be filled up on both sides.
    conv = Term(name="conv", equation="2*B*e*k", each=2 * batch * inner * taps)
    terms = tuple(conv if each.name == "conv" else each for each in layer)
    return replace(layer, name="Mamba, one position", terms=terms)


def mamba2(
    *,
    batch: int = 1,
    seq: int,
    width: int,
    heads: int,
    head_width: int,
    state: int,
    groups: int = 1,
    chunk: int,
    taps: int = 4,
) -> Breakdown:
    """One layer of Mamba-2, its state space dual in chunks of Q: H heads of P channels, e = H*P, G groups of B and C.

    in 2*B*n*d*(2e + 2*G*N + H), out 2*B*n*e*d; the convolution runs on e + 2*G*N channels. n is filled up to nc chunks:
    inside a chunk scores 2*Q*Q*N and values 2*Q*Q*P a head, a chunk's state and its reading 2*Q*N*P each. Between
    chunks the states meet by a product with [nc + 1, nc + 1] decays, 2*(nc + 1)^2*N*P a head: quadratic in nc, where a
    scan over chunks would be linear.
    Source: Dao and Gu 2024 (arXiv 2405.21060), section 6, listing 1; transformers, Mamba2Mixer.
    """
    B, n, d, H, P = sizes(batch=batch, seq=seq, width=width, heads=heads, head_width=head_width)
    N, G, Q, k = sizes(state=state, groups=groups, chunk=chunk, taps=taps)
    divided("heads", H, "groups", G)
    e, nc = H * P, -(-n // Q)
    channels, inside = e + 2 * G * N, 2 * B * H * nc * Q
    terms = (
        Term(name="in_proj", equation="2*B*n*d*(2*e + 2*G*N + H)", each=2 * B * n * d * (e + channels + H)),
        Term(name="conv", equation="2*B*(n + k - 1)*(e + 2*G*N)*k", each=2 * B * (n + k - 1) * channels * k),
        Term(name="scores", equation="2*B*H*nc*Q*Q*N", each=inside * Q * N),
        Term(name="values", equation="2*B*H*nc*Q*Q*P", each=inside * Q * P),
        Term(name="state_update", equation="2*B*H*nc*Q*N*P", each=inside * N * P),
        Term(name="state_passing", equation="2*B*H*(nc + 1)*(nc + 1)*N*P", each=2 * B * H * (nc + 1) ** 2 * N * P),
        Term(name="state_read", equation="2*B*H*nc*Q*N*P", each=inside * N * P),
        Term(name="out_proj", equation="2*B*n*e*d", each=2 * B * n * e * d),
    )
    source = "Dao and Gu 2024, listing 1"
    symbols = {"B": B, "n": n, "d": d, "e": e, "H": H, "P": P, "N": N, "G": G, "Q": Q, "nc": nc, "k": k}
    return breakdown("Mamba-2", source, terms, **symbols)


def mamba2_step(
    *, batch: int = 1, width: int, heads: int, head_width: int, state: int, groups: int = 1, taps: int = 4
) -> Breakdown:
    """One new position of a layer of Mamba-2, the same after any text: the state is updated elementwise and read.

    Source: Dao and Gu 2024 (arXiv 2405.21060), section 6.
    """
    B, d, H, P = sizes(batch=batch, width=width, heads=heads, head_width=head_width)
    N, G, k = sizes(state=state, groups=groups, taps=taps)
    divided("heads", H, "groups", G)
    e = H * P
    channels = e + 2 * G * N
    terms = (
        Term(name="in_proj", equation="2*B*d*(2*e + 2*G*N + H)", each=2 * B * d * (e + channels + H)),
        Term(name="conv", equation="2*B*(e + 2*G*N)*k", each=2 * B * channels * k),
        Term(name="scan", equation="0", each=0),
        Term(name="state_read", equation="2*B*e*N", each=2 * B * e * N),
        Term(name="out_proj", equation="2*B*e*d", each=2 * B * e * d),
    )
    source = "Dao and Gu 2024, section 6"
    return breakdown("Mamba-2, one position", source, terms, B=B, d=d, e=e, H=H, N=N, G=G, k=k)
