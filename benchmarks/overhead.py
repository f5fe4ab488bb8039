"""What counting adds to a run: ours beside torch's FlopCounterMode, and the import of the plugin with the guard off.

    python benchmarks/overhead.py [--repeat N] [--case NAME ...] [--json PATH]

One torch thread and the CPU time of the measuring thread, so that what else the machine does matters little. The
variants of a case take turns in a new order each round; an added time is the median of what a variant took more
than the plain run of its own round. Ours starts cold each time: a new session, no remembered op call.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch
from tabulate import tabulate
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.backends.live_storage import LiveStorage
from pytest_flopguard.backends.select import Backends
from pytest_flopguard.budgets.settings import Settings, load_settings
from pytest_flopguard.formulas.registry import Registry, default_registry
from pytest_flopguard.session import Session

Run = Callable[[], object]
Variant = Callable[[], AbstractContextManager[object]]
PLAIN, TORCH, FLOPS, MEMORY = "plain", "FlopCounterMode", "flopguard, FLOPs", "flopguard, FLOPs and memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A piece of work, made anew for the benchmark, and how many rounds it gets for each one asked for."""

    name: str
    make: Callable[[], Run]
    rounds: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variant of one case, in seconds. ``added`` has the lower quartile, median and upper quartile."""

    case: str
    variant: str
    median: float
    added: tuple[float, float, float] | None
    of_torch: float | None


def gpt2_forward(length: int) -> Callable[[], Run]:
    """GPT-2 124M, forward, batch 1, on the CPU."""

    def make() -> Run:
        from transformers import GPT2Config, GPT2LMHeadModel

        model = GPT2LMHeadModel(GPT2Config(use_cache=False)).eval()
        tokens = torch.zeros(1, length, dtype=torch.long)

        def run() -> None:
            with torch.no_grad():
                model(tokens)

        return run

    return make


def llama_train() -> Run:
    """Llama-2-7B, forward and backward, batch 1, sequence 4096, on meta tensors."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        # The defaults of LlamaConfig are Llama-2-7B's.
        model = LlamaForCausalLM(LlamaConfig(use_cache=False))
        tokens = torch.zeros(1, 4096, dtype=torch.long)
        # transformers takes a 4-D mask as it is; to make one it would read values, which meta tensors have not.
        mask = torch.zeros(1, 1, 4096, 4096)

    def run() -> None:
        model(tokens, attention_mask=mask).logits.sum().backward()
        model.zero_grad()

    return run


def llama_405b_train() -> Run:
    """Llama-3.1-405B, forward and backward, batch 1, sequence 8192, on fake tensors."""
    from transformers import LlamaConfig, LlamaForCausalLM

    fake = FakeTensorMode()
    with fake:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=128256,
                hidden_size=16384,
                intermediate_size=53248,
                num_hidden_layers=126,
                num_attention_heads=128,
                num_key_value_heads=8,
                max_position_embeddings=131072,
                use_cache=False,
            )
        )
        tokens = torch.zeros(1, 8192, dtype=torch.long)

    def run() -> None:
        with fake:
            model(tokens).logits.sum().backward()
            model.zero_grad()

    return run


def tiny_ops() -> Run:
    """10,000 additions of four elements: nothing but what each op call costs."""
    x, y = torch.ones(4), torch.ones(4)

    def run() -> None:
        for _ in range(10_000):
            torch.add(x, y)

    return run


CASES = (
    # Short, so that the added time stands out from the noise of the products.
    Case(name="GPT-2 124M forward, cpu, 1x16", make=gpt2_forward(16), rounds=5),
    Case(name="GPT-2 124M forward, cpu, 1x256", make=gpt2_forward(256), rounds=3),
    Case(name="GPT-2 124M forward, cpu, 1x1024", make=gpt2_forward(1024)),
    Case(name="Llama-2-7B forward + backward, meta, 1x4096", make=llama_train, rounds=2),
    Case(name="Llama-3.1-405B forward + backward, fake, 1x8192", make=llama_405b_train),
    Case(name="10,000 tiny ops, cpu", make=tiny_ops, rounds=3),
)


