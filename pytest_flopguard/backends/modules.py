"""Which nn.Module and which phase an op call belongs to.

Modules are followed by torch's global forward hooks (public API; they touch no module and keep fused fast paths on).
Backward ops are attributed without any backward hook: autograd numbers its nodes in creation order, so noting the
next number at every module entry and exit tells afterwards which module created the node that is running.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator
from threading import get_ident
from types import FrameType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import torch
import torch.utils.checkpoint
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from pytest_flopguard.backends.module_tree import own_parameters, parts
from pytest_flopguard.backends.parameter_numbers import ParameterNumbers
from pytest_flopguard.core.measurement import ParameterCount, Phase

_CHECKPOINT_FILE = torch.utils.checkpoint.__file__
_next_node_number = torch._C._autograd._get_sequence_nr
_running_node: Callable[[], Any] = torch._C._current_autograd_node  # None outside backward, which its stub denies
_running_backward = torch._C._current_graph_task_id  # -1 outside backward


class _Root:
    """An outermost module, weakly held: the paths of its submodules, and its parameters as number -> (numel, bytes)."""

    def __init__(self, module: nn.Module, prefix: str, number: Callable[[torch.Tensor], int]) -> None:
        self._module = ref(module)
        self._prefix = prefix
        self._number = number
        self.paths: dict[int, str] = {}
        self.parameters: dict[int, tuple[int, int]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look again while the module lives: the test may have replaced or added parts."""
        module = self._module()
        if module is None:
            return
        self.paths = {}
        self.parameters = {}
        for name, part in parts(module):
            # torch.compile wraps a model in one that calls it _orig_mod.
            self.paths[id(part)] = f"{self._prefix}.{name}".replace("._orig_mod", "") if name else self._prefix
            for parameter in own_parameters(part):
                numel = parameter.numel()
                self.parameters[self._number(parameter)] = (numel, numel * parameter.element_size())


class _Running(NamedTuple):
    """A running module: its path, its address, and whether it was entered during backward."""

    path: str
    module: int
    in_backward: bool


class _Step(NamedTuple):
    """A running optimizer step: whether it was given a closure, and the backward that it runs in (-1 outside)."""

    has_closure: bool
    backward: int


