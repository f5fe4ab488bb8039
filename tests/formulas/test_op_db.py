"""Every op of torch's own OpInfo database, forward and backward: nothing that computes may stay unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import pytest
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo, SampleInput
from torch.utils._pytree import tree_leaves

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.formulas.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SAMPLES = 4
# The first that an op takes; some take an 8-bit or an integer type alone.
DTYPES = (torch.float32, torch.complex64, torch.float8_e4m3fn, torch.bfloat16, torch.int64)

# Entries of the database that have nothing to run on a CPU.
NOT_RUN = {
    "jiterator_unary": "needs a GPU",
    "jiterator_binary": "needs a GPU",
    "jiterator_4inputs_with_extra_args": "needs a GPU",
    "jiterator_binary_return_by_ref": "needs a GPU",
    "jiterator_2inputs_2outputs": "needs a GPU",
    "nn.functional.batch_norm.without_cudnn": "needs a GPU",
    "torch.ops.aten._flash_attention_forward": "needs a GPU",
    "torch.ops.aten._efficient_attention_forward": "needs a GPU",
}

# Ops whose FLOPs no formula can tell, and why.
UNKNOWN: dict[str, str] = {}


def name(op: OpInfo) -> str:
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name


def samples(op: OpInfo) -> Iterator[tuple[SampleInput, bool]]:
    """Yield the first sample inputs of an op, and whether it is differentiated."""
    dtype = next(each for each in DTYPES if each in op.dtypes)
    trained = op.supports_autograd and dtype in op.backward_dtypes and (dtype.is_floating_point or dtype.is_complex)
    # Past the wrapper that looks for the running test in every frame, which takes longer than the samples.
    for sample in islice(op.sample_inputs_func(op, "cpu", dtype, trained), SAMPLES):
        yield sample, trained


def step(op: OpInfo, sample: SampleInput, trained: bool) -> None:
    out = op(sample.input, *sample.args, **sample.kwargs)
    results = [each for each in tree_leaves(out) if isinstance(each, torch.Tensor) and each.requires_grad]
    results = [each if each.layout == torch.strided else each.to_dense() for each in results]
    if trained and results:
        torch.autograd.backward(results, [torch.ones_like(each) for each in results])


def count(registry: Registry, op: OpInfo, sample: SampleInput, trained: bool) -> FlopTally:
    with DispatchFlops(registry) as flops:
        mark = flops.begin()
        step(op, sample, trained)
        return flops.end(mark)


# Calls whose gradient is no product: a dot product's scales a vector, and one loss makes its gradients in forward.
ELEMENTWISE_BACKWARD = {
    "aten.dot",
    "aten.vdot",
    "aten._linalg_det",
    "torch_nn._linear_cross_entropy_batch_chunked",
}


def counted(tally: FlopTally, phase: str) -> set[str]:
    return {each.op for each in tally.counts if each.phase == phase and each.kind == "counted"}


def test_what_has_products_in_backward_has_them_in_forward(registry: Registry) -> None:
    differ = {}
    pairs = 0
    for op in (op for op in op_db if name(op) not in NOT_RUN):
        for sample, trained in samples(op):
            tally = count(registry, op, sample, trained)
            forward, backward = counted(tally, "forward"), counted(tally, "backward")
            pairs += bool(forward and backward)
            # Shapes with a 0 in them leave nothing to multiply on one side alone.
            if trained and tally.at_least and bool(forward) != bool(backward) and not forward & ELEMENTWISE_BACKWARD:
                differ[name(op)] = (forward, backward)
    assert differ == {}
    assert pairs >= COMPARED


# What the database lacks and what multiplies inside.
BESIDES: dict[str, Callable[[], Any]] = {
    "affine_grid of images": lambda: torch.affine_grid_generator(leaf(2, 2, 3), [2, 3, 4, 5], False),
    "affine_grid of volumes": lambda: torch.affine_grid_generator(leaf(2, 3, 4), [2, 3, 4, 5, 6], True),
    "conv_tbc": lambda: torch.conv_tbc(leaf(7, 2, 4), leaf(3, 4, 5), leaf(5), 1),
}


def leaf(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, requires_grad=True)


@pytest.mark.parametrize("call", BESIDES.values(), ids=BESIDES.keys())
def test_backward_costs_the_forward_for_each_operand(registry: Registry, call: Callable[[], Any]) -> None:
    with DispatchFlops(registry) as flops:
        mark = flops.begin()
        call().sum().backward()
        tally = flops.end(mark)
    assert tally.forward
    assert tally.backward in (tally.forward, 2 * tally.forward)


def on_meta(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return torch.device("meta") if isinstance(value, torch.device) else value
    return torch.empty_strided(
        value.shape, value.stride(), dtype=value.dtype, device="meta", requires_grad=value.requires_grad
    )


@pytest.mark.parametrize("op", [op for op in op_db if name(op) not in NOT_RUN], ids=name)
def test_nothing_is_unknown(op: OpInfo, registry: Registry) -> None:
    tallies = [count(registry, op, sample, trained) for sample, trained in samples(op)]
    assert tallies
    unknown = {(each.op, each.reason) for tally in tallies for each in tally.unknown_ops}
    assert unknown <= UNKNOWN.items()


# Calls that can be compared, 301 with torch 2.13: it has no meta kernel for some of linear algebra.
COMPARED = 250


def test_products_count_the_same_on_meta_tensors(registry: Registry) -> None:
    compared = 0
    differ = []
    for op in (op for op in op_db if name(op) not in NOT_RUN):
        for sample, trained in samples(op):
            tally = count(registry, op, sample, trained)
            if not tally.at_least or "sparse" in op.name:
                continue
            with suppress(NotImplementedError):
                inputs = sample.transform(on_meta)
                same = count(registry, op, inputs, trained)
                compared += 1
                if (tally.forward, tally.backward) != (same.forward, same.backward):
                    differ.append((name(op), tally.by_op(), same.by_op()))
    assert differ == []
    assert compared >= COMPARED


def test_what_does_not_run_is_in_the_database() -> None:
    assert NOT_RUN.keys() <= {name(op) for op in op_db}


def test_what_is_stated_as_unknown_has_no_formula(registry: Registry) -> None:
    assert not UNKNOWN.keys() & {each.op for each in registry.entries()}


def test_an_unknown_op_would_be_seen() -> None:
    nothing_is_known = Registry()
    addmm = next(op for op in op_db if op.name == "addmm")
    tally = count(nothing_is_known, addmm, *next(samples(addmm)))
    assert "aten.addmm" in {each.op for each in tally.unknown_ops}
