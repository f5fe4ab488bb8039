"""Where a test is to run: on what there is, or on a simulated GPU."""

from __future__ import annotations

from pytest_flopguard.budgets.draft import Draft, KeyPath

DEVICE = "device"
SIMULATED = "sim"
WANTED = "'auto', 'sim', or 'sim:' and a GPU such as 'sim:h100'"


def is_device(value: object) -> bool:
    """Whether a text names a place to run; that its GPU exists is for who knows GPUs to say."""
    if not isinstance(value, str):
        return False
    kind, colon, gpu = value.partition(":")
    return value == "auto" or (kind == SIMULATED and (not colon or bool(gpu.strip())))


def read_device(draft: Draft, path: KeyPath, value: object) -> str:
    """Read where the tests of a budget are to run; anything else goes to the draft and counts as not written."""
    if is_device(value):
        return str(value)
    draft.complain_value(path, value, WANTED)
    return ""
