"""The daily loop from the first number to an accepted change, on a model that gets dearer in four ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., pytest.RunResult]

# Width 32, 8 heads of 4, 2 of them for keys and values, 2 layers; texts of 16 tokens, attention within each 8 of them.
MODEL = """
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint


class Attention(nn.Module):
    def __init__(self, kv_heads, full_mask):
        super().__init__()
        self.kv_heads, self.full_mask = kv_heads, full_mask
        self.q_proj = nn.Linear(32, 32, bias=False)
        self.k_proj = nn.Linear(32, 4 * kv_heads, bias=False)
        self.v_proj = nn.Linear(32, 4 * kv_heads, bias=False)
        self.o_proj = nn.Linear(32, 32, bias=False)

    def forward(self, x):
        window = 16 if self.full_mask else 8
        q = self.q_proj(x).view(-1, window, 8, 4).transpose(1, 2)
        k, v = (
            part(x).view(-1, window, self.kv_heads, 4).transpose(1, 2).repeat_interleave(8 // self.kv_heads, 1)
            for part in (self.k_proj, self.v_proj)
        )
        y = scaled_dot_product_attention(q, k, v, attn_mask=torch.ones(window, window, dtype=torch.bool))
        return self.o_proj(y.transpose(1, 2).reshape(-1, 16, 32))


class Block(nn.Module):
    def __init__(self, kv_heads, full_mask):
        super().__init__()
        self.attn = Attention(kv_heads, full_mask)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, x):
        x = x + self.attn(x)
        return x + self.mlp(x)


class Gpt(nn.Module):
    def __init__(self, layers=2, kv_heads=2, full_mask=False, checkpointing=False):
        super().__init__()
        self.layers = nn.ModuleList(Block(kv_heads, full_mask) for _ in range(layers))
        self.checkpointing = checkpointing

    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if self.checkpointing else layer(x)
        return x


def masked():
    return Gpt(full_mask=False)


def deep():
    return Gpt(layers=2)


def grouped():
    return Gpt(kv_heads=2)


def checkpointed():
    return Gpt(checkpointing=True)
"""

TESTS = """
import model
import torch


def text():
    return torch.zeros(1, 16, 32)


def test_mask():
    model.masked()(text())


def test_depth():
    model.deep()(text())


def test_heads():
    model.grouped()(text())


def test_train_step():
    gpt = model.checkpointed()
    gpt(torch.zeros(8, 16, 32)).sum().backward()
"""

PYPROJECT = """
[tool.pytest.ini_options]
pythonpath = ["."]
addopts = ["--import-mode=importlib"]

[tool.flopguard]
enabled = true
"""

# What somebody changes in the model, the test that sees it, and the lines that name the part and the cause.
REGRESSIONS = {
    "dense mask": (
        ("full_mask=False)\n\n\ndef deep", "full_mask=True)  # simpler\n\n\ndef deep"),
        "test_mask",
        # 4 * 16 * 16 * 4 FLOPs in each of 8 heads and 2 layers are 65,536; 2 windows of 8 by 8 needed half: 32,768.
        [
            "FLOPs: * over the baseline of *",
            "*+32.77 kFLOP*Gpt.layers.0-1.attn  x2  (larger operands: aten.*attention* costs 2.00 times what it did)",
        ],
    ),
    "doubled layer": (
        ("layers=2)", "layers=2 * 2)"),
        "test_depth",
        [
            "FLOPs: * over the baseline of *",
            "  new: Gpt.layers.2-3, *",
            "*Gpt.layers.2-3.mlp.0,2  x4  (did not run before: aten.addmm)",
        ],
    ),
    "lost GQA": (
        ("kv_heads=2)\n\n\ndef checkpointed", "kv_heads=8)  # all of them\n\n\ndef checkpointed"),
        "test_heads",
        # 2 * 16 * 32 * 8 = 8,192 FLOPs before, four times that now, in each of 2 layers: 49,152 more.
        [
            "FLOPs: * over the baseline of *",
            "*+49.15 kFLOP*Gpt.layers.0-1.attn.k_proj  x2  (larger operands: aten.mm costs 4.00 times what it did)",
        ],
    ),
    "checkpointing removed": (
        ("checkpointing=True", "checkpointing=not True"),
        "test_train_step",
        [
            "peak memory on cpu: * over the baseline of *",
            "  recompute * -> 0 FLOP: checkpointing is off",
            "*Gpt.layers.0-1.attn.q_proj  x2  (no longer done again in backward)",
            "What cpu held at its peak: *",
            "*+*activations, before *",
            "  by module",
            "*+*activations  Gpt.layers.*.mlp.0*, before 0 B",
            "*activations  Gpt.layers.0-1.mlp.0  x2  aten.addmm  *model*.py:* in forward",
        ],
    ),
}


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def write(folder: Path, model: str = MODEL, module: str = "model") -> None:
    (folder / "tests").mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "tests" / "test_gpt.py").write_text(TESTS.replace("import model\n", f"import {module} as model\n"))
    (folder / f"{module}.py").write_text(model)


def change(model: str, name: str) -> str:
    old, new = REGRESSIONS[name][0]
    assert model.count(old) == 1
    return model.replace(old, new)


def section(result: pytest.RunResult, test: str) -> pytest.LineMatcher:
    """Return the lines of one test's failure."""
    lines = result.outlines
    start = next(index for index, line in enumerate(lines) if line.startswith("___") and f" {test} " in line)
    end = next(index for index in range(start + 1, len(lines)) if lines[index].startswith(("___", "===")))
    return pytest.LineMatcher(lines[start:end])


