"""What a baseline makes of other inputs, and of another config of the model."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]

TESTS = """
def test_a(): forward()

def test_b(): forward()
"""


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def test_a_changed_workload_is_no_regression_and_fails(project: Project, run: Run) -> None:
    project(TESTS)
    run("--flop-update=new")
    project("def test_a(): nn.Linear(8, 8)(torch.zeros(32, 8))\n\ndef test_b(): forward()\n")
    result = run("--flop-budget")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["the workload changed: inputs of Linear: float32[[]16, 8[]] before, float32[[]32, 8[]] now *workload-changed*"]
    )
    assert "over-baseline" not in result.stdout.str()
    run("--flop-update=changed", "--flop-reason=longer texts").assert_outcomes(passed=2)
    run("--flop-budget").assert_outcomes(passed=2)


# A model with a config, in the way of transformers. A layer: 2 * 16 * 8 * 8 = 2,048 FLOPs.
CONFIGURED = """
class Config:
    model_type = "stack"

    def __init__(self, num_hidden_layers):
        self.num_hidden_layers = num_hidden_layers

    def to_dict(self):
        return {{"model_type": self.model_type, "num_hidden_layers": self.num_hidden_layers}}

class Stack(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(config.num_hidden_layers)))

    def forward(self, x):
        return self.layers(x)

def test_a():
    Stack(Config({layers}))(torch.zeros(16, 8))
"""


def test_a_changed_config_is_the_cause_of_a_regression(project: Project, run: Run) -> None:
    project(CONFIGURED.format(layers=2))
    run("--flop-update=new")
    project(CONFIGURED.format(layers=4))
    result = run("--flop-budget")
    result.assert_outcomes(failed=1)
    # 4 * 2,048 = 8,192 against 2 * 2,048 = 4,096.
    result.stdout.fnmatch_lines(
        [
            "FLOPs: 8.19 kFLOP, over the baseline of 4.1 kFLOP*over-baseline*",
            "*What the model's config was before, and is now",
            "*config num_hidden_layers: 2 before, 4 now",
        ]
    )
    assert "workload-changed" not in result.stdout.str()
    project(CONFIGURED.format(layers=1))
    less = run("--flop-budget", "-rA")
    less.assert_outcomes(passed=1, warnings=1)
    less.stdout.fnmatch_lines(["*under the baseline of 4.1 kFLOP*"])
