"""What storages are for: the category of each, and the module, the op and the line of code that made it.

A role is given when an op makes a storage. What only shows later (a parameter, when its model is called; a gradient,
when autograd takes it; optimizer state, after a step) is marked then.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from pytest_flopguard.backends.code_sites import CodeSites
from pytest_flopguard.backends.constant_tensors import tensors
from pytest_flopguard.backends.module_tree import own_buffers, own_parameters, parts
from pytest_flopguard.backends.modules import ModuleTracker
from pytest_flopguard.backends.torch_api.autograd import running_node
from pytest_flopguard.backends.torch_api.dispatch import OpOverload, schema_of
from pytest_flopguard.core.measurement import Phase
from pytest_flopguard.core.owners import Owner

# How AccumulateGrad takes a gradient.
GRADIENTS = {torch.ops.aten.detach.default, torch.ops.aten.clone.default}


class Role(NamedTuple):
    """What one storage is for: a category of CATEGORIES, and the module, the op, the line and the phase that made it.

    ``func`` is None, and the rest empty, for storages that existed before the region.
    """

    category: str
    module: str = ""
    func: Any = None
    site: str = ""
    phase: Phase | None = None

    def as_category(self, category: str, module: str | None) -> Role:
        """Return the role once more is known; None leaves the module as it is."""
        if self.category == category and module in (None, self.module):
            return self
        return Role(category, self.module if module is None else module, self.func, self.site, self.phase)

    def owner(self, size: int) -> Owner:
        """Return the owner of one storage of this role and of so many bytes."""
        return Owner(
            category=self.category, module=self.module, op=_name(self.func), site=self.site, bytes=size, blocks=1
        )


RESTING = Role("inputs")

# Told of a tensor whose storage is for something else than when it was made, and of its module where that is known.
Mark = Callable[[torch.Tensor, str, "str | None"], None]
RoleOf = Callable[[torch.Tensor], "Role | None"]


class StorageRoles:
    """Gives new storages their roles, and tells ``mark`` of those that turn out to be something else.

    Entered after the module tracker that it asks. ``role_of`` returns the role that a tensor's storage has by now, None
    where it is not followed.
    """

    def __init__(self, modules: ModuleTracker, mark: Mark, role_of: RoleOf) -> None:
        self._modules = modules
        self._mark = mark
        self._role_of = role_of
        self._sites: CodeSites | None = None

    def record_sites(self, root: Path | None) -> None:
        """From now on tell lines of code, their paths as seen from a folder; None stops it."""
        self._sites = None if root is None else CodeSites(root)

    def __enter__(self) -> StorageRoles:
        self._modules.on_root.append(self.mark_module)
        self._modules.on_step.append(self._mark_optimizer)
        return self

    def __exit__(self, *exc: object) -> None:
        self._modules.on_root.remove(self.mark_module)
        self._modules.on_step.remove(self._mark_optimizer)

    def made(self, func: Any, had_tensor: bool) -> Role:
        """Return the role of what an op call has just made; ``had_tensor`` is whether it read a tensor."""
        module, phase = self._modules.place()
        if phase == "forward":
            category = "activations" if module or had_tensor else "inputs"
        elif phase == "recompute" or (phase == "backward" and torch.is_grad_enabled()):
            # With grad mode on in backward it is forward work again, whose results are kept for backward.
            category = "activations"
        else:
            category = "temporaries"
        return Role(category, module, func, "" if self._sites is None else self._sites.here(), phase)

    def resized(self, role: Role) -> Role:
        """Return the role of a storage that gets another size now: its memory is of this phase."""
        return role._replace(phase=self._modules.place()[1])

    def lifted(self, func: Any) -> Role:
        """Return the role of a tensor made of Python numbers."""
        module, phase = self._modules.place()
        return Role("inputs", module, func, "" if self._sites is None else self._sites.here(), phase)

    def look_for_gradient(self, func: Any, out: Any) -> None:
        """Mark what an op returned, where it is autograd that takes it for ``.grad``."""
        if func in GRADIENTS and isinstance(out, torch.Tensor):
            node = running_node()
            if node is not None and node.name() == "torch::autograd::AccumulateGrad":
                self._mark(out, "gradients", None)

    def mark_roots(self) -> None:
        """Mark again what the models that ran hold now."""
        for module in self._modules.roots():
            self.mark_module(module)

    def mark_module(self, module: nn.Module) -> None:
        """Mark the parameters, gradients and buffers of an outermost module."""
        paths = self._modules.paths(module)
        for _, part in parts(module):
            path = paths.get(id(part), "")
            for buffer in own_buffers(part):
                self._mark(buffer, "other", path)
            for parameter in own_parameters(part):
                self._mark(parameter, "parameters", path)
                if parameter.grad is not None:
                    self._mark(parameter.grad, "gradients", path)

    def _mark_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                role = self._role_of(parameter)
                path = None if role is None else role.module
                if parameter.grad is not None:
                    self._mark(parameter.grad, "gradients", path)
                for value in tensors(optimizer.state.get(parameter, {}).values()):
                    self._mark(value, "optimizer_state", path)


def _name(func: Any) -> str:
    if isinstance(func, OpOverload):
        return str(schema_of(func).name).replace("::", ".")
    return "" if func is None else f"higher_order.{func.name()}"
