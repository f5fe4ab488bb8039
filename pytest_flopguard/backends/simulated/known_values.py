"""Real values of small simulated tensors, so that masks, lengths and indices decide what they decide on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from pytest_flopguard.backends.constant_tensors import reading_values, tensors
from pytest_flopguard.backends.torch_api.dispatch import OpOverload, schema_of
from pytest_flopguard.backends.torch_api.fake import FakeTensor

# Masks, position ids and labels fit; activations do not, nor does anything whose values nobody decides by.
_MOST_BYTES = 2**22
_MOST_FLOATS = 2**16
_MOST_RANDOM = 16  # floats; what decides by more of them decides otherwise on a GPU
_VALUE = "_flopguard_value"
# What an op writes over need not be known before.
_OVERWRITES = {"fill_", "zero_", "copy_", "random_", "uniform_", "normal_"}
# What these return is whatever was in memory.
_UNWRITTEN = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted", "resize_"}
# What these take of their first operand is its shape and its type.
_BY_SHAPE = {
    *("ones_like", "zeros_like", "full_like", "rand_like", "randn_like", "randint_like"),
    *("new_zeros", "new_ones", "new_full"),
}
# What one operand decides alone if it is that throughout.
_DECIDED_BY = {"bitwise_or": True, "logical_or": True, "bitwise_and": False, "logical_and": False}


class Unknown(Exception):
    """An operand whose values nobody knows."""


class KnownOp:
    """What an op's schema tells of values: where it writes, whether its results have any."""

    __slots__ = ("by_shape", "decided_by", "draws", "overwrites", "unwritten", "writes")

    def __init__(self, func: OpOverload) -> None:
        space, _, name = schema_of(func).name.partition("::")
        self.by_shape = name in _BY_SHAPE
        self.decided_by = _DECIDED_BY.get(name.removesuffix("_"))
        self.draws = torch.Tag.nondeterministic_seeded in func.tags
        self.overwrites = name in _OVERWRITES
        self.unwritten = name in _UNWRITTEN or space != "aten"
        self.writes = tuple(
            (at, each.name)
            for at, each in enumerate(schema_of(func).arguments)
            if each.alias_info is not None and each.alias_info.is_write
        )

    def written(self, args: Any, kwargs: Any) -> Iterator[torch.Tensor]:
        """Yield the tensors that a call writes to."""
        for at, name in self.writes:
            yield from tensors((args[at] if at < len(args) else kwargs.get(name),))


