"""Types, shapes, and values that follow from shapes alone, at given sizes of the dynamic dimensions.

ONNX's shape inference sees through much arithmetic on shapes, but not all. Where it gives up, the values
that follow from known shapes are computed and handed to it as constants, and it is asked again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_net2net.algebra.facts import Node
from onnx_net2net.algebra.unify import fresh
from onnx_net2net.errors import ModelError
from onnx_net2net.rules import unshaped

if TYPE_CHECKING:
    from onnx_net2net.inference.graph import Graph

Shape = tuple[int, ...]
Array = NDArray[Any]
Known = dict[str, Array]
Constants = dict[str, Array | None]
"""Values of constants; None for those that are too large or cannot be computed."""
Types = Mapping[str, tuple[int, Shape | None]]
SMALL = 4096
"""Elements up to which a tensor of integers may hold sizes."""
FEW = 64
"""The same for other types, which may hold scales or bounds."""


def is_small(dtype: int, shape: Shape | None) -> bool:
    """Whether a tensor may hold sizes rather than weights."""
    limit = SMALL if dtype in (TensorProto.INT32, TensorProto.INT64) else FEW
    return shape is not None and math.prod(shape) <= limit


@dataclass(slots=True)
class Shapes:
    """What is known of tensors at one choice of sizes.

    Attributes:
        types: Element type and shape by tensor; None for a shape that cannot be inferred.
        values: Values of computed tensors that depend on shapes and constants alone.
        lists: Element types and shapes of the members of a sequence.
    """

    types: dict[str, tuple[int, Shape | None]]
    values: dict[str, Array] = field(default_factory=dict)
    lists: dict[str, tuple[tuple[int, Shape], ...]] = field(default_factory=dict)


def resolve(graph: Graph, bare: ModelProto) -> Shapes:
    """Infers types and shapes of all tensors.

    Args:
        graph: The graph.
        bare: Its skeleton, with the trial sizes written into its inputs; it is changed.

    Raises:
        ModelError: If shapes contradict each other.
    """
    values: dict[str, Array] = {}
    constants: Constants = {}
    found = Shapes({}, values)
    handles_lists = graph.handles_lists
    told = any(rule is not None and rule.shapes is not unshaped for rule in map(graph.rule, range(len(graph.nodes))))
    while True:
        types = {**_infer(graph, bare, strict=bool(graph.trial) and not told), **found.types}
        before = len(values), len(constants), len(found.types)
        gaps = _gaps(graph, types)
        for i, makes in enumerate(graph.makes):
            known: Mapping[str, Array | None] = constants if i in graph.constant_nodes else values
            if (known is values or gaps) and not all(name in known for name in makes if name):
                _follow(graph, i, types, values, constants)
            if handles_lists[i]:
                _list(graph, i, types, found)
            if gaps:
                _ask(graph, i, types, found)
        if not gaps or before == (len(values), len(constants), len(found.types)):
            if not told:
                return Shapes({**types, **found.types}, values, found.lists)
            told = False  # nothing is without a type any more, which would not have been let pass
        written = {value.name for value in bare.graph.value_info}
        bare.graph.value_info.extend(
            helper.make_tensor_value_info(name, *found.types[name]) for name in found.types if name not in written
        )
        _substitute(bare, {name: value for name, value in {**constants, **values}.items() if value is not None})


def _infer(graph: Graph, bare: ModelProto, *, strict: bool) -> dict[str, tuple[int, Shape | None]]:
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True, strict_mode=strict)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, TypeError) as error:
        wrong = f"its shapes contradict each other ({str(error).strip().splitlines()[-1]})"
        raise ModelError(wrong, "check it with onnx.checker", op="model") from error
    found: dict[str, tuple[int, Shape | None]] = {
        t.name: (t.data_type, tuple(t.dims)) for t in (*graph.proto.initializer, *bare.graph.initializer)
    }
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        found.setdefault(value.name, _type(value))
    return found


def _type(value: ValueInfoProto) -> tuple[int, Shape | None]:
    kind = value.type
    if not kind.HasField("tensor_type"):
        return 0, None
    tensor = kind.tensor_type
    dims: list[int] = []
    for dim in tensor.shape.dim:
        size = dim.dim_value
        if size < 0 or (not size and not dim.HasField("dim_value")):
            return tensor.elem_type, None
        dims.append(size)
    return tensor.elem_type, tuple(dims) if dims or tensor.HasField("shape") else None


def _gaps(graph: Graph, types: Types) -> bool:
    """Whether some tensor has no shape yet."""
    return any(name and types.get(name, (0, None))[1] is None for names in graph.makes for name in names)


def _follow(graph: Graph, i: int, types: Types, values: Known, constants: Constants) -> None:
    """Computes a node's outputs if shapes and small constants determine them, and notes them."""
    rule = graph.rule(i)
    unread = rule.unread if rule is not None else ()
    if any(_is_computed(graph, name, values) and slot not in unread for slot, name in enumerate(graph.reads[i])):
        return  # as of most nodes
    if graph.captured[i] or not graph.operators[i].is_deterministic:
        return
    feeds: dict[str, Array] = {}
    for slot, name in enumerate(graph.reads[i]):
        value = _feed(graph, name, slot in unread, types, values, constants) if name else None
        if value is not None:
            feeds[name] = value
        elif name:
            return
    sizes = [types.get(name, (0, None))[1] for name in graph.makes[i] if name]
    if any(shape is not None and math.prod(shape) > SMALL for shape in sizes):
        return
    try:
        results = graph.evaluate(graph.nodes[i], feeds)
    except ModelError:
        return
    if all(value.size <= SMALL for value in results.values()):
        if i in graph.constant_nodes:
            constants.update(results)
        else:
            values.update(results)


