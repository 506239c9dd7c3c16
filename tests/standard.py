"""The ONNX standard's own test cases as judges of the inference.

Each case is put between two layers: a *producer* in front of its inputs and a *consumer* behind its outputs,
whose weights own the axes, so that the graph's borders do not pin what the operator leaves free. Then every
free axis is widened, teacher and student run in onnxruntime, and both the graph's outputs and the tensors
around the case are compared. Producers are permutation matrices, so the case sees exact values.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.backend.test.loader import load_model_tests

from onnx_net2net.algebra.axes import Dim, Maps, atoms, index, touches
from onnx_net2net.errors import ModelError, Net2NetError
from onnx_net2net.inference.axis_map import AxisMap
from onnx_net2net.inference.infer import infer
from onnx_net2net.inference.proto import label
from tests.law import Feeds, parse, run, widened

Array = np.ndarray[Any, Any]
KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
STATES = ("wrong", "crash", "error", "widened", "pinned", "skipped")
"""What can become of a trial, the worst first and then the best first."""
EXACT = 1 << 24
"""Integers up to here survive a producer of float32."""
LARGEST = 1 << 16
"""Elements of an operand; the few cases with larger ones would take most of the time."""


@dataclass(frozen=True)
class StandardCase:
    """A case of the standard whose operands are dense tensors of numbers."""

    name: str
    op: str
    model: ModelProto
    values: dict[str, Array]
    results: dict[str, Array]


@dataclass(frozen=True)
class Setting:
    """Which inputs have producers, whether they and the consumers are 1x1 convolutions, and what feeds the rest."""

    produced: tuple[str, ...]
    conv: bool = False
    fed: bool = False
    dynamic: bool = False

    def __str__(self) -> str:
        return f"{'+'.join(self.produced)}{' conv' * self.conv}{' fed' * self.fed}{' dynamic' * self.dynamic}"


@dataclass
class Outcome:
    """What became of a case, or of one trial of it."""

    state: str
    notes: list[str] = field(default_factory=list)
    pins: list[tuple[str, str]] = field(default_factory=list)
    students: int = 0


@functools.cache
def cases() -> dict[str, StandardCase]:
    """The eligible cases by name: some input has two dimensions and more than one unit, some output is a tensor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = [(kind, test) for kind in KINDS for test in load_model_tests(kind=kind)]
    ops = {test.name: test.model.graph.node[0].op_type for kind, test in loaded if kind == "node"}
    found = {}
    for kind, test in loaded:
        if kind == "node":
            case = _case(test.name, ops.get(test.name.split("_expanded")[0]) or "", test.model, *test.data_sets[0])
        else:
            case = _case(f"{kind}/{test.name}", "", *_stored(test.model_dir))
        if case is not None and next(settings(case), None):
            found[case.name] = case
    return found


def _stored(folder: str) -> tuple[ModelProto, list[Any], list[Any]]:
    """Model, inputs and outputs of a case that is stored as files."""
    model = onnx.load(f"{folder}/model.onnx")
    sides: list[list[Any]] = [[], []]
    for side, tensors, count in zip(
        "input output".split(), sides, (model.graph.input, model.graph.output), strict=True
    ):
        for i in range(len(count)):
            path = Path(folder, "test_data_set_0", f"{side}_{i}.pb")
            with contextlib.suppress(Exception):  # not there, or no tensor: the case is not eligible
                tensors.append(onnx.load_tensor(path))
    return model, *sides


def _case(name: str, op: str, model: ModelProto, inputs: list[Any], outputs: list[Any]) -> StandardCase | None:
    constant = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in constant]
    if len(names) != len(inputs) or len(model.graph.output) != len(outputs):
        return None
    values = {n: v for n, v in zip(names, map(_array, inputs), strict=True) if v is not None}
    results = {v.name: r for v, r in zip(model.graph.output, map(_array, outputs), strict=True) if r is not None}
    whole = len(values) == len(inputs) and results
    if not whole or not any(value.ndim > 1 and value.size > 1 for value in values.values()):
        return None
    if max(value.size for value in (*values.values(), *results.values())) > LARGEST:
        return None
    ops = [node.op_type for node in model.graph.node if node.op_type not in ("Constant", "Identity")]
    return StandardCase(name, op or (ops or ["Identity"])[0], model, values, results)


def _array(value: Any) -> Array | None:
    if isinstance(value, TensorProto):
        value = numpy_helper.to_array(value)
    array = np.asarray(None if isinstance(value, (list, tuple, dict)) else value)
    return None if array.dtype.kind in "OUSc" else array


def is_float(value: Array) -> bool:
    """Whether an operand holds floating point numbers, small ones included."""
    return value.dtype.kind == "f" or "float" in value.dtype.name


