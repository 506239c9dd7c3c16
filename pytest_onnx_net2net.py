"""The pytest plugin of onnx-net2net: a fixture. It lies beside the package, so that only its use imports onnx."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def assert_onnx_equivalent() -> Callable[..., Any]:
    """`onnx_net2net.testing.assert_onnx_equivalent`: asserts that two models compute the same function."""
    from onnx_net2net.testing import assert_onnx_equivalent as function  # noqa: PLC0415

    return function
