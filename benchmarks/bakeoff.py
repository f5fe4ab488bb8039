"""Our counter and its peers over programs whose FLOPs are known by hand.

    python benchmarks/bakeoff.py [--peer NAME ...] [--case TEXT] [--write]

Peers are installed without their dependencies into build/peers, one folder for each, so that none can change torch
or another. Each answers for each program in a process of its own, so that a crash, or 60 seconds without an answer, is
one cell. ``--write`` puts the tables into docs/explanation/accuracy.md.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import platform
import selectors
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

from page_part import put_into_page
from tabulate import tabulate

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "explanation" / "accuracy.md"
BEGIN, END = "<!-- bakeoff: begin -->", "<!-- bakeoff: end -->"
FOLDER = ROOT / "build" / "peers"
ANSWER_SECONDS, START_SECONDS = 60, 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What a peer said of one case: FLOPs, or why there are none (``"unknown"``, ``"error"``, ``"timeout"``)."""

    flops: int | None
    why: str = ""
    detail: str = ""

    def shown(self, truth: int) -> str:
        """Return the ratio to the truth; ``1.000`` is said of the exact integer only."""
        if self.flops is None:
            return self.why
        if self.flops == truth:
            return "1.000"
        if not truth:
            return "not 0"
        if not self.flops:
            return "0"
        text = f"{float(Fraction(self.flops, truth)):.3f}"
        return "≈ 1" if text == "1.000" else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """All that one peer said, by case name and by whether backward was asked for."""

    peer: str
    version: str
    reason: str
    cells: dict[tuple[str, bool], Cell]


class Worker:
    """A process that counts with one peer."""

    def __init__(self, peer: str) -> None:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", peer],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self.hello = self._answer(START_SECONDS)

    def ask(self, case: str, backward: bool) -> Cell:
        """Count one case; a process that does not answer is ended."""
        print(json.dumps([case, backward]), file=self._process.stdin, flush=True)
        answer = self._answer(ANSWER_SECONDS)
        return Cell(**answer)

    @property
    def alive(self) -> bool:
        """Whether it can be asked again."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the process."""
        self._end()
        self._process.wait()
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _end(self) -> None:
        # The process and those that it has doubled itself into.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _answer(self, seconds: int) -> dict[str, Any]:
        ready = self._selector.select(seconds)
        line = self._process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        self._end()
        code = self._process.wait()
        why = "error" if ready else "timeout"
        return {"flops": None, "why": why, "detail": f"exit code {code}" if ready else f"no answer in {seconds} s"}


def work(name: str) -> None:
    """Answer on standard output what the peer counts for each case that standard input names."""
    answers = os.fdopen(os.dup(1), "w")
    # Whatever the peers print is no answer.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(FOLDER / name))
    try:
        # Large, and needed by many cases: imported once, before the process is doubled for each case.
        import torch._dynamo  # noqa: F401
        import transformers  # noqa: F401
        from cases import CASES
        from peers import PEERS

        peer = next(each for each in PEERS if each.name == name)
        if peer.preload:
            importlib.import_module(peer.module)
        hello = {"reason": ""}
    except Exception as error:  # noqa: BLE001 - a peer may fail in any way, and the table says so
        hello = {"reason": f"{type(error).__name__}: {error}"}
    print(json.dumps(hello), file=answers, flush=True)
    cases = {} if hello["reason"] else {each.name: each for each in CASES}
    for line in sys.stdin:
        case, backward = json.loads(line)
        # Some peers leave torch patched when they fail: what they say of one case must not depend on the one before.
        child = os.fork()
        if not child:
            print(json.dumps(answer(peer, cases[case], backward)), file=answers, flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            died = {"flops": None, "why": "error", "detail": f"died: {os.waitstatus_to_exitcode(status)}"}
            print(json.dumps(died), file=answers, flush=True)


def answer(peer: Any, case: Any, backward: bool) -> dict[str, Any]:
    """Return what a peer says of a case, as the fields of a Cell."""
    try:
        flops = peer.count(case, backward)
    except Exception as error:  # noqa: BLE001
        return {"flops": None, "why": "error", "detail": f"{type(error).__name__}: {error}"[:300]}
    return {"flops": flops, "why": "" if flops is not None else "unknown"}


def install(name: str, requirements: Sequence[str]) -> str:
    """Install a peer into its folder unless it is there; return why it could not be."""
    folder = FOLDER / name
    done = folder / "installed.txt"
    wanted = "\n".join(requirements)
    if not requirements or (done.exists() and done.read_text(encoding="utf-8") == wanted):
        return ""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder)]
    result = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
    if result.returncode:
        return f"does not install: {(result.stderr.strip().splitlines() or ['?'])[-1]}"
    done.write_text(wanted, encoding="utf-8")
    return ""


def version_of(name: str, requirements: Sequence[str]) -> str:
    """Return the version of a peer."""
    if requirements:
        return requirements[0].partition("==")[2]
    package = {"flopguard": "pytest-flopguard", "fvcore": "fvcore"}.get(name, "torch")
    return metadata.version(package)