def variants() -> dict[str, Variant]:
    """Return the ways to run a case, each as a context manager factory."""
    costs = default_registry()
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(Path(folder), {})
    return {
        PLAIN: nullcontext,
        TORCH: lambda: FlopCounterMode(display=False),
        FLOPS: lambda: measured(settings, costs, memory=False),
        MEMORY: lambda: measured(settings, costs, memory=True),
    }


@contextmanager
def measured(settings: Settings, costs: Registry, memory: bool) -> Iterator[None]:
    """Measure as ``pytest --flop-budget`` does: FLOPs and live tensor storage, or FLOPs alone."""
    flops = DispatchFlops(costs)
    backends = Backends()
    backends.engine("dispatch", lambda _: flops)
    if memory:
        backends.memory("cpu", lambda _, __: LiveStorage(flops.watch))
    with Session(settings, costs, backends).measure("benchmark"):
        yield


def timed(variant: Variant, run: Run) -> float:
    """Return the seconds of CPU time that this thread needs."""
    gc.collect()
    began = time.thread_time()
    with variant():
        run()
    return time.thread_time() - began


def bench(case: Case, repeat: int) -> list[Row]:
    """Time every variant of a case, interleaved, after one round that is not counted."""
    run, ways = case.make(), variants()
    for variant in ways.values():
        timed(variant, run)
    rounds = []
    for _ in range(repeat * case.rounds):
        order = random.sample(list(ways), len(ways))
        rounds.append({name: timed(ways[name], run) for name in order})
    return [row(case.name, name, rounds) for name in ways]


def row(case: str, variant: str, rounds: Sequence[dict[str, float]]) -> Row:
    """Sum up one variant over the rounds."""
    added = statistics.quantiles([each[variant] - each[PLAIN] for each in rounds], n=4)
    torchs = statistics.median(each[TORCH] - each[PLAIN] for each in rounds)
    return Row(
        case=case,
        variant=variant,
        median=statistics.median(each[variant] for each in rounds),
        added=None if variant == PLAIN else (added[0], added[1], added[2]),
        of_torch=None if variant in (PLAIN, TORCH) else added[1] / torchs,
    )


def plugin_import() -> tuple[float, bool]:
    """Return the milliseconds that pytest spends on importing the plugin, least of several, and whether torch came."""
    code = "import pytest, sys; import pytest_flopguard.plugin; print('torch' in sys.modules)"
    least, with_torch = float("inf"), False
    for _ in range(7):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
        )
        # "import time:  self [us] | cumulative | package"; the package comes in before its plugin module.
        found = re.findall(r"\|\s*(\d+) \| (pytest_flopguard(?:\.plugin)?)\n", done.stderr)
        least = min(least, sum(int(cumulative) for cumulative, _ in found) / 1000)
        with_torch = with_torch or done.stdout == "True\n"
    return least, with_torch


def processor() -> str:
    """Return the processor's model name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def table(rows: Sequence[Row]) -> str:
    """Render the rows; milliseconds."""

    def cells(each: Row) -> list[str]:
        added = "" if each.added is None else "{1:.1f}  ({0:.1f} to {2:.1f})".format(*(1000 * s for s in each.added))
        share = "" if each.of_torch is None else f"{each.of_torch:.2f}"
        return [each.case, each.variant, f"{1000 * each.median:.1f}", added, share]

    headers = ["case", "variant", "median ms", "added ms (quartiles)", "added / FlopCounterMode's"]
    return tabulate([cells(each) for each in rows], headers=headers, disable_numparse=True, tablefmt="github")


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=10, help="rounds of the longest cases (default: 10)")
    parser.add_argument("--case", action="append", metavar="TEXT", help="only cases whose name has this text")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the numbers there too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [case for case in CASES if not asked.case or any(text in case.name for text in asked.case)]
    rows = [each for case in chosen for each in bench(case, asked.repeat)]
    milliseconds, with_torch = plugin_import()
    environment = {
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": processor(),
    }
    print(", ".join(f"{name} {value}" for name, value in environment.items()))
    print(table(rows))
    print(f"plugin import with the guard off: {milliseconds:.1f} ms, torch {'loaded' if with_torch else 'not loaded'}")
    if asked.json is not None:
        found = {
            "environment": environment,
            "rows": [asdict(each) for each in rows],
            "plugin_import_ms": milliseconds,
            "plugin_imports_torch": with_torch,
        }
        asked.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
