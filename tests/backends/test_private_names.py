"""Private names of torch are read in ``backends/torch_api`` and nowhere else."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import pytest_flopguard

PACKAGE = Path(pytest_flopguard.__file__).parent
API = PACKAGE / "backends" / "torch_api"
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
# Private names of other libraries, by the module that may read them.
OTHERS = {
    "_getframe": "sys, which documents it",
    "_asdict": "namedtuple, which documents it",
    "_replace": "namedtuple, which documents it",
    "_DummyThread": "threading",
    "_tw": "pytest's terminal, read in pytest_api.py",
    "_pyfuncitem": "pytest's fixture requests, read in pytest_api.py",
    "_current_frames": "sys, which documents it",
}


def private(name: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


def own_names() -> set[str]:
    """Return the private names that this package defines itself."""
    found: set[str] = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
    return found


OWN = own_names()


def private_reads(tree: ast.AST) -> Iterator[str]:
    """Yield the private names that a module takes from torch, or from an object of another library."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            names = [f"{node.module}.{name.name}" for name in node.names]
            # torch.utils._pytree is documented in torch/utils/_pytree.py as a public module of other libraries.
            yield from (name for name in names if private(name) and "._pytree." not in name)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "torch" and private(name.name))
        elif isinstance(node, ast.Attribute) and private(node.attr):
            # Ops are read from torch.ops by name; their names are checked by the tests of formulas/ops.
            of_ops = "aten" in ast.unparse(node.value) or ast.unparse(node.value).startswith("torch.ops")
            of_torch = ast.unparse(node).startswith("torch.")
            if not of_ops and (of_torch or node.attr not in OWN) and node.attr not in OTHERS:
                yield ast.unparse(node)


def private_texts(tree: ast.AST) -> Iterator[str]:
    """Yield the strings of a module that are a private name of torch, or the path of a module or file with one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            names = text.removesuffix(".py").replace("/", ".").split(".")
            if not all(name.isidentifier() for name in names) or not private(".".join(names)):
                continue
            # Ops of torch have their own test.
            if names[0] == "torch" or (
                not hasattr(torch.ops.aten, text) and any(hasattr(owner, text) for owner in OWNERS)
            ):
                yield text


OWNERS: tuple[Any, ...] = (
    torch,
    torch._C,
    torch.cuda,
    torch.cuda.memory,
    torch.Tensor,
    torch.UntypedStorage,
    torch.autograd.graph,
    torch.distributed.device_mesh.DeviceMesh,
    importlib.import_module("torch._dynamo.eval_frame"),
    importlib.import_module("torch.export._trace"),
)


def test_no_other_module_reads_a_private_name_of_torch() -> None:
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}: {name}"
        for path, tree in TREES.items()
        if path.parent != API
        for name in (*private_reads(tree), *private_texts(tree))
    }
    assert found == set()


@pytest.mark.parametrize(
    "text", ["torch._dynamo", "_lazy_init", "_flatten", "torch/_tensor.py", "_callback_from_stance"]
)
def test_a_private_name_in_a_string_is_found(text: str) -> None:
    assert list(private_texts(ast.parse(repr(text)))) == [text]


@pytest.mark.parametrize("text", ["torch.compile", "aten._softmax", "_own_name", "a _lazy_init of torch", "__init__"])
def test_other_strings_are_no_private_names(text: str) -> None:
    assert list(private_texts(ast.parse(repr(text)))) == []


@pytest.mark.parametrize(
    "text",
    [
        "from torch._ops import OpOverload",
        "import torch._dynamo",
        "from torch.optim.optimizer import _foreach_supported_types",
        "torch._C._current_graph_task_id()",
        "func._schema",
    ],
)
def test_a_private_name_is_found(text: str) -> None:
    assert list(private_reads(ast.parse(text)))
