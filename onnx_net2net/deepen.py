"""Net2DeeperNet: model + Plan -> student with identity layers inserted after activations.

An identity layer and a second activation follow an activation f exactly where f(f(x)) = f(x).
Source: arXiv 1511.05641, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from onnx_net2net import rules
from onnx_net2net.axes import atoms
from onnx_net2net.axis_map import AxisMap
from onnx_net2net.errors import RequestError, UsageError
from onnx_net2net.facts import Node
from onnx_net2net.graph import FLOATS, Graph, attributes, label
from onnx_net2net.names import Names
from onnx_net2net.plan import Layer, Plan, check_teacher, fingerprint

Kernel = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """An activation that a layer can follow, or why none can.

    Attributes:
        node: Position of the activation.
        tensor: Its output.
        kind: ``Conv``, ``Gemm`` or ``MatMul``; empty if no layer fits.
        channels: Units of the axis that the layer works on.
        rank: Dimensions of the tensor.
        refusal: Why no identity layer is exact here.
    """

    node: int
    tensor: str
    kind: str
    channels: int
    rank: int
    refusal: str = ""


def kernels(given: Any) -> list[Kernel]:
    """``3``, ``(1, 7)`` or ``[(1, 7), (7, 1)]`` as a list of kernels.

    Raises:
        UsageError: If a size is not odd and positive: the identity needs a centre.
    """
    if given is None:
        given = 3
    if isinstance(given, int):
        given = [(given,)]
    if all(isinstance(item, int) for item in given):
        given = [tuple(given)]
    found = [tuple(int(n) for n in kernel) for kernel in given]
    for kernel in found:
        if not kernel or any(n < 1 or n % 2 == 0 for n in kernel):
            shown = "x".join(map(str, kernel))
            raise UsageError(f"{shown} has an even side and so no centre tap", "use odd sides", op="kernel")
    return found


def places(found: AxisMap) -> list[Place]:
    """Every activation (or other idempotent function) of the model, in graph order."""
    result = []
    for i, proto in enumerate(found.graph.nodes):
        if i in found.graph.constant_nodes or not _idempotent(found.graph, i):
            continue
        result.append(_place(found, i, proto))
    return result


def _idempotent(graph: Graph, i: int) -> bool:
    proto = graph.nodes[i]
    opset = graph.opset(proto.domain)
    rule = rules.find(proto.op_type, proto.domain, opset)
    if rule is None:
        return False
    constants = frozenset(s for s, name in enumerate(proto.input) if name in graph.constants)
    inputs = [() if name else None for name in proto.input]
    return rule.idempotent(Node(proto.op_type, opset, attributes(proto), inputs, [()], constants=constants))


def _place(found: AxisMap, i: int, proto: NodeProto) -> Place:
    name = proto.output[0]
    shape = found.graph.shape(name)
    if shape is None:
        return Place(i, name, "", 0, 0, "its shape is not known")
    rank = len(shape)
    if found.graph.dtype(name) not in FLOATS:
        return Place(i, name, "", 0, rank, "it is not of a floating point type")
    if rank < 2:
        return Place(i, name, "", 0, rank, f"a tensor of rank {rank} has no axis of channels")
    axis = channel_axis(found, name)
    if any(found.axes[part.name].dynamic for part in atoms(found.dims[name][axis])):
        return Place(i, name, "", 0, rank, f"the size of its axis {axis} is dynamic")
    if axis == rank - 1:
        kind = "Gemm" if rank == 2 and found.graph.opset("") >= GEMM_WITHOUT_C else "MatMul"
    elif axis == 1 and 3 <= rank <= 5:
        kind = "Conv"
    else:
        return Place(i, name, "", 0, rank, f"no layer works on axis {axis} of a tensor of rank {rank}")
    if not _takes(found.graph, kind, found.graph.dtype(name)):
        return Place(i, name, "", 0, rank, f"{kind} does not take its type in opset {found.graph.opset('')}")
    return Place(i, name, kind, shape[axis], rank)


GEMM_WITHOUT_C = 11
"""First opset in which Gemm does without its third input."""


def _takes(graph: Graph, kind: str, dtype: int) -> bool:
    """Whether an operator is defined for an element type in the model's opset."""
    schema = onnx.defs.get_schema(kind, graph.opset(""), "")
    name = helper.tensor_dtype_to_string(dtype).removeprefix("TensorProto.").lower()
    return f"tensor({name})" in schema.inputs[0].types


def channel_axis(found: AxisMap, name: str) -> int:
    """The axis of a tensor that weights work on; without a sign of one, axis 1 (the last of a matrix)."""
    dims = found.dims[name]
    for place, dim in enumerate(dims):
        if place and any(found.axes[axis.name].initializers for axis in atoms(dim)):
            return place
    return 1


def plan_layers(found: AxisMap, after: str | Sequence[str], wanted: Sequence[Kernel], seed: int) -> Plan:
    """The plan that inserts layers at the places that are named.

    Raises:
        RequestError: If a name is unknown, or no identity layer is exact there.
    """
    every = places(found)
    names = Names(found.graph)
    if after == "every":
        chosen = [place for place in every if place.kind and not place.refusal]
    else:
        chosen = [_find(found, every, name) for name in ([after] if isinstance(after, str) else after)]
    layers: list[Layer] = []
    for place in dict.fromkeys(chosen):
        for kernel in wanted if place.kind == "Conv" else [()]:
            layers.append(_layer(found.graph, place, kernel, names))
    return Plan(fingerprint(found.graph.model), seed, layers=tuple(layers))


