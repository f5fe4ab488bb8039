"""The table of GPUs on the page is the table that is used."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_flopguard.formulas.hardware.datasheets import GPUS, gpu

PAGE = Path(__file__).parent.parent.parent.parent / "docs" / "reference" / "scaling-formulas.md"


def rows(markdown: str) -> dict[str, tuple[str, ...]]:
    """Return dense, sparse, memory and bandwidth by GPU, as printed."""
    table = markdown.partition("## GPUs")[2].partition("## Roofline")[0]
    found = {}
    for line in table.splitlines():
        names, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        listed = re.findall(r"`([^`]+)`", names)
        own = [name for name in listed if name in GPUS]
        if not line.startswith("|") or not own:
            continue
        assert all(gpu(name).name in own for name in listed), line
        memories = cells[2].split(", ")
        for number, name in enumerate(own):
            memory = memories[number] if len(memories) > 1 else memories[0]
            found[name] = (cells[0], cells[1], memory, cells[3])
    return found


def printed(name: str) -> tuple[str, ...]:
    found = gpu(name)
    dtype = "bfloat16" if "bfloat16" in found.dense else "float16"
    sparse = f"{found.peak(dtype, sparse=True) / 1e12:.15g}" if dtype in found.sparse else ""
    memory, bandwidth = found.memory_bytes // 10**9, found.bandwidth // 10**9
    return f"{found.peak(dtype) / 1e12:.15g}", sparse, str(memory), str(bandwidth)


def test_every_gpu_is_on_the_page() -> None:
    assert rows(PAGE.read_text(encoding="utf-8")) == {name: printed(name) for name in GPUS}


def test_a_wrong_cell_is_seen() -> None:
    page = PAGE.read_text(encoding="utf-8").replace("| 989.4 | 1978.8 | 141 |", "| 1979 | 3958 | 141 |")
    assert rows(page)["h200"] != printed("h200")
