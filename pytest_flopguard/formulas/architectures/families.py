"""Which model types have a closed form: how each config is read, and where each term's work is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pytest_flopguard.core.errors import ArchitectureError, message, nearest
from pytest_flopguard.formulas.architectures import config_decoders as decoders
from pytest_flopguard.formulas.architectures import config_gpts as gpts
from pytest_flopguard.formulas.architectures import config_others as others
from pytest_flopguard.formulas.architectures.config_fields import Fields
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.architectures.encoder import EncoderSizes
from pytest_flopguard.formulas.architectures.encoder_decoder import EncoderDecoderSizes
from pytest_flopguard.formulas.architectures.vision_transformer import VisionSizes
from pytest_flopguard.formulas.architectures.whisper import WhisperSizes

Sizes = DecoderSizes | EncoderSizes | EncoderDecoderSizes | VisionSizes | WhisperSizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One model type of transformers: ``read`` turns its config into sizes, ``modules`` names paths by term.

    ``last_product`` are the terms whose last matrix ends a block: nothing after it needs its result in backward.
    ``frozen`` is a regular expression of parameters that want no gradient and meet no product. ``cuts_keys`` says
    whether its attention into an empty static cache looks no further than the prompt.
    """

    model_type: str
    read: Callable[[Fields], Sizes]
    modules: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    last_product: tuple[str, ...] = ("mlp",)
    frozen: str = "^$"
    cuts_keys: bool = True


# A layer may be replaced by one with layers of its own, as adapters do.
_WITHIN = r"(\..*)?$"


def _paths(attention: str, projections: str, out: str, mlp: str, **more: str) -> Mapping[str, str]:
    inside = rf"\.{attention}"
    return MappingProxyType(
        {
            "qkv": rf"{inside}\.({projections}){_WITHIN}",
            "attention_scores": rf"{inside}$",
            "attention_values": rf"{inside}$",
            "out": rf"{inside}\.{out}{_WITHIN}",
            "mlp": rf"\.({mlp}){_WITHIN}",
            "lm_head": rf"\.(lm_head|embed_out){_WITHIN}",
            "classifier": rf"\.(score|classifier|qa_outputs){_WITHIN}",
            **more,
        }
    )


_LLAMA = _paths("self_attn", "[qkv]_proj", "o_proj", r"mlp\.(gate|up|down)_proj")
_EXPERTS = MappingProxyType(
    {
        **_LLAMA,
        "router": r"\.mlp\.(gate|router)$",
        "experts": r"\.mlp\.experts$",
        "shared_expert": r"\.mlp\.shared_experts?(\..*)?$",
        "shared_gate": r"\.mlp\.shared_expert_gate$",
    }
)
_LATENT = MappingProxyType(
    {
        **_EXPERTS,
        "q": r"\.self_attn\.q_proj$",
        "q_down": r"\.self_attn\.q_a_proj$",
        "q_up": r"\.self_attn\.q_b_proj$",
        "kv_down": r"\.self_attn\.kv_a_proj_with_mqa$",
        "kv_up": r"\.self_attn\.kv_b_proj$",
    }
)
_GPT2 = _paths("attn", "c_attn", "c_proj", r"mlp\.c_(fc|proj)")
_FUSED = r"mlp\.dense_(h_to_4h|4h_to_h)"
_BERT = MappingProxyType(
    {
        **_paths(r"attention\.self", "query|key|value", "dense", r"layer\.\d+\.(intermediate|output)\.dense"),
        "out": r"\.attention\.output\.dense$",
        "pooler": r"\.pooler\.dense$",
        "transform": r"\.cls\.predictions\.transform\.dense$",
        "lm_head": r"\.cls\.predictions\.decoder$",
    }
)
_VIT = _paths(
    "attention",
    "[qkv]_proj",
    "o_proj",
    r"mlp\.fc[12]",
    patch=r"\.patch_embeddings\.projection$",
    pooler=r"\.pooler\.dense$",
)


def _two_halves(itself: str, cross: str, out: str, mlp: str, **more: str) -> Mapping[str, str]:
    own = rf"decoder\..*\.{itself}"
    other = rf"\.{cross}"
    return MappingProxyType(
        {
            "encoder_qkv": rf"encoder\..*\.{itself}\.[qkv](_proj)?$",
            "encoder_attention_scores": rf"encoder\..*\.{itself}$",
            "encoder_attention_values": rf"encoder\..*\.{itself}$",
            "encoder_out": rf"encoder\..*\.{itself}\.{out}$",
            "encoder_mlp": rf"encoder\..*\.({mlp})$",
            "qkv": rf"{own}\.[qkv](_proj)?$",
            "attention_scores": rf"{own}$",
            "attention_values": rf"{own}$",
            "out": rf"{own}\.{out}$",
            "cross_q": rf"{other}\.q(_proj)?$",
            "cross_kv": rf"{other}\.[kv](_proj)?$",
            "cross_scores": rf"{other}$",
            "cross_values": rf"{other}$",
            "cross_out": rf"{other}\.{out}$",
            "mlp": rf"decoder\..*\.({mlp})$",
            "lm_head": r"\.(lm_head|proj_out)$",
            **more,
        }
    )


