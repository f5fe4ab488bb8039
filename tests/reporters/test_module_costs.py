"""Modules by cost, with repeated layers folded and nothing lost."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.reporters.module_costs import OUTSIDE, ModuleCost, folded, module_costs

PART = st.sampled_from(["h", "mlp", "mlp#2", "mlp#3", "0", "1", "2", "10", "03"])
PATHS = st.lists(PART, min_size=1, max_size=4).map(".".join)


def cost(path: str, modules: int, flops: int) -> ModuleCost:
    return ModuleCost(path=path, modules=modules, flops=flops)


def test_gpt2_folds_to_its_six_kinds_of_module(build: SimpleNamespace) -> None:
    # 12 layers; s = 1024, h = 768: c_fc and c_proj 2*s*h*4h = 4,831,838,208 each, c_attn 2*s*h*3h = 3,623,878,656,
    # scores and values 4*s*s*h = 3,221,225,472, attention output 2*s*h*h = 1,207,959,552; logits 2*s*h*50257.
    assert folded(module_costs(build.tally(build.gpt2()))) == [
        cost("lm_head", 1, 79_047_426_048),
        cost("transformer.h.0-11.mlp.c_fc", 12, 57_982_058_496),
        cost("transformer.h.0-11.mlp.c_proj", 12, 57_982_058_496),
        cost("transformer.h.0-11.attn.c_attn", 12, 43_486_543_872),
        cost("transformer.h.0-11.attn", 12, 38_654_705_664),
        cost("transformer.h.0-11.attn.c_proj", 12, 14_495_514_624),
    ]


def test_layers_of_unequal_cost_stay_apart() -> None:
    assert folded({"0": 10, "1": 10, "2": 99}) == [cost("2", 1, 99), cost("0-1", 2, 20)]


def test_gaps_and_two_numbers_in_a_path() -> None:
    experts = {f"layers.{i}.experts.{j}.w": 5 for i in (0, 1, 3) for j in range(4)}
    assert folded(experts) == [cost("layers.0-1,3.experts.0-3.w", 12, 60)]


def test_models_that_are_told_apart_by_a_number_fold_too() -> None:
    copies = {"Mlp.c_fc": 5, "Mlp#2.c_fc": 5, "Mlp#3.c_fc": 5, "Mlp#4.c_fc": 6}
    assert folded(copies) == [cost("Mlp#2-3.c_fc", 2, 10), cost("Mlp#4.c_fc", 1, 6), cost("Mlp.c_fc", 1, 5)]


def test_a_range_never_names_a_module_that_is_not_there() -> None:
    # "layers.0-1.experts.0-1" would claim layers.1.experts.1.
    assert folded({"layers.0.experts.0": 5, "layers.0.experts.1": 5, "layers.1.experts.0": 5}) == [
        cost("layers.0.experts.0-1", 2, 10),
        cost("layers.1.experts.0", 1, 5),
    ]


def test_work_outside_modules_has_a_name() -> None:
    assert folded({"": 7}) == [cost(OUTSIDE, 1, 7)]


@given(st.dictionaries(PATHS, st.integers(min_value=1, max_value=3)))
def test_folding_keeps_sums_and_counts(costs: dict[str, int]) -> None:
    rows = folded(costs)
    assert sum(each.flops for each in rows) == sum(costs.values())
    assert sum(each.modules for each in rows) == len(costs)
    assert [each.flops for each in rows] == sorted((each.flops for each in rows), reverse=True)
    assert len({each.path for each in rows}) == len(rows)


def test_a_phase_counts_by_itself_and_layers_stand_in_their_order(build: SimpleNamespace) -> None:
    counts = [build.counted("aten.mm", f"h.{i}", 10) for i in (10, 2, 1)]
    both = build.tally([*counts, build.counted("aten.mm", "h.1", 5, "backward"), build.counted("aten.mm", "x", 0)])
    assert list(module_costs(both).items()) == [("h.1", 15), ("h.2", 10), ("h.10", 10)]
    assert module_costs(both, "backward") == {"h.1": 5}
