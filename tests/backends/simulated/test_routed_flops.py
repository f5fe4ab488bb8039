"""The same training step counts the same FLOPs on meta tensors and on every simulated GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from simulation import gpu
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pytest_flopguard.core.measurement import FlopTally

Count = Callable[[Callable[[], Any]], FlopTally]
Step = Callable[[str], None]


def language_model(name: str, **sizes: Any) -> Step:
    def step(device: str) -> None:
        import transformers

        config = getattr(transformers, f"{name}Config")(vocab_size=96, bos_token_id=0, eos_token_id=1, **sizes)
        with torch.device(device):
            model = transformers.AutoModelForCausalLM.from_config(config)
            ids = torch.zeros(2, 32, dtype=torch.long)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        # A fused step asks torch.cuda whether a graph is being captured, which a fake GPU alone cannot answer.
        torch.optim.SGD(model.parameters(), lr=0.1, foreach=True).step()

    return step


def vision_transformer(device: str) -> None:
    patches = nn.Conv2d(3, 64, 8, stride=8, device=device)
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, device=device)
    images = torch.zeros(2, 3, 32, 32, device=device)
    layer(patches(images).flatten(2).transpose(1, 2)).sum().backward()
    with torch.no_grad():
        layer.eval()(torch.zeros(2, 16, 64, device=device))


def convolutions(device: str) -> None:
    with torch.device(device):
        wide = nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, groups=16))
        images = torch.zeros(2, 8, 12, 12, requires_grad=True)
        back = nn.ConvTranspose2d(16, 8, 2, stride=2)
        line = nn.Conv1d(8, 8, 3)
        back(wide(images.to(memory_format=torch.channels_last))).sum().backward()
        line(torch.zeros(2, 8, 30)).sum().backward()


def recurrent(device: str) -> None:
    with torch.device(device):
        for layer in (nn.LSTM, nn.GRU, nn.RNN):
            model = layer(16, 32, 2, bidirectional=True, dropout=0.1, batch_first=True)
            model(torch.zeros(4, 10, 16, requires_grad=True))[0].sum().backward()
        nn.LSTM(16, 32, 2, proj_size=8)(torch.zeros(4, 10, 16))[0].sum().backward()
        for cell in (nn.GRUCell, nn.RNNCell):
            for bias in (True, False):
                cell(16, 32, bias)(torch.zeros(4, 16, requires_grad=True)).sum().backward()
        nn.LSTMCell(16, 32)(torch.zeros(4, 16))[0].sum().backward()


def products(device: str) -> None:
    with torch.device(device):
        x = torch.zeros(2, 16, 64, requires_grad=True)
        nn.Linear(16, 8)(x.transpose(1, 2)).sum().backward()
        nn.Bilinear(64, 64, 8)(x, x).sum().backward()
        torch.einsum("bij,bkj->bik", x, x).sum().backward()
        F.silu(nn.RMSNorm(64)(x)).sum().backward()


STEPS: dict[str, Step] = {
    "gpt2": language_model("GPT2", n_layer=2, n_embd=64, n_head=2),
    "llama": language_model(
        "Llama",
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    ),
    "vision transformer": vision_transformer,
    "convolutions": convolutions,
    "recurrent": recurrent,
    "products": products,
}


def totals(tally: FlopTally) -> tuple[int, int, int, int]:
    assert tally.unknown_ops == ()
    return tally.forward, tally.backward, tally.recompute, tally.optimizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_training_step(step: Step, dtype: torch.dtype, count: Count) -> None:
    def on(name: str) -> tuple[int, int, int, int]:
        with gpu(name):
            return totals(count(lambda: step("cuda")))

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        meta = totals(count(lambda: step("meta")))
        assert meta[0] > 0
        assert [on(name) for name in ("h100", "a100", "t4")] == [meta] * 3
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("masked", [None, "bool", "float"])
@pytest.mark.parametrize("key_heads", [1, 4])
@pytest.mark.parametrize("name", ["h100", "a100", "v100"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
def test_attention_by_every_kernel(
    dtype: torch.dtype, name: str, key_heads: int, masked: str | None, count: Count
) -> None:
    # Scores and values: 2 * 2 * B 2 * H 4 * 32 * 24 * 64; backward twice that.
    forward = 4 * 2 * 4 * 32 * 24 * 64

    def attend() -> Tensor:
        query = torch.zeros(2, 4, 32, 64, device="cuda", dtype=dtype, requires_grad=True)
        key = torch.zeros(2, key_heads, 24, 64, device="cuda", dtype=dtype, requires_grad=True)
        kind = torch.bool if masked == "bool" else dtype
        mask = None if masked is None else torch.zeros(32, 24, device="cuda", dtype=kind)
        out = F.scaled_dot_product_attention(query, key, key, mask, enable_gqa=key_heads != 4)
        out.sum().backward()
        return out

    with gpu(name):
        assert totals(count(attend)) == (forward, 2 * forward, 0, 0)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_heads_that_the_kernel_widens(mode: Callable[[], Any], grouped: bool, count: Count) -> None:
    # Heads of 20 are padded to 24 for the flash kernel. Scores and values: 2 * 2 * B 2 * H 4 * 32 * 32 * 20.
    forward = 4 * 2 * 4 * 32 * 32 * 20
    key_heads = 2 if grouped else 4

    def attend(device: str) -> None:
        made = {"device": device, "dtype": torch.bfloat16, "requires_grad": mode is torch.enable_grad}
        with mode():
            query, key = torch.zeros(2, 4, 32, 20, **made), torch.zeros(2, key_heads, 32, 20, **made)
            out = F.scaled_dot_product_attention(query, key, key, is_causal=True, enable_gqa=grouped)
            if out.requires_grad:
                out.sum().backward()

    backward = 2 * forward if mode is torch.enable_grad else 0
    assert totals(count(lambda: attend("meta"))) == (forward, backward, 0, 0)
    with gpu("a100"):
        assert totals(count(lambda: attend("cuda"))) == (forward, backward, 0, 0)


def test_heads_that_a_program_widens(count: Count) -> None:
    # Padded by hand to 24, which the kernel takes as they are: the program asked for all of it.
    forward = 4 * 2 * 4 * 32 * 32 * 24

    def attend(device: str) -> None:
        x = torch.zeros(2, 4, 32, 20, device=device, dtype=torch.bfloat16, requires_grad=True)
        query, key, value = F.pad(x, (0, 4)), F.pad(x, (0, 4)), F.pad(x, (0, 4))
        F.scaled_dot_product_attention(query, key, value, scale=20**-0.5).sum().backward()

    assert totals(count(lambda: attend("meta"))) == (forward, 2 * forward, 0, 0)
    with gpu("a100"):
        assert totals(count(lambda: attend("cuda"))) == (forward, 2 * forward, 0, 0)


def test_heads_widened_in_a_checkpoint_and_in_a_module(count: Count) -> None:
    # Heads of 80 / 4 = 20: the same integers on a simulated GPU as on meta tensors, recomputed ones included.
    def attend(device: str) -> None:
        layer = nn.MultiheadAttention(80, 4, batch_first=True, device=device, dtype=torch.bfloat16)
        x = torch.zeros(2, 32, 80, device=device, dtype=torch.bfloat16, requires_grad=True)
        out = checkpoint(lambda x: layer(x, x, x, need_weights=False)[0], x, use_reentrant=False)
        out.sum().backward()

    meta = totals(count(lambda: attend("meta")))
    assert meta[2] > 0
    with gpu("a100"):
        assert totals(count(lambda: attend("cuda"))) == meta


def test_heads_of_two_widths_that_look_alike(count: Count) -> None:
    def attend(width: int) -> Tensor:
        x = torch.zeros(2, 4, 32, width, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        return F.scaled_dot_product_attention(x, x, x, scale=0.2).sum()

    with gpu("a100"):
        tally = count(lambda: (attend(20) + attend(24)).backward())
    assert tally.forward == 4 * 2 * 4 * 32 * 32 * (20 + 24)
    (unknown,) = tally.unknown_ops
    assert unknown.calls == 2
    assert unknown.reason == "heads of width 20 and 24 were padded to 24"