class ModuleTracker:
    """The stack of running modules, the owner of each autograd node, and the current phase.

    ``watched`` tells whether op calls of the calling thread are seen; modules that run in a thread where they are
    not are counted in ``unseen_calls``. ``on_root`` is called with each new outermost module, ``on_step`` with the
    optimizer before and after each step.
    """

    def __init__(self, watched: Callable[[], bool]) -> None:
        self.on_root: Callable[[nn.Module], None] | None = None
        self.on_step: Callable[[torch.optim.Optimizer], None] | None = None
        self.unseen_calls = 0
        self.paused = False
        self._watched = watched
        self._handles: list[Any] = []
        self._clear()

    def _clear(self) -> None:
        self._current = ""
        self._stack: list[_Running] = []
        self._roots: WeakKeyDictionary[nn.Module, _Root] = WeakKeyDictionary()
        self._ran: list[_Root] = []
        self._classes: dict[str, int] = {}
        self._numbers = ParameterNumbers()
        # Per thread: autograd numbers nodes per thread, and CUDA backward runs in a thread of its own.
        self._owners: dict[int, tuple[list[int], list[str]]] = {}
        self._recomputed_in: dict[int, int] = {}
        self._home = get_ident()
        self._steps: list[_Step] = []

    def __enter__(self) -> ModuleTracker:
        self._clear()
        self._handles = [
            register_module_forward_pre_hook(self._entered),
            register_module_forward_hook(self._left, always_call=True),
            register_optimizer_step_pre_hook(self._step_begins),
            register_optimizer_step_post_hook(self._step_ends),
        ]
        return self

    def __exit__(self, *exc: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._clear()

    @property
    def running(self) -> bool:
        """Whether a module is running."""
        return bool(self._stack)

    @property
    def stepping(self) -> bool:
        """Whether an optimizer step is running, other than the closure that it was given."""
        return bool(self._steps) and not (self._steps[-1].has_closure and torch.is_grad_enabled())

    def begin(self) -> int:
        """Open a region; its mark is how many calls of outermost modules came before."""
        if not self._stack:
            self._steps.clear()  # a step that raised has not said that it ended
        return len(self._ran)

    def roots(self) -> Iterator[nn.Module]:
        """Outermost modules that have run and still live."""
        yield from self._roots.keys()

    def parameters(self, mark: int) -> ParameterCount | None:
        """Distinct parameters of the outermost modules that ran since the mark; None if no module ran."""
        ran = set(self._ran[mark:])
        if not ran:
            return None
        union: dict[int, tuple[int, int]] = {}
        for root in ran:
            root.refresh()
            union.update(root.parameters)
        sizes = union.values()
        return ParameterCount(count=sum(numel for numel, _ in sizes), bytes=sum(size for _, size in sizes))

    def place(self) -> tuple[str, Phase]:
        """Return the module path and phase of the op call that is being dispatched."""
        node = _running_node()
        if node is None:
            if self._steps and not self._stack and self.stepping:
                return "", "optimizer"
            return self._current, "forward"
        # Forward code that runs again in backward shows itself by a module entered inside backward, or, with grad
        # mode on, by torch's checkpoint on the Python stack. create_graph=True turns grad mode on, too.
        if self._stack and self._stack[-1].in_backward:
            return self._current, "recompute"
        if self._steps and self._steps[-1].backward == _running_backward():
            return "", "optimizer"
        if torch.is_grad_enabled() and self._under_checkpoint():
            return self._current, "recompute"
        return self._owner(node), "backward"

    @staticmethod
    def _under_checkpoint() -> bool:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if frame.f_code.co_filename == _CHECKPOINT_FILE:
                return True
            frame = frame.f_back
        return False

    def _owner(self, node: Any) -> str:
        thread = get_ident()
        if thread != self._home and self._recomputed_in.get(thread, -1) in (-1, _running_backward()):
            # A device thread runs nodes that the home thread created, except in a backward nested in a recompute.
            thread = self._home
        if thread not in self._owners:
            return ""
        starts, names = self._owners[thread]
        position = bisect_right(starts, node._sequence_nr()) - 1
        return names[position] if position >= 0 else ""

    def _note_owner(self) -> None:
        starts, names = self._owners.setdefault(get_ident(), ([], []))
        number = _next_node_number()
        if starts and starts[-1] == number:
            names[-1] = self._current
        else:
            starts.append(number)
            names.append(self._current)

    def _elsewhere(self) -> bool:
        """Whether the calling thread is one in which op calls are not seen."""
        return get_ident() != self._home and not self._watched()

    def _entered(self, module: nn.Module, args: object) -> None:
        if self.paused:
            return
        if self._elsewhere():
            self.unseen_calls += 1
            return
        backward = _running_backward()
        if not self._stack:
            self._ran.append(self._root_of(module, again=backward != -1))
        root = self._ran[-1]
        if id(module) not in root.paths:
            root.refresh()
        path = root.paths.get(id(module)) or f"{self._current}.{type(module).__name__}"
        if backward != -1 and get_ident() != self._home:
            self._recomputed_in[get_ident()] = backward
        self._stack.append(_Running(path, id(module), backward != -1))
        self._current = path
        self._note_owner()

    def _left(self, module: nn.Module, args: object, output: object) -> None:
        if self.paused or self._elsewhere():
            return
        # A part that was left by an exception such as KeyboardInterrupt has not said so.
        while self._stack and self._stack.pop().module != id(module):
            pass
        self._current = self._stack[-1].path if self._stack else ""
        self._note_owner()

    def _root_of(self, module: nn.Module, again: bool) -> _Root:
        """Return the root that a module is; for forward work done again, the one that it is a part of."""
        root = self._roots.get(module)
        if root is None and again:
            root = next((each for each in self._roots.values() if id(module) in each.paths), None)
        if root is None:
            name = type(getattr(module, "_orig_mod", module)).__name__
            seen = self._classes[name] = self._classes.get(name, 0) + 1
            root = _Root(module, name if seen == 1 else f"{name}#{seen}", self._numbers)
            self._roots[module] = root
            if self.on_root is not None:
                self.on_root(module)
        return root

    def _step_begins(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        has_closure = any(callable(each) for each in (*args, *kwargs.values()))
        self._steps.append(_Step(has_closure, _running_backward()))
        if self.on_step is not None:
            self.on_step(optimizer)

    def _step_ends(self, optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
        if self._steps:
            self._steps.pop()
        if self.on_step is not None:
            self.on_step(optimizer)
