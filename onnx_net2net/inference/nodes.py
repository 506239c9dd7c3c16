"""Nodes, as rules see them when they are asked for values rather than axes."""

from __future__ import annotations

from onnx_net2net.algebra.facts import Node
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import attributes


def view(graph: Graph, i: int) -> Node:
    """What a rule may see of a node when it is asked for values rather than axes.

    Raises:
        Declined: If the node's attributes are not those of its operator.
    """
    proto = graph.nodes[i]
    graph.check_attributes(proto)
    return Node(
        proto.op_type,
        graph.opset(proto.domain),
        attributes(proto),
        [() if name else None for name in proto.input],
        [() if name else None for name in proto.output],
        proto.domain,
        lambda slot: graph.small_value(proto.input[slot]) if proto.input[slot] else None,
        frozenset(slot for slot, name in enumerate(proto.input) if name in graph.constants),
    )
