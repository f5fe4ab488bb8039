"""Long convolutions: closed forms, small models counted, transforms against matrices, n log n."""

from __future__ import annotations

import math

import pytest
import torch
from zoo.long_conv import H3, S4, GatedToeplitzUnit, Hyena, fft_convolution, toeplitz_matrix

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.architectures.long_conv import fft_convolution as form_of_convolution
from pytest_flopguard.formulas.architectures.long_conv import h3, hyena, s4, s4_step, tnn, toeplitz
from pytest_flopguard.formulas.architectures.mixer import projections

B, N, D = 2, 24, 16

ALL = {
    "convolution": form_of_convolution(batch=3, seq=10, channels=4),
    "toeplitz": toeplitz(batch=3, seq=10, channels=4),
    "tnn": tnn(batch=3, seq=10, width=4, expanded=6, rank=5, layers=2),
    "tnn, causal": tnn(batch=3, seq=10, width=4, expanded=6, rank=5, layers=2, causal=True),
    "s4": s4(batch=3, seq=10, width=4, state=6),
    "s4 step": s4_step(batch=3, width=4, state=6),
    "h3": h3(batch=3, seq=10, width=4, heads=4, state=6),
    "h3, wide heads": h3(batch=3, seq=10, width=4, heads=2, state=6),
    "hyena": hyena(batch=3, seq=10, width=4, order=3, rank=5),
}


@pytest.mark.parametrize("name", ALL)
def test_equations(equations_hold, name):
    equations_hold(ALL[name])


def test_by_hand():
    # 8 positions: 16 points, 2.5*16*4 = 160. 2 signals of 3 channels there and back, and 3 kernels: 15 transforms.
    form = form_of_convolution(batch=2, seq=8, channels=3)
    assert form.forward == 15 * 160
    # Back: 6 transforms of real points, and for 6 signals and 3 kernels one of complex points, 5*16*4 = 320.
    assert form.backward == 6 * 160 + 9 * 320
    assert toeplitz(batch=2, seq=8, channels=3).forward == 2 * 2 * 64 * 3
    # 10 points, 2.5*10*log2(10) = 83.048.., for the kernel of each of 4 channels; 32*4*6*6 Cauchy products.
    found = ALL["s4"].by_name()
    assert (found["cauchy"], found["out"]) == (4_608, 2 * 3 * 10 * 16)
    # 20 points, 2.5*20*log2(20) = 216.096..: 12 signals; kernels 4 of 20 points and 4 of 10.
    assert (found["fft_signal"], found["fft_kernel"]) == (12 * 216, 4 * 216 + 4 * 83)
    assert ALL["s4 step"].forward == 3 * 8 * 3 * 4 * 6 + 2 * 3 * 16
    # Heads 2 wide: 8 products of k and v in each of 3 texts; queries read them by 2*3*10*4*2.
    assert ALL["h3, wide heads"].by_name()["fft_inverse"] == (12 + 24) * 216
    assert ALL["h3, wide heads"].by_name()["read"] == 480
    assert ALL["h3"].by_name()["fft_inverse"] == (12 + 12) * 216
    assert "read" not in ALL["h3"].by_name()
    # Order 3: 4 inputs 4 wide, 3 taps on 12 positions; 2 kernels of 4 channels.
    found = ALL["hyena"].by_name()
    assert (found["projections"], found["short_conv"]) == (2 * 30 * 4 * 16, 2 * 3 * 12 * 3 * 16)
    assert (found["kernel_in"], found["kernel_hidden"], found["kernel_out"]) == (300, 2 * 500, 800)
    assert (found["fft_signal"], found["fft_kernel"]) == (24 * 216, 8 * 216)


