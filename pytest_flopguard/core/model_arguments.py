"""The names of the arguments of a transformers model that its closed form depends on."""

from __future__ import annotations

TOKENS = ("input_ids", "inputs_embeds")
DECODER_TOKENS = ("decoder_input_ids", "decoder_inputs_embeds")
LABELS = "labels"
ENCODER_OUTPUTS = "encoder_outputs"
IMAGE = "pixel_values"
SOUND = "input_features"
MASK = "attention_mask"
LOGITS_TO_KEEP = "logits_to_keep"
