"""Exact upcast of half precision models to float32, for runtimes that lack a kernel."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

from onnx_net2net.inference.proto import read_tensor

HALF = (TensorProto.BFLOAT16, TensorProto.FLOAT16)


def upcast(model: ModelProto) -> ModelProto:
    """A copy of the model that computes in float32; every half precision weight keeps its exact value."""
    copy = ModelProto()
    copy.CopyFrom(model)
    pending: list[GraphProto] = [copy.graph]
    while pending:
        graph = pending.pop()
        for tensor in graph.initializer:
            _upcast(tensor)
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type in HALF:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    _upcast(attribute.t)
                if attribute.name in ("to", "dtype") and attribute.i in HALF:
                    attribute.i = TensorProto.FLOAT
                if attribute.HasField("g"):
                    pending.append(attribute.g)
    return copy


def _upcast(tensor: TensorProto) -> None:
    if tensor.data_type in HALF:
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(read_tensor(tensor).astype(np.float32), name))
