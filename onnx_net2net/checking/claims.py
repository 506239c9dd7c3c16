"""What has to hold of two models before their numbers mean anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from onnx import ModelProto, ValueInfoProto

from onnx_net2net.checking.inputs import graph_inputs
from onnx_net2net.errors import ModelError
from onnx_net2net.planning.borders import Units

ASK = "if its shape was allowed to change, give the plan that made the student (--plan)"
SAME = "nothing grew: the student has no more weights or nodes than its teacher"


def interface(first: ModelProto, second: ModelProto, units: Mapping[str, Units] | None = None) -> str:
    """How the inputs and outputs of two models differ, or an empty string.

    Args:
        first: The teacher.
        second: The student.
        units: What the inputs and outputs of the student hold that are wider, if a plan says so.
    """
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
    return _sizes(first, second, units or {})


def _sizes(first: ModelProto, second: ModelProto, units: Mapping[str, Units]) -> str:
    """Which input of the second model has another size than it should, or an empty string."""
    held = {value.name: _shape(value) for value in graph_inputs(second)}
    for value in graph_inputs(first):
        wanted, given = _wide(value, units.get(value.name, {})), held[value.name]
        pairs = zip(wanted, given, strict=False)
        if len(wanted) == len(given) and any(None not in pair and pair[0] != pair[1] for pair in pairs):
            wrong = f"input '{value.name}' takes {_shown(given)} and not {_shown(wanted)}"
            return wrong if units else f"{wrong}; {ASK}"
    return ""


def _shape(value: ValueInfoProto) -> list[int | None]:
    """The sizes that are written down."""
    return [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]


def _wide(value: ValueInfoProto, units: Units) -> list[int | None]:
    """The sizes that the student has to write down."""
    return [n if n is None or axis not in units else len(units[axis]) for axis, n in enumerate(_shape(value))]


def _shown(shape: Iterable[int | None]) -> str:
    return f"[{', '.join('?' if n is None else str(n) for n in shape)}]"


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
