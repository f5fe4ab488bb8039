"""Matrix products in the forms in which programs write them."""

# A case says what it is by its name.
# ruff: noqa: D103

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from cases.case import Function, Program, case, rand

# [M, K] @ [K, N], or B of them.
B, M, K, N = 4, 16, 32, 24
PRODUCT = 2 * M * K * N


@case("nn.Linear", PRODUCT)
def linear() -> Program:
    return nn.Linear(K, N), (rand(M, K),)


@case("nn.Linear, 3-D input", B * PRODUCT)
def linear_3d() -> Program:
    return nn.Linear(K, N, bias=False), (rand(B, M, K),)


# Of the two gradients, only the weight's is asked for.
@case("nn.Linear, input without gradient", PRODUCT, PRODUCT)
def linear_first_layer() -> Program:
    return nn.Linear(K, N), (rand(M, K, grad=False),)


# Of the two gradients, only the input's is asked for.
@case("nn.Linear, frozen", PRODUCT, PRODUCT)
def linear_frozen() -> Program:
    return nn.Linear(K, N).requires_grad_(False), (rand(M, K),)


@case("F.linear", PRODUCT)
def functional_linear() -> Program:
    return Function(lambda x, w, b: F.linear(x, w, b)), (rand(M, K), rand(N, K), rand(N))


@case("x @ w", PRODUCT)
def operator() -> Program:
    return Function(lambda a, b: a @ b), (rand(M, K), rand(K, N))


@case("mm", PRODUCT)
def mm() -> Program:
    return Function(torch.mm), (rand(M, K), rand(K, N))


@case("bmm", B * PRODUCT)
def bmm() -> Program:
    return Function(torch.bmm), (rand(B, M, K), rand(B, K, N))


@case("matmul, broadcast", B * PRODUCT)
def broadcast() -> Program:
    return Function(torch.matmul), (rand(B, M, K), rand(K, N))


@case("addmm", PRODUCT)
def addmm() -> Program:
    return Function(torch.addmm), (rand(M, N), rand(M, K), rand(K, N))


@case("baddbmm", B * PRODUCT)
def baddbmm() -> Program:
    return Function(torch.baddbmm), (rand(B, M, N), rand(B, M, K), rand(B, K, N))


@case("addbmm", B * PRODUCT)
def addbmm() -> Program:
    return Function(torch.addbmm), (rand(M, N), rand(B, M, K), rand(B, K, N))


# The matrix's gradient is an outer product: M*K products with no sum, elementwise. The vector's is a product again.
@case("mv", 2 * M * K, 2 * M * K)
def mv() -> Program:
    return Function(torch.mv), (rand(M, K), rand(K))


@case("addmv", 2 * M * K, 2 * M * K)
def addmv() -> Program:
    return Function(torch.addmv), (rand(M), rand(M, K), rand(K))


# Both gradients scale a vector, which is elementwise.
@case("dot", 2 * K, 0)
def dot() -> Program:
    return Function(torch.dot), (rand(K), rand(K))


@case("einsum, bij,bjk->bik", B * PRODUCT)
def einsum_batched() -> Program:
    return Function(lambda a, b: torch.einsum("bij,bjk->bik", a, b)), (rand(B, M, K), rand(B, K, N))


# i and j are summed with l free: a matrix [M*K] by [M*K, N].
@case("einsum, ij,ijl->l", 2 * M * K * N)
def einsum_contraction() -> Program:
    return Function(lambda a, b: torch.einsum("ij,ijl->l", a, b)), (rand(M, K), rand(M, K, N))


# From left to right: [M, K] @ [K, N], then [M, N] @ [N, M].
@case("einsum, ij,jk,kl->il", PRODUCT + 2 * M * N * M)
def einsum_three() -> Program:
    return Function(lambda a, b, c: torch.einsum("ij,jk,kl->il", a, b, c)), (rand(M, K), rand(K, N), rand(N, M))


@case("tensordot", 2 * M * (K * B) * N)
def tensordot() -> Program:
    return Function(lambda a, b: torch.tensordot(a, b, dims=2)), (rand(M, K, B), rand(K, B, N))


# (10x100 @ 100x5) @ 5x50 is the cheaper order.
@case("multi_dot", 2 * (10 * 100 * 5 + 10 * 5 * 50))
def multi_dot() -> Program:
    return Function(lambda a, b, c: torch.linalg.multi_dot([a, b, c])), (rand(10, 100), rand(100, 5), rand(5, 50))


