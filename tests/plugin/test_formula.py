"""``formula = "auto"`` and ``flopguard.expect`` in a real run of pytest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

# Runs in this process drop the modules that they import; parts of torch do not survive being imported twice.
from transformers import LlamaForCausalLM, OPTForCausalLM  # noqa: F401

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]

LLAMA = """
from transformers import LlamaConfig, LlamaForCausalLM

TOKENS = torch.ones(2, 16, dtype=torch.long)

def llama(**sizes):
    return LlamaForCausalLM(LlamaConfig(**{
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 8,
        "num_key_value_heads": 2, "vocab_size": 100, **sizes,
    }))

"""
# B=2, L=2, s=16, h=64, kv=16, ff=96, V=100: 64*(2*(64*96 + 64*64 + 3*64*96) + 6,400) + 4*2*2*256*64 = 4,341,760.
FORWARD = 4_341_760


def test_a_marker_holds_a_test_to_the_closed_form(project: Project, run_both: Run) -> None:
    project(
        LLAMA
        + """
@pytest.mark.flop_budget(formula="auto")
def test_training():
    llama()(input_ids=TOKENS, labels=TOKENS).loss.backward()

@pytest.mark.flop_budget(formula="auto")
def test_other_work():
    llama()(TOKENS)
    torch.ones(4, 4) @ torch.ones(4, 4)

@pytest.mark.flop_budget(formula="auto", flops="1 FLOP")
def test_a_limit_holds_beside_it():
    llama()(TOKENS)
"""
    )
    result = run_both("--flop-budget")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "FLOPs: 4,341,888 FLOP counted, and the closed form says 4,341,760 FLOP, 128 FLOP (<0.01%) more "
            "?formula-differs?",
            "*formula   4,341,760 FLOP",
            "*no term: (outside any module) * 128 * +128*",
            "FLOPs: 4.34 MFLOP, over the limit of 1 FLOP *over-budget?",
        ]
    )


def test_pyproject_and_regions(project: Project, run: Run, report: Callable[[], dict[str, Any]]) -> None:
    project(
        LLAMA
        + """
def test_whole():
    llama()(TOKENS)

def test_regions(flopguard):
    with flopguard.measure("first", formula="auto"):
        llama()(TOKENS).logits.sum().backward()
    with flopguard.measure("second", formula="auto"):
        llama(num_hidden_layers=1)(TOKENS)
    flopguard.check(llama(), TOKENS, formula="auto")
    with flopguard.measure("third", formula="auto"), torch.no_grad():
        llama()(TOKENS)
""",
        '[tool.flopguard.budgets]\n"test_model.py::test_whole" = { formula = "auto" }\n',
    )
    run("--flop-budget", "--flop-report=report.json").assert_outcomes(passed=2)
    found = [each for record in report()["records"] for each in record["findings"] if each["source"] == "formula"]
    # One layer costs (4,341,760 - 2*32*6,400) / 2 = 1,966,080 less.
    # Sorted by test: the regions, then test_whole.
    expected = [3 * FORWARD, FORWARD - 1_966_080, FORWARD, FORWARD, FORWARD]
    assert [each["low"] for each in found] == [each["high"] for each in found] == expected
    assert {each["status"] for each in found} == {"met"}
    assert {each["origin"]["path"] for each in found} == {"pytest_flopguard/formulas/architectures/transformer.py"}
    assert all(each["origin"]["line"] for each in found)


def test_what_has_no_closed_form(project: Project, run: Run) -> None:
    project(
        LLAMA
        + """
from transformers import OPTConfig, OPTForCausalLM

@pytest.mark.flop_budget(formula="auto")
def test_unknown():
    small = OPTConfig(hidden_size=64, ffn_dim=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=100,
                      word_embed_proj_dim=64)
    OPTForCausalLM(small)(TOKENS)

@pytest.mark.flop_budget(formula="auto")
def test_none():
    forward()

@pytest.mark.flop_budget(formula="auto")
def test_frozen():
    model = llama()
    model.model.layers[0].requires_grad_(False)
    model(TOKENS).logits.sum().backward()

@pytest.mark.flop_budget(formula="auto", severity="warn")
def test_warned():
    forward()
