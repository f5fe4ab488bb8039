"""Writes the table of docs/explanation/memory-accuracy.md: each case predicted, recorded, and as others tell it.

    python benchmarks/memory_accuracy.py [--write] [--keep] [--gpu h100]

Predicts the memory zoo anew and lets MemTracker follow it, minutes each on two cores; ``--keep`` takes what the last
call has left in build/memory-accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT)]

from ground_truth.comparison import apart  # noqa: E402
from ground_truth.recording import Recording, load_folder  # noqa: E402
from page_part import put_into_page  # noqa: E402
from tabulate import tabulate  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"
PAGE = ROOT / "docs" / "explanation" / "memory-accuracy.md"
FOLDER = ROOT / "build" / "memory-accuracy"
BEGIN, END = "<!-- memory: begin -->", "<!-- memory: end -->"
MIB = 2**20


def predict(gpu: str, jobs: int) -> None:
    """Predict every case of the zoo into FOLDER."""
    script = str(Path(__file__).with_name("gpu_ground_truth.py"))
    command = [sys.executable, script, "predict", "--gpu", gpu, "--out", str(FOLDER / gpu), "--jobs", str(jobs)]
    # Cases that cannot be predicted stand in the table with their reason.
    subprocess.run([*command, "--no-extras"], check=False)


def track(gpu: str, jobs: int) -> None:
    """Let MemTracker follow all cases in so many processes."""

    def one(number: int) -> None:
        command = [sys.executable, __file__, "--gpu", gpu, "--tracker", f"{number}/{jobs}"]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, range(jobs)))


def track_share(gpu: str, share: str) -> None:
    """Let MemTracker follow every so-manieth of the cases in this process."""
    from ground_truth.second_opinions import tracked
    from memory_zoo import BY_NAME

    first, every = map(int, share.split("/"))
    for name in sorted(BY_NAME)[first::every]:
        (FOLDER / f"{name}.tracked").write_text(json.dumps(tracked(BY_NAME[name], gpu)), encoding="utf-8")


def tracker_said(case: str) -> dict[str, Any]:
    """Read what MemTracker said of a case; nothing where it was not asked."""
    path = FOLDER / f"{case}.tracked"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def recordings(gpu: str) -> Mapping[str, Recording]:
    """Return what was recorded on this GPU with the torch that is installed."""
    folder = GOLDEN / f"{gpu}-{metadata.version('torch').partition('+')[0]}"
    return load_folder(folder) if (folder / "environment.json").exists() else {}


def rows(predicted: Mapping[str, Recording], recorded: Mapping[str, Recording]) -> list[list[str]]:
    """Return a row for each case, in MiB."""
    from ground_truth.second_opinions import closed_form

    found = []
    for name, each in predicted.items():
        real = recorded.get(name)
        if not each.usable:
            found.append([name, "fails", "", "", "", "", ""])
            continue
        peaks = {key: max(each.fresh()[key], each.warm()[key]) for key in each.warm()}
        tracker = tracker_said(each.case) if not each.allocator else {}
        form = closed_form(each.case) if not each.allocator else None
        found.append(
            [
                name,
                mib(peaks["allocated"]),
                mib(peaks["reserved"]),
                measured(real, peaks),
                against(tracker.get("bytes"), peaks["allocated"]) if "error" not in tracker else "fails",
                against(form, peaks["allocated"]),
                str(len(each.unknown) or ""),
            ]
        )
    return found


def measured(real: Recording | None, peaks: Mapping[str, int]) -> str:
    """Say what was recorded, and how far the prediction is from it."""
    if real is None or not real.usable:
        return "owed"
    allocated, reserved = (max(real.fresh()[key], real.warm()[key]) for key in ("allocated", "reserved"))
    return f"{mib(allocated)} / {mib(reserved)}: {apart(allocated, peaks['allocated'])}"


def against(said: int | None, peak: int) -> str:
    """Say another number and how far it is from the predicted peak."""
    return "" if said is None else f"{mib(said)} ({100 * (said - peak) / peak:+.1f} %)"


def mib(size: int) -> str:
    """Write bytes as MiB with a digit."""
    return f"{size / MIB:,.1f}"


def rendered(gpu: str) -> str:
    """Render what stands between the markers of the page."""
    predicted, recorded = load_folder(FOLDER / gpu), recordings(gpu)
    order = sorted(predicted.values(), key=lambda each: (bool(each.allocator), each.name))
    table = rows({each.name: each for each in order}, recorded)
    missing = not_run(predicted)
    untold = {text for each in order for text in each.unknown}
    failed = sum(not each.usable for each in order)
    lines = [
        f"Simulated: {gpu}. torch {metadata.version('torch').partition('+')[0]}, "
        f"transformers {metadata.version('transformers')}, Python {platform.python_version()}, "
        f"{date.today().isoformat()}. {len(order)} runs, {len(recorded)} of them recorded on a GPU, "
        f"{failed} that could not be predicted.",
        "",
        tabulate(
            table,
            headers=["case", "allocated", "reserved", "recorded", "MemTracker", "closed form", "unknown"],
            tablefmt="github", disable_numparse=True, colalign=("left", *["right"] * 6),
        ),
        "",
        f"Unknown in these predictions, and left out of them: {len(untold)} workspaces, each named in its report.",
        *(f"\n{each.name} fails: {each.error or 'it ran out of memory'}" for each in order if not each.usable),
        *(["", f"Not run: {', '.join(missing)}."] if missing else []),
    ]  # fmt: skip
    return "\n".join(lines)


def not_run(predicted: Mapping[str, Recording]) -> list[str]:
    """Name the cases of the zoo that no prediction is there of."""
    from memory_zoo import CASES

    return [case.name for case in CASES if case.name not in predicted]


def main() -> None:
    """Predict, ask the others, and render."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    parser.add_argument("--keep", action="store_true", help="take what an earlier call has left")
    parser.add_argument("--gpu", default="h100", help="the GPU to simulate")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--tracker", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.tracker:
        track_share(options.gpu, options.tracker)
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not options.keep:
        predict(options.gpu, options.jobs)
        track(options.gpu, options.jobs)
    text = rendered(options.gpu)
    print(text)
    if options.write:
        put_into_page(PAGE, BEGIN, END, text)


if __name__ == "__main__":
    main()
