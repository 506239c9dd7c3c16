"""Verification: runs teacher and student in onnxruntime on the same inputs and compares every output."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from onnx import ModelProto, TensorProto, helper

from onnx_net2net.checking.claims import SAME, constants, grew, interface, weights
from onnx_net2net.checking.compare import compare, equal
from onnx_net2net.checking.crossing import Crossing
from onnx_net2net.checking.device import device_of, examine
from onnx_net2net.checking.histogram import histogram
from onnx_net2net.checking.inputs import Bounds, Feeds, Inputs, Samples, open_sums, samples_for
from onnx_net2net.checking.layers import Layers, compare_layers
from onnx_net2net.checking.probes import judge
from onnx_net2net.checking.process import runner
from onnx_net2net.checking.runs import FIRST, MORE, Runs, can_run, fits, run_probed
from onnx_net2net.checking.runtime import Runner, available, settled
from onnx_net2net.checking.segments import in_segments
from onnx_net2net.checking.sources import write
from onnx_net2net.checking.tolerance import Bars, Tolerance, check_names, working_type
from onnx_net2net.checking.upcast import HALF
from onnx_net2net.checking.verdict import OutputVerdict, Verdict
from onnx_net2net.errors import ModelError, RequestError
from onnx_net2net.io import Model, weigh
from onnx_net2net.planning.borders import gathered
from onnx_net2net.planning.plan import Plan, check_teacher
from onnx_net2net.steps import check_borders, images, start
from onnx_net2net.storage.model import LazyModel

Scope = Literal["full", "sample"]
LEAST, MOST, WORK = 3, 24, 24 * 2**23
"""Samples at least and at most, and what they come to times the weights of the model."""


def verify(
    teacher: Model | LazyModel,
    student: Model | LazyModel,
    *,
    inputs: Inputs = None,
    samples: int | None = None,
    seed: int = 0,
    providers: Sequence[str] = ("cpu",),
    rtol: Tolerance = None,
    atol: Tolerance = None,
    dims: Mapping[str, int] | None = None,
    plan: Plan | str | None = None,
    per_layer: bool | None = False,
    isolate: bool = False,
    timeout: float | None = None,
    max_memory: int | None = None,
    threads: int | None = None,
    strict: bool = False,
    ranges: Bounds | None = None,
    probes: bool = True,
    save_inputs: str | os.PathLike[str] | None = None,
    grown: bool = False,
    scope: Scope | None = None,
) -> Verdict:
    """Compares two models on the same inputs.

    Args:
        teacher: The reference: a path, a `ModelProto` or a `gs.Graph`.
        student: The model under test.
        inputs: Inputs by name, several such samples, or where they are: an ``.npz`` file, a folder of ``.npy`` files
            or of ONNX test data, or ``module:function``. By default seeded normal values, and integers in the range
            that the nodes which read them allow.
        samples: How many samples to draw; by default 24, down to 3 for models of more than 8 million weights.
        seed: Seed of the draws.
        providers: ``cpu``, ``cuda`` or onnxruntime's own names.
        rtol: Relative tolerance in place of the measured one: |a - b| <= atol + rtol * max|a|. A number, or numbers
            by output, ``*`` being the rest.
        atol: Absolute tolerance in place of the measured one, in the same way.
        dims: Sizes of dynamic dimensions, by symbol or by ``input:dim``.
        plan: The plan that made the student, which says where the teacher's tensors are in it, and which units its
            inputs and outputs hold where these are wider.
        per_layer: Whether to compare all tensors on the way too, in ``Verdict.layers``: by the plan, and then one
            that diverges is a failure, or without one by name and shape. None does so where an output differs, up to
            the first tensor that diverges.
        isolate: Whether onnxruntime runs in a child process, so that its crash is an error and not the end.
        timeout: Seconds that onnxruntime may take in all; runs it in a child process.
        max_memory: Bytes that onnxruntime's process may hold in memory; runs it in a child process.
        threads: Threads of onnxruntime; by default as many as there are cores.
        strict: Whether it is a failure that a node which computes something runs on another provider than the first.
        ranges: Smallest and largest value to draw, by input.
        probes: Whether to compare on zeros, large and one-hot values too, where inputs are drawn. A probe on which
            the teacher gives NaN, or its own rounding moves it too far, is left out with a notice.
        save_inputs: An ``.npz`` file to write the samples to.
        grown: Whether the student claims to be larger than its teacher; one that is not then fails.
        scope: ``full`` runs both models whole. ``sample`` runs them segment by segment, each on the teacher's own
            activations: for models that do not fit into memory, less strict (the bars are those of ``per_layer``). By
            default ``sample`` only if the student would take more than the memory that there is.

    Returns:
        A verdict for each output. An output passes if max|a-b| / max|a| is at most ten times the rounding that was
        measured: what graph optimisations change in the teacher, or another order of its units, whichever is more.
        2e-6 (float64 1e-12, float16 2e-3, bfloat16 2e-2) always pass, more than 1e-3 (float16 2e-2, bfloat16 1e-1)
        never does; see docs/mutations.md. NaN, Inf, no outputs, or outputs that change less between inputs than the
        tolerance allows fail: they would prove nothing.

    Raises:
        MissingError: If onnxruntime or a provider is not there.
        ModelError: If a model cannot be run.
        RequestError: If the plan was made for another teacher, or says of inputs and outputs what its maps do not.
        UsageError: If a tolerance is for an output that is not there.
    """
    with (
        runner(isolate, timeout, max_memory, threads) as runtime,
        settled(teacher) as first,
        settled(student) as second,
    ):
        made = Plan.from_json(plan) if isinstance(plan, str) else plan
        if made is not None:
            check_teacher(made, start(first, made))
            check_borders(first, made)
        for tolerance, option in ((rtol, "rtol"), (atol, "atol")):
            check_names(tolerance, (value.name for value in first.graph.output), option)
        names = available(runtime, providers)
        device = device_of(names, strict)
        crossing = Crossing(made.crossings if made is not None else {})
        mismatch = interface(first, second, crossing.units) or (SAME if grown and not grew(first, second) else "")
        if mismatch:
            return Verdict(failure=mismatch, providers=tuple(names))
        draw = partial(samples_for, first, inputs, seed=seed, dims=dims or {}, ranges=ranges)
        if scope == "sample" or (scope is None and not _has_room(second, max_memory)):
            few = draw(samples or LEAST, vary=False, probes=False)
            return _in_segments(runtime, (first, second), made, few.plain, names, rtol, atol)
        draw = partial(draw, enough(first) if samples is None else samples, probes=probes)
        chosen = draw() if inputs is not None else _fitting(runtime, first, draw, names, dims or {})
        if save_inputs is not None:
            write(chosen, Path(save_inputs))
        runs = run_probed(runtime, first, second, chosen, names, crossing)
        verdict = _judge(runs, _bars(runs, first, rtol, atol), quick=enough(first) < MOST)
        if device:
            models = {"teacher": runs.teacher, "student": runs.student}
            plain = runs.feeds[: runs.plain]
            given = {"teacher": plain, "student": crossing.feeds(plain)}
            mine = crossing.back(runs.teacher, runs.ordinary(runs.mine))
            seen = examine(runtime, models, mine, given, names, strict, crossing)
            verdict = replace(verdict, device=seen, failure=verdict.failure or seen.failure(strict))
        if per_layer or (per_layer is None and any(output.failure for output in verdict.outputs)):
            feeds = runs.showing({output.probe for output in verdict.outputs})
            layers = _layers(runs, feeds, first, made, wanted=bool(per_layer))
            return replace(verdict, layers=layers, failure=verdict.failure or _inside(layers, made))
        return verdict


def _fitting(
    runtime: Runner, teacher: ModelProto, draw: Callable[..., Samples], names: Sequence[str], dims: Mapping[str, int]
) -> Samples:
    """Samples of sizes that the teacher runs on: all kinds, or all alike, or one the sum of two others."""
    chosen = draw()
    if fits(runtime, teacher, chosen.plain, names):
        return chosen
    alike, ways = draw(vary=False), open_sums(teacher, dims)
    if not ways or can_run(runtime, teacher, alike.plain, names):
        return alike
    summed = (draw(sums=way) for way in ways)
    return next((samples for samples in summed if can_run(runtime, teacher, samples.plain, names)), alike)


def enough(model: ModelProto) -> int:
    """How many samples to draw where nobody says: more would find units that are seldom active, and take longer."""
    return min(MOST, max(LEAST, WORK // max(1, weights(model))))


def _has_room(model: ModelProto, limit: int | None) -> bool:
    """Whether onnxruntime can hold a model, for which it needs its weights about twice."""
    if limit is None:
        with suppress(AttributeError, ValueError, OSError):  # not every system tells
            limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return limit is None or 2 * weigh(LazyModel(model)) < limit


def _in_segments(
    runtime: Runner,
    models: tuple[ModelProto, ModelProto],
    plan: Plan | None,
    feeds: Sequence[Feeds],
    names: Sequence[str],
    rtol: Tolerance,
    atol: Tolerance,
) -> Verdict:
    """The verdict of a comparison segment by segment; outputs are held to the bars of all other tensors."""
    places = None if plan is None else images(models[0], plan)
    found = in_segments(runtime, *models, feeds, names, places)
    seen = {tensor.name: tensor.tolerance for tensor in found.layers.tensors}
    kinds = {name: _type_of(column) for name, column in found.mine.items()}
    bars = Bars(kinds, kinds, seen if rtol is None and atol is None else rtol, atol)
    units = {} if plan is None else plan.crossings
    wanted = {name: [gathered(value, units.get(name, {})) for value in column] for name, column in found.mine.items()}
    outputs = tuple(compare(name, column, found.theirs[name], {}, bars) for name, column in wanted.items())
    failure = str(found.layers.first) if found.layers.first else ""
    told = f"run in {found.segments} segments, each on the teacher's own activations"
    return Verdict(outputs, failure, len(feeds), tuple(names), layers=found.layers, notices=(told,))


def _bars(runs: Runs, declared: ModelProto, rtol: Tolerance, atol: Tolerance) -> Bars:
    """What outputs are held to, by the types that the teacher declares, or else gives, and computes in."""
    columns = zip(declared.graph.output, runs.mine, strict=True)
    kinds = {value.name: value.type.tensor_type.elem_type or _type_of(column) for value, column in columns}
    worked = {
        name: TensorProto.FLOAT if runs.raised and kind in HALF else working_type(kind, runs.teacher)
        for name, kind in kinds.items()
    }
    return Bars(kinds, worked, rtol, atol)


def _type_of(values: Sequence[object]) -> int:
    """ONNX's number of the element type of an output; 0 if it is none."""
    found = values[0] if values else None
    return helper.np_dtype_to_tensor_dtype(found.dtype) if isinstance(found, np.ndarray) else 0


