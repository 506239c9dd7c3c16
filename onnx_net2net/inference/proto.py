"""Questions to the protobuf messages of a model that need no view of the whole graph."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_net2net.errors import ModelError
from onnx_net2net.inference.shapes import SMALL
from onnx_net2net.storage.model import stored
from onnx_net2net.storage.ranges import is_external, place_of
from onnx_net2net.storage.wire import copy_fields

HUGE = 2**40
"""Elements that no weight has."""
QUANTISED = frozenset({TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4})
STRUCTURE = frozenset({TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL})
"""Types of constants that hold sizes and indices rather than parameters."""
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})


def label(node: NodeProto) -> str:
    """How messages and reasons name a node: ``Conv 'conv1'``; the first output stands in for a name."""
    return f"{node.op_type} '{node.name or next(iter(node.output), '')}'"


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in a node's attributes, at any depth."""
    pending = [node]
    while pending:
        for attribute in pending.pop().attribute:
            for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield graph
                pending.extend(graph.node)


def captured(node: NodeProto) -> frozenset[str]:
    """Names that the subgraphs of a node use; those of the outer graph are among them."""
    names: set[str] = set()
    for graph in subgraphs(node):
        names.update(value.name for value in graph.output)
        for inner in graph.node:
            names.update(inner.input)
    return frozenset(names - {""})


def attributes(node: NodeProto) -> dict[str, Any]:
    """Decoded attributes; those that refer to a function's parameters are left out."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute if not a.ref_attr_name}


def skeleton(model: ModelProto) -> ModelProto:
    """The model without the data of large initializers; enough to infer shapes."""
    bare = ModelProto()
    copy_fields(model, bare, "graph")
    copy_fields(model.graph, bare.graph, "initializer", "sparse_initializer")
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= SMALL and not is_external(tensor):
            bare.graph.initializer.append(tensor)
        else:
            bare.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return bare


def read_tensor(tensor: TensorProto) -> NDArray[Any]:
    """The value of an initializer.

    Raises:
        ModelError: If its data does not fit its shape, or lies in a file that was not loaded.
    """
    if is_external(tensor) and place_of(tensor) is not None:
        return stored(tensor).read()
    if is_external(tensor):
        raise ModelError(
            "its data lies in another file", "pass the model by path", op="initializer", tensor=tensor.name
        )
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:
        raise ModelError(
            f"its data does not fit its shape {list(tensor.dims)}",
            "export the model again",
            op="initializer",
            tensor=tensor.name,
        ) from error


def open_dims(value: ValueInfoProto) -> Iterable[tuple[str, Any]]:
    """(key, dimension) for each dynamic dimension of a graph input."""
    if not value.type.HasField("tensor_type"):
        return
    for i, dim in enumerate(value.type.tensor_type.shape.dim):
        if not dim.HasField("dim_value") or dim.dim_value < 0:
            yield (dim.dim_param or f"{value.name}:{i}", dim)
