"""Activations of a graph: single nodes, and functions such as SiLU and Gelu that exporters write out in several.

Which operators are activations, or parts of one, is for the rules to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnx_net2net.errors import Declined
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.nodes import view

MOST = 16
"""Nodes of an activation at most."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A nonlinear function of one tensor.

    Attributes:
        node: Position of the node that gives its result.
        nodes: Positions of all its nodes.
        repeatable: Whether a copy of that one node computes the function of any other tensor.
        idempotent: Whether f(f(x)) = f(x).
    """

    node: int
    nodes: frozenset[int]
    repeatable: bool
    idempotent: bool


def is_idempotent(graph: Graph, i: int) -> bool:
    """Whether a node f satisfies f(f(x)) = f(x)."""
    rule = graph.rule(i)
    try:
        return rule is not None and rule.idempotent(view(graph, i))
    except Declined:
        return False


def single(graph: Graph, i: int) -> Activation:
    """A node, taken as a function of its first input."""
    rule = graph.rule(i)
    idempotent = is_idempotent(graph, i)
    unary = [slot for slot, name in enumerate(graph.nodes[i].input) if name and not _is_scalar(graph, name)] == [0]
    repeatable = idempotent or (unary and rule is not None and rule.activation == "whole")
    return Activation(i, frozenset({i}), repeatable, idempotent)


def activations(graph: Graph) -> list[Activation]:
    """Every activation, and every other idempotent function, in graph order."""
    computing = [i for i in range(len(graph.nodes)) if i not in graph.constant_nodes]
    written_out = [found for i in computing if (found := _written_out(graph, i)) is not None]
    inside = frozenset[int]().union(*(found.nodes for found in written_out))
    alone = [i for i in computing if i not in inside and (_is_whole(graph, i) or is_idempotent(graph, i))]
    return sorted([*written_out, *(single(graph, i) for i in alone)], key=lambda found: found.node)


def _is_whole(graph: Graph, i: int) -> bool:
    rule = graph.rule(i)
    return rule is not None and rule.activation == "whole"


def _is_scalar(graph: Graph, name: str) -> bool:
    """Whether a tensor is a constant of one element."""
    shape = graph.shape(name)
    return name in graph.constants and shape is not None and math.prod(shape) == 1


def _operands(graph: Graph, i: int) -> list[str] | None:
    """What an elementwise node computes with, constants of one element left out; None for any other node."""
    rule = graph.rule(i)
    if rule is None or not rule.elementwise or i in graph.constant_nodes:
        return None
    given = [name for name in graph.nodes[i].input if name and not _is_scalar(graph, name)]
    return None if any(name in graph.constants for name in given) else given


def _written_out(graph: Graph, i: int) -> Activation | None:
    """The activation that a product ends: x times something that is computed from x alone, element by element."""
    rule = graph.rule(i)
    operands = _operands(graph, i) if rule is not None and rule.follow == "product" else None
    if not operands or len(operands) < 2:
        return None
    nodes, frontier = {i}, set(operands)
    while len(frontier) > 1:
        latest = max(frontier, key=lambda name: graph.producer.get(name, -1))
        maker = graph.producer.get(latest)
        operands = _operands(graph, maker) if maker is not None else None
        if maker is None or not operands or len(nodes) == MOST:
            return None
        nodes.add(maker)
        frontier = (frontier - {latest}) | set(operands)
    shapes = {graph.shape(name) for name in (*frontier, graph.nodes[i].output[0])}
    known = [graph.rule(k) for k in nodes]
    if len(shapes) > 1 or not any(rule is not None and rule.activation for rule in known):
        return None
    last = _scaled(graph, i)
    return Activation(last, frozenset(nodes | {last}), False, False)


def _scaled(graph: Graph, i: int) -> int:
    """The node that multiplies a result by a number, as Gelu is often written, or else the node itself."""
    name = graph.nodes[i].output[0]
    if not graph.is_private(name) or name not in graph.consumers:
        return i
    following = graph.consumers[name][0][0]
    rule = graph.rule(following)
    plain = rule is not None and not rule.activation and not is_idempotent(graph, following)
    return following if plain and _operands(graph, following) == [name] else i
