"""Where the fractions of a contracted axis are absorbed: in a constant, or behind nodes that pass a factor on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx_net2net.algebra.facts import Contract, Operand, Terms
from onnx_net2net.inference.axis_map import Slot
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import FLOATS


@dataclass(frozen=True, slots=True)
class Place:
    """A dimension of a constant, at one use of it.

    Attributes:
        use: The use.
        axis: The dimension.
        operand: The operand of the contraction that it stands for.
        zero: The use that gives its zero point, for quantised weights.
        channel: The dimension of the constant along which the zero point varies.
    """

    use: Slot
    axis: int
    operand: Operand
    zero: Slot | None = None
    channel: int = 0


def locate(graph: Graph, uses: Mapping[Slot, Terms], i: int, contract: Contract) -> Place | None:
    """The constant that absorbs a contraction of node ``i``, or None if all operands are computed."""
    for operand in (operand for operand in contract.operands if operand.is_plain):
        place = _behind(graph, uses, i, operand)
        if place is not None:
            return place
    return None


def _behind(graph: Graph, uses: Mapping[Slot, Terms], i: int, operand: Operand) -> Place | None:
    """Goes up from an operand to a constant, through nodes that nothing else reads."""
    place = Place((i, operand.slot), operand.axis, operand, _given(graph, i, operand.zero), operand.channel)
    while place.use not in uses:
        name = graph.tensor(place.use)
        maker = graph.producer.get(name)
        if maker is None or not graph.is_private(name) or graph.dtype(name) not in FLOATS:
            return None  # a factor would be lost in rounding to integers, or reach other readers
        node = graph.nodes[maker]
        rule = graph.rule(maker)
        shape = graph.shape(node.input[0])
        if rule is None or rule.passes is None or shape is None:
            return None
        known = graph.attributes(maker)
        axis = rule.passes(known, place.axis, len(shape))
        zero = _given(graph, maker, rule.zero)
        place = Place(
            (maker, 0), axis, operand, zero or place.zero, int(known.get("axis", 1)) if zero else place.channel
        )
    return place


def _given(graph: Graph, i: int, slot: int | None) -> Slot | None:
    """A use, if the node has that input."""
    inputs = graph.nodes[i].input
    return (i, slot) if slot is not None and slot < len(inputs) and inputs[slot] else None
