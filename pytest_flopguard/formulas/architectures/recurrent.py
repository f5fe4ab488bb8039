"""Recurrent layers: what is multiplied is a matrix with each position; what goes from step to step may be elementwise.

LSTM multiplies its state by a matrix. Linear and independent recurrences (SRU, IndRNN, linear RNN, RWKV, HGRN) do not:
their scan is elementwise, about n*d operations of any kind, which the convention leaves out. Symbols: B batch, n
positions, i input width, h state width, d width. 1 multiply-add = 2 FLOPs; backward is twice the forward unless said.
"""

from __future__ import annotations

from pytest_flopguard.formulas.architectures.mixer import breakdown, sizes
from pytest_flopguard.formulas.breakdown import Breakdown, Term


def lstm(*, batch: int = 1, seq: int, inputs: int, hidden: int) -> Breakdown:
    """One direction of one LSTM layer: 8*h*(i + h) for each position.

    The first step's state is constant and asks for no gradient: one product of B rows less in backward.
    Source: Hochreiter and Schmidhuber 1997, with forget gates of Gers et al. 2000.
    """
    B, n, i, h = sizes(batch=batch, seq=seq, inputs=inputs, hidden=hidden)
    step = 8 * B * h * h
    terms = (
        Term(name="input", equation="8*B*n*i*h", each=8 * B * n * i * h),
        Term(name="hidden", equation="8*B*h*h", each=step, times=n - 1),
        Term(name="hidden", equation="8*B*h*h", each=step, backward_each=step),
    )
    return breakdown("LSTM", "Gers et al. 2000", terms, B=B, n=n, i=i, h=h)


def _projected(name: str, source: str, matrices: int, batch: int, seq: int, inputs: int, hidden: int) -> Breakdown:
    """A number of matrices [i, h] on every position, and an elementwise scan."""
    B, n, i, h = sizes(batch=batch, seq=seq, inputs=inputs, hidden=hidden)
    terms = (
        Term(name="projections", equation="2*B*n*i*h", each=2 * B * n * i * h, times=matrices),
        Term(name="scan", equation="0", each=0),
    )
    return breakdown(name, source, terms, B=B, n=n, i=i, h=h)


def sru(*, batch: int = 1, seq: int, width: int) -> Breakdown:
    """Simple recurrent unit: candidate, forget and reset gate, 6*B*n*d*d; the state meets vectors only.

    Source: Lei et al. 2017 (arXiv 1709.02755), equations 1 to 4.
    """
    sizes(width=width)
    return _projected("SRU", "Lei et al. 2017, equations 1 to 4", 3, batch, seq, width, width)


def indrnn(*, batch: int = 1, seq: int, inputs: int, hidden: int) -> Breakdown:
    """Independently recurrent network: act(W x + u * h), 2*B*n*i*h; each unit sees its own past alone.

    Source: Li et al. 2018 (arXiv 1803.04831), section 3.
    """
    return _projected("IndRNN", "Li et al. 2018, section 3", 1, batch, seq, inputs, hidden)


def linear_rnn(*, batch: int = 1, seq: int, inputs: int, hidden: int) -> Breakdown:
    """Gated impulse linear recurrence: a gate and an input, 4*B*n*i*h, scanned in parallel or one by one.

    Source: Martin and Cundy 2017 (arXiv 1709.04057), GILR.
    """
    return _projected("linear RNN", "Martin and Cundy 2017, GILR", 2, batch, seq, inputs, hidden)


def hgrn(*, batch: int = 1, seq: int, width: int, complex_state: bool = False) -> Breakdown:
    """HGRN's token mixer, projections included: input, forget gate, output gate and output, 8*B*n*d*d.

    The paper's own code has a complex state: the input's real and imaginary part, the forget gate, an output gate of 2d
    and an output of 2d -> d, 14*B*n*d*d. Source: Qin et al. 2023 (arXiv 2311.04823), section 3.
    """
    sizes(width=width)
    return _projected("HGRN", "Qin et al. 2023, section 3", 7 if complex_state else 4, batch, seq, width, width)


def rwkv(*, batch: int = 1, seq: int, layers: int, width: int, vocabulary: int, inner: int | None = None) -> Breakdown:
    """RWKV-4, a whole language model: 26*B*n*d*d a layer, logits 2*B*n*d*V; the embedding copies rows, 0.

    Time mixing r, k, v and o 8*B*n*d*d; channel mixing k and v of ``inner`` (4d where not given) 4*B*n*d*ff, and r
    2*B*n*d*d. A token costs 2*(V*d + 13*d*d*L), as the paper's table 2 has it; its text says twice as much embedding.
    Source: Peng et al. 2023 (arXiv 2305.13048), table 2.
    """
    B, n, L, d = sizes(batch=batch, seq=seq, layers=layers, width=width)
    V, ff = sizes(vocabulary=vocabulary, inner=4 * width if inner is None else inner)
    one = 2 * B * n * d * d
    layer = (
        Term(name="time_mixing", equation="2*B*n*d*d", each=one, times=4 * L),
        Term(name="scan", equation="0", each=0, times=L),
        Term(name="channel_mixing", equation="2*B*n*d*ff", each=2 * B * n * d * ff, times=2 * L),
        Term(name="channel_gate", equation="2*B*n*d*d", each=one, times=L),
        Term(name="lm_head", equation="2*B*n*d*V", each=2 * B * n * d * V),
    )
    return breakdown("RWKV-4", "Peng et al. 2023, table 2", layer, B=B, n=n, d=d, ff=ff, V=V)


def rwkv_parameters(*, layers: int, width: int, vocabulary: int) -> int:
    """Parameters of RWKV-4: 2*V*d + 13*d*d*L + d*(11*L + 4), embedding and head not tied.

    Source: Peng et al. 2023 (arXiv 2305.13048), beside table 2.
    """
    L, d, V = sizes(layers=layers, width=width, vocabulary=vocabulary)
    return 2 * V * d + 13 * d * d * L + d * (11 * L + 4)