def _feed(graph: Graph, name: str, unread: bool, types: Types, values: Known, constants: Constants) -> Array | None:
    """The value of an input that shapes or small constants determine; zeros where only its shape is read."""
    dtype, shape = types.get(name, (0, None))
    if unread and shape is not None and dtype:
        return _blank(dtype, shape)
    if name in values:
        return values[name]
    return _constant(graph, name, types, constants) if name in graph.constants else None


def _is_computed(graph: Graph, name: str, values: Known) -> bool:
    """Whether an input depends on what the model is run on."""
    return bool(name) and name not in values and name not in graph.constants


def _list(graph: Graph, i: int, types: Types, found: Shapes) -> None:
    """Finds the shapes of what makes sequences, or is made of them, by running the node on blanks."""
    node = graph.nodes[i]
    feeds: dict[str, Array | list[Array]] = {}
    for name in filter(None, node.input):
        dtype, shape = types.get(name, (0, None))
        if name in found.lists:
            feeds[name] = [_blank(*member) for member in found.lists[name]]
        elif name in found.values or (name in graph.constants and is_small(dtype, shape)):
            feeds[name] = found.values[name] if name in found.values else graph.value(name)
        elif shape is not None and dtype:
            feeds[name] = _blank(dtype, shape)
        else:
            return
    try:
        results = graph.run(node, feeds)
    except ModelError:
        return
    for name, made in zip(filter(None, node.output), results, strict=True):
        if isinstance(made, list):
            found.lists[name] = tuple((helper.np_dtype_to_tensor_dtype(m.dtype), m.shape) for m in made)
        elif types.get(name, (0, None))[1] is None:
            found.types[name] = helper.np_dtype_to_tensor_dtype(made.dtype), made.shape


def _ask(graph: Graph, i: int, types: Types, found: Shapes) -> None:
    """Asks the rule for the shapes of what a node makes, where ONNX does not know the operator."""
    rule, makes = graph.rule(i), graph.makes[i]
    missing = [name and types.get(name, (0, None))[1] is None for name in makes]
    if rule is None or rule.shapes is unshaped or not any(missing):
        return
    given = [types.get(name, (0, None)) for name in graph.reads[i]]
    if any(name and shape is None for name, (_, shape) in zip(graph.reads[i], given, strict=True)):
        return
    inputs = [None if shape is None else tuple(map(fresh, shape)) for _, shape in given]
    node = Node(graph.nodes[i].op_type, graph.operators[i].opset, graph.attributes(i), inputs, [])
    for name, lacks, (slot, shape) in zip(makes, missing, rule.shapes(node), strict=False):
        if lacks:
            found.types[name] = given[slot][0], shape


def _blank(dtype: int, shape: Shape) -> Array:
    """Zeros that take no memory."""
    return np.broadcast_to(np.zeros((), helper.tensor_dtype_to_np_dtype(dtype)), shape)


def _constant(graph: Graph, name: str, types: Types, constants: Constants) -> Array | None:
    """The value of a small constant; the nodes that make it are run first to last, each of them once."""
    if name in graph.initializers:
        return graph.value(name) if is_small(*types.get(name, (0, None))) else None
    needed: set[int] = set()
    pending = [name]
    while pending:
        current = pending.pop()
        i = graph.producer.get(current)
        if i is not None and current not in constants and i not in needed:
            needed.add(i)
            pending += [n for n in graph.reads[i] if n]
    for i in sorted(needed):
        for output in filter(None, graph.makes[i]):
            constants.setdefault(output, None)  # unless the node can be run, and so that it is not tried again
        _follow(graph, i, types, {}, constants)
    return constants.get(name)


def _substitute(bare: ModelProto, values: Mapping[str, Array]) -> None:
    """Replaces nodes by the constants that they compute."""
    known = {tensor.name for tensor in bare.graph.initializer}
    for k in reversed(range(len(bare.graph.node))):
        outputs = [name for name in bare.graph.node[k].output if name]
        if outputs and all(name in values for name in outputs):
            bare.graph.initializer.extend(
                numpy_helper.from_array(values[name], name) for name in outputs if name not in known
            )
            del bare.graph.node[k]
