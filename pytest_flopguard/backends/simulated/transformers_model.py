"""Models of transformers as programs for a simulated GPU: the class for a config, its inputs, its spans."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from pytest_flopguard.backends.simulated.program import Program, Spans
from pytest_flopguard.backends.transformers_api import enable_checkpointing
from pytest_flopguard.core.errors import ConfigError, UsageError, message, problem

_EXTRA = "pip install transformers"
Kind = Literal["image", "speech", "text to text", "encoder", "decoder"]
# In this order: many encoder-decoders and encoders are listed as causal language models too.
_KINDS: Mapping[Kind, tuple[str, str]] = {
    "image": ("AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING"),
    "speech": ("AutoModelForSpeechSeq2Seq", "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING"),
    "text to text": ("AutoModelForSeq2SeqLM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING"),
    "encoder": ("AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING"),
    "decoder": ("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING"),
}
# The fields that say how large an image or a window of sound is.
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "image": ("image_size", "num_channels"),
    "speech": ("num_mel_bins", "max_source_positions", "max_target_positions"),
}
_POSITIONS = re.compile(r"(^|\.)(wpe|embed_positions|position_embeddings?|positional_embedding)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step is: training or inference without gradients, in which dtype, and how it is trained.

    ``checkpointing`` drops the activations inside each layer and computes them again in backward.
    """

    train: bool = False
    dtype: str = "bfloat16"
    optimizer: str = "adamw"
    checkpointing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersModel:
    """A config, the kind of model that it describes, and the auto class that builds it."""

    config: Any
    kind: Kind
    auto: Any

    @property
    def positions(self) -> int | None:
        """Rows of the model's table of learned positions; None where it reads sequences of any length."""
        with torch.device("meta"):
            modules = self.build().named_modules()
            tables = [each for name, each in modules if isinstance(each, nn.Embedding) and _POSITIONS.search(name)]
        if not tables:
            return None
        named = getattr(self.config, "max_target_positions", None) or getattr(
            self.config, "max_position_embeddings", None
        )
        return int(named or min(each.num_embeddings for each in tables))

    @property
    def name(self) -> str:
        """The name of the model's type."""
        return str(self.config.model_type)

    @property
    def checkpoints(self) -> bool:
        """Whether its class can compute activations again in backward."""
        with torch.device("meta"):
            return bool(self.build().supports_gradient_checkpointing)

    def build(self) -> Any:
        """Build the model with random weights, on the current device and in the current default dtype."""
        return self.auto.from_config(self.config)


def transformers_model(config: Mapping[str, Any]) -> TransformersModel:
    """Return the model of a config; ConfigError where transformers has no class for it that this command can run."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        values = {"what": "flopguard memory MODEL", "package": "transformers", "install": _EXTRA}
        raise UsageError([problem("missing-extra", "command line", **values)]) from error

    logging: Any = transformers.logging
    logging.set_verbosity_error()  # it warns of what a config leaves out
    name = config.get("model_type", "")
    fields = {key: value for key, value in config.items() if key != "model_type"}
    try:
        built: Any = transformers.AutoConfig.for_model(name, **fields)
    except Exception as error:  # each release of transformers has its own errors for a wrong field
        raise _refused(name, f"transformers refuses it: {str(error).partition('Should contain')[0].strip()}") from error
    for kind, (auto, mapping) in _KINDS.items():
        if type(built) not in getattr(transformers, mapping) or (kind == "encoder" and built.is_decoder):
            continue
        missing = [each for each in _NEEDED.get(kind, ()) if not isinstance(getattr(built, each, None), int)]
        if missing:
            raise _refused(name, f"no {' and '.join(missing)}, so the size of its inputs is not known")
        if kind in ("speech", "text to text"):
            for field in ("pad_token_id", "decoder_start_token_id"):
                if getattr(built, field, None) is None:
                    setattr(built, field, 0)
        return TransformersModel(config=built, kind=kind, auto=getattr(transformers, auto))
    raise _refused(
        name, "transformers has no class for it that reads text, an image or sound and is run by this command"
    )


def transformers_program(model: TransformersModel, step: Step) -> Program:
    """Return the program that trains or runs a model of transformers' own class, with random weights."""

    def program(batch: int, seq: int) -> Spans:
        dtype = getattr(torch, step.dtype)
        with _default_dtype(dtype), torch.device("cuda"):
            built = model.build()
            inputs = _inputs(model, batch, seq, dtype)
        if not step.train:
            return _inference(model.kind, built.eval(), inputs, seq)
        built.train()
        if step.checkpointing:
            enable_checkpointing(built, use_reentrant=False)
        optimizer = _optimizer(step.optimizer, built)
        return {"step": lambda: _train(built, inputs, optimizer)}

    return program


def _inputs(model: TransformersModel, batch: int, seq: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return what the model reads, with ``labels`` for the loss."""
    config = model.config
    if model.kind == "image":
        pixels = torch.zeros(batch, config.num_channels, config.image_size, config.image_size, dtype=dtype)
        return {"pixel_values": pixels, "labels": torch.zeros(batch, dtype=torch.long)}
    tokens = torch.zeros(batch, seq, dtype=torch.long)
    if model.kind == "speech":
        # Two frames of sound for each position of the encoder: a full window.
        frames = torch.zeros(batch, config.num_mel_bins, 2 * config.max_source_positions, dtype=dtype)
        return {"input_features": frames, "labels": tokens}
    return {"input_ids": tokens, "labels": tokens}


def _inference(kind: Kind, model: Any, inputs: Mapping[str, torch.Tensor], seq: int) -> Spans:
    read = {name: value for name, value in inputs.items() if name != "labels"}
    if kind in ("image", "encoder"):
        return {"forward": _without_gradients(lambda: model(**read))}
    return _generation(model, read, inputs["labels"], "input_ids" if kind == "decoder" else "decoder_input_ids", seq)


def _generation(model: Any, read: Mapping[str, torch.Tensor], tokens: torch.Tensor, name: str, seq: int) -> Spans:
    """Return the spans of a sequence of ``seq`` tokens: all but the last into the cache, and the last one alone."""
    kept: dict[str, Any] = {}
    taken = inspect.signature(model.forward).parameters
    # As generate() does where a class can: logits of the last position only.
    last = {"logits_to_keep": 1} if "logits_to_keep" in taken else {}
    cache = "cache" if "cache" in taken else "past_key_values"  # renamed in transformers 5

    def prefill() -> None:
        kept.clear()
        prompt = {name: tokens[:, : max(1, seq - 1)]}
        found = model(**{**read, **prompt}, use_cache=True, **last)
        kept[cache] = found[cache if cache in found else "past_key_values"]
        if name not in read:
            kept["encoder_outputs"] = (found.encoder_last_hidden_state,)

    def decode() -> None:
        model(**kept, **{name: tokens[:, -1:]}, use_cache=True, **last)

    spans: dict[str, Callable[[], object]] = {"prefill": _without_gradients(prefill)}
    return spans | ({"decode": _without_gradients(decode)} if seq > 1 else {})


def _without_gradients(run: Callable[[], object]) -> Callable[[], None]:
    def span() -> None:
        with torch.no_grad():
            run()

    return span


def _train(model: Any, inputs: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    model(**inputs).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def _optimizer(name: str, model: Any) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return (torch.optim.AdamW if name == "adamw" else torch.optim.Adam)(model.parameters(), fused=True)


def _refused(model_type: object, problem: str) -> ConfigError:
    return ConfigError(message("bad-config", model_type=str(model_type), problem=problem))


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
