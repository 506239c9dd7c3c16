"""Which numbers suit a graph input: found from the rules of the nodes that read it, or from its element type.

Values are followed from inputs forwards, through nodes that only move elements (a cast, a reshape), to slots that
hold positions, classes or lengths. The engine asks the rules for both and knows no operator names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from onnx_net2net import rules
from onnx_net2net.algebra.facts import Node
from onnx_net2net.algebra.unify import Term, fresh
from onnx_net2net.errors import Declined, ModelError
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import attributes


@dataclass(frozen=True, slots=True)
class Range:
    """The values that an input is drawn from.

    Attributes:
        low: The smallest.
        high: The largest, which belongs to the range.
        whole: Whether only whole numbers have a meaning, whatever the element type.
    """

    low: float
    high: float
    whole: bool = False


Ranges = Mapping[str, Range]
SMALL = (TensorProto.INT8, TensorProto.UINT8)
"""Element types of which every value is taken; larger integers stay 0 or 1, where nothing else is known."""


def indexing(model: ModelProto, sizes: Mapping[str, int]) -> dict[str, Range]:
    """The inputs that hold positions, classes or lengths, with the range in which all their readers agree.

    Args:
        model: The model.
        sizes: Sizes of its dynamic dimensions, by symbol or by ``input:dim``.
    """
    if not any(_has_index(model, node) for node in model.graph.node):
        return {}
    try:
        graph = Graph(model, {key: sizes[key] for key in Graph(model).dynamic() if key in sizes})
        graph.shapes  # noqa: B018  # computed here, so that its errors are met here
    except ModelError:
        return {}
    found: dict[str, Range] = {}
    held: dict[str, frozenset[str]] = {value.name: frozenset({value.name}) for value in graph.inputs}
    for node in graph.nodes:
        rule = rules.find(node.op_type, node.domain, graph.opset(node.domain))
        if rule is None or not any(name in held for name in node.input):
            continue
        for index in _indices(graph, node, rule):
            for name in held.get(node.input[index.slot], ()):
                found[name] = _both(found.get(name), index)
        if rule.follow == "moves" or rule.keeps:
            slots = rule.data or ((0,) if rule.keeps else range(len(node.input)))
            moved = frozenset[str]().union(*(held.get(node.input[s], ()) for s in slots if s < len(node.input)))
            held.update((name, moved) for name in node.output if moved)
    return found


def _has_index(model: ModelProto, node: NodeProto) -> bool:
    opset = max(
        (o.version for o in model.opset_import if (o.domain or "ai.onnx") == (node.domain or "ai.onnx")), default=1
    )
    rule = rules.find(node.op_type, node.domain, opset)
    return rule is not None and rule.indexes is not rules.no_index


def _both(known: Range | None, index: rules.Index) -> Range:
    """The numbers that suit another reader too; never none."""
    low, high = index.first, index.first + max(index.size, 1) - 1
    if known is not None:
        low, high = max(int(known.low), low), min(int(known.high), high)
    return Range(low, max(low, high), whole=True)


def _indices(graph: Graph, node: NodeProto, rule: rules.Rule) -> list[rules.Index]:
    """What a rule says of the numbers in a node's inputs; nothing where a shape is unknown."""

    def terms(name: str) -> tuple[Term, ...] | None:
        shape = graph.shape(name) if name else None
        return None if shape is None else tuple(fresh(size) for size in shape)

    seen = Node(
        node.op_type,
        graph.opset(node.domain),
        attributes(node),
        [terms(name) for name in node.input],
        [terms(name) for name in node.output],
        node.domain,
        lambda slot: graph.small_value(node.input[slot]) if node.input[slot] else None,
    )
    try:
        return rule.indexes(seen)
    except (Declined, IndexError):
        return []


def by_type(value: ValueInfoProto) -> Range | None:
    """The range of an input of which only the element type is known; None for normal numbers."""
    kind = value.type.tensor_type.elem_type
    if kind in SMALL:
        limits = np.iinfo(np.int8 if kind == TensorProto.INT8 else np.uint8)
        return Range(int(limits.min), int(limits.max), whole=True)
    return Range(0, 1, whole=True) if kind in WHOLE else None


WHOLE = frozenset(
    getattr(TensorProto, name)
    for name in "BOOL INT2 INT4 INT16 INT32 INT64 UINT2 UINT4 UINT16 UINT32 UINT64".split()
    if hasattr(TensorProto, name)
)
