"""The nodes that widening inserts: the mean over units, written into filler, and a factor.

mean    y = x P, where P copies the units that are copies, and its other columns take their mean; times a factor
scale   y = x * c
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from onnx_net2net.planning.plan import AxisPlan, Insertion, Plan
from onnx_net2net.storage.inserting import Built, Weights

Array = NDArray[Any]


def insert(student: ModelProto, plan: Plan, weights: Weights) -> None:
    """Inserts the nodes of a plan into a widened student, in place.

    The result of a mean takes over the name of the teacher's tensor, so that all that reads it stays as it is; that of
    a scale has a new name, which its readers have to read already.
    """
    means = {item.tensor: item for item in plan.inserted if item.kind == "mean"}
    scales = {item.names[2]: item for item in plan.inserted if item.kind == "scale"}
    nodes: list[NodeProto] = []
    for node in student.graph.node:
        for name in dict.fromkeys(node.input):
            if name in scales:
                nodes += _add(scales.pop(name), plan, weights)
        nodes.append(node)
        for slot, name in enumerate(node.output):
            if name in means:
                node.output[slot] = means[name].names[2]
                nodes += _add(means[name], plan, weights)
    del student.graph.node[:]
    student.graph.node.extend(nodes)


def _add(item: Insertion, plan: Plan, weights: Weights) -> list[NodeProto]:
    built = build(item, plan)
    weights.add(built.weights, lambda name: build(item, plan).weights[name])
    return built.nodes


def build(item: Insertion, plan: Plan) -> Built:
    """One node and its constant."""
    dtype = helper.tensor_dtype_to_np_dtype(item.dtype)
    name, constant, made = item.names
    if item.kind == "scale":
        value = np.array(item.value, np.float64).astype(dtype)
        return Built([helper.make_node("Mul", [item.tensor, constant], [made], name)], {constant: value})
    axis = next(axis for axis in plan.axes if axis.name == item.axis)
    node = helper.make_node("MatMul", [made, constant], [item.tensor], name)
    return Built([node], {constant: averaging(axis, item.value, dtype)})


def averaging(axis: AxisPlan, factor: float, dtype: Any) -> Array:
    """[T, T]: the identity on units that are copies; a column for each filler unit takes the mean over these."""
    copied = axis.new - axis.filler
    matrix = np.zeros((axis.new, axis.new), dtype)
    np.fill_diagonal(matrix[:copied, :copied], factor)
    matrix[:copied, copied:] = factor / copied
    return matrix
