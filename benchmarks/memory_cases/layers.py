"""Small nets of torch's own layers: products, recurrent layers, transformer layers, lookups; and torch's optimizers."""

# A case says what it is by its name.
# ruff: noqa: D103

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from memory_cases.case import Mark, Step, Zoo, inference, labels, tokens, training

ZOO = Zoo()
BF16 = torch.bfloat16


def mlp(device: str, *widths: int) -> nn.Sequential:
    """Linear layers of these widths with GELU between them."""
    made: list[nn.Module] = []
    for before, after in pairwise(widths):
        made += [nn.Linear(before, after, device=device), nn.GELU()]
    return nn.Sequential(*made[:-1])


def mlp_loss(model: nn.Module, device: str, batch: int, width: int) -> Callable[[], torch.Tensor]:
    """The mean square of what comes out for new inputs."""
    return lambda: model(torch.randn(batch, width, device=device)).square().mean()


@ZOO.case("mlp")
def mlp_tiny_sgd(device: str) -> Step:
    model = mlp(device, 32, 64, 10)
    return training(mlp_loss(model, device, 8, 32), SGD(model.parameters(), lr=0.1))


@ZOO.case("mlp")
def mlp_odd_sizes_momentum(device: str) -> Step:
    model = mlp(device, 777, 1531, 1531, 13)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    return training(mlp_loss(model, device, 301, 777), optimizer, clip=model.parameters())


@ZOO.case("mlp")
def mlp_wide_adam_amsgrad_loop(device: str) -> Step:
    model = mlp(device, 1024, 8192, 8192, 1024)
    optimizer = Adam(model.parameters(), amsgrad=True, foreach=False)
    return training(mlp_loss(model, device, 512, 1024), optimizer)


@ZOO.case("mlp")
def mlp_wide_adam_foreach(device: str) -> Step:
    model = mlp(device, 1024, 8192, 8192, 1024)
    return training(mlp_loss(model, device, 64, 1024), Adam(model.parameters(), foreach=True))


@ZOO.case("mlp")
def mlp_wide_rmsprop_kept_gradients(device: str) -> Step:
    model = mlp(device, 1000, 5000, 1000)
    optimizer = RMSprop(model.parameters(), momentum=0.9)
    return training(mlp_loss(model, device, 256, 1000), optimizer, set_to_none=False)


@ZOO.case("mlp")
def mlp_fp16_scaled_fused(device: str) -> Step:
    model = mlp(device, 2048, 4096, 4096, 1000)
    # The fused optimizer takes the scaler's verdict on the device, so nobody reads it.
    optimizer, scaler = AdamW(model.parameters(), fused=True), torch.amp.GradScaler("cuda")
    return training(mlp_loss(model, device, 2048, 2048), optimizer, autocast=torch.float16, scaler=scaler)


@ZOO.case("mlp")
def mlp_checkpointed_sequential(device: str) -> Step:
    model = mlp(device, *[2048] * 9)

    def loss() -> torch.Tensor:
        x = torch.randn(4096, 2048, device=device, requires_grad=True)
        return checkpoint_sequential(model, 4, x, use_reentrant=True).square().mean()

    return training(loss, AdamW(model.parameters(), foreach=True))


class Recurrent(nn.Module):
    """Tokens, LSTM or GRU, and the logits of the next token."""

    def __init__(self, kind: type[nn.RNNBase], vocabulary: int, width: int, **options: object) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = kind(width, width, batch_first=True, **options)
        self.head = nn.Linear(width * (2 if options.get("bidirectional") else 1), vocabulary)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(self.layers(self.embedding(ids))[0])


def recurrent_loss(
    model: Recurrent, device: str, batch: int, length: int, vocabulary: int
) -> Callable[[], torch.Tensor]:
    """The loss of new tokens."""

    def loss() -> torch.Tensor:
        ids = tokens(device, batch, length, vocabulary)
        return F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())

    return loss


@ZOO.case("lstm")
def lstm_train_adam(device: str) -> Step:
    model = Recurrent(nn.LSTM, 10000, 512, num_layers=2, dropout=0.2).to(device)
    loss = recurrent_loss(model, device, 32, 100, 10000)
    return training(loss, Adam(model.parameters()), clip=model.parameters())


@ZOO.case("lstm")
def lstm_bidirectional_infer(device: str) -> Step:
    model = Recurrent(nn.LSTM, 5000, 384, num_layers=2, bidirectional=True).to(device).eval()
    return inference(lambda: model(tokens(device, 16, 77, 5000)))


@ZOO.case("lstm")
def gru_train_sgd(device: str) -> Step:
    model = Recurrent(nn.GRU, 8000, 256).to(device)
    return training(recurrent_loss(model, device, 24, 64, 8000), SGD(model.parameters(), lr=0.1))