def check_layers(found: AxisMap, plan: Plan) -> None:
    """Makes sure that the layers of a plan, which may come from a file, are exact where it puts them.

    Raises:
        RequestError: If they are not, or the plan widens axes as well.
    """
    fit = {(p.node, p.tensor, p.kind, p.channels): p.rank for p in places(found) if not p.refusal}
    names = [name for layer in plan.layers for name in layer.names]
    free = len(set(names)) == len(names) and not set(names) & Names(found.graph).taken
    for layer in plan.layers:
        rank = fit.get((layer.after, layer.tensor, layer.kind, layer.channels))
        sides = len(layer.kernel) == (rank - 2 if rank and layer.kind == "Conv" else 0)
        centred = all(n > 0 and n % 2 for n in layer.kernel)
        typed = layer.dtype == found.graph.dtype(layer.tensor) and len(layer.names) == 5
        if not (rank and sides and centred and typed and free) or plan.axes or plan.constants or plan.sizes:
            raise RequestError(
                "a layer does not fit the model there",
                "make the plan again with --plan-out",
                op="plan",
                tensor=layer.tensor,
            )


def _find(found: AxisMap, every: Sequence[Place], name: str) -> Place:
    for place in every:
        if name and name in (place.tensor, found.graph.nodes[place.node].name):
            if place.refusal:
                raise RequestError(
                    place.refusal,
                    "choose another place; inspect lists them",
                    op=label(found.graph.nodes[place.node]),
                    tensor=place.tensor,
                )
            return place
    for node in found.graph.nodes:
        if name and (name == node.name or name in node.output):
            raise RequestError(
                "an identity layer after it is not exact, since f(f(x)) is not f(x)",
                "choose a Relu, Clip or another idempotent activation; inspect lists them",
                op=node.op_type,
                node=node.name,
                tensor=node.output[0],
            )
    raise RequestError("no node or tensor has this name", "inspect lists the places", op="after", tensor=name)


def _layer(graph: Graph, place: Place, kernel: Kernel, names: Names) -> Layer:
    spatial = place.rank - 2
    if place.kind == "Conv":
        kernel = kernel * spatial if len(kernel) == 1 else kernel
        if len(kernel) != spatial:
            shown = "x".join(map(str, kernel))
            raise RequestError(
                f"a kernel of {shown} does not fit {spatial} spatial dimensions",
                "give one side for each",
                op=label(graph.nodes[place.node]),
                tensor=place.tensor,
            )
    base = f"{place.tensor}_deeper"
    made = [names.new(f"{base}_{what}") for what in ("weight", "layer", "linear", "activation", "input")]
    return Layer(place.kind, place.node, place.tensor, place.channels, kernel, graph.dtype(place.tensor), tuple(made))


def identity_weight(layer: Layer) -> NDArray[Any]:
    """The weight of an identity layer: [C, C, *kernel] with a centre tap of one for a Conv, else [C, C]."""
    dtype = helper.tensor_dtype_to_np_dtype(layer.dtype)
    weight = np.zeros((layer.channels, layer.channels, *layer.kernel), dtype)
    every = np.arange(layer.channels)
    centre = [np.full_like(every, n // 2) for n in layer.kernel]
    weight[(every, every, *centre)] = 1
    return weight


def apply(model: ModelProto, plan: Plan) -> ModelProto:
    """Inserts the layers of a plan.

    The last activation of a place takes over the name of the teacher's tensor, so that all that reads it,
    graph outputs and subgraphs included, stays as it is.

    Raises:
        RequestError: If the plan was made for another model.
    """
    if not plan.axes:
        check_teacher(plan, model)
    student = ModelProto()
    student.CopyFrom(model)
    by_place: dict[int, list[Layer]] = {}
    for layer in plan.layers:
        by_place.setdefault(layer.after, []).append(layer)
    nodes = []
    for i, node in enumerate(student.graph.node):
        nodes.append(node)
        if i in by_place:
            nodes += _insert(student, node, by_place[i])
    del student.graph.node[:]
    student.graph.node.extend(nodes)
    return student


def _insert(student: ModelProto, activation: NodeProto, layers: Sequence[Layer]) -> list[NodeProto]:
    """The new nodes after one activation, whose own output gets a new name."""
    made: list[NodeProto] = []
    final = activation.output[0]
    original = NodeProto()
    original.CopyFrom(activation)
    activation.output[0] = layers[0].names[4]
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        weight, name, linear, second, before = layer.names
        value = identity_weight(layer)
        student.graph.initializer.append(numpy_helper.from_array(value, weight))
        if student.ir_version < 4:
            student.graph.input.append(helper.make_tensor_value_info(weight, layer.dtype, value.shape))
        made.append(_linear(layer, name, before, weight, linear))
        again = NodeProto()
        again.CopyFrom(original)
        again.name = second
        again.input[0] = linear
        again.output[0] = following.names[4] if following else final
        made.append(again)
    return made


def _linear(layer: Layer, name: str, before: str, weight: str, after: str) -> NodeProto:
    """The linear node of a layer."""
    attrs: dict[str, Any] = {}
    if layer.kind == "Conv":
        pads = [n // 2 for n in layer.kernel]
        attrs = {"kernel_shape": list(layer.kernel), "pads": pads + pads}
    node = gs.Node(layer.kind, name, attrs, [gs.Variable(before), gs.Variable(weight)], [gs.Variable(after)])
    exported: NodeProto = OnnxExporter.export_node(node)
    return exported
