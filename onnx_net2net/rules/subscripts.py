"""Operators that take positions, classes or lengths as numbers: which numbers have a meaning there."""

from collections.abc import Callable

from onnx_net2net.algebra.facts import Node, normal_axis
from onnx_net2net.rules._registry import Index, Indices, states
from onnx_net2net.rules.microsoft import DOMAIN


def along(slot: int, of: int, axis: int) -> Indices:
    """Input ``slot`` holds positions along an axis of input ``of``."""
    return lambda node: [Index(slot, node.x(of)[axis].size)] if node.has(slot) else []


def several(*parts: Indices) -> Indices:
    """What several inputs hold."""
    return lambda node: [index for part in parts for index in part(node)]


def along_attribute(node: Node) -> list[Index]:
    """Input 1 holds positions along the axis that an attribute names."""
    x = node.x(0)
    return [Index(1, x[node.axis("axis", 0, len(x))].size)]


def along_several(batch: Callable[[Node], int]) -> Indices:
    """Input 1 holds a position along each of the axes behind the ``batch`` first, which share one range here."""

    def indices(node: Node) -> list[Index]:
        start = batch(node)
        indexed = node.x(0)[start : start + node.x(1)[-1].size]
        return [Index(1, min(term.size for term in indexed))] if indexed else []

    return indices


def classes(node: Node) -> list[Index]:
    """Input 0 says which unit along a new axis is on."""
    y = node.y()
    return [Index(0, y[node.axis("axis", -1, len(y))].size)]


def lengths(node: Node) -> list[Index]:
    """Input 1 holds lengths, which are not zero, along the axis of time."""
    x = node.x(0)
    return [Index(1, x[node.axis("time_axis", 0, len(x))].size, first=1)]


def steps(node: Node) -> list[Index]:
    """Input 4 holds lengths of sequences, if it is given."""
    time = 1 if node.attr("layout", 0) else 0
    return [Index(4, node.x(0)[time].size, first=1)] if node.has(4) else []


def count(node: Node) -> list[Index]:
    """Input 1 says how many units along an axis to take."""
    x = node.x(0)
    return [Index(1, x[normal_axis(int(node.attr("axis", -1)), len(x))].size, first=1)]


def lengths_of_keys(node: Node) -> list[Index]:
    """Inputs 5 and 6 hold the last position of a query, and how many keys there are with those of before."""
    total = node.x(0)[1].size + (node.x(3)[2].size if node.has(3) else 0)
    return [Index(slot, 1, first=total - (slot == 5)) for slot in (5, 6) if node.has(slot)]


states("Gather", "GatherElements", "Scatter", "ScatterElements", indexes=along_attribute)
states("GatherND", indexes=along_several(lambda node: int(node.attr("batch_dims", 0))))
states("GRU", "LSTM", "RNN", indexes=steps)
states("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss", indexes=along(1, 0, 1))
states("OneHot", indexes=classes)
states("ReverseSequence", indexes=lengths)
states("RotaryEmbedding", indexes=along(3, 1, 0))
states("ScatterND", indexes=along_several(lambda node: 0))
states("TopK", indexes=count)
states("EmbedLayerNormalization", domain=DOMAIN, indexes=several(along(0, 2, 0), along(1, 4, 0), along(8, 3, 0)))
states("RotaryEmbedding", domain=DOMAIN, indexes=along(1, 2, 0))
states("GroupQueryAttention", domain=DOMAIN, indexes=lengths_of_keys)
