"""Where a student leaves its teacher: a comparison of all tensors on the way, in graph order.

Which tensor of the student holds which of the teacher's, and how its units are arranged, is what a plan says; without
one tensors are matched by name and shape. Tensors become extra outputs, a few at a time, so that memory stays bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_net2net.algebra.axes import Index
from onnx_net2net.checking.inputs import Array, Feeds
from onnx_net2net.checking.runtime import NoKernel, Runner, Stopped, as_source, exposing, run_source
from onnx_net2net.errors import ModelError, message
from onnx_net2net.io import is_large
from onnx_net2net.planning.borders import gathered

FIRST, MOST = 8, 256
"""Tensors that become outputs at once: in the first run, and ever."""
BUDGET = 2**28
"""Bytes that the tensors of one run may take, as far as the last run lets one guess."""
NUDGE = 1e-7
"""By how much numbers are moved, relative to their size, to see what rounding does."""
FLOOR: dict[int, float] = {TensorProto.FLOAT16: 2e-3, TensorProto.BFLOAT16: 2e-2}
"""Relative error that always passes, by element type; 1e-5 for all others: tensors on the way may cancel out."""
NOISE_FACTOR = 20
TINY = 2e-7
"""What may always differ: a saturated Sigmoid is 0 or 3e-8, as its place in a vector has it."""


NOT_HERE = "the student has none of this name"


@dataclass(frozen=True, slots=True)
class TensorVerdict:
    """How one tensor compares.

    Attributes:
        name: The tensor.
        op: Operator of the student's node that makes it.
        node: Name of that node.
        max_abs: Largest absolute difference.
        max_rel: max|a - b| / max|a|, the worst of all samples.
        tolerance: What ``max_rel`` may be.
        failure: Why it is not the teacher's tensor; empty if it is.
    """

    name: str
    op: str
    node: str
    max_abs: float
    max_rel: float
    tolerance: float
    failure: str = ""

    def __str__(self) -> str:
        return message(self.op, self.node, self.name, self.failure or "it is equal", "")


@dataclass(frozen=True, slots=True)
class Layers:
    """A comparison of teacher and student, tensor by tensor in the teacher's graph order.

    Attributes:
        by: ``plan`` or ``name``: what told which tensors belong together.
        tensors: Those that were compared.
        skipped: Why others were not -> how many.
    """

    by: str
    tensors: tuple[TensorVerdict, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def first(self) -> TensorVerdict | None:
        """The first tensor that diverges."""
        return next((tensor for tensor in self.tensors if tensor.failure), None)

    def to_dict(self) -> dict[str, Any]:
        """The comparison for JSON."""
        keys = ("name", "op", "node", "max_abs", "max_rel", "tolerance", "failure")
        tensors = [{key: getattr(tensor, key) for key in keys} for tensor in self.tensors]
        first = self.first.name if self.first else None
        return {"by": self.by, "first": first, "tensors": tensors, "skipped": dict(self.skipped)}


Column = list[Array]
"""One tensor by sample."""
Image = Mapping[int, Index]


def compare_layers(
    runner: Runner,
    teacher: ModelProto,
    student: ModelProto,
    feeds: Sequence[Feeds],
    providers: Sequence[str],
    images: Mapping[str, Image] | None = None,
    *,
    given: Sequence[Feeds] | None = None,
    stop: bool = False,
) -> Layers:
    """Compares every computed tensor of the teacher with the student's of the same name.

    Args:
        runner: Where onnxruntime runs.
        teacher: The teacher.
        student: The student.
        feeds: The samples.
        providers: Where it runs.
        images: By tensor, what its dimensions that grew hold; None compares tensors of equal shape as they are.
        given: The samples as the student gets them, if that differs.
        stop: Whether to end with the first that diverges.

    Raises:
        Stopped: If onnxruntime does not come back.
    """
    makers = {name: node for node in student.graph.node for name in node.output}
    names = [name for node in teacher.graph.node for name in node.output if name]
    matched = [name for name in names if name in makers and (images is None or name in images)]
    here = sum(name in makers for name in names)
    skipped = Counter({NOT_HERE: len(names) - here, "the plan says nothing of it": here - len(matched)})
    tensors: list[TensorVerdict] = []
    with ExitStack() as stack:
        moved, near = nudged(teacher, feeds)
        sources = {id(model): stack.enter_context(as_source(model)) for model in (teacher, student)}
        if moved is not teacher:
            sources[id(moved)] = stack.enter_context(as_source(moved))
        probes = [
            _Probe(runner, sources[id(model)], outputs_of(model), samples, providers, who)
            for model, samples, who in (
                (teacher, feeds, "teacher"),
                (moved, near, "teacher"),
                (student, feeds if given is None else given, "student"),
            )
        ]
        for name, columns in _in_batches(probes, matched):
            image = None if images is None else images[name]
            judged = columns if isinstance(columns, str) else judge(name, makers[name], columns, image)
            if isinstance(judged, str):
                skipped[judged] += 1
                continue
            tensors.append(judged)
            if stop and judged.failure:
                break
    return Layers("name" if images is None else "plan", tuple(tensors), {why: n for why, n in skipped.items() if n})


def outputs_of(model: ModelProto) -> frozenset[str]:
    """The names of a model's outputs."""
    return frozenset(value.name for value in model.graph.output)


@dataclass(frozen=True, slots=True)
class _Probe:
    """A model that is asked for tensors on the way."""

    runner: Runner
    source: bytes | str
    outputs: frozenset[str]
    feeds: Sequence[Feeds]
    providers: Sequence[str]
    who: str

    def columns(self, names: Sequence[str], optimise: bool) -> list[Column]:
        """The tensors, by name and then by sample.

        Raises:
            ModelError: If onnxruntime cannot give them: graph optimisations fuse tensors away.
        """
        source = exposing(self.source, [name for name in names if name not in self.outputs])
        found = run_source(self.runner, source, names, self.feeds, self.providers, optimise=optimise, who=self.who)
        for name, column in zip(names, found, strict=True):
            if any(value is None for value in column):
                raise ModelError("onnxruntime optimises it away", op=self.who, tensor=name)
        return found


