"""What filler asks of nodes, for all axes alike: what they do to numbers, what they touch, and their statistics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from onnx_net2net.algebra.axes import atoms
from onnx_net2net.algebra.filler import Form
from onnx_net2net.errors import Declined
from onnx_net2net.inference.axis_map import AxisMap, Statistic
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.nodes import view
from onnx_net2net.inference.proto import FLOATS


@dataclass(frozen=True, slots=True)
class Traits:
    """What a node does to numbers.

    Attributes:
        form: Its form; None if it has none, or handles other than floating point numbers.
        vanishing: Sets of slots that make it zero.
        total: Whether it makes finite numbers of finite ones.
        unread: Input slots whose numbers do not count.
    """

    form: Form | None
    vanishing: tuple[tuple[int, ...], ...]
    total: bool
    unread: tuple[int, ...]


def traits_of(graph: Graph, i: int) -> Traits:
    """What a node does to numbers."""
    node, rule = graph.nodes[i], graph.rule(i)
    form: Form | None = None
    vanishing: tuple[tuple[int, ...], ...] = ()
    if rule is not None:
        try:
            seen = view(graph, i)
            form, vanishing = rule.form(seen), tuple(rule.vanishes(seen))
        except Declined:
            form = None
    read = {slot for monomial in form or () for slot, _ in monomial.degrees}
    handled = [*(node.input[slot] for slot in read if slot < len(node.input)), *node.output[:1]]
    floats = all(graph.dtype(name) in FLOATS for name in handled)
    total = graph.dtype(node.output[0]) not in FLOATS or (rule is not None and bool(rule.activation))
    return Traits(form if floats else None, vanishing, total, rule.unread if rule is not None else ())


class Network:
    """What the walks of all axes ask for.

    Args:
        found: The teacher's axes.
    """

    def __init__(self, found: AxisMap) -> None:
        self.found = found
        self.graph = found.graph
        self.traits: dict[int, Traits] = {}

    def traits_of(self, i: int) -> Traits:
        """What a node does to numbers."""
        if i not in self.traits:
            self.traits[i] = traits_of(self.graph, i)
        return self.traits[i]

    @cached_property
    def nodes(self) -> dict[str, list[int]]:
        """By axis: the nodes that read or make a tensor that carries it, in graph order."""
        found, graph = self.found, self.graph
        places: dict[str, set[int]] = {}
        for name, dims in found.dims.items():
            near = {i for i, _ in graph.consumers.get(name, ())} | {graph.producer.get(name, -1)} - {-1}
            for axis in {axis.name for dim in dims for axis in atoms(dim)}:
                places.setdefault(axis, set()).update(near)
        for (i, _), dims in found.uses.items():
            for axis in {axis.name for dim in dims for axis in atoms(dim)}:
                places.setdefault(axis, set()).add(i)
        return {axis: sorted(near) for axis, near in places.items()}

    @cached_property
    def statistics(self) -> dict[int, list[Statistic]]:
        """By node: the statistics that it takes."""
        by_node: dict[int, list[Statistic]] = {}
        for statistic in (*self.found.uniform, *self.found.idempotent):
            by_node.setdefault(statistic.node, []).append(statistic)
        return by_node