@pytest.mark.parametrize("length", [8, 15, 24])
def test_convolution(measured, tokens, length):
    x, kernel = tokens(B, D, length), tokens(1, D, length)[0]
    form = form_of_convolution(batch=B, seq=length, channels=D)
    x, kernel = x.detach().requires_grad_(), kernel.detach().requires_grad_()
    assert measured(fft_convolution, x, kernel) == (form.forward, form.backward)
    direct = (toeplitz_matrix(kernel, length) @ x[..., None]).squeeze(-1)
    torch.testing.assert_close(fft_convolution(x, kernel), direct, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_tnn(measured, tokens, causal):
    sizes = {"expanded": 20, "rank": 6, "layers": 2, "causal": causal}
    unit = GatedToeplitzUnit(D, **sizes)
    form = tnn(batch=B, seq=N, width=D, **sizes)
    assert measured(unit, tokens(B, N, D)) == (form.forward, form.backward)
    dense = GatedToeplitzUnit(D, **sizes, dense=True)
    dense.load_state_dict(unit.state_dict())
    torch.testing.assert_close(unit(tokens(B, N, D)), dense(tokens(B, N, D)), rtol=1e-4, atol=1e-4)
    # The matrix costs 2*B*n*n*e where the transforms were, and is a plain product in backward.
    transforms = [each for each in form if each.name.startswith("fft")]
    matrix = toeplitz(batch=B, seq=N, channels=20)
    assert measured(dense, tokens(B, N, D)) == (
        form.forward - sum(each.forward for each in transforms) + matrix.forward,
        form.backward - sum(each.backward for each in transforms) + matrix.backward,
    )


def test_s4(measured, tokens):
    form = s4(batch=B, seq=N, width=D, state=8)
    model = S4(D, 8)
    assert measured(model, tokens(B, N, D)) == (form.forward, form.backward)
    # As a recurrence: the same outputs, and as much for each position.
    x = tokens(B, N, D)
    with torch.no_grad():
        discrete = model.discrete(N)
        state, out = torch.zeros(B, D, 8, dtype=torch.cfloat), []
        for position in range(N):
            state, each = model.next_position(state, x[:, position], discrete)
            out.append(each)
        torch.testing.assert_close(torch.stack(out, 1), model(x))
        run = measured(lambda: model.next_position(state, x[:, 0], discrete)[1], backward=False)
    assert run.forward == s4_step(batch=B, width=D, state=8).forward


@pytest.mark.parametrize("heads", [D, 4])
def test_h3(measured, tokens, heads):
    form = projections(batch=B, seq=N, width=D) + h3(batch=B, seq=N, width=D, heads=heads, state=5)
    assert measured(H3(D, heads, 5), tokens(B, N, D)) == (form.forward, form.backward)


@pytest.mark.parametrize("order", [2, 3])
def test_hyena(measured, tokens, order):
    sizes = {"order": order, "embedding": 5, "rank": 6, "layers": 2, "short": 3}
    form = hyena(batch=B, seq=N, width=D, **sizes)
    assert measured(Hyena(D, **sizes), tokens(B, N, D)) == (form.forward, form.backward)


def test_growth(measured, slope):
    lengths = (64, 256, 1024)

    def counts(function) -> list[int]:
        inputs = ((torch.zeros(B, D, n), torch.zeros(D, n)) for n in lengths)
        return [measured(function, *each, backward=False).forward for each in inputs]

    def dense(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        return toeplitz_matrix(kernel, x.shape[-1]) @ x.permute(1, 2, 0)

    found = counts(fft_convolution)
    # n log n: exactly so many transforms of 2n points, and a slope above 1 by about 1/ln(2n) (0.14 at n = 512).
    assert found == [(2 * B + 1) * D * 5 * n * int(math.log2(2 * n)) for n in lengths]
    assert 1.1 < slope(lengths, found) < 1.2
    assert slope(lengths, counts(dense)) == pytest.approx(2, abs=1e-9)


def test_table_1_of_s4(slope):
    # Gu et al. 2021, table 1, training: convolution n log n * d (B + d), S4 B d (d log d + n log n) + B n log n * d;
    # inference d*d. Growth in d of what is convolved is 1, of the layer after it 2, of a position with N = d also 2.
    widths = (64, 256, 1024)
    parts = [s4(seq=128, width=d, state=64).by_name() for d in widths]
    assert slope(widths, [each["fft_signal"] for each in parts]) == pytest.approx(1, abs=1e-9)
    assert slope(widths, [each["out"] for each in parts]) == pytest.approx(2, abs=1e-9)
    steps = [s4_step(width=d, state=d).forward for d in widths]
    assert slope(widths, steps) == pytest.approx(2, abs=1e-9)
    lengths = (1024, 4096, 16384)
    assert 1 < slope(lengths, [s4(seq=n, width=64, state=64).forward for n in lengths]) < 1.1


# Poli et al. 2023 (arXiv 2302.10866), table 4.4: FLOPs of training GPT on "15B" tokens of The Pile, as printed. They
# are those of 7,680,000 texts of 2048 tokens, embeddings and logits counted as products. The Hyena rows of that table
# (1.87 and 3.93e19) do not come out of the paper's own formula (appendix A.2: 1.72 and 3.49e19): not held here.
@pytest.mark.parametrize(("layers", "width", "printed"), [(12, 768, 1.88e19), (24, 1024, 4.77e19)])
def test_the_attention_rows_of_hyenas_table(layers, width, printed):
    n, vocabulary = 2048, 50257
    layer = 24 * n * width * width + 4 * n * n * width
    step = 3 * (layers * layer + 2 * 2 * n * width * vocabulary)
    # 1.886e19 is printed as 1.88: 0.4 % leaves room for that cut, and 4.771 is within.
    assert 7_680_000 * step == pytest.approx(printed, rel=0.004)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (lambda: form_of_convolution(seq=0, channels=3), "seq"),
        (lambda: toeplitz(seq=4, channels=0), "channels"),
        (lambda: tnn(seq=4, width=4, expanded=4, rank=0, layers=1), "rank"),
        (lambda: s4(seq=5, width=4, state=4), "seq = 5"),
        (lambda: s4_step(width=4, state=0), "state"),
        (lambda: h3(seq=4, width=5, heads=2, state=4), "a multiple of heads = 2"),
        (lambda: hyena(seq=4, width=4, order=1), "order - 1"),
    ],
)
def test_bad_sizes(form, told):
    with pytest.raises(SizeError, match=told):
        form()
