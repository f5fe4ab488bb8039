"""Single operations, each by itself: what their kernels take beside their results.

Each runs twice to warm up and once to be measured; its allocations and frees tell the hidden buffers and their sizes.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ground_truth.worlds import World
from pytest_flopguard.backends.simulated.history import Event

Operation = Callable[[], object]
Calibration = tuple[str, Callable[[], Operation]]
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
DTYPES = {"bf16": BF16, "fp16": FP16, "fp32": FP32}
KERNELS = {
    "chosen": None,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
MILLION = 1 << 20


def measured(group: str, world: World) -> dict[str, dict[str, Any]]:
    """Measure every operation of a group, in a world that runs; an operation that fails tells its error."""
    found: dict[str, dict[str, Any]] = {}
    for name, make in GROUPS[group]():
        try:
            found[name] = one(make, world)
        except Exception as error:  # noqa: BLE001 - a kernel may refuse in any way, and the file says so
            found[name] = {"error": f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"}
        gc.collect()
        torch.cuda.empty_cache()
    return found


def one(make: Callable[[], Operation], world: World) -> dict[str, Any]:
    """Measure one operation: bytes above what was there before, and its allocations (+) and frees (-) in order."""
    run = make()
    run()
    run()
    gc.collect()
    before, seen = torch.cuda.memory_stats(), len(world.events())
    torch.cuda.reset_peak_memory_stats()
    run()
    after = torch.cuda.memory_stats()
    names = {"allocated": "allocated_bytes.all", "requested": "requested_bytes.all"}
    extra = {name: after[f"{key}.peak"] - before[f"{key}.current"] for name, key in names.items()}
    return {**extra, "events": signed(world.events()[seen:])}


def signed(events: list[Event]) -> list[int]:
    """Return allocations as bytes asked for, and frees as the same below zero."""
    sign = {"alloc": 1, "free_completed": -1}
    return [sign[action] * size for action, _, size, _ in events if action in sign]


def random(*shape: int, dtype: torch.dtype = FP32, grad: bool = True) -> torch.Tensor:
    """Random values on the device."""
    return torch.randn(*shape, device="cuda", dtype=dtype).requires_grad_(grad)


def back(module: Callable[..., Any], *inputs: torch.Tensor) -> Operation:
    """Forward, and backward with a gradient of ones; gradients are dropped."""
    owned = list(module.parameters()) if isinstance(module, nn.Module) else []

    def run() -> None:
        out = module(*inputs)
        out = out[0] if isinstance(out, tuple) else out
        out.backward(torch.ones_like(out))
        for each in (*inputs, *owned):
            each.grad = None

    return run


def attention() -> Iterator[Calibration]:
    """Every kernel by length; then grouped heads, masks, dropout and head widths."""

    def make(
        kernel: str, dtype: str, heads: int, length: int, width: int,
        *, shared: int | None = None, mask: bool = False, **options: Any,
    ) -> Operation:  # fmt: skip
        kind = DTYPES[dtype]
        query = random(2, heads, length, width, dtype=kind)
        key, value = (random(2, shared or heads, length, width, dtype=kind) for _ in range(2))
        bias = torch.zeros(2, 1, length, length, device="cuda", dtype=kind) if mask else None
        chosen = KERNELS[kernel]

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            with contextlib.nullcontext() if chosen is None else sdpa_kernel(chosen):
                return F.scaled_dot_product_attention(
                    query, key, value, attn_mask=bias, is_causal=not mask, enable_gqa=shared is not None, **options
                )

        return back(attend, query, key, value)

    for length in (256, 1000, 1024, 2048, 4096):
        for kernel in ("chosen", "flash", "efficient", "cudnn"):
            yield f"attention {kernel} bf16 16x64 T{length}", partial(make, kernel, "bf16", 16, length, 64)
    for kernel in ("chosen", "flash", "efficient", "cudnn", "math"):
        yield f"attention {kernel} bf16 32/8x128 T2048", partial(make, kernel, "bf16", 32, 2048, 128, shared=8)
    for width in (40, 64, 80, 96, 128, 192, 256):
        yield f"attention chosen bf16 8x{width} T1024", partial(make, "chosen", "bf16", 8, 1024, width)
    for dtype in DTYPES:
        yield f"attention chosen {dtype} 16x64 T1024", partial(make, "chosen", dtype, 16, 1024, 64)
        yield f"attention chosen {dtype} 16x64 mask", partial(make, "chosen", dtype, 16, 1024, 64, mask=True)
        yield f"attention chosen {dtype} 16x64 dropout", partial(make, "chosen", dtype, 16, 1024, 64, dropout_p=0.1)
    yield "attention chosen bf16 16x64 dropout 1/8", partial(make, "chosen", "bf16", 16, 1024, 64, dropout_p=0.125)


def convolution() -> Iterator[Calibration]:
    """Convolutions of well-known nets, by dtype and layout."""
    sizes = (
        (3, 64, 7, 2, 224, 32), (64, 64, 3, 1, 56, 32), (64, 256, 1, 1, 56, 32), (256, 64, 1, 1, 56, 32),
        (128, 128, 3, 2, 56, 32), (512, 512, 3, 1, 7, 32), (64, 64, 3, 1, 56, 1), (64, 64, 3, 1, 256, 4),
        (512, 1024, 3, 1, 32, 4), (4, 768, 2, 2, 32, 32),
    )  # fmt: skip

    def make(kind: type[nn.Module], shape: tuple[int, ...], dtype: str, last: bool, **options: Any) -> Operation:
        before, after, kernel, stride, size, batch = shape
        layer = kind(before, after, kernel, stride, device="cuda", dtype=DTYPES[dtype], **options)
        x = torch.randn(batch, before, size, size, device="cuda", dtype=DTYPES[dtype])
        if last:
            layer, x = layer.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        return back(layer, x.requires_grad_())

    for shape in sizes:
        label = "-".join(map(str, shape))
        for dtype in ("fp32", "bf16", "fp16"):
            for last in (False, True):
                padded = partial(make, nn.Conv2d, shape, dtype, last, padding=shape[2] // 2 if shape[2] % 2 else 0)
                yield f"conv {label} {dtype} {'nhwc' if last else 'nchw'}", padded
    yield (
        "conv depthwise 256-256-3-1-56-32 fp32",
        partial(make, nn.Conv2d, (256, 256, 3, 1, 56, 32), "fp32", False, groups=256, padding=1),
    )
    yield (
        "conv transposed 512-256-2-2-32-4 fp32",
        partial(make, nn.ConvTranspose2d, (512, 256, 2, 2, 32, 4), "fp32", False),
    )


def layers() -> Iterator[Calibration]:
    """Lookups, norms, products, recurrent layers, pooling and losses."""

    def lookup(count: int) -> Operation:
        table, ids = nn.Embedding(50257, 768, device="cuda"), torch.randint(0, 50257, (count,), device="cuda")

        def run() -> None:
            out = table(ids)
            out.backward(torch.ones_like(out))
            table.weight.grad = None

        return run

    def indexed(count: int) -> Operation:
        weight, ids = random(10000, 256), torch.randint(0, 10000, (count,), device="cuda")
        return back(lambda each: each[ids], weight)

    def crossed(rows: int, classes: int, dtype: torch.dtype) -> Operation:
        target = torch.randint(0, classes, (rows,), device="cuda")
        return back(lambda each: F.cross_entropy(each, target), random(rows, classes, dtype=dtype))

    for count in (512, 3072, 3073, 4096, 8192, 32768):
        yield f"embedding backward {count}", partial(lookup, count)
    for count in (1024, 4096, 16384):
        yield f"index_put accumulate {count}", partial(indexed, count)
    for rows in (1024, 8192):
        for name, dtype in DTYPES.items():
            x = partial(random, rows, 768, dtype=dtype)
            on = {"device": "cuda", "dtype": dtype}
            yield f"layer norm {rows}x768 {name}", lambda x=x, on=on: back(nn.LayerNorm(768, **on), x())
            yield f"rms norm {rows}x768 {name}", lambda x=x, on=on: back(nn.RMSNorm(768, **on), x())
            yield f"linear {rows}x768x3072 {name}", lambda x=x, on=on: back(nn.Linear(768, 3072, **on), x())
        yield f"cross entropy {rows}x32000 fp32", partial(crossed, rows, 32000, FP32)
    yield "cross entropy 4096x50257 bf16", partial(crossed, 4096, 50257, BF16)
    for last in (False, True):
        at = {"memory_format": torch.channels_last if last else torch.contiguous_format}
        image = lambda at=at: torch.randn(32, 64, 56, 56, device="cuda").to(**at).requires_grad_()  # noqa: E731
        side = "nhwc" if last else "nchw"
        yield f"batch norm {side}", lambda x=image: back(nn.BatchNorm2d(64, device="cuda"), x())
        yield f"group norm {side}", lambda x=image: back(nn.GroupNorm(32, 64, device="cuda"), x())
        yield f"max pool {side}", lambda x=image: back(nn.MaxPool2d(3, 2, 1), x())
        yield (
            f"interpolate bilinear {side}",
            lambda x=image: back(lambda each: F.interpolate(each, scale_factor=2, mode="bilinear"), x()),
        )
    rows = partial(random, 64, 32, 256)
    yield "lstm 256-512 2 layers", lambda: back(nn.LSTM(256, 512, 2, device="cuda"), rows())
    yield "lstm bidirectional", lambda: back(nn.LSTM(256, 256, bidirectional=True, device="cuda"), rows())
    yield "lstm bf16", lambda: back(nn.LSTM(256, 512, device="cuda", dtype=BF16), random(64, 32, 256, dtype=BF16))
    yield "gru 256-512", lambda: back(nn.GRU(256, 512, device="cuda"), rows())
    yield "rnn 256-512", lambda: back(nn.RNN(256, 512, device="cuda"), rows())
    yield (
        "bmm odd strides",
        lambda: partial(
            torch.bmm,
            random(8, 1, 64, grad=False).expand(8, 128, 64),
            random(8, 128, 64, grad=False).transpose(1, 2)[:, :, ::2],
        ),
    )
    yield (
        "mm odd strides",
        lambda: partial(torch.mm, random(512, 1024, grad=False)[:, ::2], random(512, 64, grad=False)),
    )


def reductions() -> Iterator[Calibration]:
    """Sorts, scans, searches and reductions of a million values, and of rows and columns."""
    whole: dict[str, Callable[[torch.Tensor], object]] = {
        "sort": lambda x: x.sort(), "argsort stable": lambda x: x.argsort(stable=True), "topk": lambda x: x.topk(100),
        "cumsum": lambda x: x.cumsum(0), "nonzero": lambda x: (x > 0).nonzero(), "masked": lambda x: x[x > 0],
        "unique": lambda x: (x * 100).int().unique(), "kthvalue": lambda x: x.kthvalue(5),
        "median": lambda x: x.median(), "histc": lambda x: x.histc(100), "sum": lambda x: x.sum(),
        "mean": lambda x: x.mean(), "max": lambda x: x.max(), "argmax": lambda x: x.argmax(),
        "var": lambda x: x.var(), "norm": lambda x: x.norm(), "prod": lambda x: x.prod(),
        "any": lambda x: (x > 0).any(), "logsumexp": lambda x: x.logsumexp(0),
        "multinomial": lambda x: torch.multinomial(x.abs()[:10000], 1),
        "randperm": lambda x: torch.randperm(x.numel(), device="cuda"),
    }  # fmt: skip
    for name, operation in whole.items():
        yield f"{name} 1M", lambda operation=operation: partial(operation, random(MILLION, grad=False))
    along: dict[str, Callable[[torch.Tensor, int], object]] = {
        "sum": torch.sum, "max": torch.max, "amax": torch.amax, "var": torch.var, "mean": torch.mean,
        "argmax": torch.argmax, "cumsum": torch.cumsum, "softmax": torch.softmax,
        "sort": torch.sort, "norm": lambda x, dim: x.norm(dim=dim),
    }  # fmt: skip
    for shape in ((8192, 3072), (64, 100_000), (100_000, 64)):
        for dim in (0, 1):
            for name, across in along.items():
                for label in ("fp32", "bf16") if name in ("sum", "max", "mean") else ("fp32",):
                    x = partial(random, *shape, dtype=DTYPES[label], grad=False)
                    yield (
                        f"{name} dim {dim} of {shape[0]}x{shape[1]} {label}",
                        lambda across=across, x=x, dim=dim: partial(across, x(), dim),
                    )


def optimizers() -> Iterator[Calibration]:
    """Steps of torch's optimizers on twenty million parameters, and what goes with them."""

    def parameters() -> list[nn.Parameter]:
        made = [nn.Parameter(torch.randn(1000, 1000, device="cuda")) for _ in range(20)]
        for each in made:
            each.grad = torch.randn_like(each)
        return made

    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "sgd": (torch.optim.SGD, {}), "sgd momentum": (torch.optim.SGD, {"momentum": 0.9}),
        "adam": (torch.optim.Adam, {}), "adam amsgrad": (torch.optim.Adam, {"amsgrad": True}),
        "adamw": (torch.optim.AdamW, {}), "adagrad": (torch.optim.Adagrad, {}),
    }  # fmt: skip
    for name, (kind, options) in kinds.items():
        for way in ({"foreach": True}, {"foreach": False}, {"fused": True}):
            label = " ".join(f"{key}={value}" for key, value in way.items())
            yield f"{name} {label}", lambda kind=kind, way={**options, **way}: kind(parameters(), **way).step
    for name, kind in {"rmsprop": torch.optim.RMSprop, "adafactor": torch.optim.Adafactor}.items():
        yield name, lambda kind=kind: kind(parameters()).step
    yield "clip_grad_norm_", lambda: partial(nn.utils.clip_grad_norm_, parameters(), 1.0)
    yield "clip_grad_value_", lambda: partial(nn.utils.clip_grad_value_, parameters(), 1.0)


GROUPS: dict[str, Callable[[], Iterator[Calibration]]] = {
    "attention": attention,
    "convolution": convolution,
    "layers": layers,
    "reductions": reductions,
    "optimizers": optimizers,
}
