"""Programs in which work hides: done again, done inside a function, done by a transform, shared, or not recorded."""

# A case says what it is by its name.
# ruff: noqa: D103

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from cases.case import Function, Program, case, rand

# Two layers, [M, K] to N and back.
M, K, N = 16, 32, 64
LAYER = 2 * M * K * N


def two_layers() -> nn.Sequential:
    """An MLP of 2 * LAYER FLOPs."""
    return nn.Sequential(nn.Linear(K, N), nn.ReLU(), nn.Linear(N, K))


# Once more the whole forward, then twice as much for the gradients.
@case("checkpoint, reentrant", 2 * LAYER, 2 * LAYER + 4 * LAYER)
def checkpoint_reentrant() -> Program:
    model = two_layers()
    return Function(lambda x: checkpoint(model, x, use_reentrant=True), model), (rand(M, K),)


# The forward is done again up to the last tensor that backward needs: the second layer's input.
@case("checkpoint, non-reentrant", 2 * LAYER, LAYER + 4 * LAYER)
def checkpoint_early_stop() -> Program:
    model = two_layers()
    return Function(lambda x: checkpoint(model, x, use_reentrant=False), model), (rand(M, K),)


class Product(torch.autograd.Function):
    """A product with its own backward."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """[M, K] @ [K, N]."""
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Two products."""
        x, w = ctx.saved_tensors
        return grad @ w.t(), x.t() @ grad


@case("autograd.Function", LAYER)
def custom_function() -> Program:
    return Function(lambda x, w: Product.apply(x, w)), (rand(M, K), rand(K, N))


@torch.library.custom_op("bakeoff::product", mutates_args=())
def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiply as a custom kernel would: its inside is not seen."""
    return a @ b


def _keep(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = ctx.saved_tensors
    return product(grad, b.t()), product(a.t(), grad)


product.register_autograd(_gradients, setup_context=_keep)


@case("custom op, no formula", LAYER)
def custom_op() -> Program:
    return Function(lambda a, b: torch.ops.bakeoff.product(a, b)), (rand(M, K), rand(K, N))


def product_flops(a: tuple[int, int], b: tuple[int, int]) -> int:
    """[M, K] @ [K, N]: 2 * M * K * N."""
    return 2 * a[0] * a[1] * b[1]


@case("custom op, with a formula", LAYER, formulas={"bakeoff.product": product_flops})
def custom_op_with_formula() -> Program:
    return Function(lambda a, b: torch.ops.bakeoff.product(a, b)), (rand(M, K), rand(K, N))


@case("one module called three times", 3 * (2 * M * K * K))
def shared_module() -> Program:
    layer = nn.Linear(K, K)
    return Function(lambda x: layer(layer(layer(x))), layer), (rand(M, K),)


# The lookup is free; the output projection multiplies by the same matrix.
@case("tied embedding", 2 * M * K * 100)
def tied_weights() -> Program:
    table = nn.Embedding(100, K)
    return Function(lambda tokens: F.linear(table(tokens), table.weight), table), (torch.arange(M),)


# The teacher's layer has no backward.
@case("teacher under no_grad", 2 * LAYER, 2 * LAYER)
def teacher() -> Program:
    taught, frozen = nn.Linear(K, N), nn.Linear(K, N)

    def run(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = frozen(x)
        return taught(x) - target

    return Function(run, taught, frozen), (rand(M, K),)


@case("bare parameter, x @ self.w", LAYER)
def bare_parameter() -> Program:
    class Projection(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(K, N))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.w

    return Projection(), (rand(M, K),)


@case("torch.func.functional_call", LAYER)
def functional_call() -> Program:
    layer = nn.Linear(K, N)
    run = Function(lambda x, w: torch.func.functional_call(layer, {"weight": w}, (x,)), layer)
    return run, (rand(M, K), rand(N, K))


# The value and its derivative along one direction of x. For w, torch multiplies by a tangent of zeros as well.
@case("torch.func.jvp", 3 * LAYER, only_forward=True)
def forward_mode() -> Program:
    w = torch.randn(K, N)
    return Function(lambda x, along: torch.func.jvp(lambda x: x @ w, (x,), (along,))[1]), (
        rand(M, K, grad=False),
        rand(M, K, grad=False),
    )


# Each of 3 samples of M rows: the product, and the gradient of its weight.
@case("torch.func.vmap of grad", 3 * (LAYER + LAYER), only_forward=True)
def per_sample_gradients() -> Program:
    def sample_loss(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return (x @ w).pow(2).sum()

    each = torch.func.vmap(torch.func.grad(sample_loss), in_dims=(None, 0))
    return Function(lambda w, x: each(w, x)), (rand(K, N, grad=False), rand(3, M, K, grad=False))


# f = x w; the gradient of f^2 is (2 f) w'. Backward goes through both products: each has two gradients.
@case("gradient penalty (double backward)", 2 * LAYER, 4 * LAYER)
def double_backward() -> Program:
    def run(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            return torch.autograd.grad((x @ w).pow(2).sum(), x, create_graph=True)[0]

    return Function(run), (rand(M, K), rand(K, N))


@case("torch.compile", 2 * LAYER)
def compiled() -> Program:
    model = two_layers()
    call = torch.compile(model, backend="aot_eager")
    return Function(lambda x: call(x), model), (rand(M, K),)


@case("torch.export, module()", 2 * LAYER)
def exported() -> Program:
    x = rand(M, K)
    return torch.export.export(two_layers(), (x,)).module(), (x,)


@case("jit.trace", 2 * LAYER)
def traced() -> Program:
    x = rand(M, K)
    return torch.jit.trace(two_layers(), (x,)), (x,)


# Nested rows of 5 and 11: 16 in all.
@case("nn.Linear on a nested tensor", 2 * (5 + 11) * K * N)
def nested() -> Program:
    layer = nn.Linear(K, N)

    def run(short: torch.Tensor, long: torch.Tensor) -> torch.Tensor:
        return layer(torch.nested.as_nested_tensor([short, long], layout=torch.jagged)).values()

    return Function(run, layer), (rand(5, K), rand(11, K))


# The factor of a [24, 24] matrix takes n^3 / 3, each of the two triangular solves for one column n^2.
@case("cholesky and two triangular solves", 24**3 // 3 + 2 * 24**2, only_forward=True)
def linear_algebra() -> Program:
    a = torch.eye(24) * 2

    def run(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.cholesky_solve(b, torch.linalg.cholesky(a))

    return Function(run), (a, torch.ones(24, 1))
