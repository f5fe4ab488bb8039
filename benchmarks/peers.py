"""The counters that are held against the truth, each called as its own documentation says.

Counters that give multiply-adds are doubled. Where one gives both, its multiply-adds are taken: its FLOPs add
elementwise work, which the truths leave out.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from cases.case import Case, Function, loss
from torch import nn

Count = Callable[[Case, bool], "int | None"]
Model = Callable[[nn.Module, tuple[Any, ...]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A counter. ``count(case, backward)`` returns FLOPs, None where the counter says that it does not know.

    ``module`` is what is imported; ``install`` names what pip needs besides torch and fvcore, the counter first.
    Without ``preload`` it is imported anew for each program: it does not work in a copy of its process.
    """

    name: str
    module: str
    count: Count
    backward: bool = False
    install: tuple[str, ...] = ()
    says: str
    preload: bool = True


def _prepared(case: Case, backward: bool) -> Callable[[], None]:
    module, args = case.build()

    def run() -> None:
        with torch.set_grad_enabled(case.grad):
            output = module(*args)
        if backward:
            loss(output).backward()

    return run


def _of_model(counter: Model, scale: int = 1) -> Count:
    """Make a count of a function that takes a module and its arguments, forward only."""

    def count(case: Case, backward: bool) -> int | None:
        module, args = case.build()
        with torch.set_grad_enabled(case.grad):
            found = counter(module, args)
        return None if found is None else round(scale * found)

    return count


def _flopguard(case: Case, backward: bool) -> int | None:
    from pytest_flopguard.backends.dispatch import DispatchFlops
    from pytest_flopguard.formulas.registry import default_registry

    registry = default_registry()
    for op, flops in case.formulas.items():
        registry.op(op)(lambda *operands, flops=flops: flops(*(each.shape for each in operands)))
    run = _prepared(case, backward)
    with DispatchFlops(registry) as engine:
        mark = engine.begin()
        run()
        return engine.end(mark).total


def _flop_counter_mode(case: Case, backward: bool) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    mapping = {_packet(op): _on_shapes(flops) for op, flops in case.formulas.items()}
    run = _prepared(case, backward)
    with FlopCounterMode(display=False, custom_mapping=mapping) as mode:
        run()
    return int(mode.get_total_flops())


def _packet(op: str) -> Any:
    namespace, _, name = op.partition(".")
    return getattr(getattr(torch.ops, namespace), name)


def _on_shapes(flops: Callable[..., int]) -> Callable[..., int]:
    return lambda *shapes, out_shape=None, **_: flops(*shapes)


def _profiler(case: Case, backward: bool) -> int:
    run = _prepared(case, backward)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], with_flops=True) as profile:
        run()
    return int(sum(each.flops for each in profile.key_averages()))


def _fvcore(module: nn.Module, args: tuple[Any, ...]) -> Any:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(module, args)
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()


def _ptflops(module: nn.Module, args: tuple[Any, ...]) -> Any:
    from ptflops import get_model_complexity_info

    # It divides what modules do, and nothing else, by the length of the outermost module's positional input: given
    # keywords it divides by one.
    inputs = {f"x{number}": each for number, each in enumerate(args)}
    macs, _ = get_model_complexity_info(
        Function(module),
        (1,),
        input_constructor=lambda _: inputs,
        as_strings=False,
        print_per_layer_stat=False,
        ost=io.StringIO(),
    )
    if macs is None:
        raise RuntimeError("it gave up on the model")
    return macs


def _thop(module: nn.Module, args: tuple[Any, ...]) -> Any:
    from thop import profile

    return profile(module, inputs=args, verbose=False)[0]


def _torchinfo(module: nn.Module, args: tuple[Any, ...]) -> Any:
    from torchinfo import summary

    return summary(module, input_data=args, verbose=0, mode="train" if module.training else "eval").total_mult_adds


def _calflops(module: nn.Module, args: tuple[Any, ...]) -> Any:
    from calflops import calculate_flops

    # It asks the first parameter for the device; without one it would stop there.
    if next(module.parameters(), None) is None:
        module.register_parameter("device", nn.Parameter(torch.zeros(())))
    return calculate_flops(module, args=list(args), print_results=False, print_detailed=False, output_as_string=False)[
        1
    ]


def _deepspeed(module: nn.Module, args: tuple[Any, ...]) -> Any:
    from deepspeed.profiling.flops_profiler import get_model_profile

    return get_model_profile(module, args=list(args), print_profile=False, detailed=False, warm_up=0, as_string=False)[
        1
    ]


def _torchprofile(module: nn.Module, args: tuple[Any, ...]) -> Any:
    from torchprofile import profile_macs

    return profile_macs(module, args)


def _torchlens(module: nn.Module, args: tuple[Any, ...]) -> Any:
    import torchlens

    return torchlens.trace(module, args).total_macs_forward


PEERS = (
    Peer(name="flopguard", module="pytest_flopguard.backends.dispatch", count=_flopguard, backward=True, says="FLOPs"),
    Peer(
        name="FlopCounterMode", module="torch.utils.flop_counter", count=_flop_counter_mode, backward=True, says="FLOPs"
    ),
    Peer(
        name="torch.profiler",
        module="torch",
        count=_profiler,
        backward=True,
        says="FLOPs, elementwise add and mul among them",
    ),
    Peer(name="fvcore", module="fvcore.nn", count=_of_model(_fvcore, 2), says="multiply-adds, and norms"),
    Peer(
        name="ptflops",
        module="ptflops",
        count=_of_model(_ptflops, 2),
        install=("ptflops==0.7.5",),
        says="multiply-adds; activations, norms and biases count as one each",
    ),
    Peer(
        name="ultralytics-thop",
        module="thop",
        count=_of_model(_thop, 2),
        install=("ultralytics-thop==2.2.3",),
        says="multiply-adds, and norms",
    ),
    Peer(
        name="thop",
        module="thop",
        count=_of_model(_thop, 2),
        install=("thop==0.1.1.post2209072238",),
        says="multiply-adds, and norms",
    ),
    Peer(
        name="torchinfo",
        module="torchinfo",
        count=_of_model(_torchinfo, 2),
        install=("torchinfo==1.8.0",),
        says="multiply-adds, guessed from the parameters of a layer, biases included",
    ),
    Peer(
        name="calflops",
        module="calflops",
        count=_of_model(_calflops, 2),
        install=("calflops==0.3.2", "accelerate", "psutil"),
        says="multiply-adds and FLOPs; backward is forward times a factor that the caller gives",
    ),
    Peer(
        name="deepspeed",
        module="deepspeed.profiling.flops_profiler",
        count=_of_model(_deepspeed, 2),
        install=("deepspeed==0.19.8", "psutil", "py-cpuinfo", "hjson", "msgpack", "ninja", "einops"),
        says="multiply-adds and FLOPs",
    ),
    Peer(
        name="torchprofile",
        module="torchprofile",
        count=_of_model(_torchprofile, 2),
        install=("torchprofile==0.1.0",),
        says="multiply-adds",
    ),
    Peer(
        name="torchlens",
        module="torchlens.user_funcs",
        count=_of_model(_torchlens, 2),
        install=("torchlens==2.36.1", "graphviz"),
        preload=False,
        says="multiply-adds and FLOPs; tells the ops that it does not know; backward is an estimate by op",
    ),
)
