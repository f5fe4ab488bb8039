"""What an estimate says that a training step keeps, against what autograd keeps of a model with the same config."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, MixtralConfig, Qwen2Config, Qwen3Config
from transformers.configuration_utils import PretrainedConfig

from pytest_flopguard.formulas.architectures.families import from_config
from pytest_flopguard.formulas.estimates.asked import Subject, Workload
from pytest_flopguard.formulas.estimates.estimate import estimate

BATCH, SEQ = 2, 24
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 80, "vocab_size": 70,
}  # fmt: skip


def kept(model: torch.nn.Module) -> int:
    """Bytes of the unique storages that a forward with a loss keeps, parameters left out."""
    held: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.ones(BATCH, SEQ, dtype=torch.long)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=ids, labels=ids.clone(), use_cache=False)
    parameters = {each.untyped_storage().data_ptr() for each in model.parameters()}
    return sum(each.untyped_storage().nbytes() for at, each in held.items() if at not in parameters)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("make", [LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, MixtralConfig])
def test_activations_are_what_autograd_keeps(make: type[PretrainedConfig], dtype: str) -> None:
    config = make(**SIZES)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype))
    subject = Subject(name=config.model_type, sizes=from_config(config.to_dict()))
    found = estimate(subject, Workload(batch=BATCH, seq=SEQ, train=True, dtype=dtype))
    assert found.figures["memory.activations"].value == kept(model)
    assert found.figures["parameters"].value == sum(each.numel() for each in model.parameters())
