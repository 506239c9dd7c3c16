"""The one law of all rules: ``run(op, widen(x)) == widen(run(op, x))``.

A case is a little graph as ONNX text. What its ``<...>`` declares without a value is a weight, filled with
seeded signed numbers. The law widens every axis that the rule leaves free, one at a time and all at once,
with unequal and with equal copies, runs teacher and student in onnxruntime, and compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from onnx_net2net.algebra.axes import Dim, Maps, Prod, atoms, index
from onnx_net2net.checking.runtime import as_source
from onnx_net2net.inference.axis_map import AxisMap
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.infer import infer
from onnx_net2net.planning.plan import AxisPlan, Plan
from onnx_net2net.planning.planner import complete, draw_fractions
from onnx_net2net.widening.apply import apply
from onnx_net2net.widening.rewrite import is_filler

Feeds = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Case:
    """One row: a graph, and how its axes must come out (see `signature`)."""

    name: str
    graph: str
    expect: str
    opset: int = 17
    low: float = -2.0
    high: float = 2.0
    redundant: bool = False
    """Whether some equation follows from the others here, so that deleting it changes nothing."""
    reference: bool = False
    """Whether onnxruntime has no kernel, so that ONNX's reference implementation runs it."""

    @property
    def model(self) -> ModelProto:
        """The graph with its weights filled."""
        return fill(parse(self.graph, self.opset), low=self.low, high=self.high)


def parse(graph: str, opset: int = 17, ir_version: int = 8) -> ModelProto:
    """A model from ONNX text; opsets of com.microsoft come along."""
    head = f'<ir_version: {ir_version}, opset_import: ["": {opset}, "com.microsoft": 1]>'
    return parser.parse_model(f"{head} g {graph}")


def fill(model: ModelProto, seed: int = 0, low: float = -2.0, high: float = 2.0) -> ModelProto:
    """Turns declared tensors that no node makes into initializers with random signed values."""
    made = {name for node in model.graph.node for name in node.output}
    made |= {tensor.name for tensor in model.graph.initializer}
    rng = np.random.default_rng(seed)
    for value in list(model.graph.value_info):
        if value.name not in made:
            drawn = draw(value, rng, low, high)
            model.graph.initializer.append(numpy_helper.from_array(drawn, value.name))
            model.graph.value_info.remove(value)
    return model


