"""One guarded test: what runs on every system that the package claims. CI runs it alone on macOS and Windows."""

from __future__ import annotations

import subprocess
import sys

import pytest


# [16, 8] @ [8, 4]: 2 * 16 * 8 * 4 = 1,024 FLOPs. Parameters: 8 * 4 + 4 = 36.
@pytest.mark.flop_budget(flops=1024, parameters=36)
def test_a_linear_is_counted() -> None:
    import torch

    torch.nn.Linear(8, 4)(torch.zeros(16, 8))


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, pytest_flopguard, pytest_flopguard.plugin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "code", "words"), [(1024, 0, "1 passed"), (1023, 1, "over-budget")])
def test_a_limit_holds_and_breaks(pytester: pytest.Pytester, limit: int, code: int, words: str) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.flop_budget(flops={limit})
        def test_linear():
            import torch

            torch.nn.Linear(8, 4)(torch.zeros(16, 8))
        """
    )
    result = pytester.runpytest_subprocess("--flop-budget")
    assert result.ret == code
    result.stdout.fnmatch_lines([f"*{words}*"])


def test_off_does_not_import_torch(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import sys\ndef test_off(): assert 'torch' not in sys.modules")
    assert pytester.runpytest_subprocess().ret == 0
