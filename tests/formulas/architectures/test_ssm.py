"""Mamba and Mamba-2: closed forms, and transformers' models counted."""

from __future__ import annotations

import pytest
import torch
from cache_names import cache_in, with_cache
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.architectures.ssm import mamba, mamba2, mamba2_step, mamba_step

B, D, LAYERS, V = 2, 16, 2, 50

ALL = {
    "mamba": mamba(batch=3, seq=10, width=4, inner=8, state=5, rank=2, taps=3),
    "mamba step": mamba_step(batch=3, width=4, inner=8, state=5, rank=2, taps=3),
    "mamba2 step": mamba2_step(batch=3, width=4, heads=4, head_width=3, state=5, groups=2, taps=3),
    "mamba2": mamba2(batch=3, seq=10, width=4, heads=4, head_width=3, state=5, groups=2, chunk=4, taps=3),
}


@pytest.mark.parametrize("name", ALL)
def test_equations(equations_hold, name):
    equations_hold(ALL[name])


def test_by_hand():
    # 30 positions: 4 -> 16, 8 -> 2 + 10, 2 -> 8, 8 -> 4; 3 taps on 12 positions of 8 channels; 5 states of 8 channels.
    assert ALL["mamba"].by_name() == {
        "in_proj": 3_840,
        "x_proj": 5_760,
        "state_read": 2_400,
        "out_proj": 1_920,
        "conv": 1_728,
        "dt_proj": 960,
        "scan": 0,
    }
    # 10 positions in 3 chunks of 4, 4 heads of 3 channels, 2 groups of 5 states: 4 -> 24 + 20 + 4; 32 channels of 3
    # taps; 3*4*3*16 pairs in chunks, 5 and 3 wide; 144 positions times 15, twice; 4 x 4 decays of states of 15.
    assert ALL["mamba2"].by_name() == {
        "in_proj": 2 * 30 * 4 * 48,
        "conv": 2 * 3 * 12 * 32 * 3,
        "scores": 2 * 576 * 5,
        "values": 2 * 576 * 3,
        "state_update": 2 * 144 * 15,
        "state_read": 2 * 144 * 15,
        "state_passing": 2 * 12 * 16 * 15,
        "out_proj": 2 * 30 * 12 * 4,
    }
    # A tenth of the products of the layer of 10 positions, and 3 taps of 8 channels.
    assert ALL["mamba step"].forward == (3_840 + 5_760 + 2_400 + 1_920 + 960) // 10 + 2 * 3 * 3 * 8
    assert ALL["mamba2 step"].forward == 2 * 3 * (4 * 48 + 32 * 3 + 12 * 5 + 12 * 4)


def logits(model):
    return lambda x, **more: model(x, **more).logits


def of_mamba(length: int) -> tuple[torch.nn.Module, int]:
    config = MambaConfig(
        vocab_size=V, hidden_size=D, state_size=5, num_hidden_layers=LAYERS, conv_kernel=3, time_step_rank=4,
        use_cache=False,
    )  # fmt: skip
    layer = mamba(batch=B, seq=length, width=D, inner=2 * D, state=5, rank=4, taps=3)
    return MambaForCausalLM(config).train(), (LAYERS * layer).forward


def of_mamba2(length: int) -> tuple[torch.nn.Module, int]:
    config = Mamba2Config(
        vocab_size=V, hidden_size=D, state_size=5, num_hidden_layers=LAYERS, conv_kernel=3, num_heads=4, head_dim=8,
        expand=2, n_groups=2, chunk_size=8, time_step_rank=4, use_cache=False,
    )  # fmt: skip
    layer = mamba2(batch=B, seq=length, width=D, heads=4, head_width=8, state=5, groups=2, chunk=8, taps=3)
    return Mamba2ForCausalLM(config).train(), (LAYERS * layer).forward


@pytest.mark.parametrize("length", [1, 8, 13, 24])
@pytest.mark.parametrize("build", [of_mamba, of_mamba2])
def test_models_of_transformers(measured, build, length):
    model, layers = build(length)
    forward = layers + 2 * B * length * D * V
    run = measured(logits(model), torch.randint(0, V, (B, length)))
    assert run == (forward, 2 * forward)


@pytest.mark.parametrize("before", [4, 9, 30])
@pytest.mark.parametrize("build", [of_mamba, of_mamba2])
def test_a_new_token_costs_the_same_after_any_text(measured, build, before):
    model, _ = build(8)
    if build is of_mamba:
        step = mamba_step(batch=B, width=D, inner=2 * D, state=5, rank=4, taps=3)
    else:
        step = mamba2_step(batch=B, width=D, heads=4, head_width=8, state=5, groups=2, taps=3)
    with torch.no_grad():
        cache = cache_in(model.eval()(torch.randint(0, V, (B, before)), use_cache=True))
        token = torch.randint(0, V, (B, 1))
        run = measured(logits(model), token, **with_cache(model, cache), use_cache=True, backward=False)
    # transformers lets the taps run over their old inputs and the new one: two positions, of which one is dropped.
    dropped = step.by_name()["conv"]
    assert run.forward == LAYERS * (step.forward + dropped) + 2 * B * D * V


def test_growth(measured, slope):
    lengths = (32, 64, 128)
    tokens = {n: torch.randint(0, V, (B, n)) for n in lengths}

    def counts(build) -> list[int]:
        return [measured(logits(build(n)[0]), tokens[n], backward=False).forward for n in lengths]

    # Mamba: only the taps beyond the ends are not proportional to n.
    assert slope(lengths, counts(of_mamba)) == pytest.approx(1, abs=0.01)
    # Mamba-2: what passes states between chunks is quadratic, a small part here and the most of it for long texts.
    assert 1 < slope(lengths, counts(of_mamba2)) < 1.2
    long = (2**16, 2**18, 2**20)
    sizes = {"width": D, "heads": 4, "head_width": 8, "state": 5, "chunk": 8}
    passing = [mamba2(seq=n, **sizes).by_name()["state_passing"] for n in long]
    assert slope(long, passing) == pytest.approx(2, abs=1e-3)
    others = [mamba2(seq=n, **sizes).forward - each for n, each in zip(long, passing, strict=True)]
    assert slope(long, others) == pytest.approx(1, abs=1e-3)


def test_mamba_130m(measured):
    # The published sizes of state-spaces/mamba-130m: 24 layers of 768, inner 1536, state 16, rank 48, 4 taps.
    config = MambaConfig(vocab_size=50280, hidden_size=768, num_hidden_layers=24, use_cache=False)
    with torch.device("meta"):
        model, x = MambaForCausalLM(config), torch.zeros(1, 4, dtype=torch.long)
    layer = mamba(seq=4, width=768, inner=1536, state=16, rank=48)
    forward = (24 * layer).forward + 2 * 4 * 768 * 50280
    assert measured(logits(model), x) == (forward, 2 * forward)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (lambda: mamba(seq=4, width=4, inner=8, state=0, rank=1), "state"),
        (lambda: mamba(seq=4, width=4, inner=8, state=4, rank=0), "rank"),
        (
            lambda: mamba2(seq=4, width=4, heads=3, head_width=2, state=4, groups=2, chunk=4),
            "a multiple of groups = 2",
        ),
        (lambda: mamba2(seq=4, width=4, heads=4, head_width=2, state=4, chunk=0), "chunk"),
    ],
)
def test_bad_sizes(form, told):
    with pytest.raises(SizeError, match=told):
        form()
