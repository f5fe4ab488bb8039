"""The lines to paste do register the op."""

from __future__ import annotations

import textwrap
from types import SimpleNamespace

import pytest

from pytest_flopguard.core.expectation import Origin
from pytest_flopguard.core.measurement import NO_FORMULA, Cost, OpCall, UnknownOp
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import Registry
from pytest_flopguard.reporters.unknown_ops import unknown_op_lines


def unknown(op: str, call: str, reason: str = NO_FORMULA) -> UnknownOp:
    return UnknownOp(op=op, call=call, module="layers.0", phase="forward", calls=3, reason=reason)


def pasted(*ops: UnknownOp, result: str) -> Registry:
    """Do what the text says: paste the hook, put a result for the dots, and let it register."""
    lines = list(unknown_op_lines(ops, []))
    start = lines.index("    def pytest_flopguard_formulas(registry):")
    end = lines.index("Or write there, in place of a formula:")
    code = textwrap.dedent("\n".join(lines[start:end])).replace("...", result)
    names: dict[str, object] = {}
    exec(code, names)
    registry = Registry()
    names["pytest_flopguard_formulas"](registry)  # type: ignore[operator]
    return registry


def test_the_reason_is_the_registrys_own() -> None:
    assert Registry().cost(OpCall(op="mylib.x")).reason == NO_FORMULA


def test_a_pasted_formula_takes_the_call_that_ran() -> None:
    x, w = TensorSpec((8, 16)), TensorSpec((16, 64))
    op = unknown("mylib.fused_mlp", "mylib.fused_mlp(float32[8, 16], [float32[16, 64], 3], scale=0.5, mode='a, b)')")
    registry = pasted(op, result="2 * a.numel * b[0].shape[1] if scale and mode else out")
    call = OpCall(
        op="mylib.fused_mlp", args=(x, (w, 3)), kwargs={"scale": 0.5, "mode": "a, b)"}, out=TensorSpec((8, 64))
    )
    # [8, 16] @ [16, 64]: 2 * 8 * 16 * 64 = 16,384.
    assert registry.cost(call) == Cost(kind="counted", flops=16_384)


@pytest.mark.parametrize(
    ("call", "signature"),
    [
        ("my.op(float32[2])", "def op(a, *, out):"),
        ("my.op()", "def op(*, out):"),
        ("my.op(float32[2], out=float32[2])", "def op(a, *, out):"),
        ("my.op(float32[2], [1, 2], (3, 4), {5: 6})", "def op(a, b, c, d, *, out):"),
        ("my.op(float32[2], 'it, is', alpha=1)", "def op(a, b, *, alpha, out):"),
        # What cannot be read is left open, and Python accepts it.
        ("my.op(float32[2], ...", "def op(*args, out):"),
        ("my.op([1, 2)", "def op(*args, out):"),
        ("my.op('it)", "def op(*args, out):"),
        (f"my.op({', '.join(['1'] * 40)})", "def op(*args, out):"),
    ],
)
def test_signatures(call: str, signature: str) -> None:
    lines = [line.strip() for line in unknown_op_lines([unknown("my.op", call)], [])]
    assert signature in lines
    compile(f"{signature} ...", "signature", "exec")


@pytest.mark.parametrize(
    ("op", "name"),
    [("my.lambda", "lambda_"), ("my.2d", "_2d"), ("my.a-b", "a_b"), ("plain", "plain"), ("my._", "formula")],
)
def test_names_are_python_names(op: str, name: str) -> None:
    lines = [line.strip() for line in unknown_op_lines([unknown(op, f"{op}(float32[2])")], [])]
    assert f"def {name}(a, *, out):" in lines
    assert name.isidentifier()


def test_several_ops_register_side_by_side() -> None:
    registry = pasted(unknown("my.a", "my.a(1)"), unknown("my.b", "my.b(1, 2)"), result="7")
    assert [each.op for each in registry.entries()] == ["my.a", "my.b"]


def test_the_other_ways_register_too() -> None:
    lines = [line.strip() for line in unknown_op_lines([unknown("my.a", "my.a(1)")], [])]
    for kind in ("free", "uncounted"):
        registry = Registry()
        exec(next(line for line in lines if line.startswith(f"registry.{kind}(")), {"registry": registry})
        assert [(each.op, each.kind) for each in registry.entries()] == [("my.a", kind)]


def test_no_formula_is_offered_where_none_would_help(build: SimpleNamespace) -> None:
    # The op has a formula already: a second one would be refused.
    symbolic = unknown("aten.mm", "aten.mm(float32[?], float32[?])", reason="the shape (s0, 4) is symbolic")
    text = "\n".join(unknown_op_lines([symbolic], []))
    assert "the shape (s0, 4) is symbolic" in text
    assert "registry" not in text
    both = "\n".join(unknown_op_lines([symbolic, build.fused_mlp()], []))
    assert '@registry.op("mylib.fused_mlp")' in both
    assert '@registry.op("aten.mm")' not in both


def test_warning_takes_the_open_limits_along() -> None:
    lines = list(unknown_op_lines([unknown("my.a", "my.a(1)")], [Origin(path="pyproject.toml", line=7)]))
    assert lines[-2:] == [
        'Or let unknown ops warn everywhere: unknown-ops = "warn" under [tool.flopguard] in pyproject.toml',
        '  and so must the limit that they leave open: severity = "warn" at pyproject.toml:7',
    ]
