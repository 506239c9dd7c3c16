"""Models that the benchmarks make: stacks of matrix products with weights in a file of their own, and long chains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

SIDE = 4096
"""Rows and columns of a weight: 64 MiB in float32."""


def stack(folder: Path, layers: int, side: int = SIDE, name: str = "stack") -> Path:
    """Writes MatMul, Relu, MatMul, ... with random weights as external data.

    Args:
        folder: Where ``NAME.onnx`` and ``NAME.onnx.data`` go.
        layers: How many products there are.
        side: Rows and columns of each weight.
        name: The name of the model.
    """
    path, step = folder / f"{name}.onnx", 4 * side * side
    nodes: list[NodeProto] = []
    weights = []
    for i in range(layers):
        last = i == layers - 1
        nodes.append(helper.make_node("MatMul", [f"r{i}", f"w{i}"], ["y" if last else f"m{i}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"m{i}"], [f"r{i + 1}"]))
        tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[side, side])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", f"{path.name}.data"), ("offset", i * step), ("length", step)):
            tensor.external_data.add(key=key, value=str(value))
        weights.append(tensor)
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["batch", side]) for end in ("r0", "y")]
    graph = helper.make_graph(nodes, name, ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    drawn = np.random.default_rng(0).standard_normal((side, side), np.float32) * np.float32(1.4 / np.sqrt(side))
    with Path(f"{path}.data").open("wb") as stream:
        for i in range(layers):  # rolled, so that no two are equal, and fast to make
            stream.write(np.roll(drawn, (7 * i + 1, 3 * i), (0, 1)).data)
    return path


def chain(nodes: int, side: int = 4) -> ModelProto:
    """MatMul, Add, Relu again and again: many nodes, hardly any weights."""
    rng = np.random.default_rng(0)
    made: list[NodeProto] = []
    weights = []
    for i in range(nodes // 3):
        weights += [
            numpy_helper.from_array(rng.standard_normal((side, side), np.float32) / 2, f"w{i}"),
            numpy_helper.from_array(rng.standard_normal(side, np.float32), f"b{i}"),
        ]
        made += [
            helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"m{i}"], f"product_{i}"),
            helper.make_node("Add", [f"m{i}", f"b{i}"], [f"a{i}"], f"sum_{i}"),
            helper.make_node("Relu", [f"a{i}"], [f"x{i + 1}"], f"relu_{i}"),
        ]
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["batch", side]) for end in ("x0", f"x{nodes // 3}")]
    graph = helper.make_graph(made, "chain", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