def draw(value: Any, rng: np.random.Generator, low: float, high: float) -> np.ndarray[Any, Any]:
    """A random tensor of a declared type and shape."""
    tensor = value.type.tensor_type
    shape = [dim.dim_value for dim in tensor.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if np.issubdtype(dtype, np.integer):
        return rng.integers(1, 5, shape).astype(dtype)
    return rng.uniform(low, high, shape).astype(np.float32).astype(dtype)


def run(model: ModelProto, feeds: Feeds, names: list[str] | None = None, *, optimise: bool = True) -> Feeds:
    """The outputs of a model by name."""
    options = onnxruntime.SessionOptions()
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    names = names or [value.name for value in model.graph.output]
    with as_source(model) as source:
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    return dict(zip(names, session.run(names, feeds), strict=True))


def run_reference(model: ModelProto, feeds: Feeds, names: list[str]) -> Feeds:
    """The same by ONNX's reference implementation."""
    return dict(zip(names, ReferenceEvaluator(model).run(names, feeds), strict=True))


def signature(found: AxisMap) -> str:
    """Terms of all operands with letters in order of appearance: ``!`` pinned, ``~`` uniform, ``1`` a unit."""
    letters: dict[str, str] = {}

    def show(dim: Dim) -> str:
        if not hasattr(dim, "parts"):
            letter = letters.setdefault(dim.name, chr(ord("a") + len(letters)))
            return {"pinned": "!", "uniform": "~", "filled": "~", "free": letter}[found.axes[dim.name].status].replace(
                "~", f"~{letter}"
            )
        if not dim.parts:
            return "1"
        if isinstance(dim, Prod):
            return "*".join(f"({show(p)})" if hasattr(p, "parts") and p.parts else show(p) for p in dim.parts)
        return "+".join(show(p) for p in dim.parts)

    def operand(name: str, dims: tuple[Dim, ...]) -> str:
        return f"{name}[{', '.join(map(show, dims))}]"

    graph = found.graph
    left = [operand(value.name, found.dims[value.name]) for value in graph.inputs]
    for (node, slot), dims in found.uses.items():
        if any(True for dim in dims for _ in atoms(dim)) and graph.is_weight(graph.nodes[node].input[slot]):
            left.append(operand(graph.nodes[node].input[slot], dims))
    right = [operand(name, found.dims[name]) for name in graph.outputs]
    return f"{' '.join(left)} -> {' '.join(right)}"


def choices(found: AxisMap) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
    """Maps to try: every free axis alone and all together; unequal copies, equal copies, another order."""
    free = [info for info in found.axes.values() if info.status != "pinned"]
    rng = np.random.default_rng(5)

    def unequal(info: Any) -> np.ndarray[Any, Any]:
        n = info.axis.size
        return np.concatenate([np.arange(n), rng.integers(0, n, n // 2 + 1)])

    for group in [[info] for info in free] + ([free] if len(free) > 1 else []):
        if not any(info.uniform for info in group):
            yield {info.axis.name: unequal(info) for info in group}
        yield {info.axis.name: np.tile(np.arange(info.axis.size), 2) for info in group}
        yield {info.axis.name: np.roll(np.arange(info.axis.size), 1) for info in group}


def widened(found: AxisMap, model: ModelProto, maps: Maps) -> ModelProto:
    """The student under given maps, its interface widened too."""
    rng = np.random.default_rng(7)
    axes = tuple(
        AxisPlan(
            name,
            found.axes[name].axis.size,
            len(g),
            tuple(g.tolist()),
            tuple(draw_fractions(g, found.axes[name].axis.size, "uneven", rng).tolist()),
        )
        for name, g in maps.items()
    )
    student = apply(model, complete(found, axes))
    for value in (*student.graph.input, *student.graph.output):
        value.type.tensor_type.ClearField("shape")
    return student


def gather(value: np.ndarray[Any, Any], dims: tuple[Dim, ...], maps: Maps) -> np.ndarray[Any, Any]:
    """What a widened tensor must hold."""
    for axis, dim in enumerate(dims):
        value = np.take(value, index(dim, maps), axis)
    return value


def without_filler(
    name: str, wanted: np.ndarray[Any, Any], given: np.ndarray[Any, Any], found: AxisMap, plan: Plan
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What a widened tensor must hold and what it holds, but for filler; powers of eta are counted in."""
    for axis in plan.axes:
        filling = found.axes[axis.name].filling
        if axis.filler and filling is not None:
            wanted = wanted * axis.eta ** filling.powers.get(name, 0)
            for place, dim in enumerate(found.dims[name]):
                kept = ~is_filler(dim, plan, axis.name)
                if not kept.all():
                    wanted, given = (np.compress(kept, value, place) for value in (wanted, given))
    return wanted, given


def law(model: ModelProto, low: float = -2.0, high: float = 2.0, *, reference: bool = False) -> int:
    """Checks the law for a model; returns how many students were compared."""
    compute = run_reference if reference else run
    found = infer(model, borders=False)
    rng = np.random.default_rng(2)
    feeds = {value.name: draw(value, rng, low, high) for value in found.graph.inputs}
    names = [name for name in found.graph.outputs if found.graph.shape(name) is not None]
    before = compute(model, feeds, names)
    tried = 0
    for maps in choices(found):
        student = widened(found, model, maps)
        wide = {name: gather(value, found.dims[name], maps) for name, value in feeds.items()}
        after = compute(student, wide, names)
        for name in names:
            wanted = gather(before[name], found.dims[name], maps)
            assert after[name].shape == wanted.shape, (name, after[name].shape, wanted.shape)
            if wanted.dtype == bool or np.issubdtype(wanted.dtype, np.integer):
                np.testing.assert_array_equal(after[name], wanted)
            else:
                scale = max(float(np.nanmax(np.abs(before[name]), initial=0)), 1e-6)
                np.testing.assert_allclose(after[name], wanted, rtol=0, atol=2e-5 * scale)
        tried += 1
    return tried


def operators(model: ModelProto) -> set[tuple[str, str, int]]:
    """(domain, operator, opset) of the nodes that rules answer for."""
    graph = Graph(model)
    return {
        (node.domain, node.op_type, graph.opsets.get(node.domain, 1))
        for i, node in enumerate(graph.nodes)
        if i not in graph.constant_nodes
    }


def weights(model: ModelProto) -> Mapping[str, tuple[int, ...]]:
    """Shapes of the initializers."""
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


def letters_only(text: str) -> str:
    """A signature without its spaces."""
    return re.sub(r"\s+", " ", text.strip())
