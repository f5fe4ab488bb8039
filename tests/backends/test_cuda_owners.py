"""Histories joined with what op calls showed: whose the blocks at the peak are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_flopguard.backends.code_sites import CodeSites
from pytest_flopguard.backends.cuda_history import Block, HistoryPeak
from pytest_flopguard.backends.cuda_owners import ROUNDING, Ran, Shown, owners_of
from pytest_flopguard.backends.storage_roles import Role
from pytest_flopguard.core.owners import Owner

MM, CONV = torch.ops.aten.mm.default, torch.ops.aten.convolution.default
ROOT = Path("/project")
SITES = CodeSites(ROOT)
KEPT = Role("activations", "net.up", MM)


def owner(category: str, module: str, op: str, size: int, blocks: int = 1, site: str = "") -> Owner:
    return Owner(category=category, module=module, op=op, site=site, bytes=size, blocks=blocks)


def frame(filename: str, line: int = 3, name: str = "forward") -> dict[str, Any]:
    return {"filename": filename, "line": line, "name": name}


def peak(*blocks: Block, numbers: dict[int, list[int]] | None = None) -> HistoryPeak:
    known = numbers or {each.address: [each.number] for each in blocks}
    return HistoryPeak(blocks=blocks, timeline=(), numbers=known)


def block(number: int, address: int, size: int = 512, *frames: dict[str, Any]) -> Block:
    return Block(number=number, address=address, bytes=size, stream=0, frames=frames)


def test_a_block_is_what_the_storage_at_its_address_is() -> None:
    found = owners_of(peak(block(1, 64), block(2, 128, 1024)), 1536, [Shown(2, 128, KEPT)], [], SITES)
    assert found == (owner("activations", "net.up", "aten.mm", 1024), owner("other", "", "", 512))


@pytest.mark.parametrize(("shown_at", "category"), [(4, "activations"), (6, "activations"), (7, "gradients")])
def test_an_address_that_is_used_again_is_no_riddle(shown_at: int, category: str) -> None:
    # The address was handed out by allocations 2, 4 and 7; what lives at the peak is from 4, unless 7 is.
    numbers = {64: [2, 4, 7]}
    lives = block(7 if shown_at == 7 else 4, 64)
    shown = [Shown(2, 64, Role("temporaries")), Shown(shown_at, 64, Role(category)), Shown(9, 99, Role("inputs"))]
    (found,) = owners_of(peak(lives, numbers=numbers), 512, shown, [], SITES)
    assert found.category == category


def test_the_last_that_is_known_of_a_block_holds() -> None:
    shown = [Shown(1, 64, Role("inputs")), Shown(1, 64, Role("parameters", "net.up"))]
    assert owners_of(peak(block(1, 64)), 512, shown, [], SITES) == (owner("parameters", "net.up", "", 512),)


def test_what_no_op_returned_is_a_workspace_of_the_op_that_ran() -> None:
    ran = [Ran(3, Role("activations", "net.up", MM)), Ran(8, Role("temporaries", "net.conv", CONV))]
    blocks = [block(1, 64), block(3, 128), block(4, 192), block(8, 256), block(9, 320), block(0, 384)]
    found = owners_of(peak(*blocks), 6 * 512, [], ran, SITES)
    # 1 and 3 were taken by the product, 4 and 8 by the convolution; 9 after all ops, and 0 before anybody looked.
    assert set(found) == {
        owner("workspaces", "net.up", "aten.mm", 1024, 2),
        owner("workspaces", "net.conv", "aten.convolution", 1024, 2),
        owner("other", "", "", 1024, 2),
    }


def test_what_is_left_of_the_measured_peak_is_told_apart() -> None:
    found = owners_of(peak(block(1, 64)), 512 + 700, [Shown(1, 64, KEPT)], [], SITES)
    assert found == (owner("other", "", ROUNDING, 700, 0), owner("activations", "net.up", "aten.mm", 512))


def test_a_history_that_holds_more_than_was_measured_tells_nothing() -> None:
    assert owners_of(peak(block(1, 64)), 511, [], [], SITES) == ()


def test_the_line_comes_from_the_op_or_else_from_the_allocators_stack() -> None:
    stack = (frame(torch.nn.__file__), frame("/project/net.py", 41), frame("/project/test_net.py", 7, "test"))
    known = KEPT._replace(site="net.py:9 in forward")
    (with_site,) = owners_of(peak(block(1, 64, 512, *stack)), 512, [Shown(1, 64, known)], [], SITES)
    (without,) = owners_of(peak(block(1, 64, 512, *stack)), 512, [Shown(1, 64, KEPT)], [], SITES)
    (nobody,) = owners_of(peak(block(1, 64, 512, *stack)), 512, [], [], SITES)
    told = "net.py:41 in forward < test_net.py:7 in test"
    assert (with_site.site, without.site) == ("net.py:9 in forward", told)
    assert (nobody.category, nobody.site) == ("other", told)
