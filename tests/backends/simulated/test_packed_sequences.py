"""Packing and padding as torch does them, on real tensors: what a simulated device would hold, with values."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from simulation import ops_of
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pytest_flopguard.backends.simulated.packed_sequences import pack, pad

# Longest first, as torch wants them.
LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(lambda each: sorted(each, reverse=True))


def sequences(lengths: list[int], batch_first: bool) -> Tensor:
    shape = (len(lengths), max(lengths), 2) if batch_first else (max(lengths), len(lengths), 2)
    return torch.arange(float(torch.Size(shape).numel())).view(shape).requires_grad_()


@given(lengths=LENGTHS, batch_first=st.booleans())
def test_packs_as_torch_does(lengths: list[int], batch_first: bool) -> None:
    ours, theirs = sequences(lengths, batch_first), sequences(lengths, batch_first)
    expected = pack_padded_sequence(theirs, torch.tensor(lengths), batch_first)
    data, sizes = pack(ours, torch.tensor(lengths), batch_first)
    assert torch.equal(data, expected.data)
    assert torch.equal(sizes, expected.batch_sizes)
    weights = torch.arange(1.0, data.numel() + 1).view_as(data)
    (data * weights).sum().backward()
    (expected.data * weights).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


@given(lengths=LENGTHS, batch_first=st.booleans(), longer=st.integers(0, 2))
def test_pads_as_torch_does(lengths: list[int], batch_first: bool, longer: int) -> None:
    packed = pack_padded_sequence(sequences(lengths, batch_first), torch.tensor(lengths), batch_first)
    total = max(lengths) + longer if longer else None
    expected, counts = pad_packed_sequence(packed, batch_first, padding_value=-1.0, total_length=total)
    out, found = pad(packed.data, packed.batch_sizes, batch_first, -1.0, total or -1)
    assert torch.equal(out, expected)
    assert torch.equal(found, counts)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_gpu_joins_steps(batch_first: bool) -> None:
    # 3, 3 and 1 steps: one step of three sequences and two of two, joined; two steps are copies to be joined.
    lengths = torch.tensor([3, 3, 1])

    def run() -> None:
        data, _ = torch._pack_padded_sequence(torch.zeros(3, 3, 2, device="cuda"), lengths, batch_first)
        assert data.shape == (7, 2)

    names = ops_of("h100", run)
    assert names.count("cat") == 1
    assert "_pack_padded_sequence" not in names
