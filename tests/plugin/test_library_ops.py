"""Ops of other libraries in a guarded test: torchvision's have formulas, and a question to a library is no work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
Report = Callable[[], dict[str, Any]]

# Where torchvision is not installed, its schemas alone: they are what a formula sees.
TORCHVISION = """
try:
    import torchvision
except ImportError:
    if not hasattr(torch.ops.torchvision, "nms"):  # runs of one process share torch's registry
        library = torch.library.Library("torchvision", "DEF")
        library.define("_cuda_version() -> int")
        library.impl("_cuda_version", lambda: -1, "CompositeExplicitAutograd")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.impl("nms", lambda boxes, scores, threshold: scores.argsort(), "CPU")
        library.define(
            "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width,"
            " int sampling_ratio, bool aligned) -> Tensor"
        )
        library.impl("roi_align", lambda x, rois, s, h, w, n, a: x.new_zeros(len(rois), x.shape[1], h, w), "CPU")
        library.define(
            "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h,"
            " SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups,"
            " SymInt offset_groups, bool use_mask) -> Tensor"
        )
        library.impl(
            "deform_conv2d",
            lambda x, w, offset, *rest: x.new_zeros(len(x), len(w), *offset.shape[2:]),
            "CPU",
        )
        torch.torchvision_library = library  # it lives as long as torch does
ops = torch.ops.torchvision
"""
DETECTOR = """
@pytest.mark.flop_budget(flops="1.5 kFLOP")
def test_detector():
    assert isinstance(ops._cuda_version(), int)
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    ops.nms(boxes, torch.tensor([0.5, 0.4]), 0.5)
    ops.roi_align(torch.zeros(2, 3, 8, 8), torch.tensor([[0, 1.0, 1.0, 6.0, 6.0]]), 1.0, 3, 3, -1, False)
    x, weight, offset = torch.zeros(1, 2, 4, 4), torch.zeros(5, 2, 3, 3), torch.zeros(1, 18, 2, 2)
    ops.deform_conv2d(x, weight, offset, torch.zeros(1, 0), torch.zeros(5), 1, 1, 0, 0, 1, 1, 1, 1, False)
"""


def test_a_detector_counts_its_deformable_convolution_alone(project: Project, run: Run, report: Report) -> None:
    project(TORCHVISION + DETECTOR)
    run("--flop-budget", "--flop-report=report.json").assert_outcomes(passed=1)
    # 5 * 2 * 3 * 3 weight elements, each once for each of 1 * 2 * 2 output positions: 2 * 90 * 4.
    assert report()["records"][0]["flops"]["total"] == 720


QUESTION = """
if not hasattr(torch.ops.mylib_question, "version"):
    library = torch.library.Library("mylib_question", "DEF")
    library.define("version(int major) -> int")
    library.impl("version", lambda major: 3, "CompositeExplicitAutograd")
    library.define("make(int n) -> Tensor")
    library.impl("make", lambda n: torch.ones(n, n) @ torch.ones(n, n), "CompositeExplicitAutograd")
    library.define("norm(Tensor x) -> float")
    library.impl("norm", lambda x: 1.0, "CPU")
    torch.mylib_question = library

@pytest.mark.flop_budget(flops="2.1 kFLOP")
def test_question():
    assert torch.ops.mylib_question.version(2) == 3
    forward()

@pytest.mark.flop_budget(flops="2.1 kFLOP")
def test_makes_a_tensor(): torch.ops.mylib_question.make(2)

@pytest.mark.flop_budget(flops="2.1 kFLOP")
def test_takes_a_tensor(): torch.ops.mylib_question.norm(torch.zeros(2))
"""


def test_an_op_without_any_tensor_is_a_question(project: Project, run: Run) -> None:
    project(QUESTION)
    result = run("--flop-budget", "-v")
    # What makes a tensor or takes one may do any work.
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*mylib_question.make*", "*mylib_question.norm*"])


AFFINE = """
import torch.nn.functional as F

@pytest.mark.flop_budget(flops="480 FLOP", backward_flops="480 FLOP")
def test_grid():
    theta = torch.randn(2, 2, 3, requires_grad=True)
    F.affine_grid(theta, (2, 3, 4, 5), align_corners=False)

@pytest.mark.flop_budget(flops="479 FLOP")
def test_grid_over(): test_grid()

@pytest.mark.flop_budget(forward_flops="480 FLOP", backward_flops="480 FLOP")
def test_grid_backward():
    theta = torch.randn(2, 2, 3, requires_grad=True)
    F.affine_grid(theta, (2, 3, 4, 5), align_corners=False).sum().backward()
"""


def test_an_affine_grid_is_a_product(project: Project, run: Run) -> None:
    # [4 * 5, 3] @ [3, 2] for each of 2 images: 2 * 2 * 20 * 3 * 2 = 480, and as much for the gradient of theta.
    project(AFFINE)
    run("--flop-budget").assert_outcomes(passed=2, failed=1)


TBC = """
def step(of_x, of_weight, twice=1):
    x = torch.randn(7, 2, 4, requires_grad=of_x)
    weight, bias = torch.randn(3, 4, 5, requires_grad=of_weight), torch.randn(5, requires_grad=True)
    for _ in range(twice):
        torch.conv_tbc(x, weight, bias, 1).sum().backward()

@pytest.mark.flop_budget(forward_flops="1680 FLOP", backward_flops="3360 FLOP")
def test_both(): step(True, True)

@pytest.mark.flop_budget(forward_flops="1680 FLOP", backward_flops="1680 FLOP")
def test_weight(): step(False, True)

@pytest.mark.flop_budget(forward_flops="1680 FLOP", backward_flops="1680 FLOP")
def test_input(): step(True, False)

@pytest.mark.flop_budget(forward_flops="3360 FLOP", backward_flops="6720 FLOP")
def test_twice(): step(True, True, twice=2)

@pytest.mark.flop_budget(forward_flops="3360 FLOP", backward_flops="6719 FLOP")
def test_over(): step(True, True, twice=2)

@pytest.fixture
def before():
    return torch.conv_tbc(torch.randn(7, 2, 4), torch.randn(3, 4, 5, requires_grad=True), torch.randn(5), 1)

@pytest.mark.flop_budget(flops="1 MFLOP")
def test_unseen_forward(before): before.sum().backward()
"""


def test_conv_tbc_counts_as_other_convolutions_do(project: Project, run: Run) -> None:
    # 3 * 4 * 5 weight elements at each of 7 * 2 output positions: 2 * 60 * 14 = 1680, for each gradient asked for.
    project(TBC)
    result = run("--flop-budget")
    result.assert_outcomes(passed=4, failed=2)
    result.stdout.fnmatch_lines(["*aten.conv_tbc_backward*its forward ran before the measurement began*"])
