"""Results of op calls on fake tensors, made without asking torch where the same call has been seen before.

A training step makes the same few calls for each of its layers. The mode of fake tensors remembers results too, but
most of a simulated step goes into its description of the arguments and into its making of tensors. Here both are short:
a call is the same where the op, its plain arguments and everything that tensors without data have are the same.
"""

from __future__ import annotations

from typing import Any

import torch

from pytest_flopguard.backends.torch_api.dispatch import COMPOSITE, OpOverload, dispatch_keys, has_kernel, schema_of
from pytest_flopguard.backends.torch_api.fake import FakeTensor, FakeTensorMode
from pytest_flopguard.backends.torch_api.tensors import address_of, make_subclass, refuse_data_pointer

Key = tuple[Any, ...]
NEW = object()  # a call that nobody has seen

# Calls that a process remembers; each takes about a kilobyte.
_MOST = 2**14
_META = torch.device("meta")
_PLAIN = {int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format}
# What these return follows from values, or they change the shape of what they are given.
_ASKED_TAGS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.inplace_view}
# These may or may not share the memory of their argument.
_ASKED_NAMES = {"aten::lift", "aten::lift_fresh", "aten::lift_fresh_copy"}
_UNSAFE_VIEW = torch.ops.aten._unsafe_view.default  # a view, though its schema does not say so


class _New:
    """How a tensor is made anew, with memory of its own or as a view of the only argument's."""

    __slots__ = ("device", "dtype", "is_view", "offset", "shape", "stride")

    def __init__(self, tensor: FakeTensor, is_view: bool) -> None:
        self.shape = tuple(tensor.shape)
        self.stride = tensor.stride()
        self.offset = tensor.storage_offset()
        self.dtype = tensor.dtype
        self.device = tensor.fake_device
        self.is_view = is_view


_Part = _New | tuple[Any] | int


class Results:
    """How the results of a call are made: anew, as a plain value in a tuple, or as the tensor at a place."""

    __slots__ = ("kind", "parts")

    def __init__(self, kind: type | None, parts: tuple[_Part, ...]) -> None:
        self.kind = kind  # list, tuple, or None for a single result and for none
        self.parts = parts


# Shared by all modes: results depend on no mode. None stands for what has to be asked each time.
_results: dict[Key, Results | None] = {}
_asked: dict[Any, bool] = {}
_has_strides: dict[int, bool] = {}


class RepeatedCalls:
    """The calls that reach one mode of fake tensors."""

    def __init__(self, mode: FakeTensorMode) -> None:
        self._mode = mode
        self._attributes: dict[torch.device, dict[str, Any]] = {}

    def key(self, func: Any, args: Any, kwargs: Any) -> tuple[Key, list[FakeTensor]] | None:
        """Return what tells a call from all others, and the tensors in it; None where torch must be asked."""
        if _asked[func] if func in _asked else _is_asked(func):
            return None
        key: list[Any] = [func, torch.get_default_dtype(), torch.is_inference_mode_enabled()]
        tensors: list[FakeTensor] = []
        if not self._describe(args, key, tensors):
            return None
        for name, value in kwargs.items():
            key.append(name)
            if not self._describe((value,), key, tensors):
                return None
        return (tuple(key), tensors) if tensors else None

    def _describe(self, args: Any, key: list[Any], tensors: list[FakeTensor]) -> bool:
        for each in args:
            kind = type(each)
            if kind is FakeTensor:
                if each.constant is not None or each.fake_mode is not self._mode:
                    return False
                keys = dispatch_keys(each).raw_repr()  # whether it is conjugated, made for inference and the like
                if not (_has_strides[keys] if keys in _has_strides else _strided(each, keys)):
                    return False
                tensors.append(each)
                key += (keys, each.shape, each.stride(), each.storage_offset(), each.untyped_storage().nbytes(),
                        each.dtype, each.fake_device, each.requires_grad)  # fmt: skip
            elif kind in _PLAIN:
                key += (kind, each)  # the kind too: 1 and 1.0 are equal, and make other results
            elif kind is list or kind is tuple:
                key += (kind, len(each))
                if not self._describe(each, key, tensors):
                    return False
            else:
                return False
        return True

    def make(self, results: Results, tensors: list[FakeTensor]) -> Any:
        """Make the results of a call with these tensors."""
        made = [self._part(each, tensors) for each in results.parts]
        if results.kind is None:
            return made[0] if made else None
        return results.kind(made)

    def _part(self, part: _Part, tensors: list[FakeTensor]) -> Any:
        if isinstance(part, _New):
            return self._made(part, tensors)
        return tensors[part] if isinstance(part, int) else part[0]

    def _made(self, new: _New, tensors: list[FakeTensor]) -> FakeTensor:
        if new.is_view:
            inside = torch.empty_strided((0,), (1,), dtype=new.dtype, device=_META)
            inside.set_(tensors[0].untyped_storage(), new.offset, new.shape, new.stride)
        else:
            inside = torch.empty_strided(new.shape, new.stride, dtype=new.dtype, device=_META)
        attributes = self._attributes.get(new.device)
        if attributes is None:
            attributes = self._attributes[new.device] = dict(FakeTensor(self._mode, inside, new.device).__dict__)
        # As FakeTensor makes one of itself, less what it works out from the device each time.
        made: FakeTensor = make_subclass(
            FakeTensor, inside, False, dispatch_device=True, device_for_backend_keys=new.device
        )
        refuse_data_pointer(made)
        made.__dict__.update(attributes)
        return made

    def learn(self, key: Key, func: Any, args: Any, kwargs: Any, tensors: list[FakeTensor], out: Any) -> None:
        """Remember how the results of a call are made, where they can be made again and come out the same."""
        results = _parts(func, tensors, out)
        if results is NEW:
            return
        if results is not None:
            now = self.key(func, args, kwargs)
            if now is None or now[0] != key or not _same(self.make(results, tensors), out):
                results = None  # the call has changed an argument, or its result has more than is remembered
        if len(_results) >= _MOST:
            _results.clear()
        _results[key] = results


