"""For tests of other projects: an assertion that two models compute the same function."""

from __future__ import annotations

from typing import Any

from onnx_net2net.checking.verdict import Verdict
from onnx_net2net.checking.verify import verify
from onnx_net2net.io import Model

__all__ = ["assert_onnx_equivalent"]


def assert_onnx_equivalent(teacher: Model, student: Model, **options: Any) -> Verdict:
    """Asserts that two models give the same outputs for the same inputs.

    Args:
        teacher: The reference: a path, a `ModelProto` or a `gs.Graph`.
        student: The model under test.
        **options: As for `onnx_net2net.verify`, such as ``inputs``, ``samples``, ``dims`` and ``rtol``.

    Returns:
        The verdict.

    Raises:
        AssertionError: If they differ, with every output's numbers.
        ModelError: If a model cannot be read or run.
        MissingError: If onnxruntime is not there.
    """
    __tracebackhide__ = True
    verdict = verify(teacher, student, **options)
    if not verdict:
        raise AssertionError("\n".join([f"the models are not equivalent: {verdict.reason}", *_lines(verdict)]))
    return verdict


def _lines(verdict: Verdict) -> list[str]:
    """An output in each line, and what was left out."""
    outputs = [
        f"  {output.name}: max_abs {output.max_abs:.3g}, max_rel {output.max_rel:.3g}, "
        f"tolerance {output.tolerance:.3g}, {output.failure or 'equal'}"
        for output in verdict.outputs
    ]
    return outputs + [f"  {notice}" for notice in verdict.notices]
