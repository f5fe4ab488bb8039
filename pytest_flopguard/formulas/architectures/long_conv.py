"""Long convolutions by Fourier transforms: Toeplitz networks, S4, H3, Hyena.

A convolution with a kernel as long as the text transforms the signal, the kernel and, back, their product: three real
transforms of 2n points a channel, rfft(2n) = 2.5 * 2n * log2(2n) each, rounded as formulas/ops/fft.py says. Products of
spectra and gates are elementwise, 0. Backward of a transform of real points is one of complex points, cfft(N) =
5*N*log2(N); backward of a transform to real points is one of real points. So backward is 5/3 of the forward where it is
2 for a matrix product. Symbols: B batch, n positions, d channels. 1 multiply-add = 2 FLOPs, a complex one 8.
"""

from __future__ import annotations

from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.architectures.mixer import breakdown, sizes
from pytest_flopguard.formulas.breakdown import Breakdown, Term
from pytest_flopguard.formulas.ops import fft
from pytest_flopguard.formulas.sizes import divided


def _rfft(points: int) -> int:
    return fft.real_transform(TensorSpec((points,)), (0,))


def _cfft(points: int) -> int:
    return fft.complex_transform(TensorSpec((points,)), (0,))


def _convolution(signals: int, kernels: int, n: int) -> tuple[Term, ...]:
    """Terms of convolving a number of signals of n points with a number of kernels of n points."""
    real, complex_ = _rfft(2 * n), _cfft(2 * n)
    return (
        Term(name="fft_signal", equation="rfft(2*n)", each=real, times=signals, backward_each=complex_),
        Term(name="fft_kernel", equation="rfft(2*n)", each=real, times=kernels, backward_each=complex_),
        Term(name="fft_inverse", equation="rfft(2*n)", each=real, times=signals, backward_each=real),
    )


def fft_convolution(*, batch: int = 1, seq: int, channels: int) -> Breakdown:
    """Each channel with a kernel of its own, shared by the batch: (2*B + 1)*d transforms of 2n points.

    Source: Gu et al. 2021 (arXiv 2111.00396), table 1, which says O(n log n * d * (B + d)) with its output layer.
    """
    B, n, d = sizes(batch=batch, seq=seq, channels=channels)
    return breakdown("long convolution", "Gu et al. 2021, section 2.4", _convolution(B * d, d, n), B=B, n=n, d=d)


def toeplitz(*, batch: int = 1, seq: int, channels: int) -> Breakdown:
    """The same convolution as a product with the [n, n] Toeplitz matrix of each channel: 2*B*n*n*d.

    Source: Qin et al. 2023 (arXiv 2305.04749), section 3.
    """
    B, n, d = sizes(batch=batch, seq=seq, channels=channels)
    terms = (Term(name="toeplitz", equation="2*B*n*n*d", each=2 * B * n * n * d),)
    return breakdown("Toeplitz product", "Qin et al. 2023, section 3", terms, B=B, n=n, d=d)


def _position_network(P: int, e: int, r: int, layers: int, out: int) -> tuple[Term, ...]:
    """Terms of a small network that makes kernels out of P positions; positions ask for no gradient."""
    return (
        Term(name="kernel_in", equation="2*P*e*r", each=2 * P * e * r, backward_each=2 * P * e * r),
        Term(name="kernel_hidden", equation="2*P*r*r", each=2 * P * r * r, times=layers),
        Term(name="kernel_out", equation="2*P*r*out", each=2 * P * r * out),
    )


def tnn(
    *, batch: int = 1, seq: int, width: int, expanded: int, rank: int, layers: int, causal: bool = False
) -> Breakdown:
    """Gated Toeplitz unit of a TNN, projections included: o = (act(x U) * T act(x V)) O.

    u and v 2*B*n*d*e each, out 2*B*n*e*d, e ``expanded``. Coefficients of T come from a network on positions, 2n - 1 of
    them or n if causal: 1 -> r, ``layers`` times r -> r, r -> e. T is applied by transforms, on e channels.
    Source: Qin et al. 2023 (arXiv 2305.04749), section 3.
    """
    B, n, d = sizes(batch=batch, seq=seq, width=width)
    e, r, count = sizes(expanded=expanded, rank=rank, layers=layers)
    P = n if causal else 2 * n - 1
    one = 2 * B * n * d * e
    terms = (
        Term(name="projections", equation="2*B*n*d*out", each=one, times=2),
        *_position_network(P, 1, r, count, e),
        *_convolution(B * e, e, n),
        Term(name="out", equation="2*B*n*d*out", each=one),
    )
    source = "Qin et al. 2023, section 3"
    return breakdown("gated Toeplitz unit", source, terms, B=B, n=n, d=d, P=P, e=1, r=r, out=e)


