"""An expansion: a teacher, a plan, and the student that it makes."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from onnx import ModelProto

from onnx_net2net._version import __version__
from onnx_net2net.checking.verdict import Verdict
from onnx_net2net.checking.verify import verify
from onnx_net2net.deepening.deepen import check_layers
from onnx_net2net.errors import NotEquivalentError, RequestError, UsageError
from onnx_net2net.inference.infer import infer
from onnx_net2net.io import digest, save
from onnx_net2net.planning.plan import Plan, check_teacher
from onnx_net2net.planning.planner import complete
from onnx_net2net.planning.request import pinned_by
from onnx_net2net.steps import start, take

PREFIX = "onnx_net2net."
RANDOM = "random units or layers do not compute what the teacher does"


class Expansion:
    """A student in the making: the plan, and the model once it is asked for.

    Attributes:
        teacher: The teacher.
        plan: What makes the student.
        skipped: Axes that were wanted and keep their size, or places that get no layer -> why.
        pinned: What pins the other axes of weights -> how many axes.
    """

    def __init__(self, teacher: ModelProto, plan: Plan, skipped: Mapping[str, str], pinned: Mapping[str, int]) -> None:
        self.teacher = teacher
        self.plan = plan
        self.skipped = dict(skipped)
        self.pinned = dict(pinned)
        self.provenance = True
        self._verdict: Verdict | None = None

    @cached_property
    def exact(self) -> ModelProto:
        """The student without noise, which equals the teacher unless units or layers are random."""
        return functools.reduce(lambda model, step: take(model, step, noise=False), self.plan.steps, self.teacher)

    @cached_property
    def model(self) -> ModelProto:
        """The student; with noise if the plan asks for it."""
        if not self.plan.noisy:
            return self.exact
        return functools.reduce(take, self.plan.steps, self.teacher)

    @classmethod
    def chain(cls, teacher: ModelProto, parts: Sequence[Expansion]) -> Expansion:
        """One expansion that takes all steps, each on the student of the one before."""
        plans = [step for part in parts for step in part.plan.steps]
        skipped = {name: why for part in parts for name, why in part.skipped.items()}
        made = cls(teacher, dataclasses.replace(plans[0], then=tuple(plans[1:])), skipped, parts[-1].pinned)
        made.exact = parts[-1].exact  # it is there already
        return made

    def verify(self, **options: Any) -> Verdict:
        """Runs teacher and student and compares them; see `onnx_net2net.verify` for the options.

        With noise in the plan the student without it is compared. ``per_layer`` follows the plan from tensor to tensor.
        A plan that changes something claims growth.

        Raises:
            MissingError: If onnxruntime or a provider is not there.
        """
        options = {"grown": self.plan.changes, **options}
        verdict = verify(self.teacher, self.exact, plan=self.plan, **options)
        if not {"rtol", "atol"} & options.keys():  # what was held to another bar does not count for saving
            self._verdict = verdict
        return verdict

    def drift(self, **options: Any) -> Verdict:
        """How far noise moves the outputs."""
        return verify(self.teacher, self.model, **options)

    def save(self, path: str | os.PathLike[str], verify: bool = True) -> Path:
        """Verifies once, then writes the student; writes nothing if that failed.

        Raises:
            NotEquivalentError: If the student differs from its teacher.
            MissingError: If onnxruntime is missing; ``verify=False`` goes without it.
            ModelError: If the file cannot be written.
            UsageError: If units or layers are random and ``verify`` is not off.
        """
        if verify and self.plan.random:
            raise UsageError(RANDOM, "save without verification (--no-verify)", op="init")
        if verify:
            verdict = self._verdict if self._verdict is not None else self.verify()
            if not verdict:
                raise NotEquivalentError(verdict.reason, "nothing was written", op="student")
        save(self._with_provenance() if self.provenance else self.model, path)
        return Path(path)

    def _with_provenance(self) -> ModelProto:
        """The student with our own metadata; that of the exporter stays as it is."""
        model = ModelProto()
        model.CopyFrom(self.model)
        keys = {
            "version": __version__,
            "teacher": digest(self.teacher),
            "seed": str(self.plan.seed),
            "plan": self.plan.digest(),
        }
        if self.plan.noisy:
            keys["noise"] = repr(max(step.noise for step in self.plan.steps))
        if self.plan.random:
            keys["init"] = "random"
        ours = {PREFIX + key: value for key, value in keys.items()}
        for entry in model.metadata_props:
            if entry.key in ours:
                entry.value = ours.pop(entry.key)
        for key, value in ours.items():
            model.metadata_props.add(key=key, value=value)
        return model


def from_plan(teacher: ModelProto, plan: Plan | str) -> Expansion:
    """Applies a saved plan after deriving it again, step by step, so that an edited one cannot do harm.

    Raises:
        RequestError: If it was made for another model, or does not follow from its own maps.
    """
    given = Plan.from_json(plan) if isinstance(plan, str) else plan
    made: list[Expansion] = []
    for step in given.steps:
        made.append(_again(made[-1].exact if made else teacher, step))
    return made[0] if len(made) == 1 else Expansion.chain(teacher, made)


def _again(teacher: ModelProto, given: Plan) -> Expansion:
    base = start(teacher, given)
    check_teacher(given, base)
    found = infer(base)
    if given.deepens:
        return Expansion(teacher, check_layers(found, given), {}, {})
    again = complete(found, given.axes, seed=given.seed, split=given.split, noise=given.noise, init=given.init)
    if dataclasses.replace(again, inlined=given.inlined) != given:
        raise RequestError("it does not follow from its own maps", "make it again with --plan-out", op="plan")
    return Expansion(teacher, given, {}, pinned_by(found))
