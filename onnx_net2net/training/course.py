"""A checkpoint on its way through all steps of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_net2net.io import Model, load
from onnx_net2net.planning.plan import Plan
from onnx_net2net.steps import take
from onnx_net2net.training.weights import Change, Growth, Report, Slots, State


class Course:
    """A checkpoint that grows step by step, as a plan of one or several steps says.

    Args:
        teacher: The teacher: a path, a `ModelProto` or a `gs.Graph`.
        plan: The plan that made the student, or its JSON.
        state: The checkpoint: arrays by the framework's own names.
        reference: The checkpoint that was exported, if ``state`` is a later one; tensors are matched by its values.
        names: Checkpoint name -> name of the student's or teacher's initializer, where a choice is needed.
        keep: Globs of tensors that pass through as they are: the caller answers for it.

    Attributes:
        given: The checkpoint.
        state: The student's: weights of inserted layers have the names of the student's initializers.
        report: What became of each tensor.
        growths: One `Growth` for each step.

    Raises:
        ModelError: If the teacher cannot be read.
        RequestError: If the plan is not for this teacher, or a tensor cannot be matched without guessing.
    """

    def __init__(
        self,
        teacher: Model,
        plan: Plan | str,
        state: State,
        *,
        reference: State | None = None,
        names: Mapping[str, str] | None = None,
        keep: Sequence[str] = (),
    ) -> None:
        model = load(teacher)
        steps = (Plan.from_json(plan) if isinstance(plan, str) else plan).steps
        self.given = dict(state)
        self.state: dict[str, NDArray[Any]] = dict(state)
        self.growths: list[Growth] = []
        for i, step in enumerate(steps):
            known = held_by(model, names or {}) if i else dict(names or {})
            growth = Growth(model, step, self.state, reference=reference, names=known, keep=keep)
            if reference is not None and i + 1 < len(steps):
                reference = Growth(model, step, reference, names=known, keep=keep).state
            self.growths.append(growth)
            self.state = growth.state
            model = take(model, step) if i + 1 < len(steps) else model
        self.report = joined([growth.report for growth in self.growths])

    def optimizer(
        self, slots: Slots, *, powers: Mapping[str, int] | None = None, strict: bool = False
    ) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Grows an optimizer's state with the weights; see `Growth.optimizer`."""
        inexact: dict[str, str] = {}
        grown: dict[str, dict[str, Any]] = {name: dict(buffers) for name, buffers in slots.items()}
        for growth in self.growths:
            grown, why = growth.optimizer(grown, powers=powers, strict=strict)
            inexact = {**why, **inexact}
        return grown, inexact


def held_by(model: ModelProto, names: Mapping[str, str]) -> dict[str, str]:
    """Of names that a caller gave, those whose initializer a later step's teacher still has."""
    held = {tensor.name for tensor in model.graph.initializer}
    return {tensor: name for tensor, name in names.items() if name in held}


def joined(reports: Sequence[Report]) -> Report:
    """One report of several steps."""
    changes: dict[str, Change] = {}
    for report in reports:
        for change in report.changes:
            first = changes.get(change.tensor, change)
            roles = tuple(b or a for a, b in zip(first.roles, change.roles, strict=True))
            changes[change.tensor] = replace(first, after=change.after, roles=roles)
    added = {item.tensor: item for report in reports for item in report.added}
    grown = [replace(item, shape=changes[name].after) if name in changes else item for name, item in added.items()]
    sizes = {node: values for report in reports for node, values in report.sizes.items()}
    kept = {name: why for report in reports for name, why in report.kept.items() if name not in changes}
    constants = {node: value for report in reports for node, value in report.constants.items()}
    return Report(tuple(c for name, c in changes.items() if name not in added), kept, tuple(grown), sizes, constants)


def expand_checkpoint(
    teacher: Model,
    plan: Plan | str,
    state: State,
    *,
    reference: State | None = None,
    names: Mapping[str, str] | None = None,
    keep: Sequence[str] = (),
) -> tuple[dict[str, NDArray[np.generic]], Report]:
    """The student's checkpoint under the framework's own names, and what became of each tensor.

    Args and errors are those of `Course`, which can grow optimizer state as well.
    """
    course = Course(teacher, plan, state, reference=reference, names=names, keep=keep)
    return course.state, course.report
