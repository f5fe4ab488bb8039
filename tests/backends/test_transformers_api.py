"""Every name that is read of transformers exists in the installed release and means what it is taken for."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import pytest
import torch
import transformers
from cache_names import cache_argument, with_cache
from layer_checkpointing import checkpoint_layers
from torch.utils import checkpoint
from transformers import DynamicCache, EncoderDecoderCache, LlamaConfig, MambaConfig, StaticCache, cache_utils
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from pytest_flopguard.backends import transformers_api as api
from pytest_flopguard.core import model_arguments as arguments
from pytest_flopguard.core.errors import ConfigError
from pytest_flopguard.formulas.architectures.config_fields import Fields
from pytest_flopguard.formulas.architectures.families import FAMILIES

ALL = modeling_auto.MODEL_MAPPING_NAMES
DECODERS = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
MAPPINGS = (
    ALL,
    DECODERS,
    modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
)
CLASSES = sorted({(family, mapping[family]) for mapping in MAPPINGS for family in FAMILIES if family in mapping})
LOADED = {name: getattr(transformers, name) for _, name in CLASSES}  # here, so that no test takes the time of imports
SMALL = LlamaConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=10,
)  # fmt: skip


def llama() -> Any:
    return transformers.LlamaForCausalLM(SMALL)


def needed(family: str, name: str) -> set[str]:
    """Return the arguments that a closed form reads of a class."""
    if family == "vit":
        return {arguments.IMAGE}
    if family == "whisper":
        if name not in ("WhisperModel", "WhisperForConditionalGeneration"):  # the others have no closed form
            return set()
        labels = {arguments.LABELS} if name.endswith("ConditionalGeneration") else set()
        return {arguments.SOUND, *arguments.DECODER_TOKENS, arguments.ENCODER_OUTPUTS} | labels
    if family == "t5":
        # A classifier of tokens has no decoder.
        decoder = {*arguments.DECODER_TOKENS, arguments.ENCODER_OUTPUTS}
        labels = {arguments.LABELS} if name.endswith("ConditionalGeneration") else set()
        inputs = {*arguments.TOKENS, arguments.MASK}
        return inputs if name.endswith("TokenClassification") else inputs | decoder | labels
    found = {*arguments.TOKENS, arguments.MASK}
    if DECODERS.get(family) == name and name.endswith(("ForCausalLM", "LMHeadModel")) and family != "bert":
        found.add(arguments.LOGITS_TO_KEEP)
    return found


def test_every_family_is_in_the_installed_release() -> None:
    assert not FAMILIES.keys() - ALL.keys()


@pytest.mark.parametrize(("family", "name"), CLASSES)
def test_arguments_of_every_class(family: str, name: str) -> None:
    taken = inspect.signature(LOADED[name].forward).parameters
    assert needed(family, name) <= taken.keys()


# Fields that a family's default config lacks: what older files write, or what some releases leave out.
ABSENT = {
    "deepseek_v2": {"moe_layer_freq"},
    "deepseek_v3": {"mlp_bias", "moe_layer_freq"},
    "gemma": {"layer_types", "mlp_bias"},
    "gemma2": {"mlp_bias"},
    "gemma3_text": {"mlp_bias"},
    "gpt2": {"intermediate_size"},
    "gpt_bigcode": {"intermediate_size"},
    "gpt_oss": {"mlp_bias"},
    "llama": {"layer_types"},
    "mistral": {"attention_bias", "layer_types", "mlp_bias"},
    "mixtral": {"attention_bias", "layer_types", "mlp_bias"},
    "qwen2": {"attention_bias", "head_dim", "mlp_bias"},
    "qwen2_moe": {"attention_bias", "head_dim", "mlp_bias"},
    "qwen3": {"mlp_bias"},
    "qwen3_moe": {"head_dim", "layer_types", "mlp_bias", "num_experts"},
    "starcoder2": {"head_dim", "layer_types"},
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_fields_of_every_config(family: str) -> None:
    # DeepSeek-V2's default leaves the experts per token open.
    config = CONFIG_MAPPING[family](**({"num_experts_per_tok": 2} if family == "deepseek_v2" else {})).to_dict()
    asked: set[str] = set()

    class Recorded(dict[str, object]):
        def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
            asked.add(key)
            return super().get(key, default)

    FAMILIES[family].read(Fields(Recorded(config)))
    assert {name for name in asked if name not in config} == ABSENT.get(family, set())


def test_a_config_and_a_class() -> None:
    model = llama()
    assert api.config_of(model) is model.config
    assert api.attention_kernel(model.config) == "sdpa"
    assert api.model_class(model) == "LlamaForCausalLM"
    assert api.model_class(type("Own", (transformers.LlamaForCausalLM,), {})(SMALL)) == "LlamaForCausalLM"
    assert api.config_of(torch.nn.Linear(1, 1)) is None


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() & DECODERS.keys() - {"bert"}))
def test_every_decoder_takes_its_cache_by_a_known_name(family: str) -> None:
    assert cache_argument(getattr(transformers, DECODERS[family]))


def test_every_kind_of_layer_of_a_cache_is_read_or_refused() -> None:
    """A layer that holds keys says how many attention meets; one that holds none has no such method."""
    kinds = {*cache_utils.DYNAMIC_LAYER_TYPE_MAPPING.values(), *cache_utils.STATIC_LAYER_TYPE_MAPPING.values()}
    assert kinds
    for kind in kinds:
        assert hasattr(kind, api.MASK_SIZES) == issubclass(kind, cache_utils.CacheLayerMixin), kind


def test_caches() -> None:
    model = llama().eval()
    for cache in (DynamicCache(config=SMALL), DynamicCache(), StaticCache(config=SMALL, max_cache_len=9)):
        with torch.no_grad():
            model(torch.ones(1, 6, dtype=torch.long), **with_cache(model, cache))
        found = api.cache_of({"anything": cache}, 1)
        # Six tokens and the new one; all nine places of the static cache.
        keys = 9 if isinstance(cache, StaticCache) else 7
        assert (found.past, found.keys, found.cross_cached, found.problem) == (6, (keys, keys), False, "")
        assert found.arguments == {"anything"}


def test_a_cache_of_an_encoder_and_decoder() -> None:
    own, other = DynamicCache(), DynamicCache()
    empty = api.cache_of({"cache": EncoderDecoderCache(own, other)}, 1)
    assert (empty.past, empty.keys, empty.cross_cached, empty.problem) == (0, (), False, "")
    for cache, length in ((own, 3), (other, 5)):
        cache.update(torch.zeros(1, 1, length, 2), torch.zeros(1, 1, length, 2), 0)
    full = api.cache_of({"cache": EncoderDecoderCache(own, other)}, 1)
    assert (full.past, full.keys, full.cross_cached, full.problem) == (3, (4,), True, "")


def test_a_length_without_a_value_is_unknown() -> None:
    cache = StaticCache(config=SMALL, max_cache_len=9)
    with torch.device("meta"):
        model = llama().eval()
    tokens = torch.ones(1, 6, dtype=torch.long, device="meta")
    mask = torch.zeros(1, 1, 6, 9, device="meta")
    with torch.no_grad():
        model(tokens, attention_mask=mask, **with_cache(model, cache))
    found = api.cache_of({"cache": cache}, 1)
    assert (found.past, found.keys, found.problem) == (None, (9, 9), "")


def test_a_state_is_refused() -> None:
    cache = DynamicCache(config=MambaConfig(vocab_size=10, hidden_size=16, state_size=5, num_hidden_layers=1))
    assert "its argument cache (DynamicCache) cannot be read: its layer 0" in api.cache_of({"cache": cache}, 1).problem


@pytest.mark.parametrize("value", [None, True, 3, "static"])
def test_flags_are_no_caches(value: object) -> None:
    assert api.cache_of({"use_cache": value, "cache_position": torch.arange(3)}, 1) == api.CallCache()


@pytest.mark.parametrize(
    ("keywords", "again"),
    [
        ({"use_reentrant": True}, "whole"),
        ({"use_reentrant": False}, "needed"),
        ({"use_reentrant": False, "early_stop": False}, "whole"),
        ({"use_reentrant": False, "preserve_rng_state": False, "debug": True}, "needed"),
    ],
)
def test_checkpointing(keywords: dict[str, Any], again: str) -> None:
    model = llama()
    checkpoint_layers(model, keywords)
    found = api.checkpointing_of(model.train())
    assert (found.again, found.layers, found.problem) == (again, (True, True), "")
    assert api.checkpointing_of(model.eval()).again == "none"


def test_checkpointing_that_is_not_known_is_refused() -> None:
    model = llama().train()
    checkpoint_layers(model, {"use_reentrant": False, "context_fn": checkpoint.noop_context_fn})
    assert api.checkpointing_of(model).problem.endswith("context_fn changes what is done again")
    for function, text in (
        (partial(print, use_reentrant=True), "torch.utils.checkpoint.checkpoint"),
        (partial(checkpoint.checkpoint, use_reentrant=None), "use_reentrant = None: expected True or False"),
    ):
        for layer in model.model.layers:
            setattr(layer, api.CHECKPOINTING_FUNCTION, function)
        assert text in api.checkpointing_of(model).problem


def test_masks_by_kind_of_layer() -> None:
    kinds = inspect.getsource(transformers.models.gemma2.modeling_gemma2.Gemma2Model.forward)
    assert f'"{api.FULL_ATTENTION}"' in kinds
    mask = torch.ones(1, 4)
    assert api.hides_none({api.FULL_ATTENTION: mask}, 4)
    mask[0, 0] = 0
    assert not api.hides_none({api.FULL_ATTENTION: mask}, 4)


def test_a_renamed_field_is_missing_by_name() -> None:
    config = SMALL.to_dict()
    config["hidden_width"] = config.pop("hidden_size")
    with pytest.raises(ConfigError, match="hidden_size is missing"):
        FAMILIES["llama"].read(Fields(config))
