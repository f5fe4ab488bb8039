"""What others say of the same cases: torch's MemTracker on the same simulated run, and the closed forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from memory_cases.case import Case
from memory_cases.decoders import LLAMA_1B, LLAMA_7B, LLAMA_SMALL, MIXTRAL_SMALL

from ground_truth.case_run import garbage_held
from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.simulated.machine import Machine
from pytest_flopguard.formulas.architectures.families import from_config
from pytest_flopguard.formulas.estimates.asked import Subject, Workload
from pytest_flopguard.formulas.estimates.space import memory_figures

GPT2 = {
    "model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024, "vocab_size": 50257,
}  # fmt: skip


def llama(sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return the config of a Llama of the zoo."""
    return {"model_type": "llama", **sizes}


# Cases for which `flopguard estimate` has a closed form: training steps, and weights with their caches.
FORMS: dict[str, tuple[dict[str, Any], Workload]] = {
    "gpt2_decode": (GPT2, Workload(batch=4, seq=216, decode=True, dtype="float32")),
    "llama_small_train_fp32": (
        llama(LLAMA_SMALL), Workload(batch=4, seq=1024, train=True, dtype="float32", recipe="fp32-adamw")
    ),
    "llama_1b_train_bf16": (llama(LLAMA_1B), Workload(batch=4, seq=2048, train=True, recipe="bf16-adamw")),
    "llama_1b_train_bf16_checkpointed": (
        llama(LLAMA_1B), Workload(batch=4, seq=2048, train=True, recipe="bf16-adamw", recompute="full")
    ),
    "llama_1b_decode": (llama(LLAMA_1B), Workload(batch=8, seq=520, decode=True)),
    "llama_7b_train_bf16": (llama(LLAMA_7B), Workload(batch=1, seq=1024, train=True, optimizer="sgd")),
    "mixtral_train_bf16": (
        {"model_type": "mixtral", **MIXTRAL_SMALL}, Workload(batch=2, seq=1024, train=True, recipe="bf16-adamw")
    ),
}  # fmt: skip


def closed_form(case: str) -> int | None:
    """Return the bytes that the formulas give a case, None where they have none for all of it."""
    if case not in FORMS:
        return None
    config, work = FORMS[case]
    found = memory_figures(Subject(name=case, sizes=from_config(config)), work, None)["memory.total"].value
    return found if isinstance(found, int) else None


def tracked(case: Case, gpu: str) -> dict[str, Any]:
    """Return the peak that torch's MemTracker finds in all steps of a case on simulated tensors, or its error."""
    from torch.distributed._tools.mem_tracker import MemTracker

    if case.library:
        __import__(case.library)
    machine = Machine.start(gpu, allocator="")
    if isinstance(machine, Unavailable):
        return {"error": machine.reason}
    try:
        with machine.world(), garbage_held():
            tracker = MemTracker()
            # The machine's own modes above it: fake tensors alone do not answer what models ask of values.
            with tracker, machine.modules, machine.listening(machine.modules), machine.tracking():
                step = case.build("cuda")
                for _ in range(case.steps):
                    step(lambda phase: None)
                    tracker.reset_mod_stats()
            found = tracker.get_tracker_snapshot("peak")
            del step
    except Exception as error:  # noqa: BLE001 - it may fail in any way, and the table says so
        return {"error": f"{type(error).__name__}: {error}".partition("\n")[0][:200]}
    on_gpu = [sizes["Total"] for device, sizes in found.items() if torch.device(device).type == "cuda"]
    return {"bytes": max(on_gpu, default=0)}