_T5 = _two_halves("SelfAttention", "EncDecAttention", "o", r"DenseReluDense\.w[io](_[01])?")
_WHISPER = _two_halves("self_attn", "encoder_attn", "out_proj", "fc[12]", conv1=r"\.conv1$", conv2=r"\.conv2$")

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        each.model_type: each
        for each in (
            Family(model_type="bert", last_product=(), read=others.bert, modules=_BERT),
            Family(
                model_type="bloom",
                read=gpts.bloom,
                modules=_paths("self_attention", "query_key_value", "dense", _FUSED),
            ),
            Family(
                model_type="deepseek_v2", last_product=("mlp", "shared_expert"), read=decoders.deepseek, modules=_LATENT
            ),
            Family(
                model_type="deepseek_v3", last_product=("mlp", "shared_expert"), read=decoders.deepseek, modules=_LATENT
            ),
            Family(
                model_type="falcon",
                cuts_keys=False,
                read=gpts.falcon,
                modules=_paths("self_attention", "query_key_value", "dense", _FUSED),
            ),
            Family(model_type="gemma", read=decoders.gemma, modules=_LLAMA),
            Family(model_type="gemma2", last_product=(), read=decoders.gemma2, modules=_LLAMA),
            Family(model_type="gemma3_text", last_product=(), read=decoders.gemma3, modules=_LLAMA),
            Family(model_type="gpt2", read=gpts.gpt2, modules=_GPT2),
            Family(model_type="gpt_bigcode", read=gpts.gpt_bigcode, modules=_GPT2),
            Family(
                model_type="gpt_neox",
                read=gpts.gpt_neox,
                modules=_paths("attention", "query_key_value", "dense", _FUSED),
            ),
            Family(model_type="gpt_oss", read=decoders.gpt_oss, modules=_EXPERTS),
            Family(model_type="llama", read=decoders.llama, modules=_LLAMA),
            Family(model_type="mistral", read=decoders.mistral, modules=_LLAMA),
            Family(model_type="mixtral", read=decoders.mixtral, modules=_EXPERTS),
            Family(model_type="mpt", read=gpts.mpt, modules=_paths("attn", "Wqkv", "out_proj", r"ffn\.(up|down)_proj")),
            Family(model_type="qwen2", read=decoders.qwen2, modules=_LLAMA),
            Family(model_type="qwen2_moe", read=decoders.qwen2_moe, modules=_EXPERTS),
            Family(model_type="qwen3", read=decoders.qwen3, modules=_LLAMA),
            Family(model_type="qwen3_moe", read=decoders.qwen3_moe, modules=_EXPERTS),
            Family(
                model_type="starcoder2",
                read=gpts.starcoder2,
                modules=_paths("self_attn", "[qkv]_proj", "o_proj", r"mlp\.c_(fc|proj)"),
            ),
            Family(model_type="t5", last_product=("mlp", "encoder_mlp"), read=others.t5, modules=_T5),
            Family(model_type="vit", read=others.vit, modules=_VIT),
            Family(
                model_type="whisper",
                read=others.whisper,
                modules=_WHISPER,
                last_product=("mlp", "encoder_mlp"),
                frozen=r"embed_positions",
            ),
        )
    }
)


def family_of(config: Mapping[str, object]) -> Family:
    """Return the family of a config; ArchitectureError, with the nearest ones, where no closed form is known."""
    name = str(config.get("model_type", ""))
    if name not in FAMILIES:
        raise unknown_architecture(name)
    return FAMILIES[name]


def unknown_architecture(name: str) -> ArchitectureError:
    """Build the error for a model type that has no closed form."""
    hint = nearest(name, FAMILIES)
    return ArchitectureError(message("unknown-architecture", name=name, hint=hint, known=", ".join(FAMILIES)))


def from_config(config: Mapping[str, object]) -> Sizes:
    """Read a transformers config (its config.json as a mapping) as sizes; nothing of transformers is imported.

    ArchitectureError for a ``model_type`` without a closed form, ConfigError for a missing, misspelt or impossible
    field.
    """
    fields = Fields(config)
    sizes = family_of(config).read(fields)
    fields.refuse_misspelt()
    return sizes
