"""What attention masks hide, for the causal convention: followed from a mask to the products that it makes needless.

A fused attention call is handed its mask. Attention written out is a product Q K^T, to which a mask is added or which
it is filled by, a softmax, and a product P V; backward has two more pairs. Nothing tells that these calls belong
together but the data, so what leads where is followed by storage. Scores are what a product leads to, and weights what
softmax makes of them; gradients of scores are weights too, since they are zero where those are. Only when weights meet
a product is anything left out. Of several uses of a product each needs its own pairs. Where a mask was seen, but not
its values or what becomes of it, the products are unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from pytest_flopguard.backends import attention_ops as ops
from pytest_flopguard.backends import mask_values
from pytest_flopguard.backends.attention_trail import (
    NO_VALUES,
    UNCLEAR,
    Product,
    Trail,
    scores_of,
    sources_of,
)
from pytest_flopguard.backends.block_masks import flex_pairs
from pytest_flopguard.backends.constant_tensors import ConstantTensors, reading_values, tensors, written
from pytest_flopguard.backends.hidden_pairs import RESHAPED, Hidden, both, either
from pytest_flopguard.backends.torch_api.dispatch import schema_of
from pytest_flopguard.backends.weight_storages import WeightStorages, storage_of


class AttentionMasks:
    """Follows the calls of an OpWatch. ``hide`` takes FLOPs of a product back, ``lose`` all that is known of it."""

    def __init__(self, hide: Callable[[Product, int], None], lose: Callable[[Product, str], None]) -> None:
        self._hide = hide
        self._lose = lose
        self._constants = ConstantTensors()
        self._trails: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._weights = WeightStorages()

    def saw_counted(
        self, name: str, func: Any, args: Any, kwargs: Any, out: Any, product: Callable[[int], Product]
    ) -> None:
        """Follow a counted call; ``product`` makes one of it, of so many pairs."""
        self._constants.forget_written(func, args, kwargs)
        if name in ops.FLEX:
            self._saw_flex(args, product)
            return
        with reading_values():
            if name in ops.PRODUCTS:
                self._saw_product(name, args, kwargs, out, product)
            else:
                self._saw_fused(name, func, args, kwargs, product)

    def saw_plain(self, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Follow a call that costs nothing: constants, and what leads from scores to weights."""
        self._constants.saw(func, args, kwargs, out)
        self._weights.saw(name, func, args, kwargs, out)
        if not self._trails:
            return
        inputs = list(tensors(args))
        trails = [self._trail(each) for each in inputs]
        if any(trails):
            with reading_values():
                self._follow(name, func, args, kwargs or {}, inputs, trails, out)

    def _follow(
        self,
        name: str,
        func: Any,
        args: Any,
        kwargs: Any,
        inputs: list[torch.Tensor],
        trails: list[Trail | None],
        out: Any,
    ) -> None:
        first = next(tensors((out,)), None)
        if first is None:
            return
        if name in ops.SOFTMAX:
            scores = trails[0] or Trail()
            sources = tuple((each, scores.hidden) for each in scores.products)
            self._leave(first, Trail(hidden=scores.hidden, weights=True, sources=sources))
            return
        if name in ops.SOFTMAX_BACKWARD:
            gradient, weights = trails[0] or Trail(), trails[1] or Trail()
            for each in gradient.products:
                self._use(each, weights.hidden)
            self._leave(first, Trail(hidden=weights.hidden, weights=True))
            return
        in_place = any(True for _ in written(func, args, kwargs))
        if storage_of(first) in (storage_of(each) for each in inputs) and not in_place:
            return  # a view
        trail = self._result(name, args, kwargs, inputs, trails, first)
        if trail is not None:
            self._leave(first, trail)
        elif in_place:
            self._drop(first)

    def _result(
        self,
        name: str,
        args: Any,
        kwargs: Any,
        inputs: list[torch.Tensor],
        trails: list[Trail | None],
        out: torch.Tensor,
    ) -> Trail | None:
        """Return what is known of the result of an op on scores or weights; None where it is neither any more."""
        followed = [each for each in trails if each is not None]
        weights = [each for each in followed if each.weights]
        scores = [each for each in followed if not each.weights]
        if name in ops.ADDED and weights:
            return None if scores else self._sum_of_weights(weights, inputs, out)
        if weights and name in (*ops.KEEP, *ops.FILLED, *ops.CHOSEN):
            if (name in ops.FILLED or name in ops.CHOSEN) and not all(map(self._is_zero, self._untrailed(args[1:]))):
                return None
            hidden = next(each.hidden for each in weights)
            tangents = tuple((product, hidden) for each in scores for product in each.products)
            return Trail(hidden=hidden, weights=True, sources=(*sources_of(weights), *tangents))
        made_anew = name in ops.PICK or name.endswith("_like") or name.startswith("aten.new_")
        if weights or made_anew or out.numel() < max(each.numel() for each in inputs):
            return None
        joined = scores_of(
            (product for each in scores for product in each.products),
            either(*(each.hidden for each in scores)) if any(each.hidden for each in scores) else None,
        )
        if name in ops.ADDED:
            return self._added_to(joined, name, args, kwargs, out)
        if name in ops.FILLED:
            return self._filled(joined, args, out)
        if name in ops.CHOSEN:
            return self._chosen(joined, args, out)
        # Scores without a mask stay so under most that is done to each number; masked ones stay under little.
        clear = name in ops.KEEP or (joined.hidden is None and not any(each in name for each in ops.WRITE))
        return joined if clear else replace(joined, hidden=Hidden(None, out.shape, UNCLEAR))

    def _sum_of_weights(self, weights: list[Trail], terms: list[torch.Tensor], out: torch.Tensor) -> Trail | None:
        """A sum is zero where all of its terms are."""
        hidden = both(*(each.hidden for each in weights))
        for term in terms:
            if hidden is None or hidden.where is None or self._trail(term) is not None:
                continue
            values = self._constants.value(term)
            if values is None:
                hidden = Hidden(None, out.shape, NO_VALUES)
            elif values.shape != out.shape or bool(values[_places(hidden, out.shape)].any()):
                return None
        return Trail(hidden=hidden, weights=True, sources=sources_of(weights))

    def _saw_product(self, name: str, args: Any, kwargs: Any, out: Any, product: Callable[[int], Product]) -> None:
        at = ops.PRODUCTS[name]
        left, right = args[at : at + 2]
        trails = [(each, self._trail(each)) for each in (left, right)]
        weighed = [(each, trail) for each, trail in trails if trail is not None and trail.weights]
        masked = [trail for _, trail in trails if trail is not None and not trail.weights and trail.hidden is not None]
        for operand, trail in weighed:
            for source, hidden in trail.sources:
                self._use(source, hidden)
            if trail.hidden is not None:
                whole = product(operand.numel())
                self._use(whole, trail.hidden if len(weighed) == 1 else Hidden(None, operand.shape, UNCLEAR))
                if len(weighed) > 1:
                    return
        for trail in masked:
            # Scores that were masked and meet a product without softmax.
            for each in (*trail.products, product(1)):
                self._use(each, Hidden(None, out.shape, UNCLEAR))
        if weighed:
            # Heads that are mixed after softmax are weights still, of other pairs.
            operand, trail = weighed[0]
            other = right if operand is left else left
            if trail.hidden is not None and self._weights.is_weight(name, other) and out.numel() == operand.numel():
                self._leave(out, Trail(hidden=Hidden(None, out.shape, UNCLEAR), weights=True))
            else:
                self._drop(out)
            return
        # A layer's product with its weight makes no scores.
        before = [each for _, trail in trails if trail is not None for each in trail.products]
        if masked or (not before and any(self._weights.is_weight(name, each) for each in (left, right))):
            self._drop(out)
            return
        trail = scores_of((product(out.numel()), *(_other_pairs(each) for each in before)))
        if at and (kwargs or {}).get("beta", 1):
            addend = self._trail(args[0])
            if addend is None:
                trail = self._masked_by(trail, args[0], out.shape, mask_values.hides)
            else:
                trail = scores_of((*trail.products, *addend.products), addend.hidden)
        self._leave(out, trail)

    def _saw_fused(self, name: str, func: Any, args: Any, kwargs: Any, product: Callable[[int], Product]) -> None:
        said = dict(zip([each.name for each in schema_of(func).arguments], args, strict=False)) | (kwargs or {})
        if name in ops.OWN_MASK:
            if said.get("mask") is not None:
                self._lose(product(1), "masks of the fused encoder layer are not followed")
            return
        mask = next((said[each] for each in ops.MASK_ARGUMENTS if isinstance(said.get(each), torch.Tensor)), None)
        query, key = said.get("query"), said.get("key")
        if mask is None or not mask.numel() or query is None or key is None:
            return
        heads_last = name.startswith(("aten._flash", "aten._efficient"))
        at = -3 if heads_last else -2
        lead = (query.shape[0], query.shape[2]) if heads_last else query.shape[:-2]
        shape = torch.Size((*lead, query.shape[at], key.shape[at]))
        whole = product(shape.numel())
        hidden = self._hidden(mask, shape, mask_values.hides if mask.dtype.is_floating_point else mask_values.is_false)
        if hidden is not None and whole.cost.masked_flops:
            hidden = Hidden(None, shape, "it has two masks")
        self._use(whole, hidden)

    def _saw_flex(self, args: Any, product: Callable[[int], Product]) -> None:
        found = flex_pairs(args)
        if found is None:
            self._lose(product(1), NO_VALUES)
        elif found.kept < found.pairs:
            whole = product(found.pairs)
            self._hide(whole, whole.per_pair * (found.pairs - found.kept))

    def _added_to(self, trail: Trail, name: str, args: Any, kwargs: Any, out: torch.Tensor) -> Trail:
        sign = (-1 if name.startswith("aten.sub") else 1) * kwargs.get("alpha", 1)
        signed = [(args[0], 1), (args[1], sign)]
        masks = [each for each in signed if isinstance(each[0], torch.Tensor) and self._trail(each[0]) is None]
        if not masks and kwargs.get("alpha", 1) and isinstance(args[1], torch.Tensor):
            # Both come from products; one may be a mask that was made by one.
            masks = [each for each in signed if self._is_mask(*each)]
        for mask, factor in masks:
            trail = self._masked_by(trail, mask, out.shape, partial(_hides_times, factor))
        return trail

    def _is_mask(self, tensor: torch.Tensor, factor: float) -> bool:
        values, trail = self._constants.value(tensor), self._trail(tensor)
        if values is None or trail is None or trail.hidden is not None or not values.dtype.is_floating_point:
            return False
        return bool(mask_values.hides(values * factor).any())

    def _filled(self, trail: Trail, args: Any, out: torch.Tensor) -> Trail:
        fill = self._number(args[2])
        if fill is None:
            return self._with(trail, Hidden(None, out.shape, NO_VALUES))
        if not mask_values.fills(fill, out.dtype):
            return trail
        return self._masked_by(trail, args[1], out.shape, mask_values.is_true)

    def _chosen(self, trail: Trail, args: Any, out: torch.Tensor) -> Trail:
        condition, *values = args
        for value, chosen in zip(values, (mask_values.is_true, mask_values.is_false), strict=False):
            if isinstance(value, torch.Tensor) and self._trail(value) is not None:
                continue
            known = self._constants.value(value) if isinstance(value, torch.Tensor) else torch.tensor(float(value))
            if known is None:
                trail = self._with(trail, Hidden(None, out.shape, NO_VALUES))
            elif bool(mask_values.fills_anywhere(known, out.dtype)):
                trail = self._masked_by(trail, condition, out.shape, chosen)
        return trail

    def _untrailed(self, values: Iterable[Any]) -> list[Any]:
        """Return what is chosen or filled in beside weights; a mask of switches is none of it."""
        rest = [each for each in values if not isinstance(each, torch.Tensor) or each.dtype != torch.bool]
        return [each for each in rest if not isinstance(each, torch.Tensor) or self._trail(each) is None]

    def _is_zero(self, value: Any) -> bool:
        known = self._constants.value(value) if isinstance(value, torch.Tensor) else value
        return known is not None and not bool(torch.as_tensor(known).any())

    def _number(self, value: Any) -> float | None:
        if not isinstance(value, torch.Tensor):
            return float(value)
        known = self._constants.value(value)
        return None if known is None else float(known)

    def _masked_by(
        self, trail: Trail, mask: Any, shape: torch.Size, hides: Callable[[torch.Tensor], torch.Tensor]
    ) -> Trail:
        return self._with(trail, self._hidden(mask, shape, hides))

    @staticmethod
    def _with(trail: Trail, hidden: Hidden | None) -> Trail:
        return trail if hidden is None else replace(trail, hidden=either(trail.hidden, hidden))

    def _hidden(
        self, mask: torch.Tensor, shape: torch.Size, hides: Callable[[torch.Tensor], torch.Tensor]
    ) -> Hidden | None:
        values = self._constants.value(mask)
        if values is None:
            return Hidden(None, shape, NO_VALUES)
        where = hides(values)
        if not bool(where.any()):
            return None
        try:
            where.expand(shape)
        except RuntimeError:
            return Hidden(None, shape, RESHAPED)
        return Hidden(where.detach().clone(), shape)

    def _use(self, product: Product, hidden: Hidden | None) -> None:
        """Take note of a use of a product: what it does not hide must be computed."""
        if product.lost:
            return
        before = product.hidden.pairs if product.hidden is not None else 0
        after = both(product.hidden, hidden) if product.used else hidden
        product.used, product.hidden = True, after
        if after is not None and after.where is not None and product.pairs != after.shape.numel():
            after = Hidden(None, after.shape, RESHAPED)
        if after is not None and after.where is None:
            self._hide(product, -before * (product.per_pair))
            product.lost = True
            self._lose(product, after.reason)
        else:
            more = (after.pairs if after is not None else 0) - before
            self._hide(product, more * (product.per_pair))

    def _trail(self, tensor: torch.Tensor) -> Trail | None:
        storage = storage_of(tensor)
        return None if storage is None else self._trails.get(storage)

    def _leave(self, tensor: torch.Tensor, trail: Trail) -> None:
        storage = storage_of(tensor)
        if storage is not None:
            self._trails[storage] = trail

    def _drop(self, tensor: torch.Tensor) -> None:
        storage = storage_of(tensor)
        if storage is not None:
            self._trails.pop(storage, None)


def _places(hidden: Hidden, shape: torch.Size) -> torch.Tensor:
    """Return where a tensor of a shape is hidden; what was added behind the scores, such as a sink, is not."""
    where = torch.zeros(shape, dtype=torch.bool)
    if hidden.where is not None and len(hidden.shape) == len(shape):
        corner = tuple(slice(0, size) for size in hidden.shape)
        where[corner] = hidden.where.to("cpu").expand(hidden.shape)
    return where


def _other_pairs(product: Product) -> Product:
    # Its pairs went through another product: which of them a later mask hides is not known.
    product.pairs = -1
    return product


def _hides_times(factor: float, values: torch.Tensor) -> torch.Tensor:
    return mask_values.hides(values if factor == 1 else values * factor)