def value(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return a CPU tensor with the same values, None where these are not known."""
    if not isinstance(tensor, FakeTensor):
        return tensor if tensor.device.type == "cpu" and type(tensor) in (torch.Tensor, torch.nn.Parameter) else None
    known: torch.Tensor | None = tensor.__dict__.get(_VALUE)
    # What shares the storage of a value goes stale with it.
    return None if known is None or _VALUE in known.untyped_storage().__dict__ else known


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """Do a call with values instead of simulated tensors. Raises Unknown where an operand has none."""
    given = {name: _real(each) for name, each in kwargs.items() if name != "pin_memory"}
    real = [_real(each) for each in args]
    draws = torch.Tag.nondeterministic_seeded in func.tags and given.get("generator") is None
    with reading_values(), _drawing(args, kwargs) if draws else nullcontext():
        return func(*real, **given)


@contextmanager
def _drawing(args: Any, kwargs: Any) -> Iterator[None]:
    """Let random numbers of the GPU be those of its own generator, and leave the CPU's where it was."""
    device = kwargs.get("device") or next((each.device for each in tensors(args)), None)
    if device is None or torch.device(device).type != "cuda":
        yield
        return
    before = torch.default_generator.get_state()
    default: Any = torch.cuda.default_generators[0]
    torch.default_generator.set_state(default.inside)
    try:
        yield
    finally:
        default.inside = torch.default_generator.get_state()
        torch.default_generator.set_state(before)


def follow(op: KnownOp, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Give the results of a call that has just returned their values, and forget what it has made unknown."""
    if op.writes:
        _follow_write(op, func, args, kwargs)
    elif op.unwritten:
        return
    elif isinstance(out, FakeTensor):  # by far the most frequent, and most often too large
        if _is_small(op, out):
            if op.by_shape:
                args, kwargs = _shaped(args, kwargs, out)
            if not _keep((out,), func, args, kwargs) and op.decided_by is not None and _decided(op, out, args):
                with reading_values():
                    out.__dict__[_VALUE] = torch.full(out.shape, op.decided_by, dtype=out.dtype)
    else:
        results = tuple(tensors((out,)))
        if results and all(_is_small(op, each) for each in results):
            _keep(results, func, args, kwargs)


def _shaped(args: Any, kwargs: Any, out: FakeTensor) -> tuple[Any, Any]:
    with reading_values():
        like = torch.empty_strided(out.shape, out.stride(), dtype=args[0].dtype)
    return (like, *args[1:]), {**kwargs, "device": out.device}


def _keep(results: tuple[torch.Tensor, ...], func: Any, args: Any, kwargs: Any) -> bool:
    try:
        found = run(func, args, kwargs)
    except (Unknown, RuntimeError, NotImplementedError, TypeError, ValueError):
        return False  # no kernel for it on the CPU, or none for these dtypes: its values stay unknown
    for tensor, known in zip(results, tensors((found,)), strict=False):
        if isinstance(tensor, FakeTensor) and tensor.shape == known.shape and tensor.dtype == known.dtype:
            tensor.__dict__[_VALUE] = known
    return True


def _decided(op: KnownOp, out: torch.Tensor, args: Any) -> bool:
    known = [value(each) for each in tensors(args)]
    with reading_values():
        throughout = any(each is not None and bool(each.bool().eq(bool(op.decided_by)).all()) for each in known)
    # Bits that are set in one number decide nothing of another's.
    return throughout and (op.decided_by is False or out.dtype is torch.bool)


def _follow_write(op: KnownOp, func: Any, args: Any, kwargs: Any) -> None:
    targets = list(op.written(args, kwargs))
    known = [value(each) for each in targets]
    small = (op.overwrites or op.draws) and all(_is_small(op, each) for each in targets)
    if not any(each is not None for each in known) and not (op.overwrites and small):
        return
    if op.overwrites and known == [None] and not op.unwritten:
        target = targets[0]
        if target.numel() * target.element_size() != target.untyped_storage().nbytes():
            return  # it writes to a part of something that is not known
        with reading_values():
            target.__dict__[_VALUE] = torch.empty_strided(target.shape, target.stride(), dtype=target.dtype)
    decided = known[0] if op.decided_by is not None and _decided(op, targets[0], args) else None
    try:
        if op.draws and not small:
            raise Unknown
        run(func, args, kwargs)
    except (Unknown, RuntimeError, NotImplementedError, TypeError, ValueError):
        if decided is not None:
            with reading_values():
                decided.fill_(bool(op.decided_by))
            return
        for tensor in targets:
            stale = value(tensor)
            if stale is not None:
                stale.untyped_storage().__dict__[_VALUE] = None


def _is_small(op: KnownOp, tensor: torch.Tensor) -> bool:
    measures = tensor.dtype.is_floating_point or tensor.dtype.is_complex
    if measures:
        return tensor.numel() <= (_MOST_RANDOM if op.draws else _MOST_FLOATS)
    return tensor.numel() * tensor.element_size() <= _MOST_BYTES


def _real(given: Any) -> Any:
    if isinstance(given, torch.Tensor):
        known = value(given)
        if known is None or known.nbytes > _MOST_BYTES:
            raise Unknown
        return known
    if isinstance(given, (list, tuple)):
        return type(given)(map(_real, given)) if type(given) in (list, tuple) else given
    return torch.device("cpu") if isinstance(given, torch.device) else given