def answers_of(peer: Any, cases: Sequence[Any]) -> Answers:
    """Ask one peer for every case."""
    cells: dict[tuple[str, bool], Cell] = {}
    version = version_of(peer.name, peer.install)
    reason = install(peer.name, peer.install)
    worker = None if reason else Worker(peer.name)
    if worker is not None and worker.hello.get("reason", worker.hello.get("detail")):
        reason = f"does not import: {worker.hello.get('reason', worker.hello.get('detail'))}"
    if worker is not None and not reason:
        for case, backward in questions(cases, peer.backward):
            if not worker.alive:
                worker.stop()
                worker = Worker(peer.name)
            cells[case.name, backward] = worker.ask(case.name, backward)
    if worker is not None:
        worker.stop()
    return Answers(peer=peer.name, version=version, reason=reason, cells=cells)


def questions(cases: Sequence[Any], backward: bool) -> Iterator[tuple[Any, bool]]:
    """Each case forward, and with backward where both the case and the peer have one."""
    for case in cases:
        yield case, False
        if backward and case.backward is not None:
            yield case, True


def truth(case: Any, backward: bool) -> int:
    """FLOPs of a case, forward or forward and backward."""
    return case.forward + (case.backward if backward else 0)


def summary_row(peer: Any, answers: Answers, cases: Sequence[Any]) -> list[str]:
    """Say how often a peer was right, near, wrong without a word, and without a number."""
    row = [peer.name, answers.version, answers.reason or peer.says]
    for backward in (False, True):
        told = [
            (answers.cells[case.name, backward], truth(case, backward))
            for case in cases
            if (case.name, backward) in answers.cells
        ]
        exact = sum(cell.flops == true for cell, true in told)
        none = sum(cell.flops is None for cell, _ in told)
        near = sum(
            cell.flops is not None and cell.flops != true and abs(cell.flops - true) * 20 <= true for cell, true in told
        )
        parts = (exact, near, len(told) - exact - near - none, none)
        row.append(" / ".join(map(str, parts)) if told else "–")
    return row


def rendered(peers: Sequence[Any], answers: Sequence[Answers], cases: Sequence[Any]) -> str:
    """Render the tables."""
    trains = sum(each.backward is not None for each in cases)
    lines = [
        f"torch {metadata.version('torch').partition('+')[0]}, transformers {metadata.version('transformers')}, "
        f"Python {platform.python_version()}, CPU, {date.today().isoformat()}. "
        f"{len(cases)} programs forward, {trains} of them also forward and backward.",
        "",
        "Each counter's number of programs: **exact / within 5 % / further off / no number** "
        "(an error, no answer in 60 seconds, or \"unknown\").",
        "",
        tabulate(
            [summary_row(peer, each, cases) for peer, each in zip(peers, answers, strict=True)],
            headers=["counter", "version", "what it counts", "forward", "forward + backward"],
            tablefmt="github", disable_numparse=True,
        ),
        "",
        "Each program: FLOPs counted, as a ratio to the truth. `fwd` forward, `f+b` forward and backward; "
        "`1.000` is the exact integer, `≈ 1` is not; `0` says that a counter saw nothing.",
    ]  # fmt: skip
    present = [(peer, each) for peer, each in zip(peers, answers, strict=True) if not each.reason]
    columns = [
        (peer, each, backward) for peer, each in present for backward in ((False, True) if peer.backward else (False,))
    ]
    headers = [
        "program",
        "forward FLOPs",
        "with backward",
        *(f"{peer.name} {'f+b' if back else 'fwd'}" for peer, _, back in columns),
    ]
    for room in dict.fromkeys(each.room for each in cases):
        rows = []
        for case in (each for each in cases if each.room == room):
            both = "–" if case.backward is None else f"{truth(case, True):,}"
            row = [case.name.replace("|", "\\|"), f"{case.forward:,}", both]
            for _, told, backward in columns:
                cell = told.cells.get((case.name, backward))
                row.append("–" if cell is None else cell.shown(truth(case, backward)))
            rows.append(row)
        lines += [
            "",
            f"### {room.capitalize()}",
            "",
            tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True),
        ]
    return "\n".join(lines)


def main() -> None:
    """Run the bake-off."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer", action="append", help="only this counter (repeatable)")
    parser.add_argument("--case", default="", help="only the programs with this in their name")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/explanation/accuracy.md")
    parser.add_argument("--jobs", type=int, default=2, help="counters at work at once")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    warnings.simplefilter("ignore")
    from cases import CASES
    from peers import PEERS

    peers = [each for each in PEERS if not options.peer or each.name in options.peer]
    cases = [each for each in CASES if options.case in each.name]
    with ThreadPoolExecutor(options.jobs) as pool:
        answers = list(pool.map(lambda peer: answers_of(peer, cases), peers))
    text = rendered(peers, answers, cases)
    print(text)
    for each in answers:
        for (case, backward), cell in each.cells.items():
            if cell.detail:
                print(f"{each.peer}: {case}{' + backward' if backward else ''}: {cell.detail}", file=sys.stderr)
    if options.write:
        put_into_page(PAGE, BEGIN, END, text)


if __name__ == "__main__":
    main()
