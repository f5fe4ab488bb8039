"""Convolutional networks: printed multiply-adds, torch's and transformers' models counted, any stack of layers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import (
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)
from zoo.convnet import built

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.errors import SizeError, UnknownNameError
from pytest_flopguard.formulas.architectures.convnet import (
    ALEXNET,
    VGG_16,
    Conv,
    Dense,
    Pool,
    PoolTo,
    Residual,
    alexnet,
    mobilenet_v2,
    mobilenet_v2_layers,
    resnet,
    resnet_layers,
    stack,
    vgg16,
)
from pytest_flopguard.formulas.registry import default_registry

NETS = {
    "resnet18": (resnet(18), resnet_layers(18)),
    "resnet34": (resnet(34), resnet_layers(34)),
    "resnet50": (resnet(50), resnet_layers(50)),
    "resnet101": (resnet(101), resnet_layers(101)),
    "alexnet": (alexnet(), ALEXNET),
    "vgg16": (vgg16(), VGG_16),
    "mobilenet_v2": (mobilenet_v2(), mobilenet_v2_layers()),
}

# "_ops" of torchvision's model weights, labelled GFLOPS and counted in multiply-adds, at 224 x 224, three digits.
PRINTED = {
    "resnet18": "1.814",
    "resnet34": "3.664",
    "resnet50": "4.089",
    "resnet101": "7.801",
    "alexnet": "0.714",
    "vgg16": "15.47",
    "mobilenet_v2": "0.301",
}


@pytest.mark.parametrize("name", NETS)
def test_equations(equations_hold, name):
    equations_hold(NETS[name][0])


@pytest.mark.parametrize("name", NETS)
def test_printed(name):
    digits = len(PRINTED[name].partition(".")[2])
    assert f"{NETS[name][0].forward / 2e9:.{digits}f}" == PRINTED[name]


def test_by_hand():
    # 3 -> 8 channels, 3x3 on 10x10 with a stride of 2 and padding: 5x5; 2*2*25*8*27 FLOPs, of which nobody asks for the
    # gradient of the image. In 4 groups 8 -> 12: 2*2*25*12*(2*9). Pooled to 2x2, 48 numbers to 5 classes: 2*2*5*48.
    net = stack(
        "small",
        (
            Conv(name="first", outputs=8, kernel=3, stride=2, padding=1),
            Conv(name="grouped", outputs=12, kernel=3, padding=1, groups=4),
            Pool(kernel=3, stride=2),
            Dense(name="head", outputs=5),
        ),
        batch=2,
        size=(10, 10),
    )
    assert net.by_name() == {"first": 21_600, "grouped": 21_600, "head": 960}
    assert net.backward == 2 * net.forward - 21_600


def test_stages_of_resnet_50():
    # Multiply-adds of the first stage on 56x56: 64 -> 64 -> 64 -> 256 with a shortcut 64 -> 256, and twice 256 -> 64 ->
    # 64 -> 256; of the stem 147*64 on 112x112.
    found = resnet(50).by_name()
    assert found["stem"] == 2 * 112 * 112 * 64 * 147
    assert found["stage1"] == 2 * 56 * 56 * (64 * (64 + 9 * 64 + 256) + 64 * 256 + 2 * 64 * (256 + 9 * 64 + 256))
    assert found["head"] == 2 * 2048 * 1000
    # Blocks alike are one row.
    assert len(tuple(resnet(50))) < 53


@pytest.mark.parametrize("name", NETS)
def test_networks_of_torch(measured, name):
    form, layers = NETS[name]
    model, _, _ = built(layers, 3, (224, 224))
    assert measured(model, torch.empty(1, 3, 224, 224, device="meta")) == (form.forward, form.backward)


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_resnet_of_transformers(measured, depth):
    blocks = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}[depth]
    kind, widths = ("basic", [64, 128, 256, 512]) if depth < 50 else ("bottleneck", [256, 512, 1024, 2048])
    config = ResNetConfig(layer_type=kind, depths=blocks, hidden_sizes=widths, num_labels=1000)
    with torch.device("meta"):
        model, image = ResNetForImageClassification(config), torch.empty(2, 3, 224, 224)
    form = resnet(depth, batch=2)
    assert measured(lambda x: model(x).logits, image) == (form.forward, form.backward)


def test_resnet_50_on_real_tensors(measured):
    model = ResNetForImageClassification(ResNetConfig(num_labels=10))
    form = resnet(50, size=(64, 96), classes=10)
    run = measured(lambda x: model(x).logits, torch.zeros(1, 3, 64, 96))
    assert run == (form.forward, form.backward)


def test_mobilenet_v2_of_transformers(measured):
    with torch.device("meta"):
        config = MobileNetV2Config(num_labels=1000)
        model, image = MobileNetV2ForImageClassification(config), torch.empty(1, 3, 224, 224)
    form = mobilenet_v2()
    assert measured(lambda x: model(x).logits, image) == (form.forward, form.backward)


def conv_layers(draw, channels: int) -> tuple[list[Conv], int]:
    layers = []
    for number in range(draw(st.integers(1, 3))):
        groups = draw(st.sampled_from([each for each in (1, 2, 3) if not channels % each]))
        outputs = groups * draw(st.integers(1, 3))
        kernel = draw(st.integers(1, 3))
        layers.append(
            Conv(
                name=f"conv{number}",
                outputs=outputs,
                kernel=kernel,
                stride=draw(st.integers(1, 2)),
                padding=draw(st.integers(kernel // 2, kernel)),
                groups=groups,
            )
        )
        channels = outputs
    return layers, channels


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 3), st.integers(1, 6), st.booleans())
def test_any_stack(data, dims, channels, input_grad):
    layers, outputs = conv_layers(data.draw, channels)
    same = Residual(branch=(Conv(name="branch", outputs=outputs, kernel=3, padding=1),))
    layers = (*layers, same, PoolTo(size=2), Dense(name="head", outputs=3))
    size = tuple(data.draw(st.integers(3, 9)) for _ in range(dims))
    form = stack("any", layers, batch=2, channels=channels, size=size, input_grad=input_grad)
    model, _, _ = built(layers, channels, size)
    x = torch.empty(2, channels, *size, device="meta", requires_grad=input_grad)
    with DispatchFlops(default_registry()) as engine:
        mark = engine.begin()
        model(x).sum().backward()
        tally = engine.end(mark)
    assert tally.unknown_ops == ()
    assert (tally.forward, tally.backward) == (form.forward, form.backward)


def test_groups_divide_the_work():
    whole, grouped = (
        stack("conv", (Conv(name="conv", outputs=12, kernel=3, groups=groups),), channels=12, size=(9,)).forward
        for groups in (1, 12)
    )
    assert whole == 12 * grouped
    # The same as torch's own depthwise layer: 7 positions of 12 channels, 3 taps each.
    assert grouped == 2 * nn.Conv1d(12, 12, 3, groups=12, bias=False).weight.numel() * 7


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ((Conv(name="conv", outputs=4, kernel=8),), "the size after conv = -2"),
        ((Conv(name="conv", outputs=4, kernel=3, groups=2),), "the inputs of conv = 3: expected a multiple of groups"),
        ((Conv(name="conv", outputs=4, kernel=3, groups=3),), "the outputs of conv = 4: expected a multiple of groups"),
        ((Conv(name="conv", outputs=4, kernel=3, stride=0),), "the stride of conv"),
        ((Conv(name="conv", outputs=4, kernel=3, padding=-1),), "the padding of conv"),
        ((Pool(kernel=0, stride=1),), "the kernel of pooling"),
        ((PoolTo(size=0),), "the size after pooling"),
        ((Dense(name="head", outputs=0),), "the outputs of head"),
        ((Residual(branch=(Conv(name="conv", outputs=4, kernel=1),)),), r"the shortcut = \(3, 5, 5\)"),
    ],
)
def test_bad_layers(layers, told):
    with pytest.raises(SizeError, match=told):
        stack("bad", layers, size=(5, 5))


def test_bad_sizes():
    with pytest.raises(SizeError, match="batch"):
        resnet(18, batch=0)
    with pytest.raises(SizeError, match="channels"):
        stack("none", (), channels=0)
    with pytest.raises(SizeError, match="size"):
        alexnet(size=(224, 0))
    with pytest.raises(UnknownNameError, match="101"):
        resnet(51)
