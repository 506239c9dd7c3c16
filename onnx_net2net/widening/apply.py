"""Net2WiderNet: model + Plan -> student. The student is the teacher, patched; the rest stays as it was."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_net2net.inference.graph import Graph
from onnx_net2net.planning.borders import BorderPlan
from onnx_net2net.planning.names import Names
from onnx_net2net.planning.plan import DIFFERS, KEPT, Plan, check_teacher
from onnx_net2net.storage.inserting import Weights
from onnx_net2net.storage.model import AnyModel, LazyModel, promise, proto_of
from onnx_net2net.storage.tensors import Tensor, stays
from onnx_net2net.widening.by_rows import Choices, Rewritten
from onnx_net2net.widening.inserted import insert
from onnx_net2net.widening.rewrite import student_value

Array = NDArray[Any]


@overload
def apply(model: ModelProto, plan: Plan, *, noise: bool = True) -> ModelProto: ...
@overload
def apply(model: LazyModel, plan: Plan, *, noise: bool = True) -> LazyModel: ...
def apply(model: AnyModel, plan: Plan, *, noise: bool = True) -> AnyModel:
    """Makes the student that a plan describes; of a lazy teacher a lazy one.

    Args:
        model: The teacher; it is not changed.
        plan: A plan made for a model of this structure.
        noise: Whether to add the plan's noise; without it the student equals its teacher.

    Raises:
        RequestError: If the plan was made for another model.
    """
    check_teacher(plan, model)
    graph = Graph(model)
    student = ModelProto()
    student.CopyFrom(proto_of(model))
    patch = _Patch(graph, student)
    choices = Choices(plan, plan.maps, plan.fractions, graph.value, noise)
    made: dict[str, Tensor] = {}
    for constant in plan.constants:
        lazy = Rewritten(graph.tensor_of(constant.source), constant, choices) if isinstance(model, LazyModel) else None
        if lazy is not None and not stays(lazy.dtype, lazy.shape):
            made[constant.name] = lazy
            patch.constant(constant.name, lazy)
        else:
            value = graph.value(constant.source)
            patch.constant(constant.name, student_value(value, constant, plan, graph.value, noise=noise))
        for node, slot in constant.uses:
            student.graph.node[node].input[slot] = constant.name
    for sizes in plan.sizes:
        patch.sizes(sizes.node, sizes.where, sizes.values, sizes.scalar, sizes.name, sizes.instead_of)
    for number in plan.numbers:
        patch.number(number.node, number.where, number.value)
    patch.shapes(plan.shapes)
    patch.borders(plan.borders)
    for item in plan.inserted:
        for node, slot in item.uses:
            student.graph.node[node].input[slot] = item.names[2]
    patch.drop_unused()
    weights = Weights(student, isinstance(model, LazyModel))
    if plan.inserted:
        insert(student, plan, weights)
    if not isinstance(model, LazyModel):
        return student
    held = {tensor.name for tensor in student.graph.initializer}
    every = {**model.made, **made, **weights.made}
    return LazyModel(student, {name: tensor for name, tensor in every.items() if name in held})


class _Patch:
    """Changes a copy of the teacher in place."""

    def __init__(self, graph: Graph, student: ModelProto) -> None:
        self.graph = graph
        self.student = student
        self.proto: GraphProto = student.graph
        self.place = {tensor.name: i for i, tensor in enumerate(self.proto.initializer)}
        self.listed = student.ir_version < 4
        self.names = Names(graph)
        self.infos: dict[str, list[ValueInfoProto]] = {}
        for info in (*self.proto.input, *self.proto.value_info):
            self.infos.setdefault(info.name, []).append(info)

    def constant(self, name: str, value: Array | Tensor) -> None:
        """Sets an initializer, or adds it; what a node made under this name, it no longer makes."""
        if name in self.place:
            tensor = self.proto.initializer[self.place[name]]
            _fill(tensor, value)
        else:
            self.place[name] = len(self.proto.initializer)
            tensor = self.proto.initializer.add(name=name)
            _fill(tensor, value)
            if name in self.graph.producer:
                self._retire(self.graph.producer[name], name)
            if self.listed:
                self.proto.input.append(helper.make_tensor_value_info(name, tensor.data_type, value.shape))
        for info in self.infos.get(name, ()):
            _set_shape(info, value.shape)

    def _retire(self, node: int, name: str) -> None:
        output = self.proto.node[node].output
        for i, made in enumerate(output):
            if made == name:
                output[i] = self.names.new(f"{name}_unused")  # an empty name would drop an output that is not optional

    def sizes(
        self, i: int, where: str | int, values: tuple[float, ...], scalar: bool, name: str, instead_of: str
    ) -> None:
        """Writes sizes into an attribute or an input slot, or a number into an attribute."""
        node = self.proto.node[i]
        for k, attribute in reversed(list(enumerate(node.attribute))):
            if attribute.name == instead_of:
                del node.attribute[k]
        if isinstance(where, str):
            new = helper.make_attribute(where, values[0] if scalar else list(values))
            for attribute in node.attribute:
                if attribute.name == where:
                    attribute.CopyFrom(new)
                    return
            node.attribute.append(new)
            return
        while len(node.input) <= where:
            node.input.append("")
        before = node.input[where]
        dtype = helper.tensor_dtype_to_np_dtype(self.graph.dtype(before)) if before else np.dtype(np.int64)
        node.input[where] = name
        if name not in self.place:
            shape = self.graph.shape(before) if before else None
            kept = shape is not None and math.prod(shape) == len(values)  # a scalar may become a list
            self.constant(name, np.array(values, dtype).reshape(shape if kept else (-1,)))

    def number(self, i: int, where: str, value: float) -> None:
        """Writes a number into an attribute."""
        node = self.proto.node[i]
        for attribute in node.attribute:
            if attribute.name == where:
                attribute.f = value
                return
        node.attribute.append(helper.make_attribute(where, value))

    def shapes(self, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> None:
        """Writes new sizes into value_info."""
        wanted = dict(shapes)
        for info in self.proto.value_info:
            held = info.type if info.type.HasField("tensor_type") else info.type.sequence_type.elem_type
            for dim, value in zip(held.tensor_type.shape.dim, wanted.get(info.name, ()), strict=False):
                if value == DIFFERS:
                    dim.Clear()
                elif value != KEPT and dim.HasField("dim_value"):
                    dim.dim_value = value

    def borders(self, borders: tuple[BorderPlan, ...]) -> None:
        """Writes new sizes into graph inputs and outputs."""
        for border in borders:
            for info in self.proto.input if border.kind == "input" else self.proto.output:
                for axis, dim in enumerate(info.type.tensor_type.shape.dim if info.name == border.name else ()):
                    if border.old[axis] != border.new[axis] and dim.HasField("dim_value"):
                        dim.dim_value = border.new[axis]

    def drop_unused(self) -> None:
        """Removes constants that the teacher used and the student does not."""
        before, after = Counter(_read(self.graph.proto, self.graph)), Counter(_read(self.proto, self.graph))
        dropped = []
        for i in sorted(self.graph.constant_nodes, reverse=True):
            used = any(before[name] for name in self.graph.nodes[i].output)
            if used and not any(after[name] for name in self.proto.node[i].output):
                dropped.append(i)
                after.subtract(self.proto.node[i].input)
        kept = set() if self.listed else {value.name for value in self.proto.input}  # an interface stays
        dead = {name for name in before if name in self.graph.constants and not after[name]} - kept
        for i in dropped:
            del self.proto.node[i]
        for field in (self.proto.initializer, self.proto.input, self.proto.value_info):
            for k in reversed(range(len(field))):
                if field[k].name in dead:
                    del field[k]


def _read(proto: GraphProto, graph: Graph) -> list[str]:
    """Every name that the graph reads, once for each reader."""
    names = [name for node in proto.node for name in node.input if name]
    names += [value.name for value in proto.output]
    return names + [name for inner in graph.captured for name in inner]


def _fill(tensor: TensorProto, value: Array | Tensor) -> None:
    """Replaces shape and data of a tensor; its name and documentation stay."""
    if isinstance(value, Tensor):
        promise(tensor, value)
        return
    data = numpy_helper.from_array(value)
    name, doc = tensor.name, tensor.doc_string
    meta = list(tensor.metadata_props)
    tensor.CopyFrom(data)
    tensor.name = name
    if doc:
        tensor.doc_string = doc
    tensor.metadata_props.extend(meta)


def _set_shape(info: Any, shape: tuple[int, ...]) -> None:
    dims = info.type.tensor_type.shape.dim
    for dim, n in zip(dims, shape, strict=False):
        dim.dim_value = n
