"""What torch answers about CUDA before a test runs: at import, in hooks, and in fixtures that tests share.

An autocast object, a GradScaler, a ``DEVICE`` constant or the condition of a ``skipif`` keeps such an answer. In a run
on a simulated GPU the answers are that GPU's. Each answer that the project's own code was given is recorded, so that a
test that runs on something else fails by name and is not measured with a decision that was made for another device.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from pytest_flopguard.backends.late_modules import LateModule
from pytest_flopguard.backends.simulated.gpus import Gpu

_PACKAGE = __name__.partition(".")[0]
_LIBRARIES = ("site-packages", "dist-packages")
_STANDARD = sysconfig.get_path("stdlib")
_SKIP_MARKS = ("skipif", "skipIf", "skipUnless")
_IMPORTER = "<frozen importlib"
# Modules of torch, and the functions by which a program finds out which GPU there is.
_QUERIES = {
    "torch.cuda": (
        "is_available", "device_count", "current_device", "set_device", "is_bf16_supported", "is_tf32_supported",
        "get_device_name", "get_device_capability", "get_device_properties", "get_arch_list",
    ),
    "torch.accelerator": ("is_available", "device_count", "current_accelerator"),
    "torch.backends.cuda": ("is_built",),
    "torch.backends.cudnn": ("is_available", "version"),
}  # fmt: skip
_KEEPERS = ("torch.amp.", "torch.cuda.")
Query = tuple[str, str]  # module and function


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyAnswer:
    """An answer about CUDA, the GPU it was given for (empty: what there is), and the line of the project that asked."""

    query: Query
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    answer: object
    gpu: str
    path: str
    line: int

    @property
    def call(self) -> str:
        """The call as it is written: ``"torch.cuda.is_available()"``."""
        named = (f"{name}={value!r}" for name, value in self.kwargs.items())
        return f"{'.'.join(self.query)}({', '.join([*map(repr, self.args), *named])})"


class EarlyAnswers:
    """Answers queries about CUDA outside of tests, and records who of the project asked."""

    def __init__(self, gpus: Mapping[str, Gpu]) -> None:
        self._gpus = gpus
        self._gpu: list[str] = []  # the innermost context last
        self._real: dict[Query, Callable[..., Any]] = {}
        self._heard: dict[Query, Callable[..., Any]] = {}
        self._replaced: list[tuple[ModuleType, str, Any]] = []
        self._tables: dict[str, dict[Query, Callable[..., Any]]] = {}
        self._answering = False
        self._given: dict[tuple[Query, str, str, int], EarlyAnswer] = {}

    @contextmanager
    def answering(self, gpu: str) -> Iterator[None]:
        """Answer for a simulated GPU by name, or with an empty name record what torch itself answers."""
        self._gpu.append(gpu)
        late = LateModule("torch", lambda _: self._install())
        try:
            with late:
                yield
        finally:
            self._restore()
            self._gpu.pop()
            if self._gpu and "torch" in sys.modules:
                self._install()

    def differing(self, gpu: str, path: str, tests: Collection[str], *, skipped: bool = False) -> list[EarlyAnswer]:
        """Return the answers that a test in the file ``path`` may rely on and that ``gpu`` would not have given.

        An answer given to one of the files ``tests`` concerns the tests of that file only. One given to another file,
        such as a conftest.py or a module of the project, may concern every test. Those to conditions of skip marks only
        concern tests that were ``skipped``.
        """
        found = [each for each in self._given.values() if each.path == path or each.path not in tests]
        if not skipped:
            found = [each for each in found if each.line not in _skip_conditions(each.path)]
        return [each for each in found if each.gpu != gpu and self._would_answer(gpu, each) != each.answer]

    def expected(self, gpu: str, answer: EarlyAnswer) -> object:
        """Return what a GPU would have answered."""
        return self._would_answer(gpu, answer)

    def _would_answer(self, gpu: str, asked: EarlyAnswer) -> object:
        try:
            return self._table(gpu)[asked.query](*asked.args, **asked.kwargs)
        except Exception as error:  # noqa: BLE001  torch's own, where there is no GPU
            return error

    def _install(self) -> None:
        self._restore()
        if not self._gpu:
            return
        for query, real in self._queries():
            module, name = sys.modules[query[0]], query[1]
            if getattr(module, name) is real:  # a project may have put its own there
                self._replace(module, name, self._heard[query])
        if self._gpu[-1]:
            from pytest_flopguard.backends.torch_api.cuda import LAZY_INIT

            self._replace(sys.modules["torch.cuda"], LAZY_INIT, self._refuse)

    def _replace(self, module: ModuleType, name: str, replacement: Any) -> None:
        self._replaced.append((module, name, getattr(module, name)))
        setattr(module, name, replacement)

    def _restore(self) -> None:
        while self._replaced:
            module, name, real = self._replaced.pop()
            if getattr(module, name) in (*self._heard.values(), self._refuse):
                setattr(module, name, real)

    def _queries(self) -> Iterator[tuple[Query, Callable[..., Any]]]:
        for module, names in _QUERIES.items():
            for name in names:
                real = getattr(sys.modules.get(module), name, None)
                query = (module, name)
                if real is not None and query not in self._real:
                    self._real[query] = real
                    self._heard[query] = self._hearing(query, real)
        yield from self._real.items()

    def _hearing(self, query: Query, real: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(real)
        def answered(*args: Any, **kwargs: Any) -> Any:
            # A module that imported the function by name calls it in tests, too: there the device's answer counts.
            now = getattr(sys.modules[query[0]], query[1])
            if now is not answered and not self._answering:
                self._answering = True
                try:
                    return now(*args, **kwargs)
                finally:
                    self._answering = False
            caller = sys._getframe(1)
            if not self._gpu or now is not answered or _is_ours(caller):
                return real(*args, **kwargs)
            answer = self._table(self._gpu[-1])[query](*args, **kwargs)
            self._record(query, args, kwargs, answer, caller)
            return answer

        return answered

    def _table(self, gpu: str) -> dict[Query, Callable[..., Any]]:
        if not gpu:
            return self._real
        if gpu not in self._tables:
            from pytest_flopguard.backends.simulated.gpu_answers import answers

            self._tables[gpu] = answers(self._gpus[gpu])
        return self._tables[gpu]

    def _record(
        self, query: Query, args: tuple[Any, ...], kwargs: dict[str, Any], answer: object, caller: FrameType
    ) -> None:
        line = None if _is_torch_asking(caller) else _line_of_project(caller)
        if line is not None and query[1] != "set_device":  # which answers nothing
            given = EarlyAnswer(
                query=query, args=args, kwargs=kwargs, answer=answer, gpu=self._gpu[-1], path=line[0], line=line[1]
            )
            self._given.setdefault((query, given.gpu, *line), given)

    def _refuse(self) -> None:
        """Stand for torch.cuda's initialization, which whatever takes memory of a GPU calls first."""
        from pytest_flopguard.backends.simulated.cuda_kernels import not_simulated

        line = _line_of_project(sys._getframe(1))
        where = "memory of the GPU" if line is None else f"{Path(line[0]).name}:{line[1]}"
        raise not_simulated(
            where,
            "it uses the GPU before a test runs, and each test has a simulated GPU of its own; build models and "
            "tensors on cuda in the test or in a fixture of function scope, and on cpu elsewhere",
        )


def _line_of_project(frame: FrameType | None) -> tuple[str, int] | None:
    """Return file and line of the project's code that asked; None for a library that asked while it was imported."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_IMPORTER):
            return None
        if not (name.startswith(("<", _STANDARD)) or _is_ours(frame) or set(_LIBRARIES) & set(Path(name).parts)):
            return name, frame.f_lineno
        frame = frame.f_back
    return None


@cache
def _skip_conditions(path: str) -> frozenset[int]:
    """Return the lines of a file that are conditions of skip marks."""
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
    marks = [each for each in calls if isinstance(each.func, ast.Attribute) and each.func.attr in _SKIP_MARKS]
    return frozenset(line for each in marks for line in range(each.lineno, (each.end_lineno or each.lineno) + 1))


def _is_torch_asking(frame: FrameType) -> bool:
    # Many parts of torch ask in passing. Those that keep the answer are autocast and GradScaler.
    name = str(frame.f_globals.get("__name__", ""))
    return name.startswith("torch.") and not name.startswith(_KEEPERS)


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == _PACKAGE
