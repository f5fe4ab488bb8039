from __future__ import annotations

from pytest_flopguard.core.owners import Owner, merged, summed


def owner(size: int, *, category: str = "activations", module: str = "", op: str = "aten.mm", blocks: int = 1) -> Owner:
    return Owner(category=category, module=module, op=op, site="", bytes=size, blocks=blocks)


def test_owners_that_are_alike_are_summed_and_the_largest_comes_first() -> None:
    found = merged([owner(8, module="a"), owner(4, module="b"), owner(3, module="a", blocks=2), owner(4, module="a.b")])
    # 8 + 3 bytes in 1 + 2 blocks; of equal ones the name decides.
    assert found == (owner(11, module="a", blocks=3), owner(4, module="a.b"), owner(4, module="b"))


def test_owners_that_differ_in_one_thing_stay_apart() -> None:
    found = merged([owner(1), owner(1, category="inputs"), owner(1, op="aten.add"), owner(1, module="m")])
    assert len(found) == 4


def test_bytes_by_a_key_keep_their_sum() -> None:
    owners = [owner(1, module="a"), owner(2, module="b"), owner(4, module="a", op="aten.add")]
    assert list(summed(owners, lambda each: each.module).items()) == [("a", 5), ("b", 2)]
    assert summed(owners, lambda each: each.op) == {"aten.add": 4, "aten.mm": 3}
