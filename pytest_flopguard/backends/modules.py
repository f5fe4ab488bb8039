"""Which nn.Module and which phase an op call belongs to.

Modules are followed by torch's global forward hooks (public API; they touch no module and keep fused fast paths on).
Backward ops are attributed without any backward hook: autograd numbers its nodes in creation order, so noting the
next number at every module entry and exit tells afterwards which module created the node that is running.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from threading import get_ident, local
from types import FrameType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import torch
import torch.utils.checkpoint
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from pytest_flopguard.backends.jit_tracing import untraced
from pytest_flopguard.backends.model_calls import ModelCalls
from pytest_flopguard.backends.module_tree import own_parameters, parts
from pytest_flopguard.backends.new_threads import started_by_python
from pytest_flopguard.backends.parameter_numbers import ParameterNumbers
from pytest_flopguard.backends.torch_api.autograd import next_node_number, node_number, running_backward, running_node
from pytest_flopguard.backends.torch_api.jit import tracing
from pytest_flopguard.backends.torch_api.modules import COMPILED, unwrapped
from pytest_flopguard.backends.workload_calls import WorkloadCalls
from pytest_flopguard.core.measurement import ParameterCount, Phase
from pytest_flopguard.core.model_call import ModelCall
from pytest_flopguard.core.workload import Workload, workload_of

_CHECKPOINT_FILE = torch.utils.checkpoint.__file__


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
            self.paths[id(part)] = f"{self._prefix}.{name}".replace(f".{COMPILED}", "") if name else self._prefix
            for parameter in own_parameters(part):
                numel = parameter.numel()
                self.parameters[self._number(parameter)] = (numel, numel * parameter.element_size())


class _Running(NamedTuple):
    """A running module: its path, its address, whether it was entered during backward, and whether it is noted."""

    path: str
    module: int
    in_backward: bool
    noted: bool


class ModulesMark(NamedTuple):
    """The start of a region: how many outermost modules ran, and how many calls of them and of models, before."""

    ran: int
    noted: int
    called: int


class _Step(NamedTuple):
    """A running optimizer step: whether it was given a closure, and the backward that it runs in (-1 outside)."""

    has_closure: bool
    backward: int


class _Thread:
    """What runs in one thread: modules, optimizer steps, and whose the autograd nodes are that it creates."""

    __slots__ = ("current", "graphs_unseen", "names", "recomputed_in", "root", "stack", "starts", "steps")

    def __init__(self) -> None:
        self.current = ""
        self.stack: list[_Running] = []
        self.root: _Root | None = None
        self.steps: list[_Step] = []
        # Autograd numbers nodes per thread: from which number on a node belongs to which module.
        self.starts: list[int] = []
        self.names: list[str] = []
        self.recomputed_in = -1
        self.graphs_unseen = False


class ModuleTracker:
    """The stack of running modules of each thread, the owner of each autograd node, and the current phase.

    ``watched`` tells whether op calls of the calling thread are seen; modules that run in a thread where they are
    not are counted in ``unseen_calls``, unless ``foreign`` tells that the thread is of an earlier test. ``lock`` is
    held while what threads share changes. Those in ``on_root`` are called with each new outermost module, those in
    ``on_step`` with the optimizer before and after each step.
    ``models`` notes calls of models that have a config, once somebody asks for them.
    """

    def __init__(
        self, watched: Callable[[], bool], foreign: Callable[[], bool], lock: AbstractContextManager[Any]
    ) -> None:
        self.on_root: list[Callable[[nn.Module], None]] = []
        self.on_step: list[Callable[[torch.optim.Optimizer], None]] = []
        self.models: ModelCalls | None = None
        self.unseen_calls = 0
        self.paused = False
        self._watched = watched
        self._foreign = foreign
        self._lock = lock
        self._handles: list[Any] = []
        self._inside = False
        self._clear()

    def _clear(self) -> None:
        self._roots: WeakKeyDictionary[nn.Module, _Root] = WeakKeyDictionary()
        self._ran: list[_Root] = []
        if self.models is not None:
            self.models.seen.clear()
        self._calls = WorkloadCalls()
        self._classes: dict[str, int] = {}
        self._numbers = ParameterNumbers()
        self._local = local()
        # Threads whose nodes a backward may run; those that autograd has for devices create none of their own.
        self._makers: list[_Thread] = []
        self._home = get_ident()
        self._makers = [self._here()]

    def _here(self) -> _Thread:
        """Return what runs in the calling thread."""
        try:
            thread: _Thread = self._local.thread
        except AttributeError:
            thread = self._local.thread = _Thread()
            if started_by_python():
                self._makers.append(thread)
        return thread

    def __enter__(self) -> ModuleTracker:
        self._clear()
        self._inside = True
        self._install()
        return self

    def _install(self) -> None:
        self._handles = [
            register_module_forward_pre_hook(self._entered),
            register_module_forward_hook(self._left, always_call=True),
            register_optimizer_step_pre_hook(self._step_begins),
            register_optimizer_step_post_hook(self._step_ends),
        ]

    def __exit__(self, *exc: object) -> None:
        self._inside = False
        self._uninstall()
        self._clear()

    def _uninstall(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def step_aside(self) -> Callable[[], None]:
        """Take all hooks away, and return what puts them back; what runs until then counts for where it began.

        torch's compiler guards on the tables of global hooks: while they hold ours, it compiles other code.
        """
        if not self._handles:
            return lambda: None
        self._uninstall()
        return self._come_back

    def _come_back(self) -> None:
        if self._inside and not self._handles:
            self._install()

    @property
    def running(self) -> bool:
        """Whether a module is running."""
        return bool(self._here().stack)

    @property
    def stepping(self) -> bool:
        """Whether an optimizer step is running, other than the closure that it was given."""
        steps = self._here().steps
        return bool(steps) and not (steps[-1].has_closure and torch.is_grad_enabled())

    def begin(self) -> ModulesMark:
        """Open a region."""
        here = self._here()
        if not here.stack:
            here.steps.clear()  # a step that raised has not said that it ended
        return ModulesMark(len(self._ran), len(self.models.seen) if self.models else 0, len(self._calls.seen))

    def model_calls(self, mark: ModulesMark) -> tuple[ModelCall, ...]:
        """Calls of models since the mark, if they are noted."""
        return tuple(self.models.seen[mark.noted :]) if self.models else ()

    def roots(self) -> Iterator[nn.Module]:
        """Outermost modules that have run and still live."""
        yield from list(self._roots.keys())

    def paths(self, root: nn.Module) -> Mapping[int, str]:
        """Return the paths of the parts of an outermost module, by their ``id``."""
        return self._roots[root].paths

    def workload(self, mark: ModulesMark) -> Workload:
        """Return what the outermost modules were called with since the mark."""
        return workload_of(self._calls.seen[mark.called :])

    def parameters(self, mark: ModulesMark) -> ParameterCount | None:
        """Distinct parameters of the outermost modules that ran since the mark; None if no module ran."""
        ran = set(self._ran[mark.ran :])
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
        node, here = running_node(), self._here()
        if node is None:
            if here.steps and not here.stack and self.stepping:
                return "", "optimizer"
            return here.current, "forward"
        # Forward code that runs again in backward shows itself by a module entered inside backward, or, with grad
        # mode on, by torch's checkpoint on the Python stack. create_graph=True turns grad mode on, too.
        if here.stack and here.stack[-1].in_backward:
            return here.current, "recompute"
        if here.steps and here.steps[-1].backward == running_backward():
            return "", "optimizer"
        if torch.is_grad_enabled() and self._under_checkpoint():
            return here.current, "recompute"
        return self._owner(node, here), "backward"

    @staticmethod
    def _under_checkpoint() -> bool:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if frame.f_code.co_filename == _CHECKPOINT_FILE:
                return True
            frame = frame.f_back
        return False

    def _owner(self, node: Any, here: _Thread) -> str:
        if here not in self._makers and here.recomputed_in not in (-1, running_backward()):
            maker = here  # a device thread, in a backward nested in a recompute
        else:
            # A node does not tell which thread created it, and numbers of two threads say nothing of each other.
            makers = [each for each in self._makers if each.starts]
            if len(makers) != 1:
                return ""
            (maker,) = makers
        position = bisect_right(maker.starts, node_number(node)) - 1
        return maker.names[position] if position >= 0 else ""

    @staticmethod
    def _note_owner(here: _Thread) -> None:
        number = next_node_number()
        if here.starts and here.starts[-1] == number:
            here.names[-1] = here.current
        else:
            here.starts.append(number)
            here.names.append(here.current)

    def _elsewhere(self) -> bool:
        """Whether the calling thread is one in which op calls are not seen."""
        return get_ident() != self._home and (self._foreign() or not self._watched())

    @contextmanager
    def graphs_unseen(self) -> Iterator[None]:
        """Take no notice of graph modules in the block."""
        here = self._here()
        before, here.graphs_unseen = here.graphs_unseen, True
        try:
            yield
        finally:
            here.graphs_unseen = before

    def _passes(self, module: nn.Module) -> bool:
        return self.paused or (self._here().graphs_unseen and isinstance(module, torch.fx.GraphModule))

    def _entered(self, module: nn.Module, args: Any) -> None:
        if self._passes(module):
            return
        if tracing() is None:
            self._enter(module, args)
        else:
            with untraced():
                self._enter(module, args)

    def _enter(self, module: nn.Module, args: Any) -> None:
        if self._elsewhere():
            self.unseen_calls += not self._foreign()
            return
        here, backward = self._here(), running_backward()
        if here.root is None or not here.stack:
            # A thread may run parts of a model that another thread runs.
            again = backward != -1 or get_ident() != self._home
            with self._lock:
                here.root = self._root_of(module, again)
                self._ran.append(here.root)
                if not here.stack and not again:
                    self._calls.note(module, args)
        if id(module) not in here.root.paths:
            with self._lock:
                here.root.refresh()
        path = here.root.paths.get(id(module)) or f"{here.current}.{type(module).__name__}"
        if backward != -1:
            here.recomputed_in = backward
        noted = bool(here.stack) and here.stack[-1].noted
        if self.models is not None and not noted and backward == -1 and self.models.has_config(module):
            noted = True
            with self._lock:
                self.models.note(module, args, path)
        here.stack.append(_Running(path, id(module), backward != -1, noted))
        here.current = path
        self._note_owner(here)

    def _left(self, module: nn.Module, args: object, output: object) -> None:
        if self._passes(module) or self._elsewhere():
            return
        here = self._here()
        # A part that was left by an exception such as KeyboardInterrupt has not said so.
        while here.stack and here.stack.pop().module != id(module):
            pass
        here.current = here.stack[-1].path if here.stack else ""
        self._note_owner(here)

    def _root_of(self, module: nn.Module, again: bool) -> _Root:
        """Return the root that a module is; for forward work done again, the one that it is a part of."""
        root = self._roots.get(module)
        if root is None and again:
            root = next((each for each in self._roots.values() if id(module) in each.paths), None)
        if root is None:
            name = type(unwrapped(module)).__name__
            seen = self._classes[name] = self._classes.get(name, 0) + 1
            root = _Root(module, name if seen == 1 else f"{name}#{seen}", self._numbers)
            self._roots[module] = root
            for told in self.on_root:
                told(module)
        return root

    def _step_begins(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        has_closure = any(callable(each) for each in (*args, *kwargs.values()))
        self._here().steps.append(_Step(has_closure, running_backward()))
        self._tell(optimizer)

    def _step_ends(self, optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
        steps = self._here().steps
        if steps:
            steps.pop()
        self._tell(optimizer)

    def _tell(self, optimizer: torch.optim.Optimizer) -> None:
        if self.on_step:
            with self._lock:
                for told in self.on_step:
                    told(optimizer)
