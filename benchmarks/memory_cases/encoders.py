"""BERT, T5, ViT and ResNet of the transformers library, from their configs, with random weights."""

# A case says what it is by its name.
# ruff: noqa: D103

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.optim import SGD, AdamW

from memory_cases.case import Step, Zoo, images, inference, labels, tokens, training

ZOO = Zoo(library="transformers")
BF16 = torch.bfloat16


def bert(device: str, *, attention: str = "sdpa") -> Any:
    """BERT base, which classifies in two classes."""
    import transformers

    config = transformers.BertConfig()
    config._attn_implementation = attention
    with torch.device(device):
        return transformers.BertForSequenceClassification(config)


def bert_loss(model: Any, device: str, batch: int, length: int) -> Callable[[], torch.Tensor]:
    """The loss of the class, on new tokens each time."""

    def loss() -> torch.Tensor:
        ids = tokens(device, batch, length, model.config.vocab_size)
        return F.cross_entropy(model(input_ids=ids).logits, labels(device, batch, 2))

    return loss


@ZOO.case("bert")
def bert_train_fp32(device: str) -> Step:
    model = bert(device)
    return training(bert_loss(model, device, 16, 128), AdamW(model.parameters(), foreach=True))


@ZOO.case("bert")
def bert_train_autocast(device: str) -> Step:
    model = bert(device)
    loss = bert_loss(model, device, 16, 384)
    return training(loss, AdamW(model.parameters(), fused=True), autocast=BF16, clip=model.parameters())


@ZOO.case("bert")
def bert_train_eager_attention(device: str) -> Step:
    model = bert(device, attention="eager")
    return training(bert_loss(model, device, 8, 251), SGD(model.parameters(), lr=0.01, momentum=0.9))


@ZOO.case("bert")
def bert_infer_inference_mode(device: str) -> Step:
    model = bert(device).eval()
    return inference(lambda: model(input_ids=tokens(device, 32, 128, 30000)), mode=True)


def t5(device: str, dtype: torch.dtype = torch.float32) -> Any:
    """T5 small."""
    import transformers

    config = transformers.T5Config(vocab_size=32128, d_model=512, d_ff=2048, num_layers=6, num_heads=8)
    with torch.device(device):
        return transformers.T5ForConditionalGeneration(config).to(dtype)


def t5_loss(model: Any, device: str, batch: int, source: int, target: int) -> Callable[[], torch.Tensor]:
    """The loss of the target, on new tokens each time."""

    def loss() -> torch.Tensor:
        ids = tokens(device, batch, source, 32128)
        wanted = tokens(device, batch, target, 32128)
        shifted = wanted.roll(1, -1)
        found = model(input_ids=ids, decoder_input_ids=shifted, use_cache=False).logits
        return F.cross_entropy(found.flatten(0, 1), wanted.flatten())

    return loss


@ZOO.case("t5")
def t5_train_fp32(device: str) -> Step:
    model = t5(device)
    return training(t5_loss(model, device, 8, 256, 64), AdamW(model.parameters()))


@ZOO.case("t5")
def t5_train_bf16(device: str) -> Step:
    model = t5(device, BF16)
    return training(t5_loss(model, device, 8, 500, 100), AdamW(model.parameters(), fused=True))


@ZOO.case("t5")
def t5_infer_no_grad(device: str) -> Step:
    model = t5(device).eval()

    def forward() -> object:
        ids, target = tokens(device, 8, 512, 32128), tokens(device, 8, 128, 32128)
        return model(input_ids=ids, decoder_input_ids=target, use_cache=False)

    return inference(forward)


def vit(device: str) -> Any:
    """ViT base: 224 x 224 in patches of 16."""
    import transformers

    with torch.device(device):
        return transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000))


def class_loss(model: Any, device: str, batch: int) -> Callable[[], torch.Tensor]:
    """The loss of the class of new images."""

    def loss() -> torch.Tensor:
        return F.cross_entropy(model(images(device, batch, 224)).logits, labels(device, batch, 1000))

    return loss


@ZOO.case("vit")
def vit_train_autocast(device: str) -> Step:
    model = vit(device)
    return training(class_loss(model, device, 32), AdamW(model.parameters(), fused=True), autocast=BF16)


@ZOO.case("vit")
def vit_train_checkpointed(device: str) -> Step:
    model = vit(device)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    # Checkpointing of the reentrant kind needs an input that has a gradient.
    model.enable_input_require_grads()
    return training(class_loss(model.train(), device, 32), AdamW(model.parameters()))


@ZOO.case("vit")
def vit_infer_inference_mode(device: str) -> Step:
    model = vit(device).eval()
    return inference(lambda: model(images(device, 64, 224)), autocast=torch.float16, mode=True)


@ZOO.case("resnet")
def resnet_50_of_the_library(device: str) -> Step:
    import transformers

    with torch.device(device):
        model = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000))
    return training(class_loss(model, device, 32), SGD(model.parameters(), lr=0.1, momentum=0.9))


@ZOO.case("vit")
def vit_frozen_backbone(device: str) -> Step:
    model = vit(device)
    model.vit.requires_grad_(False)
    return training(class_loss(model, device, 64), AdamW(model.classifier.parameters()))
