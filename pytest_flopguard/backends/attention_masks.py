"""What attention masks hide, for the causal convention: followed from a mask to the products that it makes needless.

A fused attention call is handed its mask. Attention written out is a product Q K^T, to which a mask is added or which
it is filled by, a softmax, and a product P V; backward has two more pairs. Nothing tells that these calls belong
together but the data, so what leads where is followed by storage: scores, weights (what softmax makes of them), and the
gradients of both. Where a mask was seen and its values cannot be read, the products are unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from pytest_flopguard.backends.block_masks import flex_pairs
from pytest_flopguard.backends.constant_tensors import ConstantTensors, reading_values, tensors
from pytest_flopguard.core.measurement import Cost

_aten = torch.ops.aten
_PRODUCTS = {"aten.mm", "aten.bmm", "aten.baddbmm", "aten.addbmm", "aten.matmul"}
_SOFTMAX = {"aten._softmax", "aten._safe_softmax", "aten.softmax", "aten.special_softmax"}
_SOFTMAX_BACKWARD = {"aten._softmax_backward_data"}
_ADDED = {"aten.add", "aten.add_"}
_FILLED = {"aten.masked_fill", "aten.masked_fill_"}
_CHOSEN = {"aten.where"}
_FLEX = {"higher_order.flex_attention", "higher_order.flex_attention_backward"}
# Arguments of fused attention that hold a mask: true or a finite number is a pair to compute.
_MASK_ARGUMENTS = ("attn_mask", "attn_bias", "bias")
_OWN_MASK = {"aten._native_multi_head_attention", "aten._transformer_encoder_layer_fwd"}
NO_VALUES = 'its attention mask has no values here, and attention = "causal" needs them'
_RESHAPED = 'its attention mask has another shape than its scores, and attention = "causal" needs both'


class Product:
    """One counted op call of attention: query-key ``pairs`` of equal cost, of which a mask may hide some.

    ``place`` is where it was counted, and ``call`` tells it to a person.
    """

    __slots__ = ("call", "cost", "flops", "pairs", "place", "settled")

    def __init__(self, place: Any, call: Callable[[], str], cost: Cost, pairs: int) -> None:
        self.place = place
        self.call = call
        self.cost = cost
        self.flops = cost.flops or 0
        self.pairs = pairs
        self.settled = False


@dataclass(frozen=True, slots=True)
class _Hidden:
    """Which pairs of scores of ``shape`` are hidden; ``where`` broadcasts to it, and is None with a ``reason``."""

    where: torch.Tensor | None
    shape: torch.Size
    reason: str = ""

    @property
    def pairs(self) -> int:
        """Number of hidden pairs."""
        if self.where is None or not self.where.numel():
            return 0
        return int(self.where.sum()) * (self.shape.numel() // self.where.numel())


@dataclass(frozen=True, slots=True)
class _Trail:
    """What is known of a storage: the products that lead to it, what hides pairs, and whether softmax has run."""

    products: tuple[Product, ...] = ()
    hidden: _Hidden | None = None
    weights: bool = False


class AttentionMasks:
    """Follows the calls of an OpWatch. ``hide`` and ``lose`` take back FLOPs of a product, or all it is known for."""

    def __init__(self, hide: Callable[[Product, int], None], lose: Callable[[Product, str], None]) -> None:
        self._hide = hide
        self._lose = lose
        self._constants = ConstantTensors()
        self._trails: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def saw_counted(
        self, name: str, func: Any, args: Any, kwargs: Any, out: Any, product: Callable[[int], Product]
    ) -> None:
        """Follow a counted call; ``product`` makes one of it, of so many pairs."""
        if name in _FLEX:
            self._saw_flex(args, product)
            return
        with reading_values():
            if name in _PRODUCTS:
                self._saw_product(name, args, kwargs, out, product)
            else:
                self._saw_fused(name, func, args, kwargs, product)

    def saw_plain(self, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Follow a call that costs nothing: constants, and what leads from scores to weights."""
        self._constants.saw(func, args, kwargs, out)
        inputs = list(tensors(args))
        trails = [self._trail(each) for each in inputs]
        if any(trails) and isinstance(out, torch.Tensor):
            with reading_values():
                self._follow(name, args, inputs, trails, out)

    def _follow(
        self, name: str, args: Any, inputs: list[torch.Tensor], trails: list[_Trail | None], out: torch.Tensor
    ) -> None:
        if name in _SOFTMAX:
            trail = trails[0] or _Trail()
            self._settle(trail.products, trail.hidden)
            self._leave(out, _Trail(hidden=trail.hidden, weights=True))
        elif name in _SOFTMAX_BACKWARD:
            gradient, weights = trails[0] or _Trail(), trails[1] or _Trail()
            self._settle(gradient.products, weights.hidden)
            self._leave(out, weights)
        elif out.numel() >= max(each.numel() for each, trail in zip(inputs, trails, strict=True) if trail) // 2:
            joined = _Trail(
                products=tuple(dict.fromkeys(each for trail in trails if trail for each in trail.products)),
                hidden=next((trail.hidden for trail in trails if trail and trail.hidden), None),
                weights=any(trail.weights for trail in trails if trail),
            )
            self._leave(out, self._masked(name, joined, args, out))

    def _saw_product(self, name: str, args: Any, kwargs: Any, out: Any, product: Callable[[int], Product]) -> None:
        *rest, left, right = args[:3] if name in ("aten.baddbmm", "aten.addbmm") else args[:2]
        for operand in (left, right):
            trail = self._trail(operand)
            if trail is not None and trail.weights:
                self._settle((product(operand.numel()),), trail.hidden)
        # A layer's product with its weight makes no scores.
        if _is_parameter(left) or _is_parameter(right):
            return
        trail = _Trail(products=(product(out.numel()),))
        if rest and (kwargs or {}).get("beta", 1):
            before = self._trail(rest[0])
            trail = replace(trail, products=(*(before.products if before else ()), *trail.products))
            if before is None:
                trail = self._added(trail, rest[0], out.shape)
        self._leave(out, trail)

    def _saw_fused(self, name: str, func: Any, args: Any, kwargs: Any, product: Callable[[int], Product]) -> None:
        said = dict(zip([each.name for each in func._schema.arguments], args, strict=False)) | (kwargs or {})
        if name in _OWN_MASK:
            if said.get("mask") is not None:
                self._lose(product(1), "masks of the fused encoder layer are not followed")
            return
        mask = next((said[each] for each in _MASK_ARGUMENTS if isinstance(said.get(each), torch.Tensor)), None)
        query, key = said.get("query"), said.get("key")
        if mask is None or not mask.numel() or query is None or key is None:
            return
        heads_last = name.startswith(("aten._flash", "aten._efficient"))
        at = -3 if heads_last else -2
        lead = (query.shape[0], query.shape[2]) if heads_last else query.shape[:-2]
        shape = torch.Size((*lead, query.shape[at], key.shape[at]))
        hidden = self._hidden(mask, shape, hides=_is_minus_infinity if mask.dtype.is_floating_point else _is_false)
        whole = product(shape.numel())
        if hidden is not None and whole.cost.masked_flops:
            self._lose(whole, "it has two masks")
        else:
            self._settle((whole,), hidden)

    def _saw_flex(self, args: Any, product: Callable[[int], Product]) -> None:
        found = flex_pairs(args)
        if found is None:
            self._lose(product(1), NO_VALUES)
        elif found.kept < found.pairs:
            whole = product(found.pairs)
            self._hide(whole, whole.flops // found.pairs * (found.pairs - found.kept))

    def _masked(self, name: str, trail: _Trail, args: Any, out: torch.Tensor) -> _Trail:
        if trail.weights:
            return trail
        if name in _ADDED:
            for value in args[:2]:
                if isinstance(value, torch.Tensor) and self._trail(value) is None:
                    trail = self._added(trail, value, out.shape)
        elif name in _FILLED and _reaches_infinity(args[2], out.dtype):
            trail = self._joined(trail, self._hidden(args[1], out.shape, hides=_is_true))
        elif name in _CHOSEN and len(args) == 3:
            condition, *values = args
            for value, hides in zip(values, (_is_true, _is_false), strict=True):
                if not isinstance(value, torch.Tensor) or self._trail(value) is not None:
                    continue
                known = self._constants.value(value)
                if known is None:
                    trail = self._joined(trail, _Hidden(None, out.shape, NO_VALUES))
                elif bool(_is_minus_infinity(known).any()):
                    trail = self._joined(trail, self._hidden(condition, out.shape, hides=hides))
        return trail

    def _added(self, trail: _Trail, mask: Any, shape: torch.Size) -> _Trail:
        if not isinstance(mask, torch.Tensor) or not mask.dtype.is_floating_point:
            return trail
        return self._joined(trail, self._hidden(mask, shape, hides=_is_minus_infinity))

    def _hidden(
        self, mask: torch.Tensor, shape: torch.Size, hides: Callable[[torch.Tensor], torch.Tensor]
    ) -> _Hidden | None:
        values = self._constants.value(mask)
        if values is None:
            return _Hidden(None, shape, NO_VALUES)
        where = hides(values)
        if not bool(where.any()):
            return None
        try:
            where.expand(shape)
        except RuntimeError:
            return _Hidden(None, shape, _RESHAPED)
        return _Hidden(where.detach().clone(), shape)

    @staticmethod
    def _joined(trail: _Trail, more: _Hidden | None) -> _Trail:
        before = trail.hidden
        if more is None or (before is not None and before.where is None):
            return trail
        if before is None or more.where is None:
            return replace(trail, hidden=more)
        if before.shape != more.shape or before.where is None:
            return replace(trail, hidden=_Hidden(None, more.shape, _RESHAPED))
        return replace(trail, hidden=_Hidden(before.where | more.where, more.shape))

    def _settle(self, products: tuple[Product, ...], hidden: _Hidden | None) -> None:
        for each in products:
            if each.settled:
                continue
            each.settled = True
            if hidden is None:
                continue
            if hidden.where is None:
                self._lose(each, hidden.reason)
            elif each.pairs != hidden.shape.numel():
                self._lose(each, _RESHAPED)
            else:
                self._hide(each, each.flops // each.pairs * hidden.pairs)

    def _trail(self, tensor: torch.Tensor) -> _Trail | None:
        storage = _storage(tensor)
        return None if storage is None else self._trails.get(storage)

    def _leave(self, tensor: torch.Tensor, trail: _Trail) -> None:
        storage = _storage(tensor)
        if storage is not None:
            self._trails[storage] = trail


def _storage(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    try:
        return tensor.untyped_storage()
    except NotImplementedError:  # sparse tensors and the like are no scores
        return None


def _is_parameter(tensor: torch.Tensor) -> bool:
    return isinstance(tensor if tensor._base is None else tensor._base, nn.Parameter)


def _is_minus_infinity(mask: torch.Tensor) -> torch.Tensor:
    """Whether softmax makes nothing of each number: minus infinity, or what stands for it in code."""
    if not mask.dtype.is_floating_point:
        return torch.zeros_like(mask, dtype=torch.bool)
    return mask <= _hiding(mask.dtype)


def _is_false(mask: torch.Tensor) -> torch.Tensor:
    return ~mask.bool()


def _is_true(mask: torch.Tensor) -> torch.Tensor:
    return mask.bool()


def _reaches_infinity(value: Any, dtype: torch.dtype) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    return dtype.is_floating_point and value <= _hiding(dtype)


def _hiding(dtype: torch.dtype) -> float:
    # Code fills with -inf, with a dtype's least number, with -1e9; biases by distance (ALiBi) stay far above.
    return max(-1e9, torch.finfo(dtype).min / 2)