@pytest.mark.slow
def test_each_regression_is_caught_named_accepted_and_green(pytester: pytest.Pytester, run: Run) -> None:
    write(pytester.path)
    first = run()
    first.assert_outcomes(passed=4)
    first.stdout.fnmatch_lines(["flopguard: no baseline yet *", "*::test_train_step", "*no budget"])
    run("--flop-update=new").assert_outcomes(passed=4)
    run().assert_outcomes(passed=4)
    model = MODEL
    for name, (_, test, lines) in REGRESSIONS.items():
        model = change(model, name)
        write(pytester.path, model)
        caught = run()
        caught.assert_outcomes(passed=3, failed=1)
        section(caught, test).fnmatch_lines(lines)
        accepted = run("--flop-update=changed", f"--flop-reason={name}", "-k", test)
        accepted.assert_outcomes(passed=1, deselected=3)
        accepted.stdout.fnmatch_lines(["tests/__flopguard__/test_gpt.toml", f"*changed*{test}", f"*reason: {name}"])
        run().assert_outcomes(passed=4)
    kept = (pytester.path / "tests" / "__flopguard__" / "test_gpt.toml").read_text()
    assert all(f'reason = "{name}"' in kept for name in REGRESSIONS)


def test_a_mask_that_hides_less_is_named(pytester: pytest.Pytester, run: Run) -> None:
    test = """
        import torch

        def test_mask():
            x = torch.zeros(1, 8, 16, 4)
            torch.nn.functional.scaled_dot_product_attention(x, x, x, CAUSAL)
        """
    pytester.makepyprojecttoml('[tool.flopguard]\nenabled = true\nattention = "causal"\n')
    pytester.makepyfile(test_mask=test.replace("CAUSAL", "is_causal=True"))
    run("--flop-update=new").assert_outcomes(passed=1)
    pytester.makepyfile(test_mask=test.replace("CAUSAL", "is_causal=False"))
    caught = run()
    caught.assert_outcomes(failed=1)
    # 16 * 15 / 2 = 120 of 256 pairs were hidden, of 4 * 4 FLOPs each, in 8 heads: 15,360.
    caught.stdout.fnmatch_lines(["*+15.36 kFLOP*(a mask hides less: 15.36 kFLOP before, 0 FLOP now)"])


@pytest.mark.slow
def test_two_workers_catch_and_accept_them_all(pytester: pytest.Pytester) -> None:
    def run(*flags: str) -> pytest.RunResult:
        return pytester.runpytest_subprocess("-n", "2", *flags)

    write(pytester.path)
    run("--flop-update=new").assert_outcomes(passed=4)
    model = MODEL
    for name in REGRESSIONS:
        model = change(model, name)
    write(pytester.path, model)
    caught = run()
    caught.assert_outcomes(failed=4)
    for _, test, lines in REGRESSIONS.values():
        section(caught, test).fnmatch_lines(lines)
    run("--flop-update=changed", "--flop-reason=all of it").assert_outcomes(passed=4)
    run().assert_outcomes(passed=4)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "-n 2"])
def test_the_story_in_a_repository_with_two_projects(
    pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    """Both projects have a pyproject.toml; runs start in a project and in the folder around them, and say the same."""
    if workers:
        run = lambda *flags: pytester.runpytest_subprocess(*workers, *flags)  # noqa: E731
    for name in ("a", "b"):
        write(pytester.path / name, module=f"model_{name}")
        monkeypatch.chdir(pytester.path / name)
        run("--flop-update=new").assert_outcomes(passed=4)
    monkeypatch.chdir(pytester.path)
    (pytester.path / "pyproject.toml").write_text(PYPROJECT.replace('["."]', '["a", "b"]'))
    run().assert_outcomes(passed=8)
    model = MODEL
    for name in REGRESSIONS:
        model = change(model, name)
    write(pytester.path / "b", model, module="model_b")
    before = (pytester.path / "a" / "tests" / "__flopguard__" / "test_gpt.toml").read_bytes()
    for folder, passed in (("b", 0), ("", 4)):
        monkeypatch.chdir(pytester.path / folder)
        caught = run()
        caught.assert_outcomes(passed=passed, failed=4)
        for _, test, lines in REGRESSIONS.values():
            section(caught, test).fnmatch_lines(lines)
    # Accepted from the root, of the one project only; green from there and from inside.
    accepted = run("--flop-update=changed", "--flop-reason=all of it")
    accepted.assert_outcomes(passed=8)
    accepted.stdout.fnmatch_lines(["b/tests/__flopguard__/test_gpt.toml", "*changed*test_mask"])
    assert (pytester.path / "a" / "tests" / "__flopguard__" / "test_gpt.toml").read_bytes() == before
    for folder, passed in (("", 8), ("a", 4), ("b", 4)):
        monkeypatch.chdir(pytester.path / folder)
        run().assert_outcomes(passed=passed)


def test_budgets_of_two_projects_hold_from_outside_of_both(
    pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write(pytester.path / name, module=f"model_{name}")
    monkeypatch.chdir(pytester.path)
    (pytester.path / "pyproject.toml").write_text(PYPROJECT.replace('["."]', '["a", "b"]'))
    with (pytester.path / "b" / "pyproject.toml").open("a") as file:
        file.write('[tool.flopguard.budgets."tests/test_gpt.py::test_depth"]\nparameters = 1\n')
    result = run("-k", "test_depth")
    result.assert_outcomes(passed=1, failed=1, deselected=6)
    section(result, "test_depth").fnmatch_lines(["parameters: * over the limit of 1 by *", "*b/pyproject.toml:9*"])
