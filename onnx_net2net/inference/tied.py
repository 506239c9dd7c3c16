"""Tied weights that are to stay one tensor: what some nodes carry, others contract, as embedding and head do.

Fractions cannot be in the weight then. If every unit has equally many copies, all fractions are alike, and a factor on
the computed operand does as well; where the axis has filler, this operand has to be zero there. So such a contraction
asks of the axis what a statistic does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from onnx_net2net.algebra.axes import Axis, atoms, size
from onnx_net2net.algebra.filler import Fill
from onnx_net2net.inference.axis_map import AxisMap, Blame, Head, Scaled, Slot, Statistic, Tied
from onnx_net2net.inference.filler import fill_up
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import label
from onnx_net2net.rules import Passes

Order = tuple[int, ...]
"""For each dimension of a tensor, the dimension of the weight."""


def keep_tied(found: AxisMap) -> None:
    """Lets tied weights stay one tensor; what that asks of their axes is noted as a statistic over them."""
    scaled: dict[Slot, list[Scaled]] = {}
    for item in found.scaled:
        scaled.setdefault(item.use, []).append(item)
    loose = {name for name, info in found.axes.items() if info.status in ("free", "filled")}
    concerned: set[str] = set()
    for family in _families(found.graph):
        if len(family.uses) > 1 and not family.is_alike(scaled):
            tied = family.tied(found, scaled)
            found.tied.append(tied)
            concerned |= set() if tied.refusal else _ask(found, tied)
    fill_up(found, concerned)
    for name in sorted(concerned & loose):
        if found.axes[name].filling is None:
            found.axes[name].unfilled += "; any width will do with --tied clone"


@dataclass(slots=True)
class _Family:
    """A weight, and all that is made of it by moving its elements, dimension by dimension.

    Attributes:
        graph: The graph.
        name: The weight.
        leaving: What leaves the graph, for outputs or subgraphs.
        uses: What computes with it.
        moved: The tensors in between.
        lost: Whether a node makes something else of it, or it leaves the graph.
    """

    graph: Graph
    name: str
    leaving: frozenset[str]
    uses: dict[Slot, Order] = field(default_factory=dict)
    moved: dict[str, Order] = field(default_factory=dict)
    lost: bool = False

    def follow(self, name: str, order: Order) -> None:
        """Looks at all that reads a tensor, and what is made of it by moving its elements."""
        graph, pending = self.graph, [(name, order)]
        while pending:
            read, order = pending.pop()
            self.lost |= read in self.leaving
            for i, slot in graph.consumers.get(read, ()):
                passes = _passes(graph, i)
                if i not in graph.constant_nodes:
                    self.uses[i, slot] = order
                elif passes is not None:
                    made, known = graph.makes[i][0], graph.attributes(i)
                    self.moved[made] = tuple(order[passes(known, k, len(order))] for k in range(len(order)))
                    pending.append((made, self.moved[made]))
                else:
                    self.lost = True

    def is_alike(self, scaled: Mapping[Slot, list[Scaled]]) -> bool:
        """Whether all uses contract the same, so that one weight serves them all."""
        asked = [
            {
                (order[item.axis % len(order)], item.before, item.over, item.after, item.carried)
                for item in scaled.get(use, ())
            }
            for use, order in self.uses.items()
        ]
        return all(each == asked[0] for each in asked)

    def tied(self, found: AxisMap, scaled: Mapping[Slot, list[Scaled]]) -> Tied:
        """The weight with the contractions that give their fractions to another operand."""
        refusal = "more is made of it than products and look-ups" if self.lost else ""
        heads = []
        for item in (item for use in self.uses for item in scaled.get(use, ())):
            head = _head(found, item)
            if head is not None:
                heads.append(head)
            else:
                refusal = refusal or f"{label(found.graph.nodes[item.use[0]])} has no operand that can take a factor"
        return Tied(self.name, self.uses, self.moved, tuple(heads), refusal)


def _passes(graph: Graph, i: int) -> Passes | None:
    """Where a node takes each dimension from, if it does nothing else."""
    rule = graph.rule(i)
    return rule.passes if rule is not None and rule.zero is None else None


def _families(graph: Graph) -> Iterator[_Family]:
    """Every weight that is not another one, moved."""
    leaving = frozenset(graph.outputs).union(*graph.captured)
    for name in sorted(graph.constants):
        maker = graph.producer.get(name, -1)
        shape = graph.shape(name) or ()
        is_moved = maker >= 0 and _passes(graph, maker) is not None and graph.nodes[maker].input[0] in graph.constants
        if not is_moved and graph.is_weight(name) and sum(n > 1 for n in shape) > 1:
            family = _Family(graph, name, leaving)
            family.follow(name, tuple(range(len(shape))))
            yield family


def _head(found: AxisMap, item: Scaled) -> Head | None:
    """A contraction whose one other operand is computed, so that a factor on it is one on the product."""
    i, slot = item.use
    meeting = {
        other
        for other in range(len(found.graph.nodes[i].input))
        if any(over == item.over for _, over in found.contracted.get((i, other), ()))
    }
    others = [(i, other) for other in meeting - {slot}]
    plain = size(item.before) == size(item.after) == 1 and not item.carried and item.zero is None
    if slot not in meeting or len(others) != 1 or not plain or found.graph.tensor(others[0]) not in found.dims:
        return None
    return Head(item.use, item.axis, others[0], item.over)


def _ask(found: AxisMap, tied: Tied) -> set[str]:
    """What the heads ask of their axes, and which these are."""
    names: set[str] = set()
    for head in tied.heads:
        node = found.graph.nodes[head.use[0]]
        blame = Blame(label(node), f"it shares {tied.name} with another node, and the two are to stay tied")
        fills = (Fill("zero"),) if isinstance(head.over, Axis) else ()
        found.uniform.append(Statistic(head.use[0], head.over, blame, fills, slot=head.operand[1]))
        for axis in atoms(head.over):
            found.axes[axis.name].uniform.append(blame)
            names.add(axis.name)
    return names