def _in_batches(probes: Sequence[_Probe], names: Sequence[str]) -> Iterator[tuple[str, str | list[Column]]]:
    """Each tensor with what all probes give, or with why one gives nothing."""
    place, count = 0, FIRST
    while place < len(names):
        batch = names[place : place + count]
        largest = 1
        for name, columns in _batch(probes, batch):
            if not isinstance(columns, str):
                largest = max(largest, sum(getattr(value, "nbytes", 0) for column in columns for value in column))
            yield name, columns
        place += count
        count = max(1, min(MOST, BUDGET // largest))


def _batch(probes: Sequence[_Probe], names: Sequence[str]) -> Iterator[tuple[str, str | list[Column]]]:
    for optimise in (True, False):
        try:
            by_probe = [probe.columns(names, optimise) for probe in probes]
        except Stopped:
            raise
        except (ModelError, NoKernel):
            continue
        yield from zip(names, map(list, zip(*by_probe, strict=True)), strict=True)
        return
    if len(names) == 1:
        yield names[0], "onnxruntime does not give it"
        return
    for half in (names[: len(names) // 2], names[len(names) // 2 :]):
        yield from _batch(probes, half)


def judge(name: str, node: NodeProto, columns: Sequence[Column], image: Image | None) -> TensorVerdict | str:
    """How one tensor compares, or why it does not."""
    mine, moved, theirs = columns
    if not all(isinstance(value, np.ndarray) and _is_float(value) for value in mine):
        return "not floating point"
    if image is None and any(np.shape(a) != np.shape(b) for a, b in zip(mine, theirs, strict=True)):
        return "the shapes differ"
    if any(max(units) + 1 != value.shape[axis] for value in mine for axis, units in (image or {}).items()):
        return "its units are counted over a dynamic dimension"
    wanted, noisy = (
        [np.asarray(gathered(value, image or {}), np.float64) for value in column] for column in (mine, moved)
    )

    def result(max_abs: float, max_rel: float, tolerance: float, failure: str) -> TensorVerdict:
        return TensorVerdict(name, node.op_type, node.name, max_abs, max_rel, tolerance, failure)

    for a, b in zip(wanted, theirs, strict=True):
        if a.shape != np.shape(b):
            infinite = float("inf")
            return result(infinite, infinite, 0.0, f"its shape is {list(np.shape(b))}, not {list(a.shape)}")
    wanted, noisy, theirs = ([_copies(value, image or {}) for value in column] for column in (wanted, noisy, theirs))
    pairs = list(zip(wanted, theirs, noisy, strict=True))
    errors = [_error(a, np.asarray(b, np.float64)) for a, b, _ in pairs]
    noise = max((_error(a, c)[1] for a, _, c in pairs if np.isfinite(c).all()), default=0.0)
    max_abs, max_rel = (max((error[i] for error in errors), default=0.0) for i in (0, 1))
    kind = helper.np_dtype_to_tensor_dtype(mine[0].dtype) if mine else TensorProto.FLOAT
    tolerance = max(FLOOR.get(kind, 1e-5), NOISE_FACTOR * noise)
    if not all(error[2] for error in errors):
        return result(max_abs, max_rel, tolerance, "it holds NaN or Inf where the teacher does not, or the reverse")
    over = max_rel > tolerance and max_abs > TINY
    wrong = f"it differs by {max_rel:.3g} of its largest value (allowed {tolerance:.3g})"
    return result(max_abs, max_rel, tolerance, wrong if over else "")


def _is_float(value: Array) -> bool:
    return value.dtype.kind == "f" or value.dtype.name == "bfloat16"


def _copies(value: Array, image: Image) -> Array:
    """What the student holds of the teacher's units, without filler."""
    for axis, units in image.items():
        if units.min(initial=0) < 0:
            value = np.compress(units >= 0, value, axis)
    return value


def _error(a: Array, b: Array) -> tuple[float, float, bool]:
    """(max|a - b|, the same of max|a|, whether both are finite in the same places), over what is finite."""
    finite = np.isfinite(a)
    alike = bool(np.array_equal(finite, np.isfinite(b)) and np.array_equal(a[~finite], b[~finite], equal_nan=True))
    both = finite & np.isfinite(b)
    worst = float(np.abs(a[both] - b[both]).max(initial=0.0))
    scale = float(np.abs(a[both]).max(initial=0.0))
    return worst, worst / scale if scale else (float("inf") if worst else 0.0), alike


def nudged(model: ModelProto, feeds: Sequence[Feeds]) -> tuple[ModelProto, list[Feeds]]:
    """A model and its inputs with every number moved in its last digit: what this changes, rounding may change too."""
    rng = np.random.default_rng(0)
    moved = [{name: _off(x, rng) if _is_single(x) else x for name, x in feed.items()} for feed in feeds]
    if is_large(model):
        return model, moved
    copy = ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.raw_data:
            value = numpy_helper.to_array(tensor)
            if not np.array_equal(value, np.round(value)):  # scales of a Resize and their like stay
                tensor.raw_data = _off(value, rng).tobytes()
    return copy, moved


def _is_single(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float32


def _off(value: Array, rng: np.random.Generator) -> Array:
    step = rng.standard_normal(value.shape, np.float32)
    with np.errstate(over="ignore"):
        return np.asarray(value + value * (np.float32(NUDGE) * step), np.float32)