def settings(case: StandardCase) -> Iterator[Setting]:
    """Each float input alone (the others constant, or fed), all of them, and the integers as well."""
    wide = [n for n, v in case.values.items() if v.ndim > 1 and v.size > 1]
    floats = [n for n in wide if is_float(case.values[n])]
    for name in floats:
        yield Setting((name,))
    if floats and any(3 <= v.ndim <= 5 and v.shape[1] > 1 for v in (case.values[floats[0]], *case.results.values())):
        yield Setting((floats[0],), conv=True)
        yield Setting((floats[0],), conv=True, dynamic=True)
    if floats and len(case.values) > 1:
        yield Setting((floats[0],), fed=True)
    vectors = [n for n, v in case.values.items() if is_float(v) and v.size > 1 and n not in floats]
    if len(floats) + len(vectors) > 1:
        yield Setting((*floats, *vectors))
    if len(wide) > len(floats) and all(np.abs(case.values[n].astype(np.float64)).max() < EXACT for n in wide):
        yield Setting(tuple(wide))


@functools.cache
def newest() -> tuple[int, int]:
    """The newest IR version and opset that onnxruntime runs; newer cases are lowered to them."""

    def runs(ir: int, opset: int) -> bool:
        with contextlib.suppress(Exception):  # onnxruntime's exceptions have no common base
            model = parse("(float[2] x) => (float[2] y) { y = Identity(x) }", opset, ir)
            return bool(run(model, {"x": np.ones(2, np.float32)}))
        return False

    ir = next(ir for ir in range(int(onnx.IR_VERSION), 0, -1) if runs(ir, 13))
    return ir, next(opset for opset in range(onnx.defs.onnx_opset_version(), 0, -1) if runs(ir, opset))


class Sandwich:
    """The model of a case in a setting, and what to feed it."""

    def __init__(self, case: StandardCase, setting: Setting, rng: np.random.Generator | None) -> None:
        self.case = case
        self.setting = setting
        self.weights = np.random.default_rng(11)
        self.feeds: Feeds = {}
        self.model = ModelProto()
        self.model.CopyFrom(case.model)
        self.graph = self.model.graph
        self.nodes: list[NodeProto] = []
        ir, opset = newest()
        self.model.ir_version = min(self.model.ir_version, ir)
        for imported in self.model.opset_import:
            if imported.domain in ("", "ai.onnx"):
                imported.version = min(imported.version, opset)
        if all(imported.domain for imported in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid("", 17))
        self._inputs(rng)
        self.nodes.extend(case.model.graph.node)
        self._outputs()
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)

    def _inputs(self, rng: np.random.Generator | None) -> None:
        inputs = {value.name: value for value in self.graph.input}
        for name, value in self.case.values.items():
            if name in self.setting.produced:
                kind = inputs[name].type.tensor_type.elem_type
                known = value.astype(np.float32)
                drawn = rng is not None and is_float(value)
                chosen = rng.standard_normal(value.shape).astype(np.float32) if drawn else np.nan_to_num(known)
                self.graph.input.remove(inputs[name])
                self._produce(name, chosen, kind)
            elif self.setting.fed:
                self.feeds[name] = value
            else:
                self.graph.initializer.append(numpy_helper.from_array(value, name))
                if self.model.ir_version >= 4:
                    self.graph.input.remove(inputs[name])

    def _produce(self, name: str, value: Array, kind: int) -> None:
        """Permutes the units of every axis (one axis, for convolutions) of what is fed, so that ``value`` results."""
        axes = self._axes(value.shape)
        shape = [f"d{i}" if self.setting.dynamic and i not in axes else n for i, n in enumerate(value.shape)]
        raw = functools.reduce(lambda x, axis: np.roll(x, 1, axis), axes, value)
        self.feeds[f"{name}_in"] = raw
        self.graph.input.append(helper.make_tensor_value_info(f"{name}_in", TensorProto.FLOAT, shape))
        made = self._chain(f"{name}_in", value.shape, axes, lambda n: np.roll(np.eye(n, dtype=np.float32), 1, 0))
        self.nodes.append(helper.make_node("Cast", [made], [name], to=kind))

    def _outputs(self) -> None:
        given = list(self.graph.output)
        del self.graph.output[:]
        for value in given:
            if value.name not in self.case.results:
                continue
            shape = self.case.results[value.name].shape
            made = f"{value.name}_f"
            self.nodes.append(helper.make_node("Cast", [value.name], [made], to=TensorProto.FLOAT))
            if value.name not in {info.name for info in self.graph.value_info} and shape and not self.setting.dynamic:
                self.graph.value_info.append(value)
            end = self._chain(
                made, shape, self._axes(shape), lambda n: self.weights.uniform(-2, 2, (n, 2)).astype(np.float32)
            )
            self.nodes.append(helper.make_node("Identity", [end], [f"{value.name}_out"]))
            self.graph.output.append(helper.make_tensor_value_info(f"{value.name}_out", TensorProto.FLOAT, None))

    def _axes(self, shape: tuple[int, ...]) -> list[int]:
        if not self.setting.conv:
            return [axis for axis, n in enumerate(shape) if n > 1]
        axis = 1 if 3 <= len(shape) <= 5 and shape[1] > 1 else len(shape) - 1
        return [axis] if shape and shape[axis] > 1 else []

    def _chain(self, tensor: str, shape: tuple[int, ...], axes: list[int], weight: Any) -> str:
        """Multiplies along ``axes``: by a 1x1 convolution, or by MatMul with the axis moved to the end."""
        for axis in axes:
            made, w = f"{tensor}_{axis}", weight(shape[axis])
            if self.setting.conv and axis == 1 and len(shape) > 2:
                w = np.ascontiguousarray(w.T).reshape(*w.shape[::-1], *[1] * (len(shape) - 2))
                self.nodes.append(helper.make_node("Conv", [tensor, f"{made}_w"], [made]))
            else:
                order = [i for i in range(len(shape)) if i != axis] + [axis]
                self._move(tensor, f"{made}_a", order)
                self.nodes.append(helper.make_node("MatMul", [f"{made}_a", f"{made}_w"], [f"{made}_b"]))
                self._move(f"{made}_b", made, [int(i) for i in np.argsort(order)])
            self.graph.initializer.append(numpy_helper.from_array(w, f"{made}_w"))
            if self.model.ir_version < 4:
                self.graph.input.append(helper.make_tensor_value_info(f"{made}_w", TensorProto.FLOAT, w.shape))
            tensor = made
        return tensor

    def _move(self, tensor: str, made: str, order: list[int]) -> None:
        self.nodes.append(helper.make_node("Transpose", [tensor], [made], perm=order))

    @property
    def seen(self) -> list[str]:
        """The tensors to compare: the graph's outputs, and the case's own."""
        ends = [value.name for value in self.graph.output]
        return ends + [name.removesuffix("_out") + "_f" for name in ends]

    def run(self, model: ModelProto, names: list[str] | None = None, *, optimise: bool = True) -> Feeds:
        """Tensors of the model, or of a student of it; by default all that are compared."""
        names = names or self.seen
        copy = ModelProto()
        copy.CopyFrom(model)
        declared = {value.name: value for value in self.graph.input if value.name in self.feeds}
        for value in copy.graph.input:  # `widened` took their shapes off
            value.CopyFrom(declared.get(value.name, value))
        del copy.graph.output[:]
        copy.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
        return run(copy, self.feeds, names, optimise=optimise)


