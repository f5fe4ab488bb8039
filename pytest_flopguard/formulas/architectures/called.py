"""From one call of a transformers model to its closed form: its config, its class and the shapes that it was given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pytest_flopguard.core.errors import ArchitectureError, ConfigError, message
from pytest_flopguard.core.model_arguments import (
    DECODER_TOKENS,
    ENCODER_OUTPUTS,
    IMAGE,
    LABELS,
    LOGITS_TO_KEEP,
    SOUND,
    TOKENS,
)
from pytest_flopguard.core.model_call import ModelCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.architectures.called_checkpointing import recomputed
from pytest_flopguard.formulas.architectures.config_fields import Fields
from pytest_flopguard.formulas.architectures.config_others import labels
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.architectures.encoder import EncoderSizes, encoder
from pytest_flopguard.formulas.architectures.encoder_decoder import EncoderDecoderSizes, encoder_decoder
from pytest_flopguard.formulas.architectures.families import Family, Sizes, family_of
from pytest_flopguard.formulas.architectures.transformer import decoder
from pytest_flopguard.formulas.architectures.vision_transformer import VisionSizes, vision_transformer
from pytest_flopguard.formulas.architectures.whisper import WhisperSizes, frames_heard, whisper
from pytest_flopguard.formulas.breakdown import Breakdown, Term

# What a class adds to its body: logits, labels on every position, a start and an end.
_HEADS = re.compile(
    r"(?P<head>LMHeadModel|ForCausalLM|ForMaskedLM|ForConditionalGeneration|ForImageClassification"
    r"|ForSequenceClassification|ForTokenClassification|ForQuestionAnswering|EncoderModel|Encoder|Stack|Model)$"
)
_UNREAD_PAST = "how many tokens its cache holds cannot be read"
_NO_BODY = re.compile(r"(PreTrained|DoubleHeads)Model$")


def closed_form_of(call: ModelCall, attention: str = "dense") -> Breakdown:
    """Derive the closed form of one call: the FLOPs of its forward, backward, and recompute where it is checkpointed.

    Terms name the module paths below ``call.path``. ArchitectureError for a model type or class without a closed form,
    ConfigError for a config or inputs that it does not stand for.
    """
    family = family_of(call.config)
    head = _head(call)
    if call.problem:
        raise _wrong(call, call.problem)
    fields = Fields(call.config)
    sizes = family.read(fields)
    form = _form(call, fields, sizes, head, attention)
    form = recomputed(form, call, family) if call.grad else form
    return replace(form, name=call.model, terms=tuple(_placed(each, call, family) for each in form))


def _form(call: ModelCall, fields: Fields, sizes: Sizes, head: str, attention: str) -> Breakdown:
    if isinstance(sizes, DecoderSizes):
        return _decoder(call, fields, sizes, head, attention)
    if isinstance(sizes, EncoderSizes):
        return _encoder(call, fields, sizes, head)
    if isinstance(sizes, EncoderDecoderSizes):
        return _encoder_decoder(call, fields, sizes, head, attention)
    if isinstance(sizes, VisionSizes):
        return _vision(call, fields, sizes, head)
    return _whisper(call, sizes, head, attention)


def written_at(call: ModelCall) -> tuple[str, int]:
    """Return the file and line of the closed form that a call is held to."""
    sizes = family_of(call.config).read(Fields(call.config))
    functions: dict[type, Callable[..., Breakdown]] = {
        DecoderSizes: decoder,
        EncoderSizes: encoder,
        EncoderDecoderSizes: encoder_decoder,
        VisionSizes: vision_transformer,
        WhisperSizes: whisper,
    }
    code = functions[type(sizes)].__code__
    return code.co_filename, code.co_firstlineno


def check_gradients(call: ModelCall) -> None:
    """Refuse a call whose backward has no closed form, since some parameters are frozen; ConfigError."""
    family = family_of(call.config)
    frozen = [each for each in call.frozen if not re.search(family.frozen, each)]
    if call.grad and frozen:
        raise _wrong(
            call, f"{len(frozen)} parameters want no gradient ({frozen[0]}, ...): the closed form of backward needs all"
        )


def _placed(term: Term, call: ModelCall, family: Family) -> Term:
    pattern = family.modules.get(term.name, "")
    return replace(term, modules=rf"^{re.escape(call.path)}\b.*{pattern}" if pattern else "")


def _head(call: ModelCall) -> str:
    found = _HEADS.search(call.model)
    if found is None or _NO_BODY.search(call.model):
        hint = f" in the class {call.model}"
        known = "ForCausalLM, ForSequenceClassification, ForTokenClassification, ForQuestionAnswering, Model, ..."
        name = call.config.get("model_type")
        raise ArchitectureError(message("unknown-architecture", name=name, hint=hint, known=known))
    return found["head"]


def _decoder(call: ModelCall, fields: Fields, sizes: DecoderSizes, head: str, attention: str) -> Breakdown:
    batch, seq = _tokens(call, *TOKENS)
    logits = _logits(call, seq) if head in ("LMHeadModel", "ForCausalLM") else 0
    keys = _keys(call, seq, sizes.windows or (0,) * sizes.layers)
    form = decoder(
        sizes,
        batch=batch,
        seq=seq,
        past=_past(call, attention),
        attention=attention,
        logits=logits,
        keys=keys,
        latents=call.keys,
    )
    outputs = _outputs(fields, head)
    return _with_classifier(form, batch * seq, "B*s", sizes.width, outputs) if outputs else form


def _encoder(call: ModelCall, fields: Fields, sizes: EncoderSizes, head: str) -> Breakdown:
    batch, seq = _tokens(call, *TOKENS)
    pools = head == "ForSequenceClassification" or (head == "Model" and "pooler" in call.children)
    if head not in (
        "Model",
        "ForMaskedLM",
        "ForSequenceClassification",
        "ForTokenClassification",
        "ForQuestionAnswering",
    ):
        raise _wrong(call, f"the class {call.model} has no closed form")
    number = labels(fields) if head.startswith("For") and head != "ForMaskedLM" else 0
    each = head in ("ForTokenClassification", "ForQuestionAnswering")
    sizes = replace(sizes, pooler=pools, masked_lm=head == "ForMaskedLM", labels=number, each_position=each)
    return encoder(sizes, batch=batch, seq=seq)


def _vision(call: ModelCall, fields: Fields, sizes: VisionSizes, head: str) -> Breakdown:
    image = _input(call, IMAGE).shape
    if image[1:] != (sizes.channels, sizes.image, sizes.image):
        raise _wrong(call, f"an image {image[1:]}: expected ({sizes.channels}, {sizes.image}, {sizes.image})")
    pooler = fields.size("pooler_output_size", default=sizes.block.width) if "pooler" in call.children else 0
    number = labels(fields) if head == "ForImageClassification" else 0
    sizes = replace(sizes, labels=number, pooler=pooler if head == "Model" else 0)
    return vision_transformer(sizes, batch=image[0], image_gradient=IMAGE in call.wants_gradient)


def _encoder_decoder(
    call: ModelCall, fields: Fields, sizes: EncoderDecoderSizes, head: str, attention: str
) -> Breakdown:
    if head in ("EncoderModel", "Stack"):
        if fields.flag("is_decoder", False):
            raise _wrong(call, "a decoder by itself has no closed form")
        batch, source = _tokens(call, *TOKENS)
        return encoder_decoder(sizes, batch=batch, source=source, target=0)
    batch, target = _tokens(call, *DECODER_TOKENS, LABELS)
    encoded = _encoded(call)
    source = encoded or _tokens(call, *TOKENS)[1]
    return encoder_decoder(
        sizes,
        batch=batch,
        source=source,
        target=target,
        past=_past(call, attention),
        keys=_decoder_keys(call, target, sizes.decoder_layers),
        attention=attention,
        encode=not encoded,
        cross_cached=call.cross_cached,
        source_gradient=not encoded or ENCODER_OUTPUTS in call.wants_gradient,
        logits=None if head == "ForConditionalGeneration" else 0,
    )


def _whisper(call: ModelCall, sizes: WhisperSizes, head: str, attention: str) -> Breakdown:
    sound = SOUND in call.wants_gradient
    encoded = _encoded(call)
    if not encoded:
        frames_heard(sizes, _input(call, SOUND).shape[-1])
    if head == "Encoder":
        batch = _input(call, SOUND).shape[0]
        return whisper(sizes, batch=batch, target=0, sound_gradient=sound)
    batch, target = _tokens(call, *DECODER_TOKENS, LABELS)
    return whisper(
        sizes,
        batch=batch,
        target=target,
        past=_past(call, attention),
        keys=_decoder_keys(call, target, sizes.text.decoder_layers),
        attention=attention,
        encode=not encoded,
        cross_cached=call.cross_cached,
        source_gradient=not encoded or ENCODER_OUTPUTS in call.wants_gradient,
        logits=None if head == "ForConditionalGeneration" else 0,
        sound_gradient=sound,
    )


def _with_classifier(form: Breakdown, places: int, symbol: str, width: int, outputs: int) -> Breakdown:
    term = Term(name="classifier", equation=f"2*{symbol}*h*c", each=2 * places * width * outputs)
    return form + Breakdown(name="classifier", terms=(term,), symbols={"c": outputs})


def _outputs(fields: Fields, head: str) -> int:
    if head in ("ForSequenceClassification", "ForTokenClassification"):
        return labels(fields)
    return 2 if head == "ForQuestionAnswering" else 0


def _past(call: ModelCall, attention: str) -> int:
    if call.past is None and attention == "causal":
        raise _wrong(call, f"{_UNREAD_PAST}, and causal attention depends on it")
    return call.past or 0


def _keys(call: ModelCall, seq: int, windows: Sequence[int]) -> tuple[int, ...]:
    """Return the keys that each layer's attention meets: those of its cache.

    Into an empty static cache, which is longer than the prompt, transformers' sdpa attention looks no further than the
    prompt, if no mask makes it.
    """
    if call.keys and len(call.keys) != len(windows):
        layers = f"{len(call.keys)} layer{'s' if len(call.keys) != 1 else ''}"
        raise _wrong(call, f"its cache has {layers}, and the model has {len(windows)}")
    if call.past or seq == 1 or not call.unpadded or not family_of(call.config).cuts_keys:
        return call.keys
    cut = tuple(seq if not window or keys < window else keys for keys, window in zip(call.keys, windows, strict=False))
    if cut == call.keys:
        return cut
    if not call.kernel:
        raise _wrong(call, "its config names no implementation of attention, and the keys that it meets depend on it")
    if call.kernel != "sdpa":
        return call.keys
    if call.past is None:
        raise _wrong(call, f"{_UNREAD_PAST}, and the keys that attention meets depend on it")
    return cut


def _decoder_keys(call: ModelCall, target: int, layers: int) -> int:
    """Return the keys that every layer of a decoder meets: those of its cache; 0 without one."""
    # transformers makes a cache with as many layers as the encoder has, and a decoder with fewer uses the first.
    call = replace(call, keys=call.keys[:layers])
    keys = {*_keys(call, target, (0,) * layers)}
    if len(keys) > 1:
        raise _wrong(call, "the layers of its cache differ in length")
    return keys.pop() if keys else 0


def _logits(call: ModelCall, seq: int) -> int:
    """Return the positions that get logits: the last n, those that a tensor names, or all."""
    kept = call.inputs.get(LOGITS_TO_KEEP)
    if isinstance(kept, TensorSpec):
        return kept.numel
    if kept is None or kept == 0:
        return seq
    if type(kept) is not int or kept < 0:
        raise _wrong(call, f"{LOGITS_TO_KEEP} = {kept!r}: expected a whole number or a tensor")
    return min(seq, kept)


def _encoded(call: ModelCall) -> int:
    """Return the positions of an encoder's output that came with the call; 0 if none did."""
    output = call.inputs.get(ENCODER_OUTPUTS)
    if output is None:
        return 0
    if isinstance(output, Mapping):
        output = tuple(output.values())
    first = output[0] if isinstance(output, tuple) and output else output
    if not isinstance(first, TensorSpec) or first.ndim != 3:
        raise _wrong(call, f"{ENCODER_OUTPUTS} holds no tensor of a batch of positions first")
    return first.shape[1]


def _tokens(call: ModelCall, *names: str) -> tuple[int, int]:
    """Return batch and length of the first of these inputs that was given."""
    shape = _input(call, *names).shape
    if len(shape) < 2:
        raise _wrong(call, f"{names[0]} {shape}: expected a batch of sequences")
    return shape[0], shape[1]


def _input(call: ModelCall, *names: str) -> TensorSpec:
    for name in names:
        value = call.inputs.get(name)
        if isinstance(value, TensorSpec):
            return value
    raise _wrong(call, f"it was called without {' or '.join(names)}")


def _wrong(call: ModelCall, problem: str) -> ConfigError:
    return ConfigError(
        message("bad-config", model_type=call.config.get("model_type"), problem=f"{call.path}: {problem}")
    )
