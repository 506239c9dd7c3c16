"""The document that all reports of a check are made from: the verdict, and what the two models are."""

from __future__ import annotations

import os
from typing import Any

from onnx_net2net.checking.verdict import Verdict
from onnx_net2net.errors import ModelError
from onnx_net2net.inference.graph import Graph
from onnx_net2net.io import weigh
from onnx_net2net.planning.budget import parameters
from onnx_net2net.storage.model import AnyModel


def check_document(
    teacher: str, student: str, verdict: Verdict, models: tuple[AnyModel, AnyModel] | None = None
) -> dict[str, Any]:
    """What a check came to.

    Args:
        teacher: What to call the teacher.
        student: What to call the student.
        verdict: The comparison.
        models: Both models, whose sizes are then reported too.
    """
    document = {"teacher": os.fspath(teacher), "student": os.fspath(student), **verdict.to_dict()}
    if models is None:
        return document
    before, after = (_parameters(model) for model in models)
    if before is not None and after is not None:
        document["parameters"] = {"before": before, "after": after}
    document["bytes"] = {"before": weigh(models[0]), "after": weigh(models[1])}
    return document


def failed_document(teacher: str, student: str, error: Exception) -> dict[str, Any]:
    """A check that came to nothing, with the reason."""
    verdict = Verdict(failure=" ".join(str(error).split()))
    return {**check_document(teacher, student, verdict), "error": True}


def _parameters(model: AnyModel) -> int | None:
    """The parameters of a model; None for one that runs, but whose graph cannot be analysed."""
    try:
        return parameters(Graph(model))
    except ModelError:
        return None