def judge(case: StandardCase) -> Outcome:
    """Tries a case in all settings: any bad trial condemns it, else any good one makes it."""
    trials = {setting: attempt(case, setting) for setting in settings(case)}
    state = min((trial.state for trial in trials.values()), key=STATES.index)
    notes = [f"{case.name} ({s}): {note}" for s, t in trials.items() if t.state == state for note in t.notes]
    pins = list(dict.fromkeys(pin for trial in trials.values() for pin in trial.pins))
    return Outcome(state, list(dict.fromkeys(notes)), pins, sum(trial.students for trial in trials.values()))


def attempt(case: StandardCase, setting: Setting) -> Outcome:
    """One trial."""
    made = _runnable(case, setting)
    if isinstance(made, str):
        return Outcome("skipped", [made])
    sandwich, before, noise = made
    try:
        return _widen_all(sandwich, infer(sandwich.model), before, noise)
    except Net2NetError as error:
        if setting.dynamic and isinstance(error, ModelError):
            return Outcome("skipped", ["only one size of the dimensions made dynamic is valid"])
        return Outcome("error", [str(error)])
    except Exception as error:  # whatever it is, it is a finding
        return Outcome("crash", [f"{type(error).__name__}: {error}"])


def _runnable(case: StandardCase, setting: Setting) -> tuple[Sandwich, Feeds, float] | str:
    """The sandwich, on random values or else on the case's own, what it gives and how far that is noise."""
    best: tuple[Sandwich, Feeds, float] | None = None
    why = ""
    for rng in (np.random.default_rng(3), None):
        sandwich = Sandwich(case, setting, rng)
        try:
            before = sandwich.run(sandwich.model)
            plain = sandwich.run(sandwich.model, optimise=False)
        except Exception as error:  # onnxruntime's exceptions have no common base
            why = f"{type(error).__name__}: {error}"
            continue
        noise = max((_error(before[name], plain[name]) for name in before), default=0.0)
        if noise > 1e-2:
            why = "it gives something else each time"
            continue
        best = (sandwich, before, noise)
        if all(np.isfinite(value).all() for value in before.values()):
            break
    return best or why


