"""Counted FLOPs against the tensor cores' own counters, on programs that are matrix products and little else.

The counters are read by torch's profiler, and failing that by Nsight Compute (``ncu``). Many machines permit neither;
then each program tells why, and nothing else of a recording suffers.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

# Operations done by the tensor cores, 1 multiply-add = 2; instructions tell less, as each does another number of them.
OPERATIONS = (
    "sm__ops_path_tensor_src_bf16_dst_fp32.sum",
    "sm__ops_path_tensor_src_fp16_dst_fp32.sum",
    "sm__ops_path_tensor_src_tf32_dst_fp32.sum",
)
INSTRUCTIONS = ("sm__inst_executed_pipe_tensor.sum", "sm__inst_executed_pipe_tensor_op_hmma.sum")
METRICS = (*OPERATIONS, *INSTRUCTIONS)
Program = Callable[[], object]


def square(size: int) -> Program:
    """One product of square matrices: 2 * size**3 FLOPs."""
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return lambda: left @ right


def batched() -> Program:
    """64 products of 512 x 1024 by 1024 x 768."""
    left = torch.randn(64, 512, 1024, device="cuda", dtype=torch.bfloat16)
    right = torch.randn(64, 1024, 768, device="cuda", dtype=torch.bfloat16)
    return lambda: left @ right


def feed_forward() -> Program:
    """Forward and backward of two linear layers."""
    model = nn.Sequential(nn.Linear(2048, 8192), nn.GELU(), nn.Linear(8192, 2048)).to("cuda", torch.bfloat16)
    x = torch.randn(4096, 2048, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    return lambda: model(x).sum().backward()


def decoder() -> Program:
    """Forward and backward of a decoder with grouped-query attention; its attention kernel computes scores twice."""
    from memory_cases.layers import Decoder

    model = Decoder(4, 1024, 32000).to("cuda", torch.bfloat16)
    ids = torch.randint(0, 32000, (4, 1024), device="cuda")
    return lambda: model(ids).backward()


PROGRAMS: dict[str, Callable[[], Program]] = {
    "square 4096": lambda: square(4096),
    "square 8192": lambda: square(8192),
    "batched 64x512x1024x768": batched,
    "feed-forward, forward + backward": feed_forward,
    "decoder, forward + backward": decoder,
}


def counted(name: str) -> int | None:
    """Count the FLOPs of a program with flopguard; None where it does not know."""
    from pytest_flopguard.backends.dispatch import DispatchFlops
    from pytest_flopguard.formulas.registry import default_registry

    run = PROGRAMS[name]()
    with DispatchFlops(default_registry()) as engine:
        mark = engine.begin()
        run()
        return engine.end(mark).total


def profiled(name: str) -> dict[str, float]:
    """Read the counters with torch's profiler; RuntimeError says why there are none."""
    from torch._C._profiler import _ExperimentalConfig
    from torch.profiler import ProfilerActivity, profile

    run = PROGRAMS[name]()
    run()
    torch.cuda.synchronize()
    config = _ExperimentalConfig(profiler_metrics=list(METRICS), profiler_measure_per_kernel=False)
    with profile(activities=[ProfilerActivity.CUDA], experimental_config=config) as found:
        run()
        torch.cuda.synchronize()
    seen: dict[str, float] = {}
    for event in found.profiler.kineto_results.events() if found.profiler else ():
        for metric in METRICS:
            if event.name() == metric or metric in str(getattr(event, "metadata_json", str)()):
                seen[metric] = seen.get(metric, 0.0) + number_in(event, metric)
    if not any(seen.values()):
        raise RuntimeError(
            "torch's profiler returned no counters: the range profiler is not built in, or not permitted"
        )
    return seen


def number_in(event: Any, metric: str) -> float:
    """Return the value of a metric in a profiler's event, which writes it as JSON."""
    found = re.search(rf'"{re.escape(metric)}"\s*:\s*"?([0-9.eE+]+)', str(getattr(event, "metadata_json", str)()))
    return float(found.group(1)) if found else 0.0


def by_ncu(name: str, script: str) -> dict[str, float]:
    """Read the counters with Nsight Compute around ``script --counted NAME``; RuntimeError says why there are none."""
    tool = shutil.which("ncu")
    if tool is None:
        raise RuntimeError("ncu is not on the path")
    command = [
        tool, "--csv", "--page", "raw", "--profile-from-start", "off", "--target-processes", "all",
        "--metrics", ",".join(METRICS), sys.executable, script, "counted", name,
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    found = summed(result.stdout)
    if result.returncode or not any(found.values()):
        lines = [line for line in (result.stdout + result.stderr).splitlines() if line.startswith("==ERROR==")]
        raise RuntimeError(f"ncu: {lines[0] if lines else f'exit code {result.returncode}, no counters'}")
    return found


def summed(table: str) -> dict[str, float]:
    """Sum the metrics over all kernels of ncu's raw page as CSV."""
    rows = [line for line in table.splitlines() if line.startswith('"')]
    found: dict[str, float] = {}
    for row in csv.DictReader(rows):
        for metric in METRICS:
            try:
                found[metric] = found.get(metric, 0.0) + float((row.get(metric) or "").replace(",", ""))
            except ValueError:
                continue  # the row of units, or a metric that this GPU does not have
    return found


def inside_ncu(name: str) -> None:
    """Run a program once to warm up, and once between the profiler's marks."""
    run = PROGRAMS[name]()
    run()
    torch.cuda.synchronize()
    torch.cuda.cudart().cudaProfilerStart()
    run()
    torch.cuda.synchronize()
    torch.cuda.cudart().cudaProfilerStop()


def compared(name: str, script: str) -> dict[str, Any]:
    """Return the counted FLOPs of a program and what the counters say, or why they say nothing."""
    found: dict[str, Any] = {"flops": counted(name)}
    reasons = []
    ways: dict[str, Callable[[], dict[str, float]]] = {
        "torch.profiler": lambda: profiled(name),
        "ncu": lambda: by_ncu(name, script),
    }
    for way, read in ways.items():
        try:
            counters = read()
        except Exception as error:  # noqa: BLE001 - drivers refuse in many ways, and the file says how
            reasons.append(f"{way}: {type(error).__name__}: {str(error)[:200]}")
            continue
        done = sum(counters.get(metric, 0.0) for metric in OPERATIONS)
        ratio = round(done / found["flops"], 6) if done and found["flops"] else None
        return found | {"by": way, "counters": counters, "ratio": ratio}
    return found | {"reason": "; ".join(reasons)}
