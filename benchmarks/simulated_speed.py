"""How long predicting a training step takes: on the simulator, and as a plain step on fake tensors.

    python benchmarks/simulated_speed.py [--write] [--rounds 3]

Llama in bfloat16 with fused AdamW, 1 sequence of 2048 tokens, each variant in processes of its own that take turns.
Times are CPU time. The simulator's self-check, in a child process, and imports are not in them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT)]

from page_part import put_into_page  # noqa: E402
from tabulate import tabulate  # noqa: E402

PAGE = ROOT / "docs" / "explanation" / "memory-accuracy.md"
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
VARIANTS = ("plain", "simulated")
SIZES: dict[str, dict[str, int]] = {
    "Llama-2-7B": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32,
    },
    "Llama-2-70B": {
        "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
        "num_attention_heads": 64, "num_key_value_heads": 8,
    },
}  # fmt: skip


def build(name: str) -> tuple[Any, Callable[[], None]]:
    """Make the model and return one training step of it."""
    import torch
    import transformers

    config = transformers.LlamaConfig(vocab_size=32000, max_position_embeddings=4096, **SIZES[name])
    with torch.device("cuda"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        ids = torch.randint(0, 32000, (1, 2048), device="cuda")
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return model, step


def measure(name: str, variant: str) -> dict[str, float]:
    """Time building and the first two steps in this process: the first makes the optimizer's state."""
    warnings.simplefilter("ignore")
    import transformers  # noqa: F401
    from torch._subclasses.fake_tensor import FakeTensorMode

    from pytest_flopguard.backends.simulated import cuda_abi
    from pytest_flopguard.backends.simulated.machine import UNLIMITED, Machine
    from pytest_flopguard.backends.simulated.routing import routed
    from pytest_flopguard.backends.simulated.world import SimulatedTensors

    machine = Machine.start("h100", allocator="", capacity=UNLIMITED)
    with ExitStack() as stack:
        if variant == "simulated":
            stack.enter_context(machine.running())
        else:
            # Fake tensors that train on "cuda" and take the kernels of the GPU; nobody follows them, and torch's own
            # mode answers all calls.
            class Plain(SimulatedTensors):
                __torch_dispatch__ = FakeTensorMode.__torch_dispatch__

            for context in (cuda_abi.active(), routed(machine.gpu), Plain()):
                stack.enter_context(context)
        before = resident()
        begun = time.process_time()
        model, step = build(name)
        seconds = [time.process_time() - begun, clocked(step), clocked(step)]
        del model, step
    names = ("build", "first", "second")
    found = dict(zip(names, seconds, strict=True))
    return found | {"resident": resident(), "added": resident() - before}


def clocked(run: Callable[[], object]) -> float:
    """Return the seconds of CPU time that a call takes, of all threads: backward runs in one of its own."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def resident() -> float:
    """Return the most GiB that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def asked(name: str, variant: str) -> dict[str, float]:
    """Measure in a fresh process."""
    command = [sys.executable, __file__, "--measure", name, variant]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(result.stdout.splitlines()[-1])


def rendered(rounds: int) -> str:
    """Measure in turns, and render the table."""
    table = []
    for name in SIZES:
        found: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
        for number in range(rounds):
            for variant in VARIANTS if number % 2 else reversed(VARIANTS):
                found[variant].append(asked(name, variant))
        middle = {
            variant: {key: statistics.median(each[key] for each in runs) for key in runs[0]}
            for variant, runs in found.items()
        }
        ours, plain = middle["simulated"], middle["plain"]
        for key, label in (("first", "first step"), ("second", "second step")):
            spread = [each[key] for each in found["simulated"]]
            ratios = [a[key] / b[key] for a, b in zip(found["simulated"], found["plain"], strict=True)]
            table.append(
                [
                    f"{name}, {label}",
                    f"{plain[key]:.2f} s",
                    f"{ours[key]:.2f} s ({min(spread):.2f} to {max(spread):.2f})",
                    f"{statistics.median(ratios):.2f}",
                    f"{ours['resident']:.2f} GiB",
                ]
            )
    lines = [
        f"{rounds} rounds, {platform.machine()}, {os.cpu_count()} cores, one torch thread, CPU time, "
        f"torch {metadata.version('torch').partition('+')[0]}, transformers {metadata.version('transformers')}, "
        f"{date.today().isoformat()}. Medians, the range in brackets.",
        "",
        tabulate(
            table, headers=["step", "plain fake tensors", "predicted", "ratio", "resident, whole process"],
            tablefmt="github", disable_numparse=True,
        ),
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes of each variant")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    text = rendered(options.rounds)
    print(text)
    if options.write:
        put_into_page(PAGE, BEGIN, END, text)


if __name__ == "__main__":
    main()
