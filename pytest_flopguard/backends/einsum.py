"""The products inside an einsum, as torch contracts it: two operands at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod

_Sizes = dict[str, int]


def contraction_products(equation: str, shapes: Sequence[tuple[int, ...]], path: Sequence[int] | None) -> int:
    """Return the multiply-adds of ``torch.einsum(equation, *operands)``.

    ``path`` holds the pairs to contract one after the other (opt_einsum's, flattened); None is left to right.
    A pair that shares no summed index is multiplied elementwise, and an index that only one operand has is summed
    by itself first: neither is a product of matrices, and neither is counted.
    """
    operands, output = _parse(equation, shapes)
    pairs = list(zip(path[::2], path[1::2], strict=True)) if path is not None else [(0, 1)] * (len(operands) - 1)
    total = 0
    for first, second in pairs:
        low, high = sorted((first, second))
        right, left = operands.pop(high), operands.pop(low)
        kept = output.union(*operands)
        products, result = _contract(left, right, kept)
        total += products
        # torch puts the result last when it follows a path, first when it goes from left to right.
        operands.insert(len(operands) if path is not None else 0, result)
    return total


def _contract(left: _Sizes, right: _Sizes, kept: set[str]) -> tuple[int, _Sizes]:
    """Return the multiply-adds of one pair and the sizes of its result."""
    sizes = {name: max(left.get(name, 1), right.get(name, 1)) for name in {**left, **right}}
    summed = {name for name in sizes if name not in kept and left.get(name, 1) == right.get(name, 1) != 1}
    # A size of 1 meets an n as broadcasting: the n is summed before, like an index of one operand.
    result = {name: size for name, size in sizes.items() if name in kept}
    return (prod(result.values()) * prod(sizes[name] for name in summed) if summed else 0), result


def _parse(equation: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[_Sizes], set[str]]:
    """Return each operand's sizes by index name, and the names that the output has."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = [re.findall(r"[A-Za-z]|\.\.\.", term) for term in left.split(",")]
    operands = [_named(term, shape) for term, shape in zip(terms, shapes, strict=True)]
    rest = {name for sizes in operands for name in sizes if not name.isalpha()}
    if arrow:
        output = set(re.findall(r"[A-Za-z]", right))
        return operands, output | (rest if "..." in right else set())
    letters = [name for term in terms for name in term if name != "..."]
    return operands, {name for name in letters if letters.count(name) == 1} | rest


def _named(term: list[str], shape: tuple[int, ...]) -> _Sizes:
    """Give each dimension its name; those of an ellipsis are counted from its end, as they broadcast: ".-1"."""
    covered = len(shape) - (len(term) - ("..." in term))
    names: list[str] = []
    for name in term:
        names += [f".{position}" for position in range(-covered, 0)] if name == "..." else [name]
    sizes: _Sizes = {}
    for name, size in zip(names, shape, strict=True):
        sizes[name] = max(size, sizes.get(name, 1))
    return sizes