def _widen_all(sandwich: Sandwich, found: AxisMap, before: Feeds, noise: float) -> Outcome:
    case = sandwich.case
    inner = {*sandwich.setting.produced, *case.results}
    through = {axis.name for name in inner for dim in found.dims.get(name, ()) for axis in atoms(dim)}
    through = {name for name in through if not found.axes[name].pins}
    result = Outcome("pinned", pins=_pins(case, found, inner))
    names = [name for name in before if name in found.dims or name in found.graph.outputs]  # not: inner constants
    bar = max(_floor(case), min(20 * noise, 1e-2))
    if found.shared and not _kinds(case) <= {"float32", "float64"}:
        bar = max(bar, 2 * _moved(sandwich, before))
    for maps in choices(found):
        shown = {name: g.tolist() for name, g in maps.items()}
        student = widened(found, sandwich.model, maps)
        try:
            after = sandwich.run(student, names)
        except Exception as error:  # the teacher ran, so the student has to
            result.state, result.notes = "wrong", [f"{shown}: the student does not run: {error}"]
            return result
        for name in names:
            wanted = gather(before[name], found.dims.get(name, ()), maps)
            difference = _error(wanted, after[name])
            if difference > bar:
                result.state, result.notes = "wrong", [f"{shown}: {name} differs by {difference:.2g}"]
                return result
        result.students += 1
        if through & set(maps):
            result.state = "widened"
    return result


def gather(value: Array, dims: tuple[Dim, ...], maps: Maps) -> Array:
    """What a widened tensor must hold; dimensions that stay may be dynamic."""
    for axis, dim in enumerate(dims):
        value = np.take(value, index(dim, maps), axis) if touches(dim, maps) else value
    return value


def choices(found: AxisMap) -> Iterator[dict[str, Array]]:
    """Unequal and equal copies, of each free axis alone and of all together."""
    free = [info for info in found.axes.values() if not info.pins]
    rng = np.random.default_rng(5)
    for group in [[info] for info in free] + ([free] if len(free) > 1 else []):
        equal, unequal = {}, {}
        for info in group:
            name, n = info.axis.name, info.axis.size
            equal[name] = np.tile(np.arange(n), 2)
            drawn = np.concatenate([np.arange(n), rng.integers(0, n, n // 2 + 1)])
            unequal[name] = equal[name] if info.uniform else drawn
        yield from [equal] if all(info.uniform for info in group) else [unequal, equal]


def _pins(case: StandardCase, found: AxisMap, inner: Iterable[str]) -> list[tuple[str, str]]:
    """(operator, reason) of what pins the axes around the case, where a node of the case is to blame."""
    mine = {label(node): node.op_type for node in case.model.graph.node}
    names = {axis.name for tensor in inner for dim in found.dims.get(tensor, ()) for axis in atoms(dim)}
    blames = [blame for name in sorted(names) for blame in found.axes[name].pins if blame.node in mine]
    return list(dict.fromkeys((mine[blame.node], blame.reason) for blame in blames))


def _kinds(case: StandardCase) -> set[str]:
    return {value.dtype.name for value in (*case.values.values(), *case.results.values()) if is_float(value)}


def _floor(case: StandardCase) -> float:
    """What always passes."""
    kinds = _kinds(case)
    if kinds <= {"float32", "float64"}:
        return 2e-5
    return 2e-3 if kinds <= {"float16", "float32", "float64"} else 1e-2


def _moved(sandwich: Sandwich, before: Feeds) -> float:
    """What one step of float16 in the inputs changes: scores are rounded before a softmax, which makes much of it."""
    rng, feeds = np.random.default_rng(1), sandwich.feeds
    worst = 0.0
    for _ in range(3):
        step = {k: 1 + rng.choice([-1, 1], v.shape) * 2.0**-11 if is_float(v) else 1 for k, v in feeds.items()}
        sandwich.feeds = {name: (value * step[name]).astype(value.dtype) for name, value in feeds.items()}
        after = sandwich.run(sandwich.model)
        worst = max(worst, *(_error(before[name], after[name]) for name in before))
    sandwich.feeds = feeds
    return worst


def _error(wanted: Array, given: Array) -> float:
    """max|a - b| / max|a| over what is finite; infinite where shapes, NaN or infinities differ."""
    if wanted.shape != given.shape or not np.array_equal(np.isfinite(wanted), np.isfinite(given)):
        return float("inf")
    odd = ~np.isfinite(wanted)
    if not np.array_equal(wanted[odd], given[odd], equal_nan=True):
        return float("inf")
    wide, worst = np.abs(wanted[~odd]).max(initial=0.0), np.abs(wanted[~odd] - given[~odd]).max(initial=0.0)
    return float(worst / wide) if wide else float(worst and np.inf)
