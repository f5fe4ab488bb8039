"""``[tool.flopguard.gpus.NAME]``: what is read, and every mistake with its line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_flopguard.budgets.settings import Settings
from pytest_flopguard.core.described_gpu import CAPABILITIES

Load = Callable[..., Settings]
Refused = Callable[..., list[str]]

CARD = """\
[tool.flopguard.gpus.lab-card]
capability = "8.9"
multiprocessors = 60
memory = "24 GiB"
l2-cache = 1048576
"""


def test_a_gpu_is_read(load: Load) -> None:
    gpu = load(CARD).gpus["lab-card"]
    assert (gpu.name, gpu.capability, gpu.multiprocessors) == ("lab-card", (8, 9), 60)
    # 24 GiB are 24 * 2^30 bytes; a number is bytes.
    assert (gpu.memory, gpu.l2_cache) == (25_769_803_776, 1_048_576)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_capability_that_is_simulated(load: Load, capability: str) -> None:
    gpu = load(CARD.replace("8.9", capability)).gpus["lab-card"]
    assert ".".join(map(str, gpu.capability)) == capability


@pytest.mark.parametrize(
    ("before", "after", "line", "text"),
    [
        ('"8.9"', '"8.7"', 2, "'8.7': expected one of '7.0', '7.5'"),
        ('"8.9"', '["8.9"]', 2, "['8.9']: expected one of '7.0', '7.5'"),
        ('"8.9"', "8.9", 2, "8.9: expected one of '7.0', '7.5'"),
        ("= 60", "= 0", 3, "0: expected a whole number above 0"),
        ("= 60", "= true", 3, "True: expected a whole number above 0"),
        ('"24 GiB"', '"24 GB/s"', 4, "gpus.lab-card.memory"),
        ('"24 GiB"', "0", 4, "0: expected an amount of bytes above 0"),
        ('"24 GiB"', "true", 4, "True: expected an amount of bytes above 0"),
        ("l2-cache = 1048576\n", "", 1, "missing: l2-cache"),
        ("l2-cache", "l2_cache", 5, "did you mean 'l2-cache'?"),
        ("lab-card", "h100", 1, "a name that no built-in GPU has; it spells 'h100'"),
    ],
)
def test_a_mistake_is_reported_with_its_line(refused: Refused, before: str, after: str, line: int, text: str) -> None:
    lines = refused(CARD.replace(before, after))
    assert any(f"pyproject.toml:{line}" in each and text in each for each in lines), lines


@pytest.mark.parametrize("value", ["gpus = 3", "gpus.card = 3"])
def test_what_is_no_table_is_refused(refused: Refused, value: str) -> None:
    (found,) = refused(f"[tool.flopguard]\n{value}\n")
    assert "3: expected a table" in found


def test_all_mistakes_of_a_table_are_reported_at_once(refused: Refused) -> None:
    assert len(refused(CARD.replace("8.9", "1.0").replace("= 60", "= -1").replace("24 GiB", "much"))) == 3
