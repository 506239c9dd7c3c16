"""PyTorch: a module grown as a plan says, with its weights and the state of its optimizer."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from onnx import ModelProto

from onnx_net2net.errors import NotEquivalentError, RequestError
from onnx_net2net.io import Model, load
from onnx_net2net.planning.plan import Plan
from onnx_net2net.steps import take
from onnx_net2net.training.checkpoint import from_torch, to_torch
from onnx_net2net.training.course import Course, held_by, joined
from onnx_net2net.training.torch_modules import insert, resize
from onnx_net2net.training.weights import Growth, Report

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""By how much outputs may differ, relative to the largest value."""


@dataclass(frozen=True, slots=True)
class Training:
    """A grown module and what belongs to it.

    Attributes:
        module: The student.
        optimizer: An optimizer of the same class over the student's parameters, with its state.
        report: What became of each tensor.
        inexact: Parameters whose optimizer state has no exact image -> why.
    """

    module: Any
    optimizer: Any
    report: Report
    inexact: dict[str, str]


def grow(
    module: Any,
    teacher: Model,
    plan: Plan | str,
    inputs: Sequence[Any],
    *,
    reference: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
    keep: Sequence[str] = (),
) -> Any:
    """A copy of a module at the student's sizes, with weights that compute the same.

    Args:
        module: The module that was exported; it stays as it is.
        teacher: The ONNX model that it was exported to.
        plan: The plan that made the student, or its JSON.
        inputs: Positional arguments of the module, to compare both on.
        reference: The ``state_dict`` that was exported, if the module was trained on since.
        names: Checkpoint name -> initializer, where a choice is needed; see `onnx_net2net.training.Course`.
        keep: Globs of tensors that pass through as they are.

    Raises:
        RequestError: If a tensor cannot be matched, or a module cannot be made at its new size.
        NotEquivalentError: If the outputs differ, as they do where code writes sizes down.
    """
    for step in _steps(teacher, plan, reference, names):
        module = _grow(module, step, inputs, keep)[0]
    return module


def grow_training(
    module: Any,
    optimizer: Any,
    teacher: Model,
    plan: Plan | str,
    inputs: Sequence[Any],
    *,
    reference: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
    keep: Sequence[str] = (),
) -> Training:
    """`grow` for a module in training, with the state of its optimizer.

    Args and errors are those of `grow`; ``optimizer`` works on the parameters of ``module``. The new one has its
    class, options and groups. Parameters of inserted layers join its last group, without state.
    """
    made = Training(module, optimizer, Report((), {}, (), {}), {})
    reports: list[Report] = []
    for step in _steps(teacher, plan, reference, names):
        made = _train_on(made, step, inputs, keep)
        reports.append(made.report)
    return replace(made, report=joined(reports))


def _train_on(before: Training, step: _Step, inputs: Sequence[Any], keep: Sequence[str]) -> Training:
    """One step of a plan, for a module in training."""
    module, optimizer = before.module, before.optimizer
    name_of = {id(parameter): name for name, parameter in module.named_parameters()}
    if any(id(p) not in name_of for group in optimizer.param_groups for p in group["params"]):
        raise RequestError("it has parameters of another module", "give the module that it trains", op="optimizer")
    student, growth, inserted = _grow(module, step, inputs, keep)
    slots, inexact = growth.optimizer({name_of[id(p)]: to_arrays(b) for p, b in optimizer.state.items()})
    ours = dict(student.named_parameters())
    groups = [{**g, "params": [ours[name_of[id(p)]] for p in g["params"]]} for g in optimizer.param_groups]
    for group in groups:
        group.pop("param_names", None)
    held = {id(p) for group in groups for p in group["params"]}
    aliases = dict(module.named_parameters(remove_duplicate=False))
    for name, parameter in ours.items():  # what was shared and is no longer
        for group, held_once in zip(groups, optimizer.param_groups, strict=True):
            if id(parameter) not in held and any(aliases.get(name) is p for p in held_once["params"]):
                group["params"].append(parameter)
    groups[-1]["params"] += [ours[name] for name in inserted.values() if name in ours]
    made = type(optimizer)(groups)
    order = {id(p): i for i, p in enumerate(p for group in made.param_groups for p in group["params"])}
    state = made.state_dict()
    state["state"] = {order[id(ours[name])]: to_tensors(buffers) for name, buffers in slots.items()}
    made.load_state_dict(state)
    return Training(student, made, growth.report, {**inexact, **before.inexact})


def expand_optimizer_state(
    growth: Course, state: Mapping[str, Any], *, names: Sequence[str] | None = None, strict: bool = False
) -> tuple[dict[str, Any], dict[str, str]]:
    """The ``state_dict`` of an optimizer, grown; it fits an optimizer over the grown parameters in the same order.

    Args:
        growth: The checkpoint's way to the student.
        state: What ``optimizer.state_dict()`` gave.
        names: The parameters' names in the optimizer's order. Default: the names that the optimizer recorded, or
            for a single group the checkpoint's order, if shapes agree throughout.
        strict: Whether a buffer without an exact image is an error rather than reported.

    Returns:
        The new ``state_dict``, and the parameters whose state has no exact image -> why.

    Raises:
        RequestError: If the names do not follow, or a buffer is not known.
    """
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
        raise RequestError("it is not the state_dict of an optimizer", "save optimizer.state_dict()", op="optimizer")
    order = list(names) if names is not None else _parameter_names(growth, state)
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    if len(order) != len(numbers):
        wrong = f"it has {len(numbers)} parameters, not {len(order)}"
        raise RequestError(wrong, "name each of them", op="optimizer")
    name_of = dict(zip(numbers, order, strict=True))
    slots = {name_of[number]: to_arrays(buffers) for number, buffers in state["state"].items()}
    grown, inexact = growth.optimizer(slots, strict=strict)
    number_of = {name: number for number, name in name_of.items()}
    buffers = {number_of[name]: to_tensors(value) for name, value in grown.items()}
    return {**state, "state": buffers}, inexact


