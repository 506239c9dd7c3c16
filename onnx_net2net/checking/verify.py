"""Verification: runs teacher and student in onnxruntime on the same inputs and compares every output."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from onnx import ModelProto

from onnx_net2net.checking.device import device_of, examine
from onnx_net2net.checking.histogram import histogram
from onnx_net2net.checking.inputs import Array, Bounds, Feeds, Inputs, Samples, graph_inputs, samples_for
from onnx_net2net.checking.layers import Layers, compare_layers
from onnx_net2net.checking.permuted import permuted
from onnx_net2net.checking.probes import Limits, judge, moved, runnable
from onnx_net2net.checking.process import runner
from onnx_net2net.checking.runtime import NoKernel, Runner, Stopped, available, run_on
from onnx_net2net.checking.sources import write
from onnx_net2net.checking.upcast import upcast
from onnx_net2net.checking.verdict import CEILING, FLOOR, NOISE_FACTOR, OutputVerdict, Verdict, compare, equal
from onnx_net2net.errors import ModelError, RequestError
from onnx_net2net.io import Model, load
from onnx_net2net.planning.plan import Plan, check_teacher
from onnx_net2net.steps import images, start

PERMUTED = 2
"""Permuted teachers that are asked where graph optimisations show too little noise."""


def verify(
    teacher: Model,
    student: Model,
    *,
    inputs: Inputs = None,
    samples: int = 3,
    seed: int = 0,
    providers: Sequence[str] = ("cpu",),
    rtol: float | None = None,
    atol: float | None = None,
    dims: Mapping[str, int] | None = None,
    plan: Plan | str | None = None,
    per_layer: bool | None = False,
    isolate: bool = False,
    timeout: float | None = None,
    max_memory: int | None = None,
    strict: bool = False,
    ranges: Bounds | None = None,
    probes: bool = True,
    save_inputs: str | os.PathLike[str] | None = None,
) -> Verdict:
    """Compares two models on the same inputs.

    Args:
        teacher: The reference: a path, a `ModelProto` or a `gs.Graph`.
        student: The model under test.
        inputs: Inputs by name, several such samples, or where they are: an ``.npz`` file, a folder of ``.npy`` files
            or of ONNX test data, or ``module:function``. By default seeded normal values, and integers in the range
            that the nodes which read them allow.
        samples: How many samples to draw.
        seed: Seed of the draws.
        providers: ``cpu``, ``cuda`` or onnxruntime's own names.
        rtol: Relative tolerance in place of the measured one: |a - b| <= atol + rtol * max|a|.
        atol: Absolute tolerance in place of the measured one.
        dims: Sizes of dynamic dimensions, by symbol or by ``input:dim``.
        plan: The plan that made the student, which says where the teacher's tensors are in it.
        per_layer: Whether to compare all tensors on the way too, in ``Verdict.layers``: by the plan, or without one
            by name and shape. None does so where an output differs, up to the first tensor that diverges.
        isolate: Whether onnxruntime runs in a child process, so that its crash is an error and not the end.
        timeout: Seconds that onnxruntime may take in all; runs it in a child process.
        max_memory: Bytes that onnxruntime's process may hold in memory; runs it in a child process.
        strict: Whether it is a failure that a node which computes something runs on another provider than the first.
        ranges: Smallest and largest value to draw, by input.
        probes: Whether to compare on zeros, large and one-hot values too, where inputs are drawn. A probe on which
            the teacher gives NaN, or its own rounding moves it too far, is left out with a notice.
        save_inputs: An ``.npz`` file to write the samples to.

    Returns:
        A verdict for each output. An output passes if max|a-b| / max|a| is at most 1e-5 (float16 2e-3,
        bfloat16 2e-2), or 20 times what graph optimisations alone change, or where that is not enough 20 times
        what another order of the teacher's own units changes, whichever is larger and never more than 1e-2.
        NaN, Inf, no outputs, or outputs that change less between inputs than the tolerance allows fail: they
        would prove nothing.

    Raises:
        MissingError: If onnxruntime or a provider is not there.
        ModelError: If a model cannot be run.
        RequestError: If the plan was made for another teacher.
    """
    with runner(isolate, timeout, max_memory) as runtime:
        first, second = load(teacher), load(student)
        made = Plan.from_json(plan) if isinstance(plan, str) else plan
        if made is not None:
            check_teacher(made, start(first, made))
        names = available(runtime, providers)
        device = device_of(names, strict)
        mismatch = _interface(first, second)
        if mismatch:
            return Verdict(failure=mismatch, providers=tuple(names))
        draw = partial(samples_for, first, inputs, samples, seed, dims or {}, ranges=ranges, probes=probes)
        chosen = draw()
        if inputs is None and not _fits(runtime, first, chosen.plain, names):
            chosen = draw(vary=False)
        if save_inputs is not None:
            write(chosen, Path(save_inputs))
        runs = _run_probed(runtime, first, second, chosen, names)
        verdict = _judge(runs, rtol, atol)
        if device:
            models = {"teacher": runs.teacher, "student": runs.student}
            seen = examine(runtime, models, runs.ordinary(runs.mine), runs.feeds[: runs.plain], names, strict)
            verdict = replace(verdict, device=seen, failure=verdict.failure or seen.failure(strict))
        if per_layer or (per_layer is None and any(output.failure for output in verdict.outputs)):
            feeds = runs.showing({output.probe for output in verdict.outputs})
            return replace(verdict, layers=_layers(runs, feeds, first, made, wanted=bool(per_layer)))
        return verdict


def _judge(runs: _Runs, rtol: float | None, atol: float | None) -> Verdict:
    """The verdict on what both models gave."""
    names = tuple(runs.providers)
    fixed = _constants(runs.teacher) & _constants(runs.student)
    if fixed >= {value.name for value in runs.teacher.graph.output}:
        return Verdict(failure="all outputs are constants, which proves nothing", providers=names)
    outputs = _compare_all(runs, fixed, rtol, atol)
    if rtol is None and atol is None and any(o.failure and o.max_rel <= CEILING for o in outputs):
        runs.add_permuted()
        outputs = _compare_all(runs, fixed, rtol, atol)
    outputs, notices = judge(runs, outputs, fixed, _limits(runs, rtol, atol))
    columns = zip(outputs, runs.ordinary(runs.mine), runs.ordinary(runs.theirs), strict=True)
    outputs = tuple(replace(output, histogram=histogram(a, b)) for output, a, b in columns)
    return Verdict(outputs, "", runs.plain, names, runs.raised, notices=notices)


def _layers(
    runs: _Runs, feeds: Sequence[Feeds], teacher: ModelProto, plan: Plan | None, *, wanted: bool
) -> Layers | None:
    """All tensors on the way; where nobody asked, those up to the first that diverges, or None if that is hard."""
    try:
        places = None if plan is None else images(teacher, plan)
        return compare_layers(runs.runtime, runs.teacher, runs.student, feeds, runs.providers, places, stop=not wanted)
    except (ModelError, RequestError):
        if wanted:
            raise
        return None


@dataclass(slots=True)
class _Runs:
    """What both models give, output by output and sample by sample.

    Attributes:
        runtime: onnxruntime.
        teacher: The teacher as it was run.
        student: The student as it was run.
        feeds: The samples, the probes last.
        probes: Names of the probes.
        left_out: Probes that the teacher cannot run, and why.
        providers: Where it ran.
        raised: Whether half types were raised to float32, as onnxruntime has no kernels for them.
        mine: The teacher's outputs.
        theirs: The student's.
        yardsticks: The teacher's, computed in ways that only rounding tells apart.
    """

    runtime: Runner
    teacher: ModelProto
    student: ModelProto
    feeds: Sequence[Feeds]
    providers: Sequence[str]
    raised: bool
    mine: list[list[Array]]
    theirs: list[list[Array]]
    yardsticks: list[list[list[Array]]]
    probes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    permuted: bool = False

    @property
    def plain(self) -> int:
        """How many samples are no probes."""
        return len(self.feeds) - len(self.probes)

    def showing(self, failed: set[str]) -> list[Feeds]:
        """The samples that are no probes, and the probes on which an output fails."""
        names = [""] * self.plain + list(self.probes)
        return [feed for name, feed in zip(names, self.feeds, strict=True) if not name or name in failed]

    def ordinary(self, columns: list[list[Array]]) -> list[list[Array]]:
        """Outputs on the samples that are no probes."""
        return [column[: self.plain] for column in columns]

    def add_permuted(self) -> None:
        """Adds the permuted teacher to the yardsticks, where the teacher can be permuted."""
        self.permuted = True
        for seed in range(PERMUTED):
            model = permuted(self.teacher, seed)
            if model is not None:
                self.yardsticks.append(run_on(self.runtime, model, self.feeds, self.providers))

    def moved(self) -> list[list[Array]]:
        """The teacher's outputs on probes that are moved by as little as rounding is, by output and probe."""
        probes = dict(zip(self.probes, self.feeds[self.plain :], strict=True))
        return run_on(self.runtime, self.teacher, moved(probes), self.providers)