def _judge(runs: Runs, bars: Bars, *, quick: bool) -> Verdict:
    """The verdict on what both models gave; ``quick`` asks permuted teachers only where an output fails."""
    names = tuple(runs.providers)
    fixed = constants(runs.teacher) & constants(runs.student)
    if fixed >= bars.kinds.keys():
        return Verdict(failure="all outputs are constants, which proves nothing", providers=names)
    outputs: tuple[OutputVerdict, ...] = ()
    for permuted in (0, FIRST, FIRST + MORE) if quick else (FIRST, FIRST + MORE):
        if runs.ask(permuted) or not outputs:
            outputs = _compare_all(runs, bars, fixed)
        if not any(o.failure and o.noises and bars.may_pass(o.name, o.max_rel) for o in outputs):
            break
    outputs, notices = judge(runs, outputs, fixed, bars)
    columns = zip(outputs, runs.ordinary(runs.mine), runs.ordinary(runs.theirs), strict=True)
    outputs = tuple(replace(output, histogram=histogram(a, b)) for output, a, b in columns)
    return Verdict(outputs, "", runs.plain, names, runs.raised, notices=notices)


def _compare_all(runs: Runs, bars: Bars, fixed: Collection[str]) -> tuple[OutputVerdict, ...]:
    """How each output compares on the samples that are no probes."""
    n, verdicts = runs.plain, []
    for at, name in enumerate(bars.kinds):
        mine, theirs = runs.mine[at][:n], runs.theirs[at][:n]
        others = {way: [outputs[at][:n] for outputs in ways] for way, ways in runs.yardsticks.items()}
        verdicts.append(equal(name, mine, theirs) if name in fixed else compare(name, mine, theirs, others, bars))
    return tuple(verdicts)


def _inside(layers: Layers | None, plan: Plan | None) -> str:
    """What differs on the way where a plan says that it must not, even if the outputs hide it on these inputs."""
    return str(layers.first) if layers is not None and layers.first is not None and plan is not None else ""


def _layers(
    runs: Runs, feeds: Sequence[Feeds], teacher: ModelProto, plan: Plan | None, *, wanted: bool
) -> Layers | None:
    """All tensors on the way; where nobody asked, those up to the first that diverges, or None if that is hard."""
    try:
        places = None if plan is None else images(teacher, plan)
        models, given = (runs.teacher, runs.student), runs.crossing.feeds(feeds)
        return compare_layers(runs.runtime, *models, feeds, runs.providers, places, given=given, stop=not wanted)
    except (ModelError, RequestError):
        if wanted:
            raise
        return None
