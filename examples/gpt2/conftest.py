from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--over",
        action="store_true",
        help="break one budget on purpose: activation checkpointing, which pays for memory with FLOPs",
    )


@pytest.fixture
def over(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--over"))