def _compare_all(runs: _Runs, fixed: set[str], rtol: float | None, atol: float | None) -> tuple[OutputVerdict, ...]:
    kinds = {value.name: value.type.tensor_type.elem_type for value in runs.teacher.graph.output}
    columns = zip(kinds.items(), runs.mine, runs.theirs, zip(*runs.yardsticks, strict=True), strict=True)
    n = runs.plain
    return tuple(
        equal(name, a, b)
        if name in fixed
        else compare(name, kind, a[:n], b[:n], [other[:n] for other in others], rtol, atol)
        for (name, kind), a, b, others in columns
    )


def _limits(runs: _Runs, rtol: float | None, atol: float | None) -> Limits:
    """What the probes of an output are held to, from its place and its scale on ordinary samples."""
    kinds = [value.type.tensor_type.elem_type for value in runs.teacher.graph.output]

    def limits(place: int, scale: float) -> tuple[float, float, float]:
        if rtol is not None or atol is not None:
            own = (rtol or 0.0) + (atol or 0.0) / (scale or 1.0)
            return own, NOISE_FACTOR, own
        floor = FLOOR.get(kinds[place], 1e-5)
        return floor, NOISE_FACTOR, max(CEILING, floor)

    return limits


def _interface(first: ModelProto, second: ModelProto) -> str:
    """How the inputs and outputs of two models differ, or an empty string."""
    if not first.graph.output:
        return "no outputs were compared"
    for model in (first, second):
        if len({value.name for value in model.graph.output}) < len(model.graph.output):
            raise ModelError("two outputs have one name", "give every tensor a name of its own", op="graph output")
    for kind in ("input", "output"):
        a, b = ({v.name: v for v in getattr(m.graph, kind)} for m in (first, second))
        if kind == "input":
            a, b = ({v.name: v for v in graph_inputs(m)} for m in (first, second))
        if a.keys() != b.keys():
            return f"the {kind}s differ: {sorted(a.keys() ^ b.keys())}"
        for name in a:
            if a[name].type.tensor_type.elem_type != b[name].type.tensor_type.elem_type:
                return f"{kind} '{name}' differs in type"
    return ""


