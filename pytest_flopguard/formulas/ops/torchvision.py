"""Ops of torchvision: boxes are compared, regions are sampled, and a deformable convolution multiplies.

Sampling is left out as that of ``grid_sampler`` is, and decoding an image is no work of a model.
"""

from __future__ import annotations

from typing import Any

from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops import conv
from pytest_flopguard.formulas.registry import formula

FREE = ("image.read_file", "image.write_file")

_REGIONS = "roi_align roi_pool ps_roi_align ps_roi_pool"
_IMAGES = """
decode_gif decode_image decode_jpeg decode_jpegs_cuda decode_png decode_webp encode_jpeg encode_jpegs_cuda encode_png
"""

UNCOUNTED = (
    "torchvision.box_iou_rotated",
    "torchvision.nms",
    "torchvision.qnms",
    "torchvision.qroi_align",
    *(f"torchvision.{name}" for name in _REGIONS.split()),
    *(f"torchvision._{name}_backward" for name in _REGIONS.split()),
    *(f"image.{name}" for name in _IMAGES.split()),
)


@formula("torchvision.deform_conv2d")
def deformable_convolution(x: TensorSpec, weight: TensorSpec, *_: Any, out: TensorSpec) -> int:
    """Inputs sampled at offsets, then the plain convolution: numel(weight) * batch * positions multiply-adds."""
    return conv.direct_convolution(x, weight, out=out)


@formula("torchvision._deform_conv2d_backward")
def deformable_convolution_backward(
    grad: TensorSpec, x: TensorSpec, weight: TensorSpec, offset: TensorSpec, mask: TensorSpec, *_: Any, **__: Any
) -> int:
    """One product for the weight's gradient, one for those of what is sampled: input, offsets and mask.

    The op has no output mask: a tensor that requires a gradient is taken to get one.
    """
    sampled = x.needs_grad or offset.needs_grad or mask.needs_grad
    return conv.direct_convolution(x, weight, out=grad) * (sampled + weight.needs_grad)