def known(key: Key) -> Any:
    """Return the Results of a call, None where torch has to be asked for them, NEW for one that nobody has seen."""
    return _results.get(key, NEW)


def _is_asked(func: Any) -> bool:
    _asked[func] = (
        not isinstance(func, OpOverload)
        or func.namespace != "aten"
        or schema_of(func).name in _ASKED_NAMES
        or not _ASKED_TAGS.isdisjoint(func.tags)
        or (func.is_view and has_kernel(func.name(), COMPOSITE))
    )
    return _asked[func]


def _strided(tensor: FakeTensor, keys: int) -> bool:
    _has_strides[keys] = tensor.layout is torch.strided and not (tensor.is_quantized or tensor.is_nested)
    return _has_strides[keys]


def _parts(func: Any, tensors: list[FakeTensor], out: Any) -> Any:
    """Describe results: None where they cannot be made again, NEW where this call does not tell how."""
    # A tuple with names becomes a plain one: what the caller gets is made anew from it.
    kind = list if isinstance(out, list) else tuple if isinstance(out, tuple) else None
    parts: list[_Part] = []
    memory = {address_of(each.untyped_storage()) for each in tensors}
    for each in () if out is None else (out,) if kind is None else out:
        places = [at for at, tensor in enumerate(tensors) if tensor is each]
        if len(places) > 1:
            return NEW  # x.add_(x): which of the two is given back?
        if places:
            parts.append(places[0])
            continue
        if type(each) in _PLAIN:
            parts.append((each,))
            continue
        if type(each) is not FakeTensor or each.requires_grad or each.constant is not None:
            return None
        if not _strided(each, dispatch_keys(each).raw_repr()):
            return None
        shared = address_of(each.untyped_storage()) in memory
        if shared and not ((func.is_view or func is _UNSAFE_VIEW) and len(tensors) == 1):
            return None
        if not shared:
            memory.add(address_of(each.untyped_storage()))  # two results in one memory are not remembered
        parts.append(_New(each, shared))
    return Results(kind, tuple(parts))


def _same(made: Any, out: Any) -> bool:
    if isinstance(out, (tuple, list)):
        return len(made) == len(out) and all(map(_same, made, out))
    if made is out:
        return True
    if type(out) in _PLAIN:
        return bool(made == out)
    return (
        type(made) is type(out)
        and (made.shape, made.stride(), made.storage_offset()) == (out.shape, out.stride(), out.storage_offset())
        and made.untyped_storage().nbytes() == out.untyped_storage().nbytes()
        and made.dtype is out.dtype
        and dispatch_keys(made).raw_repr() == dispatch_keys(out).raw_repr()
        and made.__dict__ == out.__dict__
    )
