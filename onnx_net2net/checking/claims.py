"""What has to hold of two models before their numbers mean anything."""

from __future__ import annotations

import math

from onnx import ModelProto

from onnx_net2net.checking.inputs import graph_inputs
from onnx_net2net.errors import ModelError

SAME = "nothing grew: the student has no more weights or nodes than its teacher"


def interface(first: ModelProto, second: ModelProto) -> str:
    """How the inputs and outputs of two models differ, or an empty string."""
    if not first.graph.output:
        return "no outputs were compared"
    for model in (first, second):
        if len({value.name for value in model.graph.output}) < len(model.graph.output):
            raise ModelError("two outputs have one name", "give every tensor a name of its own", op="graph output")
    for kind in ("input", "output"):
        a, b = ({v.name: v for v in getattr(m.graph, kind)} for m in (first, second))
        if kind == "input":
            a, b = ({v.name: v for v in graph_inputs(m)} for m in (first, second))
        if a.keys() != b.keys():
            return f"the {kind}s differ: {sorted(a.keys() ^ b.keys())}"
        for name in a:
            if a[name].type.tensor_type.elem_type != b[name].type.tensor_type.elem_type:
                return f"{kind} '{name}' differs in type"
    return ""


def grew(first: ModelProto, second: ModelProto) -> bool:
    """Whether the second model has more weights or more nodes."""
    return weights(second) > weights(first) or len(second.graph.node) > len(first.graph.node)


def weights(model: ModelProto) -> int:
    """How many numbers a model holds."""
    made = (a.t for node in model.graph.node for a in node.attribute if a.HasField("t"))
    return sum(math.prod(tensor.dims) for tensor in (*model.graph.initializer, *made))


def constants(model: ModelProto) -> set[str]:
    """Outputs that are constants of the model, which cannot react to an input."""
    made = {name for node in model.graph.node for name in node.output if any(node.input)}
    return {value.name for value in model.graph.output} - made - {value.name for value in graph_inputs(model)}