@ZOO.case("lstm")
def lstm_cells_unrolled(device: str) -> Step:
    cell, head = nn.LSTMCell(256, 512, device=device), nn.Linear(512, 10, device=device)

    def loss() -> torch.Tensor:
        x = torch.randn(40, 64, 256, device=device)
        state = (torch.zeros(64, 512, device=device), torch.zeros(64, 512, device=device))
        for now in x.unbind():
            state = cell(now, state)
        return F.cross_entropy(head(state[0]), labels(device, 64, 10))

    return training(loss, Adam([*cell.parameters(), *head.parameters()]))


def encoder(device: str, layers: int, width: int, heads: int, **options: object) -> nn.TransformerEncoder:
    """Torch's transformer encoder, norms first."""
    with torch.device(device):
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, batch_first=True, norm_first=True, **options)
        return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


@ZOO.case("transformer")
def encoder_train_dropout(device: str) -> Step:
    model = encoder(device, 6, 512, 8, dropout=0.1)

    def loss() -> torch.Tensor:
        return model(torch.randn(16, 256, 512, device=device)).square().mean()

    return training(loss, AdamW(model.parameters()))


@ZOO.case("transformer")
def encoder_train_causal_mask_autocast(device: str) -> Step:
    model = encoder(device, 4, 512, 8, dropout=0.0)
    mask = nn.Transformer.generate_square_subsequent_mask(300, device=device)

    def loss() -> torch.Tensor:
        return model(torch.randn(8, 300, 512, device=device), mask=mask, is_causal=True).square().mean()

    return training(loss, AdamW(model.parameters(), fused=True), autocast=BF16)


class Block(nn.Module):
    """A decoder block of RMS norms, grouped-query attention and a gated feed-forward, in plain torch."""

    def __init__(self, width: int, heads: int, shared: int) -> None:
        super().__init__()
        self.heads, self.shared, self.head = heads, shared, width // heads
        self.norms = nn.ModuleList([nn.RMSNorm(width), nn.RMSNorm(width)])
        self.project = nn.Linear(width, (heads + 2 * shared) * self.head, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 6 * width, bias=False), nn.Linear(3 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One block."""
        b, s, _ = x.shape
        parts = self.project(self.norms[0](x)).view(b, s, -1, self.head).transpose(1, 2)
        q, k, v = parts.split([self.heads, self.shared, self.shared], dim=1)
        found = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.out(found.transpose(1, 2).reshape(b, s, -1))
        gate, up = self.up(self.norms[1](x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Decoder(nn.Module):
    """Blocks between an embedding and a head; ``again``: each block is checkpointed."""

    def __init__(self, layers: int, width: int, vocabulary: int, *, again: bool = False) -> None:
        super().__init__()
        self.again = again
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, width // 64, width // 256) for _ in range(layers))
        self.norm, self.head = nn.RMSNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """The loss of the next token."""
        x = self.embedding(ids)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.again else block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1).float(), ids.flatten())


@ZOO.case("transformer")
def decoder_train_gqa_bf16(device: str) -> Step:
    model = Decoder(8, 1024, 32000).to(device, BF16)
    return training(lambda: model(tokens(device, 4, 1024, 32000)), AdamW(model.parameters(), fused=True))


@ZOO.case("transformer")
def decoder_train_gqa_checkpointed(device: str) -> Step:
    model = Decoder(8, 1024, 32000, again=True).to(device, BF16)
    return training(lambda: model(tokens(device, 4, 1024, 32000)), AdamW(model.parameters(), foreach=True))


@ZOO.case("transformer")
def decoder_train_odd_sizes(device: str) -> Step:
    model = Decoder(3, 512, 9973).to(device)
    return training(lambda: model(tokens(device, 3, 517, 9973)), AdamW(model.parameters()))


class Recommender(nn.Module):
    """Lookups in tables, all pairs of them, and a small net: its peak is the gradient of the tables."""

    def __init__(self, tables: int, rows: int, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, width) for _ in range(tables))
        self.top = nn.Sequential(nn.Linear(tables * tables, 256), nn.ReLU(), nn.Linear(256, 1))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """One logit for each row of ids."""
        found = torch.stack([table(ids[:, index]) for index, table in enumerate(self.tables)], dim=1)
        return self.top((found @ found.transpose(1, 2)).flatten(1)).squeeze(-1)


@ZOO.case("lookups")
def recommender_train_adam(device: str) -> Step:
    model = Recommender(8, 200_000, 64).to(device)

    def loss() -> torch.Tensor:
        target = torch.zeros(8192, device=device)
        return F.binary_cross_entropy_with_logits(model(tokens(device, 8192, 8, 200_000)), target)

    return training(loss, Adam(model.parameters()))


@ZOO.case("lookups")
def retrieval_infer_topk(device: str) -> Step:
    items = torch.randn(500_000, 128, device=device)

    def step(mark: Mark) -> None:
        with torch.no_grad():
            scores = torch.randn(64, 128, device=device) @ items.T
            best = scores.topk(100, dim=-1)
            mark("topk")
            ordered = scores[:, :50_000].sort(dim=-1)
            mark("sort")
            sums = scores.softmax(-1).cumsum(-1)
            mark("cumsum")
            del scores, best, ordered, sums

    return step
