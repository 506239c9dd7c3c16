"""The steps of a plan: the student that each makes, and where the teacher's tensors are in the last one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import overload

import numpy as np
from onnx import ModelProto
from onnx.inliner import inline_local_functions

from onnx_net2net.algebra.axes import Dim, Index, index, touches
from onnx_net2net.deepening.deepen import apply as insert_layers
from onnx_net2net.errors import RequestError
from onnx_net2net.inference.infer import infer
from onnx_net2net.planning.plan import Plan, check_teacher
from onnx_net2net.planning.planner import as_planned, complete
from onnx_net2net.storage.model import AnyModel, LazyModel, proto_of, with_proto
from onnx_net2net.widening.apply import apply as widen_axes
from onnx_net2net.widening.rewrite import is_filler

Image = Mapping[int, Index]
"""For each dimension that grew: the unit of the teacher's tensor that each of the student's units holds."""
FILLER = -1
"""In place of a unit of the teacher: there is none."""


@overload
def take(model: ModelProto, step: Plan, noise: bool = True) -> ModelProto: ...
@overload
def take(model: LazyModel, step: Plan, noise: bool = True) -> LazyModel: ...
def take(model: AnyModel, step: Plan, noise: bool = True) -> AnyModel:
    """The student that one step of a plan makes."""
    base = start(model, step)
    student = widen_axes(base, step, noise=noise) if step.axes else base
    return insert_layers(student, step) if step.deepens else student


@overload
def start(model: ModelProto, step: Plan) -> ModelProto: ...
@overload
def start(model: LazyModel, step: Plan) -> LazyModel: ...
def start(model: AnyModel, step: Plan) -> AnyModel:
    """What a step starts from: the model, its functions inlined if an axis has to pass through one."""
    return with_proto(model, inline_local_functions(proto_of(model))) if step.inlined else model


def images(teacher: AnyModel, plan: Plan) -> dict[str, Image]:
    """Where each computed tensor of the teacher is in the student: in the tensor of its name, gathered like this.

    Tensors that the student holds times a power of eta, or in shares of the teacher's units, are left out.

    Raises:
        RequestError: If the plan was made for another model.
    """
    found: dict[str, Image] | None = None
    model, steps = teacher, plan.steps
    for i, step in enumerate(steps):
        base = start(model, step)
        check_teacher(step, base)
        inferred = as_planned(infer(base), step)
        fillings = [
            inferred.axes[axis.name].filling for axis in step.axes if axis.filler and axis.name in inferred.axes
        ]
        scaled = {name for filling in fillings if filling is not None for name in filling.powers}
        shared = {name for name, names in inferred.shared.items() if not step.maps.keys().isdisjoint(names)}
        kept = inferred.graph.varying - scaled - shared
        here = {name: _image(dims, step) for name, dims in inferred.dims.items() if name in kept}
        if found is None:
            found = here
        else:
            found = {name: _both(image, here[name]) for name, image in found.items() if name in here}
        if i + 1 < len(steps):
            model = take(model, step, noise=False)
    return found or {}


def check_borders(teacher: AnyModel, plan: Plan) -> None:
    """Makes sure that graph inputs and outputs hold what the maps of a plan say, since it may come from a file.

    Raises:
        RequestError: If they do not, or the plan was made for another model.
    """
    model, steps = teacher, plan.steps if any(step.borders for step in plan.steps) else ()
    for i, step in enumerate(steps):
        base = start(model, step)
        check_teacher(step, base)
        found = as_planned(infer(base, allow=[border.name for border in step.borders]), step)
        again = complete(found, step.axes, seed=step.seed, split=step.split, noise=step.noise, init=step.init)
        if again.borders != step.borders:
            wrong = "its inputs and outputs hold something else than its maps say"
            raise RequestError(wrong, "make the plan again with --plan-out", op="plan")
        if i + 1 < len(steps):
            model = take(model, step, noise=False)


def _image(dims: tuple[Dim, ...], step: Plan) -> Image:
    maps = step.maps
    grown = [(axis, dim) for axis, dim in enumerate(dims) if touches(dim, maps)]
    return {axis: np.where(is_filler(dim, step), FILLER, index(dim, maps)) for axis, dim in grown}


def _both(first: Image, second: Image) -> Image:
    """One image after another."""
    return {
        **second,
        **{axis: _then(units, second[axis]) if axis in second else units for axis, units in first.items()},
    }


def _then(first: Index, second: Index) -> Index:
    return np.where(second == FILLER, FILLER, first[second])
