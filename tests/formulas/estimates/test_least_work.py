"""The lower bound of a step's FLOPs stays below what the cheapest implementations do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes, Latent
from pytest_flopguard.formulas.architectures.families import from_config
from pytest_flopguard.formulas.architectures.models import closed_form
from pytest_flopguard.formulas.architectures.presets import PRESETS, preset
from pytest_flopguard.formulas.architectures.vision_transformer import VisionSizes
from pytest_flopguard.formulas.estimates.asked import Workload
from pytest_flopguard.formulas.estimates.least_work import least_flops

# One key head for two, gated: 2 layers of width 8, MLP 16, vocabulary 100.
TINY = DecoderSizes(width=8, layers=2, heads=2, kv_heads=1, head_dim=4, ff=16, vocab=100, gated=True)
MLP = 3 * 8 * 16


def test_a_prefill_needs_one_position_of_its_last_layer() -> None:
    # 30 tokens. First layer, all of them: q and out 2*8*8, k and v 2*8*4, MLP; 30*31/2 pairs of 2 heads of 4, twice.
    first = 30 * (2 * 8 * 8 + 2 * 8 * 4 + MLP) + 2 * 2 * 4 * (30 * 31 // 2)
    # Last layer, one query: its 8*8 of q and out, and per side the projection of 30 keys and 30 pairs of 2*4 (1,200),
    # or the projection absorbed: 2 heads * 8 * (4 + 30 pairs) = 544.
    last = 2 * 8 * 8 + 2 * 544 + MLP
    assert least_flops(TINY, Workload(seq=30)) == 2 * (first + last + 8 * 100)
    assert least_flops(TINY, Workload(batch=3, seq=30)) == 3 * least_flops(TINY, Workload(seq=30))


def test_a_window_leaves_positions_out_that_no_later_layer_reads() -> None:
    # A window of 5 keys in both layers: the last layer reads 5 positions, the first layer 9 for these.
    sizes = replace(TINY, windows=(5, 5))
    last = 2 * 8 * 8 + 2 * min(5 * 8 * 4 + 8 * 5, 2 * 8 * (4 + 5)) + MLP
    first = 5 * (2 * 8 * 8 + MLP) + 2 * min(9 * 8 * 4 + 8 * 25, 2 * 8 * (5 * 4 + 25))
    assert least_flops(sizes, Workload(seq=30)) == 2 * (first + last + 8 * 100)


def test_a_decode_step_reads_its_cache() -> None:
    # One token: all matrices once, and 30 pairs of 2 heads of 4, twice, in each layer.
    matrices = 2 * (2 * 8 * 8 + 2 * 8 * 4 + MLP) + 8 * 100
    assert least_flops(TINY, Workload(seq=30, decode=True)) == 2 * (matrices + 2 * 2 * 2 * 4 * 30)


def test_latent_attention_never_rebuilds_keys_that_are_cached() -> None:
    latent = Latent(kv_rank=16, nope=4, rope=2, value=4)
    sizes = replace(TINY, kv_heads=2, latent=latent)
    # One token: q 8*2*6, kv_down 8*18, kv_up 16*2*8, out 2*4*8; 30 pairs over 4 + 2 and 4 in 2 heads, keys written out.
    layer = 8 * 2 * 6 + 8 * 18 + 16 * 2 * 8 + 2 * 4 * 8 + MLP + 30 * 2 * (4 + 2 + 4)
    assert least_flops(sizes, Workload(seq=30, decode=True)) == 2 * (2 * layer + 8 * 100)


def test_training_needs_every_position_three_times() -> None:
    # 100 tokens: per side the projection of each key is cheaper than absorbing it, so this is the causal closed form.
    causal = closed_form(TINY, seq=100, attention="causal").training_step
    assert least_flops(TINY, Workload(seq=100, train=True, recompute="full")) == causal


def test_an_image_has_one_class() -> None:
    # All layers but the last as in the closed form; of the last one q, out and MLP of the class, and its 197 pairs.
    sizes = from_config(preset("vit-b-16"))
    assert isinstance(sizes, VisionSizes)
    h, s = 768, 197
    whole = closed_form(sizes)
    layer = sum(each.each for each in whole if each.name not in ("patch", "classifier"))
    # Both sides: 197 keys of 768*768, or absorbed: 12 heads * 768 * (64 + 197).
    last = 2 * (2 * h * h + 2 * 12 * h * (64 + s) + 8 * h * h)
    assert least_flops(sizes, Workload()) == whole.forward - layer + last


CACHED = [name for name in PRESETS if not name.startswith(("bert", "vit"))]
STEPS = [(name, {}) for name in PRESETS] + [(name, {"train": True}) for name in PRESETS]


@pytest.mark.parametrize(("name", "step"), [*STEPS, *((name, {"decode": True}) for name in CACHED)])
def test_no_closed_form_is_below_its_bound(name: str, step: dict[str, bool]) -> None:
    sizes = from_config(preset(name))
    seq = 1 if isinstance(sizes, VisionSizes) else 40
    work = Workload(batch=2, seq=seq, attention="causal", **step)
    form = closed_form(sizes, batch=2, seq=1 if work.decode else seq, past=work.past, attention="causal")
    done = form.training_step if work.train else form.forward
    assert 0 < least_flops(sizes, work) <= done