def _fits(runtime: Runner, model: ModelProto, feeds: Sequence[Feeds], providers: Sequence[str]) -> bool:
    """Whether the teacher runs at all sizes that were drawn for its dynamic dimensions."""
    shapes = [{name: value.shape for name, value in feed.items()} for feed in feeds]
    if all(shape == shapes[0] for shape in shapes):
        return True
    try:
        run_on(runtime, model, feeds, providers, optimise=False)
    except Stopped:
        raise
    except ModelError:
        return False
    except NoKernel:
        return True
    return True


def _run_probed(
    runtime: Runner, teacher: ModelProto, student: ModelProto, samples: Samples, providers: Sequence[str]
) -> _Runs:
    """Runs all samples; without the probes that the teacher cannot run, if there are such.

    Raises:
        ModelError: If a model cannot be run.
    """
    left_out: dict[str, str] = {}

    def ask(feed: Feeds) -> None:
        with suppress(NoKernel):  # which has nothing to do with the numbers
            run_on(runtime, teacher, [feed], providers)

    try:
        runs = _run_all(runtime, teacher, student, samples.feeds, providers)
    except Stopped:
        raise
    except ModelError:
        left_out = runnable(samples.probes, ask, ModelError)
        if not left_out:
            raise
        samples = Samples(samples.plain, {name: f for name, f in samples.probes.items() if name not in left_out})
        runs = _run_all(runtime, teacher, student, samples.feeds, providers)
    runs.probes, runs.left_out = tuple(samples.probes), left_out
    return runs


def _run_all(
    runtime: Runner, teacher: ModelProto, student: ModelProto, feeds: Sequence[Feeds], providers: Sequence[str]
) -> _Runs:
    """Runs the teacher, the teacher without graph optimisations, and the student.

    Raises:
        ModelError: If one cannot be run.
    """
    raised = False
    while True:
        try:
            mine = run_on(runtime, teacher, feeds, providers)
            plain = run_on(runtime, teacher, feeds, providers, optimise=False)
            theirs = run_on(runtime, student, feeds, providers, who="student")
            return _Runs(runtime, teacher, student, feeds, providers, raised, mine, theirs, [plain])
        except NoKernel as error:
            if raised:
                wrong = f"onnxruntime has no kernel for an operator and its type ({error})"
                raise ModelError(wrong, "verify it with another provider, or go without", op="model") from error
        raised = True
        feeds = [{name: _widened(value) for name, value in feed.items()} for feed in feeds]
        teacher, student = upcast(teacher), upcast(student)


def _constants(model: ModelProto) -> set[str]:
    """Outputs that are constants of the model, which cannot react to an input."""
    made = {name for node in model.graph.node for name in node.output if any(node.input)}
    return {value.name for value in model.graph.output} - made - {value.name for value in graph_inputs(model)}


def _widened(value: Array) -> Array:
    return value.astype(np.float32) if value.dtype.name in ("bfloat16", "float16") else value
