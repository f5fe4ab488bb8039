"""Random programs: the peak of live storage bytes against a model in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pytest_flopguard.backends.live_storage import LiveStorage
from pytest_flopguard.backends.op_watch import OpWatch
from pytest_flopguard.formulas.registry import default_registry


def size(number: int) -> Tensor:
    """Make a tensor of that many bytes."""
    return torch.empty(number, dtype=torch.uint8)


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["make", "make", "view", "drop", "drop", "use", "clone", "resize", "store", "begin", "end"]),
        st.integers(0, 30),
        st.integers(1, 64),
    ),
    max_size=40,
)


@dataclass
class Model:
    """Live bytes as plain Python would count them: a list of what happened, replayed for each region."""

    events: list[tuple[int, int]] = field(default_factory=list)  # (storage, change of bytes)
    before: dict[int, int] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    holders: dict[int, int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    open: list[int] = field(default_factory=list)

    def change(self, storage: int, number: int) -> None:
        self.sizes[storage] = number
        previous = sum(change for each, change in self.events if each == storage)
        self.events.append((storage, number - previous))

    def resize(self, storage: int, number: int) -> None:
        """Bytes are copied from the old memory to the new one, which are both alive meanwhile."""
        previous = self.sizes[storage]
        self.sizes[storage] = number
        self.events += [(storage, number), (storage, -previous)]

    def peak(self, began: int) -> tuple[int, int]:
        """Start and peak of the region that began at an event, as far as storages were used by now."""
        known = [each for each in self.events if each[0] not in self.before or each[0] in self.used]
        hidden = [each for each in self.events[:began] if each[0] in self.before and each[0] not in self.used]
        at = began - len(hidden)
        now = start = sum(change for _, change in known[:at])
        top = start
        for _, change in known[at:]:
            now += change
            top = max(top, now)
        return start, top


@given(st.lists(st.integers(1, 64), max_size=3), STEPS)
@settings(max_examples=150, deadline=None)
def test_random_programs_have_the_peak_of_a_plain_model(existing: list[int], steps: list[Step]) -> None:
    model = Model()
    tensors: list[tuple[int, Tensor]] = []
    for number in existing:
        storage = len(model.holders)
        tensors.append((storage, size(number)))
        model.holders[storage] = 1
        model.before[storage] = number
        model.change(storage, number)
    found, expected = [], []
    with LiveStorage(OpWatch(default_registry())) as memory:
        scopes = []
        for what, which, number in steps:
            storage, tensor = tensors[which % len(tensors)] if tensors else (-1, None)
            if what == "begin":
                scopes.append(memory.begin())
                model.open.append(len(model.events))
            elif what == "end" and scopes:
                found.append(memory.end(scopes.pop()))
                expected.append(model.peak(model.open.pop()))
            elif what == "make" or (what == "clone" and tensor is not None):
                fresh = len(model.holders)
                if what == "clone":
                    assert tensor is not None
                    model.used.add(storage)
                    # A clone is dense: as long as the tensor, not as its storage.
                    number = tensor.numel()
                    tensors.append((fresh, tensor.clone()))
                else:
                    tensors.append((fresh, size(number)))
                model.holders[fresh] = 1
                model.change(fresh, number)
            elif tensor is None:
                pass
            elif what == "view":
                # No use: what a view looks at is found when the view is used.
                tensors.append((storage, tensor[:]))
                model.holders[storage] += 1
            elif what == "use":
                tensor.add_(1)
                model.used.add(storage)
            elif what == "resize":
                if storage not in model.before:
                    tensor.resize_(number)
                    # resize_ never gives bytes back.
                    if number > model.sizes[storage]:
                        model.resize(storage, number)
            elif what == "store":
                # No op call shows this one, which finds a storage as a use does.
                tensor.untyped_storage().resize_(model.sizes[storage] + number)
                model.used.add(storage)
                model.resize(storage, model.sizes[storage] + number)
            elif what == "drop":
                del tensors[which % len(tensors)]
                model.holders[storage] -= 1
                if not model.holders[storage]:
                    model.change(storage, 0)
            del tensor
        while scopes:
            found.append(memory.end(scopes.pop()))
            expected.append(model.peak(model.open.pop()))
    for each, wanted in zip(found, expected, strict=True):
        assert isinstance(each, tuple)
        assert [(one.start_bytes, one.peak_bytes) for one in each] == ([wanted] if wanted[1] else [])
        assert all(sum(one.by_category.values()) == one.peak_bytes for one in each)
