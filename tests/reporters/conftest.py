"""Runs with the numbers of real models, built from closed forms, and golden files to hold texts against."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_flopguard.core.baseline import baseline_of
from pytest_flopguard.core.baseline_verdict import Terms, hold
from pytest_flopguard.core.expectation import UNITS, Expectation, Origin, Part, Quantity, Severity
from pytest_flopguard.core.measurement import (
    FlopTally,
    Measurement,
    MemoryPeak,
    OpCount,
    ParameterCount,
    Phase,
    UnknownOp,
)
from pytest_flopguard.core.owners import Owner, Prediction
from pytest_flopguard.core.record import Record, RunReport
from pytest_flopguard.core.units import parse_amount
from pytest_flopguard.core.verdict import judge
from pytest_flopguard.core.workload import Workload, WorkloadCall

GOLDEN = Path(__file__).parent.parent / "golden"
REWRITE = "FLOPGUARD_REWRITE_GOLDEN"
MIB = 1024**2


def limit(
    quantity: Quantity,
    amount: str,
    where: str,
    *,
    low: bool = False,
    device: str | None = None,
    severity: Severity = "error",
) -> Expectation:
    """Build the expectation that ``quantity = "amount"`` at ``path:line`` declares."""
    path, line = where.rsplit(":", 1)
    key = f".{device}" if device else ""
    value = parse_amount(amount, UNITS[quantity])
    return Expectation(
        quantity=quantity,
        low=value if low else None,
        high=None if low else value,
        origin=Origin(path=path, line=int(line), text=f'{quantity}{key} = "{amount}"'),
        severity=severity,
        device=device,
    )


def unknown_ops_rule(severity: Severity = "error") -> Expectation:
    return Expectation(
        quantity="unknown_ops", high=0, origin=Origin(path="pyproject.toml"), severity=severity, source="setting"
    )


def counted(op: str, module: str, flops: int, phase: Phase = "forward", calls: int = 1) -> OpCount:
    return OpCount(op=op, module=module, phase=phase, kind="counted", calls=calls, flops=flops)


def with_backward(forward: Iterable[OpCount]) -> tuple[OpCount, ...]:
    """Add twice the forward work of each module as its backward."""
    forward = tuple(forward)
    return forward + tuple(
        counted(each.op, each.module, 2 * (each.flops or 0), "backward", 2 * each.calls) for each in forward
    )


def gpt2() -> tuple[OpCount, ...]:
    """GPT-2 124M, batch 1, sequence 1024: 12 layers of 24sh^2 + 4s^2h FLOPs, and 2shV for the logits."""
    s, h, vocabulary = 1024, 768, 50257
    counts = []
    for layer in (f"transformer.h.{i}" for i in range(12)):
        counts += [
            counted("aten.addmm", f"{layer}.attn.c_attn", 2 * s * h * 3 * h),
            counted("aten._scaled_dot_product_flash_attention_for_cpu", f"{layer}.attn", 4 * s * s * h),
            counted("aten.addmm", f"{layer}.attn.c_proj", 2 * s * h * h),
            counted("aten.addmm", f"{layer}.mlp.c_fc", 2 * s * h * 4 * h),
            counted("aten.addmm", f"{layer}.mlp.c_proj", 2 * s * 4 * h * h),
        ]
    counts.append(counted("aten.mm", "lm_head", 2 * s * h * vocabulary))
    return tuple(counts)


def llama3_8b() -> tuple[OpCount, ...]:
    """Llama-3-8B, batch 1, sequence 8192: 32 layers with grouped-query attention (8 of 32 heads)."""
    s, h, kv, ff, vocabulary = 8192, 4096, 1024, 14336, 128256
    counts = []
    for layer in (f"model.layers.{i}" for i in range(32)):
        counts += [
            counted("aten.mm", f"{layer}.self_attn.q_proj", 2 * s * h * h),
            counted("aten.mm", f"{layer}.self_attn.k_proj", 2 * s * h * kv),
            counted("aten.mm", f"{layer}.self_attn.v_proj", 2 * s * h * kv),
            counted("aten._scaled_dot_product_flash_attention", f"{layer}.self_attn", 4 * s * s * h),
            counted("aten.mm", f"{layer}.self_attn.o_proj", 2 * s * h * h),
            counted("aten.mm", f"{layer}.mlp.gate_proj", 2 * s * h * ff),
            counted("aten.mm", f"{layer}.mlp.up_proj", 2 * s * h * ff),
            counted("aten.mm", f"{layer}.mlp.down_proj", 2 * s * h * ff),
        ]
    counts.append(counted("aten.mm", "lm_head", 2 * s * h * vocabulary))
    return tuple(counts)


def resnet50(batch: int) -> tuple[OpCount, ...]:
    """ResNet-50 at 224x224: each convolution does 2 * batch * k^2 * c_in * c_out * side^2 FLOPs."""

    def conv(name: str, k: int, c_in: int, c_out: int, side: int) -> OpCount:
        return counted("aten.convolution", name, 2 * batch * k * k * c_in * c_out * side * side)

    counts = [conv("conv1", 7, 3, 64, 112)]
    c_in = 64
    for stage, (blocks, width, side) in enumerate([(3, 64, 56), (4, 128, 28), (6, 256, 14), (3, 512, 7)], start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            # The first block of a stage halves the side in its 3x3 convolution, after the 1x1 at the old side.
            before = side * 2 if block == 0 and stage > 1 else side
            counts += [
                conv(f"{name}.conv1", 1, c_in, width, before),
                conv(f"{name}.conv2", 3, width, width, side),
                conv(f"{name}.conv3", 1, width, 4 * width, side),
            ]
            if block == 0:
                counts.append(conv(f"{name}.downsample.0", 1, c_in, 4 * width, side))
            c_in = 4 * width
    counts.append(counted("aten.addmm", "fc", 2 * batch * 2048 * 1000))
    return tuple(counts)


def tally(counts: Iterable[OpCount], *unknown: UnknownOp) -> FlopTally:
    rest = (
        OpCount(op="aten.add", module="", phase="forward", kind="uncounted", calls=37, flops=0),
        OpCount(op="aten.native_layer_norm", module="", phase="forward", kind="uncounted", calls=25, flops=0),
        OpCount(op="aten.view", module="", phase="forward", kind="free", calls=121, flops=0),
    )
    return FlopTally(counts=(*counts, *rest), engine="dispatch", unknown_ops=unknown)


def cpu_peak(**categories: int) -> MemoryPeak:
    return MemoryPeak(
        device="cpu",
        backend="storages",
        start_bytes=categories.get("parameters", 0),
        peak_bytes=sum(categories.values()),
        by_category=categories,
    )


def record(nodeid: str, measurement: Measurement, *limits: Expectation) -> Record:
    return Record(nodeid=nodeid, measurement=measurement, findings=judge(measurement, (*limits, unknown_ops_rule())))


def fused_mlp(calls: int = 24) -> UnknownOp:
    return UnknownOp(
        op="mylib.fused_mlp",
        call="mylib.fused_mlp(float32[8, 16], float32[16, 64], float32[64, 16], activation='gelu')",
        module="encoder.layers.0.mlp",
        phase="forward",
        calls=calls,
        reason="no formula is registered for it",
    )


def gpt2_forward() -> Record:
    return record(
        "tests/test_gpt2.py::test_forward",
        Measurement(
            flops=tally(gpt2()),
            memory=(cpu_peak(parameters=497_759_232, activations=703_594_496, inputs=8192),),
            parameters=ParameterCount(count=124_439_808, bytes=497_759_232),
        ),
        limit("flops", "291.7 GFLOP", "tests/test_gpt2.py:12"),
        limit("peak_memory", "1.2 GiB", "tests/test_gpt2.py:13", device="cpu"),
        limit("parameters", "125 M", "pyproject.toml:31"),
    )


def gpt2_backward() -> Record:
    backward = tuple(each for each in with_backward(gpt2()) if each.phase == "backward")
    return record(
        "tests/test_gpt2.py::test_train_step",
        Measurement(
            label="backward",
            flops=tally(backward),
            memory=(cpu_peak(parameters=497_759_232, gradients=497_759_232, activations=1_407_188_992, inputs=8192),),
        ),
        limit("flops", "580 GFLOP", "pyproject.toml:24"),
        limit("peak_memory", "2.5 GiB", "pyproject.toml:25", device="cpu"),
    )


def llama_train_step() -> Record:
    return record(
        "tests/test_llama.py::test_train_step[8b-1x8192]",
        Measurement(flops=tally(with_backward(llama3_8b())), unavailable={"memory": "fake tensors hold no memory"}),
        limit("flops", "475 TFLOP", "tests/test_llama.py:20"),
    )


def resnet_over() -> Record:
    return record(
        "tests/vision/test_resnet.py::TestClassifier::test_resnet50_at_full_resolution[channels_last-2]",
        Measurement(
            flops=tally(resnet50(2)),
            memory=(cpu_peak(parameters=102_228_128, activations=168_591_360, inputs=1_204_224),),
        ),
        limit("flops", "8 GFLOP", "pyproject.toml:28"),
        limit("peak_memory", "200 MiB", "pyproject.toml:29", device="cpu", severity="warn"),
    )


def fused_unknown() -> Record:
    return record(
        "tests/test_fused.py::test_forward",
        Measurement(flops=tally([counted("aten.addmm", "head", 12_345_678_912)], fused_mlp())),
        limit("flops", "20 GFLOP", "tests/test_fused.py:7"),
    )


def run_of(*records: Record) -> RunReport:
    return RunReport(
        tool={"name": "pytest-flopguard", "version": "0.1.0"},
        environment={"python": "3.11.9", "torch": "2.13.0+cpu"},
        records=records,
    )


@pytest.fixture
def usual_run() -> RunReport:
    """A CPU run with one of everything."""
    seen = Measurement(flops=tally(gpt2()), memory=(cpu_peak(parameters=497_759_232, activations=703_594_496),))
    return run_of(
        gpt2_forward(),
        record(
            "tests/test_gpt2.py::test_on_a_gpu_only", seen, limit("peak_memory", "900 MiB", "a.py:3", device="cuda")
        ),
        record("tests/test_gpt2.py::test_first_look", seen),
        gpt2_backward(),
        llama_train_step(),
        resnet_over(),
        record(
            "tests/vision/test_resnet.py::test_small",
            Measurement(flops=tally(resnet50(1)), memory=(cpu_peak(parameters=102_228_128, activations=84_295_680),)),
            limit("flops", "8 GFLOP", "pyproject.toml:28", severity="warn"),
        ),
        fused_unknown(),
    )


@pytest.fixture
def gpu_run() -> RunReport:
    """A GPU run with checkpointing: every phase but the optimizer, two devices."""
    half = with_backward(llama3_8b())
    recompute = tuple(counted(each.op, each.module, each.flops or 0, "recompute") for each in llama3_8b())
    peak = MemoryPeak(
        device="cuda:sm90", backend="cuda", start_bytes=32_121_044_992, peak_bytes=71_403_241_472, index=0
    )
    return run_of(
        record(
            "tests/test_llama.py::test_checkpointed_train_step[8b-1x8192]",
            Measurement(flops=tally((*half, *recompute)), memory=(peak,)),
            limit("flops", "633 TFLOP", "tests/test_llama.py:41"),
            limit("peak_memory", "66 GiB", "tests/test_llama.py:42", device="cuda"),
        ),
        gpt2_forward(),
    )


def full(nodeid: str = "tests/test_llama.py::test_train_step") -> Record:
    """A training step with everything that a record can hold: a layer more than its baseline, a closed form, owners."""
    before = tuple(counted("aten.mm", f"layers.{i}.mlp", 1000) for i in range(3))
    now = with_backward(counted("aten.mm", f"layers.{i}.mlp", 1000) for i in range(4))
    owners = (
        *(
            Owner(
                category="activations",
                module=f"layers.{i}.mlp",
                op="aten.mm",
                site="model.py:41 in forward",
                bytes=1024,
                blocks=2,
            )
            for i in range(4)
        ),
        Owner(category="optimizer_state", module="", op="aten._fused_adamw_", site="", bytes=4096, blocks=8),
    )
    peak = MemoryPeak(
        device="sim:h100",
        backend="simulated",
        start_bytes=1024,
        peak_bytes=8192,
        by_category={"activations": 4096, "optimizer_state": 4096},
        detail={"reserved_peak_bytes": 2 * MIB},
        owners=owners,
        timeline=((0, 1024), (3, 5120), (7, 8192), (9, 2048)),
        prediction=Prediction(
            gpu="h100",
            device="cuda:sm90",
            torch="2.13.0",
            allocator="expandable_segments:True",
            assumed=("cuBLAS takes 32 MiB",),
            unknown=("the CUDA context",),
        ),
    )
    call = WorkloadCall(model="Llama", inputs="int64[1, 8]", config={"hidden_size": 16})
    seen = Measurement(
        flops=tally(now),
        memory=(peak,),
        parameters=ParameterCount(count=64, bytes=256),
        other_tallies=(FlopTally(counts=before, engine="fvcore"),),
        workload=Workload(calls=(call,)),
        unavailable={"cuda": "torch sees no CUDA device"},
    )
    form = Expectation(
        quantity="flops",
        low=9000,
        high=9000,
        origin=Origin(path="tests/test_llama.py", line=9),
        source="formula",
        parts=(
            Part(name="mlp", equation="2 * s * h * f", flops=8000, modules=r"\.mlp$"),
            Part(name="head", equation="2 * s * h * v", flops=1000, modules="^head$"),
        ),
    )
    accepted = baseline_of(
        Measurement(flops=tally(with_backward(before)), memory=(replace(peak, peak_bytes=7168, by_category={}),)),
        "2.13",
    )
    terms = Terms(torch="2.13.0", today=date(2026, 1, 1))
    # The memory is not this test's subject: a baseline of simulated memory is held as any other.
    accepted = replace(accepted, workload=seen.workload, reason="a third layer", was={"flops": 6000})
    held = hold(seen, accepted, Origin(path="tests/__flopguard__/test_llama.toml", line=4), terms)
    own = judge(seen, [form, limit("flops", "20 kFLOP", "pyproject.toml:7")])
    return Record(nodeid=nodeid, measurement=seen, findings=(*own, *held), baseline=accepted, test="failed")


@pytest.fixture
def build() -> SimpleNamespace:
    """Give the builders above to the tests."""
    names = ("counted", "cpu_peak", "fused_mlp", "gpt2", "limit", "llama3_8b", "record", "resnet50", "run_of", "tally")
    names += (
        "full",
        "fused_unknown",
        "gpt2_backward",
        "gpt2_forward",
        "llama_train_step",
        "resnet_over",
        "with_backward",
    )
    return SimpleNamespace(**{name: globals()[name] for name in names})


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Hold a text against ``tests/golden/NAME``; FLOPGUARD_REWRITE_GOLDEN=1 writes the file and fails the test."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get(REWRITE):
            path.write_text(f"{text}\n", encoding="utf-8")
            pytest.fail(f"{path.name} is rewritten: read its diff, then run without {REWRITE}")
        assert text == path.read_text(encoding="utf-8").removesuffix("\n")

    return check