def s4(*, batch: int = 1, seq: int, width: int, state: int) -> Breakdown:
    """S4 in training, its output layer included: d channels, a state of N complex numbers (conjugates among them) each.

    The kernel's spectrum: Cauchy products of 4 weight vectors with N poles at n/2 + 1 frequencies, 8*4*N*(n/2 + 1)*d
    (complex), transformed back by n points a channel. Then a convolution, and the position-wise layer 2*B*n*d*d. n is
    even. Code that sums the Cauchy kernel elementwise shows no product there.
    Source: Gu et al. 2021 (arXiv 2111.00396), Algorithm 1 and table 1.
    """
    B, d, N = sizes(batch=batch, width=width, state=state)
    half = divided("seq", seq, "the two halves of a spectrum", 2)
    n = seq
    terms = (
        Term(name="cauchy", equation="32*d*N*(n//2 + 1)", each=32 * d * N * (half + 1)),
        Term(name="fft_kernel", equation="rfft(n)", each=_rfft(n), times=d, backward_each=_rfft(n)),
        *_convolution(B * d, d, n),
        Term(name="out", equation="2*B*n*d*d", each=2 * B * n * d * d),
    )
    return breakdown("S4", "Gu et al. 2021, Algorithm 1", terms, B=B, n=n, d=d, N=N)


def s4_step(*, batch: int = 1, width: int, state: int) -> Breakdown:
    """S4 as a recurrence, one position: O(d*d), however long the text is.

    The state matrix is diagonal plus rank one: its two halves (before and after the step's middle) and the output are
    dot products of N complex numbers a channel, 8*B*d*N each; the layer after is 2*B*d*d.
    Source: Gu et al. 2021 (arXiv 2111.00396), appendix C.2 and table 1.
    """
    B, d, N = sizes(batch=batch, width=width, state=state)
    terms = (
        Term(name="state", equation="8*B*d*N", each=8 * B * d * N, times=2),
        Term(name="read", equation="8*B*d*N", each=8 * B * d * N),
        Term(name="out", equation="2*B*d*d", each=2 * B * d * d),
    )
    return breakdown("S4, one position", "Gu et al. 2021, appendix C.2", terms, B=B, d=d, N=N)


def h3(*, batch: int = 1, seq: int, width: int, heads: int, state: int) -> Breakdown:
    """H3's mixer, without q, k, v and o (join ``projections``): a shift SSM on k, a diagonal SSM on k times v.

    The shift convolves d channels; a diagonal kernel for each of h heads, 8*h*N*n (N complex modes), convolves the
    d*d/h products of k and v. Queries read them with 2*B*n*d*d/h, unless heads are one channel wide: then by a product
    of elements. Source: Fu et al. 2022 (arXiv 2212.14052), Algorithm 1.
    """
    B, n, h, N = sizes(batch=batch, seq=seq, heads=heads, state=state)
    head = divided("width", width, "heads", heads)
    d = width
    terms: tuple[Term, ...] = (
        *_convolution(B * d, d, n),
        Term(name="modes", equation="8*h*N*n", each=8 * h * N * n),
        *_convolution(B * d * head, h, n),
    )
    if head > 1:
        terms += (Term(name="read", equation="2*B*n*d*d//h", each=2 * B * n * d * head),)
    return breakdown("H3", "Fu et al. 2022, Algorithm 1", terms, B=B, n=n, d=d, h=h, N=N)


def hyena(
    *,
    batch: int = 1,
    seq: int,
    width: int,
    order: int = 2,
    embedding: int = 3,
    rank: int = 64,
    layers: int = 2,
    short: int = 3,
) -> Breakdown:
    """Hyena operator of order N, projections included.

    In 2*B*n*d*(N + 1)*d; a depthwise convolution of k taps on them, which computes n + k - 1 positions; kernels from a
    network on n positions, e -> r, ``layers`` times r -> r, r -> (N - 1)*d; N - 1 long convolutions of d channels; out
    2*B*n*d*d. The paper's own count (appendix A.2) leaves out the network and the transforms of the kernels.
    Source: Poli et al. 2023 (arXiv 2302.10866), Algorithms 1 to 3.
    """
    B, n, d, N = sizes(batch=batch, seq=seq, width=width, order=order)
    e, r, count, k = sizes(embedding=embedding, rank=rank, layers=layers, short=short)
    sizes(**{"order - 1": N - 1})
    inputs, taps = 2 * B * n * d * (N + 1) * d, 2 * B * (n + k - 1) * k * (N + 1) * d
    terms = (
        Term(name="projections", equation="2*B*n*d*(N + 1)*d", each=inputs),
        Term(name="short_conv", equation="2*B*(n + k - 1)*k*(N + 1)*d", each=taps),
        *_position_network(n, e, r, count, (N - 1) * d),
        *_convolution((N - 1) * B * d, (N - 1) * d, n),
        Term(name="out", equation="2*B*n*d*d", each=2 * B * n * d * d),
    )
    source = "Poli et al. 2023, Algorithm 3"
    return breakdown("Hyena", source, terms, B=B, n=n, d=d, N=N, P=n, e=e, r=r, k=k, out=(N - 1) * d)