# x1 [B, I] meets the weight [O, I, J]: 2*B*O*I*J; what is left, [B, O, J], meets x2 [B, J]: 2*B*O*J.
# Backward: the gradients of x1, x2 and the weight meet B*O*I*J terms each. x2's comes as the forward does, a sum over I
# and then one over O, 2*B*O*J; in the two others one of the two products is a mere scaling.
@case("nn.Bilinear", 2 * 4 * 8 * 16 * 24 + 2 * 4 * 8 * 24, 3 * 2 * 4 * 8 * 16 * 24 + 2 * 4 * 8 * 24)
def bilinear() -> Program:
    return nn.Bilinear(16, 24, 8), (rand(4, 16), rand(4, 24))


# P*R distances of K terms each. Backward collects as many terms for each of the two operands.
@case("cdist", 2 * B * M * N * K)
def cdist() -> Program:
    return Function(torch.cdist), (rand(B, M, K), rand(B, N, K))


# A complex multiply-add is four real ones.
@case("complex matmul", 4 * PRODUCT)
def complex_matmul() -> Program:
    return Function(torch.matmul), (rand(M, K, dtype=torch.complex64), rand(K, N, dtype=torch.complex64))


@case("bfloat16 autocast", PRODUCT)
def autocast() -> Program:
    layer = nn.Linear(K, N)

    def run(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return layer(x)

    return Function(run, layer), (rand(M, K),)


@case("int8 matmul (_int_mm)", PRODUCT, only_forward=True)
def int_mm() -> Program:
    a, b = torch.ones(M, K, dtype=torch.int8), torch.ones(K, N, dtype=torch.int8)
    return Function(torch._int_mm), (a, b)


@case("int8 dynamic quantized linear", PRODUCT, only_forward=True, grad=False)
def quantized_linear() -> Program:
    return torch.ao.nn.quantized.dynamic.Linear(K, N), (rand(M, K),)


@case("int8 weights (_weight_int8pack_mm)", PRODUCT, only_forward=True, grad=False)
def weight_int8pack() -> Program:
    weight, scales = torch.ones(N, K, dtype=torch.int8), torch.ones(N, dtype=torch.bfloat16)
    return Function(torch._weight_int8pack_mm), (rand(M, K, dtype=torch.bfloat16, grad=False), weight, scales)


# Two experts, N columns each; every row goes to one of them.
@case("grouped mm", PRODUCT)
def grouped_mm() -> Program:
    ends = torch.tensor([M // 2, M], dtype=torch.int32)

    def run(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        # The kernel's backward refuses the stride 0 of a sum's gradient: scaling makes it an ordinary one.
        return F.grouped_mm(x, w, offs=ends) * 1.0

    return Function(run), (rand(M, K, dtype=torch.bfloat16), rand(2, K, N, dtype=torch.bfloat16))


# Each of the M stored elements of a sparse [M, M] meets the N columns; the sparse operand asks for no gradient.
@case("sparse CSR @ dense", 2 * M * N, 2 * M * N)
def sparse() -> Program:
    stored = torch.eye(M).to_sparse_csr()
    return Function(lambda x: torch.sparse.mm(stored, x)), (rand(M, N),)


@case("nn.Embedding", 0)
def embedding() -> Program:
    return nn.Embedding(100, K), (torch.arange(M),)


# Each of the M indices adds a weighted row of K to its bag. Backward: the table's rows, and the weights.
@case("embedding_bag with weights", 2 * M * K)
def embedding_bag() -> Program:
    bags = torch.arange(0, M, 4)
    indices = torch.arange(M)

    def run(table: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return F.embedding_bag(indices, table, bags, mode="sum", per_sample_weights=weights)

    return Function(run), (rand(100, K), rand(M))


# W x + B(A x): the frozen product's input gradient, and both gradients of the two narrow ones.
@case("LoRA linear", PRODUCT + 2 * M * K * 4 + 2 * M * 4 * N, PRODUCT + 2 * (2 * M * K * 4 + 2 * M * 4 * N))
def lora() -> Program:
    base = nn.Linear(K, N).requires_grad_(False)
    down, up = nn.Linear(K, 4, bias=False), nn.Linear(4, N, bias=False)
    return Function(lambda x: base(x) + up(down(x)), base, down, up), (rand(M, K),)