def _parameter_names(growth: Course, state: Mapping[str, Any]) -> list[str]:
    """The names of an optimizer's parameters, in its order."""
    groups = state["param_groups"]
    if all("param_names" in group for group in groups):
        return [name for group in groups for name in group["param_names"]]
    numbers = [number for group in groups for number in group["params"]]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    order = [name for name in growth.given if not name.endswith(statistics)]
    shapes = {number: _shape(buffers) for number, buffers in state["state"].items()}
    fits = len(order) == len(numbers) and all(
        shapes.get(number) in (None, growth.given[name].shape) for number, name in zip(numbers, order, strict=True)
    )
    if len(groups) > 1 or not fits:
        raise RequestError(
            "it does not say which parameter is which",
            "make it with model.named_parameters(), or give names in its order",
            op="optimizer",
        )
    return order


def _shape(buffers: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The shape of the parameter that buffers belong to; None if they do not say."""
    return next((tuple(v.shape) for v in buffers.values() if isinstance(v, torch.Tensor) and v.numel() > 1), None)


def state_of(module: Any) -> dict[str, np.ndarray[Any, Any]]:
    """A module's ``state_dict`` as numpy arrays."""
    return to_arrays(module.state_dict())


def to_arrays(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors as numpy arrays; all else stays."""
    return {key: from_torch(value) if isinstance(value, torch.Tensor) else value for key, value in tensors.items()}


def to_tensors(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `to_arrays`."""
    return {key: to_torch(value) if isinstance(value, np.ndarray) else value for key, value in arrays.items()}


@dataclass(slots=True)
class _Step:
    """One step of a plan, with its own teacher and what is known of the checkpoint's tensors by then."""

    teacher: ModelProto
    plan: Plan
    reference: dict[str, Any] | None
    names: dict[str, str]
    inserted: dict[str, str] = field(default_factory=dict)


def _steps(
    teacher: Model, plan: Plan | str, reference: Mapping[str, Any] | None, names: Mapping[str, str] | None
) -> Iterator[_Step]:
    """The steps of a plan; each learns from the one before which of the module's parameters were inserted."""
    model, known = load(teacher), dict(names or {})
    arrays = to_arrays(reference) if reference is not None else None
    for i, one in enumerate((Plan.from_json(plan) if isinstance(plan, str) else plan).steps):
        step = _Step(model, one, arrays, held_by(model, known) if i else known)
        yield step
        known |= {parameter: initializer for initializer, parameter in step.inserted.items()}
        if arrays is not None:
            grown = Growth(model, one, arrays, names=step.names).state
            arrays = {step.inserted.get(name, name): value for name, value in grown.items()}
        model = take(model, one)


def _grow(module: Any, step: _Step, inputs: Sequence[Any], keep: Sequence[str]) -> tuple[Any, Growth, dict[str, str]]:
    """The student, how it came to be, and what was inserted: initializer -> parameter."""
    growth = Growth(step.teacher, step.plan, state_of(module), reference=step.reference, names=step.names, keep=keep)
    student = copy.deepcopy(module)
    resize(student, growth)
    step.inserted = insert(student, growth, inputs)
    state = {step.inserted.get(name, name): value for name, value in growth.state.items()}
    missing, strange = student.load_state_dict(to_tensors(state), strict=False)
    if lost := [*strange, *(name for name in missing if not name.endswith("num_batches_tracked"))]:
        raise RequestError("the grown module does not have it", "insert it by hand", op="module", tensor=lost[0])
    _compare(module, student, inputs, exact=not (step.plan.noise or step.plan.random))
    return student, growth, step.inserted


def _compare(module: Any, student: Any, inputs: Sequence[Any], *, exact: bool) -> None:
    """Runs both in evaluation mode; with noise or random units they need not give the same.

    Raises:
        RequestError: If the student does not run.
        NotEquivalentError: If an output differs.
    """
    wanted = list(_outputs(module, inputs))
    try:
        got = list(_outputs(student, inputs))
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        wrong = f"the grown module does not run ({str(error).strip().splitlines()[0]})"
        raise RequestError(wrong, "its code may write sizes down; take them from the weights", op="module") from error
    if not wanted or len(wanted) != len(got):
        raise NotEquivalentError("there are no outputs to compare", "return tensors", op="module")
    for i, (left, right) in enumerate(zip(wanted, got, strict=True)):
        bound = TOLERANCE.get(left.dtype, 0.0) * float(left.abs().max()) if left.numel() else 0.0
        alike = left.shape == right.shape and (not exact or bool(((left - right).abs() <= bound).all()))
        if not alike:
            wrong = f"output {i} differs from that of the module before"
            raise NotEquivalentError(wrong, "its code may write sizes down; take them from the weights", op="module")


def _outputs(module: Any, inputs: Sequence[Any]) -> Iterator[Any]:
    """The tensors that a module returns in evaluation mode; its own mode stays."""
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            pending = [module(*inputs)]
    finally:
        for child, mode in modes.items():
            child.training = mode
    while pending:
        value = pending.pop(0)
        if isinstance(value, torch.Tensor):
            yield value.detach()
        elif isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, (tuple, list)):
            pending += value
