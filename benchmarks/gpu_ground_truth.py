"""Records peak GPU memory on a GPU, predicts the same without one, and compares the two.

    python benchmarks/gpu_ground_truth.py record [--out tests/golden]      # on a GPU: under ten minutes
    python benchmarks/gpu_ground_truth.py predict --gpu h100 --out DIR     # anywhere, the same files
    python benchmarks/gpu_ground_truth.py compare RECORDED PREDICTED       # a table; ends with 1 where a goal is missed

Needs torch and transformers. ``record`` makes a folder of the GPU and torch, such as h100-2.11.0: for each case of the
memory zoo, run in a process of its own, its peaks (``CASE.json``) and the allocator's history (``CASE.history.gz``);
the environment; what single operations take; and the tensor cores' counters where they may be read.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# A checkout need not be installed to be recorded with.
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT)]

from ground_truth.recording import PREDICTED, RECORDED, Recording, variant_name  # noqa: E402

Variant = tuple[str, str]  # a case and allocator settings
GOLDEN = ROOT / "tests" / "golden"
CASE_SECONDS = 240
# Cases that also run under other allocator settings.
VARIANTS: dict[str, tuple[str, ...]] = {
    "expandable_segments:True": (
        "gpt2_train_adamw_fused", "gpt2_train_tiny", "llama_1b_train_bf16", "gpt2_decode", "mlp_odd_sizes_momentum",
        "resnet_50_train_fp32", "diffusion_unet_train_fp32",
    ),
    "roundup_power2_divisions:4": ("gpt2_train_odd_sizes", "mlp_odd_sizes_momentum"),
    "max_split_size_mb:64": ("gpt2_train_accumulated", "decoder_train_gqa_bf16"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One call of ``record`` or ``predict``: where it writes, and until when it may start something new."""

    source: str
    gpu: str
    folder: Path
    jobs: int
    deadline: float
    problems: list[str] = field(default_factory=list)

    def child(self, command: str, *words: str, allocator: str = "", seconds: int = CASE_SECONDS) -> str:
        """Run this program in a fresh process; return what went wrong, ``""`` for nothing."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            return "no time was left for it"
        line = [sys.executable, __file__, command, *words]
        line += ["--source", self.source, "--gpu", self.gpu, "--to", str(self.folder)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTORCH_ALLOC_CONF"}
        environment |= {"PYTORCH_CUDA_ALLOC_CONF": allocator, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
        if self.source == PREDICTED:
            environment["OMP_NUM_THREADS"] = "1"
        try:
            result = subprocess.run(
                line, stderr=subprocess.PIPE, text=True, check=False, timeout=min(seconds, left + 20), env=environment
            )
        except subprocess.TimeoutExpired:
            return f"no end within {min(seconds, left + 20):.0f} seconds"
        if not result.returncode:
            return ""
        said = [line for line in result.stderr.strip().splitlines() if line.strip()]
        return f"exit code {result.returncode}: {said[-1][:300] if said else ''}"

    def run_cases(self, wanted: Sequence[Variant]) -> None:
        """Run cases in one process; whoever has no file afterwards is told why."""
        for name, allocator in wanted:
            self.path(name, allocator).unlink(missing_ok=True)
        allocator = wanted[0][1] if self.source == RECORDED else ""
        problem = self.child("cases", json.dumps(wanted), allocator=allocator, seconds=CASE_SECONDS * len(wanted))
        for name, allocator in wanted:
            if not self.path(name, allocator).exists():
                lost = Recording(case=name, source=self.source, allocator=allocator, error=problem or "no file")
                lost.save(self.folder)
            recording = Recording.load(self.path(name, allocator))
            if not recording.usable:
                self.problems.append(told(recording))

    def path(self, name: str, allocator: str) -> Path:
        """Return where the recording of a case is written."""
        return self.folder / f"{variant_name(name, allocator)}.json"


def run_all(session: Session, wanted: Sequence[Variant], *, extras: bool) -> None:
    """Run cases, several at once, then calibrations and counters."""
    from ground_truth.calibration import GROUPS

    def group(name: str) -> None:
        problem = session.child("calibrate", name)
        if problem:
            session.problems.append(f"calibration of {name}: {problem}")

    # A GPU's libraries keep what they once took: there each case needs a process of its own.
    groups = [[each] for each in wanted] if session.source == RECORDED else dealt(wanted, session.jobs)
    with ThreadPoolExecutor(session.jobs) as pool:
        list(pool.map(session.run_cases, groups))
        if extras:
            list(pool.map(group, GROUPS))
            merge_calibrations(session.folder, list(GROUPS))
    if extras and session.source == RECORDED:
        # By itself: counters are of the device, not of a process.
        problem = session.child("count", "all", seconds=120)
        if problem:
            print(f"counters: {problem}", flush=True)


def dealt(wanted: Sequence[Variant], jobs: int) -> list[list[Variant]]:
    """Deal cases out to so many processes."""
    hands = [list(wanted[number::jobs]) for number in range(jobs)]
    return [hand for hand in hands if hand]


def told(recording: Recording) -> str:
    """Say a recording in a line."""
    if not recording.usable:
        return f"{recording.name:<55} {recording.error or 'ran out of memory and tried again'}"
    warm = recording.warm()
    mib = " ".join(f"{warm[name] / 2**20:>10.1f}" for name in ("allocated", "reserved"))
    return f"{recording.name:<55} {mib} MiB {recording.seconds:>6.1f} s"


def merge_calibrations(folder: Path, groups: Sequence[str]) -> None:
    """Put the parts of the calibration into one file, one operation a line."""
    lines = []
    for group in groups:
        part = folder / f"calibration-{group}.part"
        if part.exists():
            found: dict[str, Any] = json.loads(part.read_text(encoding="utf-8"))
            lines += [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in found.items()]
            part.unlink()
    (folder / "calibration.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def begin(options: argparse.Namespace, source: str) -> int:
    """Record or predict; return the exit code."""
    from ground_truth import environment
    from memory_zoo import CASES

    began = time.monotonic()
    if source == RECORDED:
        import torch

        if not torch.cuda.is_available():
            print("torch sees no CUDA device here. Record on a machine with a GPU, or use predict.", file=sys.stderr)
            return 2
        gpu = environment.gpu_name()
        folder = Path(options.out) / environment.folder_name(gpu)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(environment.environment(gpu), indent=1)
        (folder / "environment.json").write_text(text + "\n", encoding="utf-8")
    else:
        gpu, folder = options.gpu, Path(options.out)
        folder.mkdir(parents=True, exist_ok=True)
    session = Session(
        source=source, gpu=gpu, folder=folder, jobs=options.jobs, deadline=began + 60 * options.minutes
    )  # fmt: skip
    wanted = [(case.name, "") for case in CASES]
    wanted += [(name, allocator) for allocator, names in VARIANTS.items() for name in names]
    wanted = [each for each in wanted if not options.case or any(part in each[0] for part in options.case)]
    run_all(session, wanted, extras=not options.no_extras)
    print(f"{len(wanted)} cases in {time.monotonic() - began:.0f} s, {len(session.problems)} problems: {folder}")
    for problem in session.problems:
        print(f"  {problem}", file=sys.stderr)
    return 1 if session.problems else 0


def run_cases(options: argparse.Namespace) -> int:
    """Run cases in this process and write their files."""
    from ground_truth.case_run import attempt
    from memory_zoo import BY_NAME

    folder = Path(options.to)
    for name, allocator in json.loads(options.name):
        recording, history = attempt(BY_NAME[name], options.source, options.gpu, allocator)
        if history is not None:
            history.save(folder / f"{recording.name}.history.gz")
        recording.save(folder)
        print(told(recording), flush=True)
    return 0


def one_group(options: argparse.Namespace) -> int:
    """Measure one group of single operations in this process."""
    from ground_truth.calibration import measured
    from ground_truth.worlds import WORLDS

    world = WORLDS[options.source](options.gpu, "")
    with world.running():
        found = measured(options.name, world)
    part = Path(options.to) / f"calibration-{options.name}.part"
    part.write_text(json.dumps(found), encoding="utf-8")
    return 0


def count_all(options: argparse.Namespace) -> int:
    """Compare counted FLOPs with the tensor cores' counters, and write it down."""
    from ground_truth.counters import PROGRAMS, compared

    found = {name: compared(name, __file__) for name in PROGRAMS}
    (Path(options.to) / "counters.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def counted(options: argparse.Namespace) -> int:
    """Run a program inside ncu."""
    from ground_truth.counters import inside_ncu

    inside_ncu(options.name)
    return 0


def compare(options: argparse.Namespace) -> int:
    """Print the comparison of two folders; return 1 where a goal is missed."""
    from ground_truth.comparison import compare_folders

    comparison = compare_folders(Path(options.recorded), Path(options.predicted))
    print(comparison.table())
    for miss in comparison.missed():
        print(f"missed: {miss}", file=sys.stderr)
    return 1 if comparison.missed() else 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, source, says in (("record", RECORDED, "on a GPU"), ("predict", PREDICTED, "on the simulator")):
        command = commands.add_parser(name, help=f"run the cases {says}")
        command.add_argument("--out", required=source == PREDICTED, default=str(GOLDEN), help="where to write")
        command.add_argument("--jobs", type=int, default=4 if source == RECORDED else 2, help="cases at once")
        command.add_argument("--minutes", type=float, default=9 if source == RECORDED else 60, help="start none after")
        command.add_argument("--case", action="append", default=[], help="only cases with this in their name")
        command.add_argument("--no-extras", action="store_true", help="no single operations and no counters")
        if source == PREDICTED:
            command.add_argument("--gpu", default="h100", help="the GPU to simulate")
        command.set_defaults(run=lambda options, source=source: begin(options, source))
    command = commands.add_parser("compare", help="compare two folders")
    command.add_argument("recorded")
    command.add_argument("predicted")
    command.set_defaults(run=compare)
    # What the program calls itself, in fresh processes.
    for name, run in (("cases", run_cases), ("calibrate", one_group), ("count", count_all), ("counted", counted)):
        command = commands.add_parser(name)
        command.add_argument("name")
        for option in ("--source", "--gpu", "--to"):
            command.add_argument(option, default="")
        command.set_defaults(run=run)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