"""
    )
    result = run("--flop-budget")
    result.assert_outcomes(passed=1, failed=3, warnings=1)
    result.stdout.fnmatch_lines_random(
        [
            "FLOPs: no closed form for the architecture 'opt'; did you mean 'mpt'?; *unknown-architecture?",
            "FLOPs: no model with a config ran, so there is no closed form to hold the count to ?no-model?",
            "FLOPs: the config of 'llama': LlamaForCausalLM: 9 parameters want no gradient*?bad-config?",
            "  state   the closed form yourself, by flopguard.expect, in place of test_model.py:*",
        ]
    )


def test_only_auto_is_a_formula(project: Project, run: Run) -> None:
    project('\n@pytest.mark.flop_budget(formula="llama")\ndef test_f():\n    pass\n')
    result = run("--flop-budget")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*formula = 'llama': expected 'auto'*bad-value?"])


def test_a_misspelt_formula(project: Project, run: Run) -> None:
    project('\n@pytest.mark.flop_budget(formla="auto")\ndef test_f():\n    pass\n')
    result = run("--flop-budget")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown budget quantity 'formla'; did you mean 'formula'?*"])


def test_explaining_a_formula(project: Project, run: Run) -> None:
    project(
        '\n@pytest.mark.flop_budget(formula="auto", flops="9 GFLOP")\ndef test_f():\n    pass\n',
        '[tool.flopguard.default-budget]\nformula = "auto"\nflops = "1 GFLOP"\n',
    )
    result = run("--flop-explain", "test_model.py::test_f")
    result.stdout.fnmatch_lines(
        [
            "    holds  at most 9 GFLOP",
            "    loses  at most 1 GFLOP: a marker comes before the default",
            "    holds  exactly the closed form of the models that run",
            "    loses  exactly the closed form of the models that run: a marker comes before the default",
        ]
    )


def test_an_engine_that_sees_no_models(project: Project, run: Run) -> None:
    project(
        LLAMA + "\ndef test_f(flopguard):\n    flopguard.check(llama(use_cache=False), TOKENS, formula='auto')\n",
        '[tool.flopguard]\nengine = "fvcore"\n',
    )
    result = run("--flop-budget")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the fvcore engine does not tell which models ran*"])


EXPECT = """
from pytest_flopguard import Breakdown, Term

# [16, 8] @ [8, 8]: the input wants no gradient, so backward is as much as forward.
FORM = Breakdown(name="linear", terms=(Term(name="linear", equation="2*n*h*h", each=2048, backward_each=2048),))

"""


def test_expectations_of_ones_own(project: Project, run: Run) -> None:
    project(
        EXPECT
        + """
def test_forward(flopguard):
    flopguard.expect(FORM)
    forward()

def test_backward(flopguard):
    with flopguard.measure("step"):
        flopguard.expect(FORM)
        flopguard.expect(FORM, quantity="backward_flops")
        flopguard.expect(72, quantity="parameters")
        forward().sum().backward()

def test_wrong(flopguard):
    flopguard.expect(2 * FORM)
    forward()

def test_wrong_number(flopguard):
    flopguard.expect(2049)
    forward()
"""
    )
    result = run("--flop-budget")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "FLOPs: 2,048 FLOP counted, and the closed form says 4,096 FLOP, 2,048 FLOP (50.00%) less *",
            "FLOPs: 2,048 FLOP counted, and the closed form says 2,049 FLOP, 1 FLOP (0.05%) less ?formula-differs?",
            "*written   test_model.py:*",
            "  linear        4,096 *2*n*h*h",
        ]
    )


def test_expectations_that_cannot_be(project: Project, run: Run) -> None:
    project(
        EXPECT
        + """
def test_quantity(flopguard):
    flopguard.expect(1, quantity="flps")

def test_fraction(flopguard):
    flopguard.expect(1.5)

def test_memory_of_a_form(flopguard):
    flopguard.expect(FORM, quantity="peak_memory")
"""
    )
    result = run("--flop-budget")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines_random(
        ["*unknown budget quantity 'flps'; did you mean 'flops'?*", "*1.5*", "*a closed form is of flops*"]
    )


def test_off_they_do_nothing(project: Project, run: Run) -> None:
    project(
        EXPECT
        + """
def test_off(flopguard):
    flopguard.expect(1)
    with flopguard.measure("x", formula="auto"):
        forward()
    flopguard.check(nn.Linear(8, 8), torch.zeros(1, 8), formula="auto")
"""
    )
    run().assert_outcomes(passed=1)


def test_an_optimizer_that_multiplies_is_not_the_model(project: Project, run: Run) -> None:
    project(
        LLAMA
        + """
class Rotating(torch.optim.SGD):
    def step(self, closure=None):
        torch.ones(4, 4) @ torch.ones(4, 4)

@pytest.mark.flop_budget(formula="auto")
def test_step():
    model = llama()
    optimizer = Rotating(model.parameters(), lr=0.1)
    model(TOKENS).logits.sum().backward()
    optimizer.step()
"""
    )
    run("--flop-budget").assert_outcomes(passed=1)
