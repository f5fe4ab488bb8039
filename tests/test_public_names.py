from __future__ import annotations

import subprocess
import sys

import pytest

import pytest_flopguard


@pytest.mark.parametrize("name", pytest_flopguard.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(pytest_flopguard, name) is not None


def test_no_other_name_is() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        pytest_flopguard.Nothing  # noqa: B018


def test_public_names_come_without_torch() -> None:
    code = "import sys; from pytest_flopguard import *; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
