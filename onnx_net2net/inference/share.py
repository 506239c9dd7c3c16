"""Who takes the fractions of an axis that two computed operands contract.

Scores are sums over ``q * k``. Where linear nodes alone make q from weights, these weights take the fractions: each
copy of a unit of q then is a share of it, every copy of a unit of k is whole, and the sum is the teacher's. Between
the weights and the contraction tensors hold shares, so nothing else may read them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_net2net import rules
from onnx_net2net.algebra.facts import Contract, Equal, Fact, Node, Operand, Terms
from onnx_net2net.algebra.unify import EMPTY, UNIT, Atom, Concatenation, Product, Solver, Term, concatenation, product
from onnx_net2net.inference.axis_map import Slot
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import FLOATS

Units = NDArray[np.bool_]
"""Of the units of a teacher's dimension, those that become shares."""
Mark = tuple[int, Units]
"""(dimension, units)"""
TRIES = 500
"""Choices of operands that are looked at for one contraction."""


@dataclass(frozen=True, slots=True)
class Share:
    """A dimension of a constant that takes fractions: ``ahead + before * over * after + behind``."""

    use: Slot
    axis: int
    over: Term
    before: Term = UNIT
    after: Term = UNIT
    ahead: Term = EMPTY
    behind: Term = EMPTY


@dataclass(frozen=True, slots=True)
class Shared:
    """Constants that take the fractions of a contraction, and the tensors between them and it."""

    shares: tuple[Share, ...]
    tensors: tuple[str, ...]


class Sharing:
    """Answers for the contractions of a solved system.

    Args:
        graph: The graph.
        solver: The solver, done.
        terms: Terms of each computed tensor.
        uses: Terms of each constant, by use.
        facts: What the rules stated, with the node.
        view: A node as rules see it.
    """

    def __init__(
        self,
        graph: Graph,
        solver: Solver,
        terms: Mapping[str, Terms],
        uses: Mapping[Slot, Terms],
        facts: Sequence[tuple[int, Fact]],
        view: Callable[[int], Node],
    ) -> None:
        self.graph, self.solver, self.terms, self.uses, self.view = graph, solver, terms, uses, view
        self.equal: dict[int, list[Equal]] = {}
        for i, fact in facts:
            if isinstance(fact, Equal):
                self.equal.setdefault(i, []).append(fact)
        self.links: dict[int, _Links] = {}

    def find(self, i: int, contract: Contract) -> Shared | None:
        """Who takes the fractions of a contraction of node ``i``; None if nothing can."""
        for operand in sorted(contract.operands, key=lambda operand: operand.slot):
            if operand.over.size > 1 and not operand.kept:
                found = _Search(self, i, operand).run()
                if found is not None:
                    return found
        return None

    def linear(self, i: int) -> list[tuple[int, ...]]:
        """Sets of slots in which a node is linear; constants last, for they may be tables of a rotation."""
        node = self.graph.nodes[i]
        rule = rules.find(node.op_type, node.domain, self.graph.opset(node.domain))
        sets = rule.linear(self.view(i)) if rule is not None else []
        given = [tuple(slot for slot in slots if node.input[slot]) for slots in sets]
        return sorted(given, key=lambda slots: any((i, slot) in self.uses for slot in slots))

    def between(self, i: int) -> _Links:
        """How the dimensions of a node's operands are related."""
        if i not in self.links:
            self.links[i] = _Links(self.equal.get(i, []))
        return self.links[i]

    def operand(self, i: int, slot: int) -> Terms:
        """Terms of an input."""
        return self.uses.get((i, slot)) or self.terms.get(self.graph.nodes[i].input[slot], ())


class _Links:
    """The equations of one node, as the rule wrote them."""

    def __init__(self, equations: Sequence[Equal]) -> None:
        self.root: dict[Term, Term] = {}
        self.merges: list[tuple[Term, Term]] = []
        for fact in equations:
            if isinstance(fact.left, Atom) and isinstance(fact.right, Atom):
                left, right = self.of(fact.left), self.of(fact.right)
                if left is not right:
                    self.root[left] = right
            else:
                self.merges += [(fact.left, fact.right), (fact.right, fact.left)]

    def of(self, term: Term) -> Term:
        """The one term that stands for all that are called equal."""
        while term in self.root:
            term = self.root[term]
        return term

    def same(self, a: Term, b: Term) -> bool:
        """Whether the node calls two dimensions equal."""
        return a.size > 1 and self.of(a) is self.of(b)

    def offsets(self, whole: Term, part: Term) -> list[int]:
        """Where a dimension stands in another, which is a concatenation."""
        found = []
        for merged, single in self.merges:
            if isinstance(merged, Concatenation) and self.same(single, whole):
                starts = np.cumsum([0, *(p.size for p in merged.parts)])
                found += [int(at) for at, p in zip(starts, merged.parts, strict=False) if self.same(p, part)]
        return found

    def alike(self, a: Term, b: Term) -> bool:
        """Whether both dimensions are one and the same merge."""
        ours, theirs = ([whole for whole, single in self.merges if self.same(single, side)] for side in (a, b))
        return any(whole is other for whole in ours for other in theirs)

    def regrouped(self, a: Term, b: Term) -> tuple[Sequence[Term], Sequence[Term]] | None:
        """The factors of the two sides of an equation of products, if ``a`` is in one and ``b`` in the other."""
        for left, right in self.merges:
            if not any(isinstance(side, Concatenation) for side in (left, right)):
                ours, theirs = (side.parts if isinstance(side, Product) else (side,) for side in (left, right))
                if any(self.same(p, a) for p in ours) and any(self.same(p, b) for p in theirs):
                    return ours, theirs
        return None


def _inner(factors: Sequence[Term], factor: Term, links: _Links) -> int:
    """How many units lie between two neighbours of a factor, in row-major order."""
    place = next(k for k, part in enumerate(factors) if links.same(part, factor))
    return math.prod(part.size for part in factors[place + 1 :])


def _block(operand: Operand) -> Units:
    """The units of an operand's dimension that are contracted."""
    inside = operand.before.size * operand.over.size * operand.after.size
    return np.repeat([False, True, False], [operand.ahead.size, inside, operand.behind.size])


Demands = dict[str, dict[Slot, Mark]]
"""What the readers of a tensor want to be shares."""


class _Search:
    """Goes from one operand of a contraction up to weights, the last node first."""

    def __init__(self, sharing: Sharing, i: int, operand: Operand) -> None:
        self.sharing, self.node, self.operand = sharing, i, operand
        self.graph = sharing.graph
        self.axes = set(sharing.solver.leaves(operand.over))
        self.tries = 0

    def run(self) -> Shared | None:
        """The constants, if all that makes the operand is linear."""
        wanted: Demands = {}
        placed: list[Share] = []
        for part in (self.operand, *self.operand.plus):
            use, mark = (self.node, part.slot), (part.axis, _block(part))
            if use in self.sharing.uses:
                portions = self._portions(use, *mark)
                if portions is None:
                    return None
                placed += portions
            else:
                wanted.setdefault(self.graph.tensor(use), {})[use] = mark
        return self._go(wanted, (), tuple(placed))

    def _go(self, wanted: Demands, done: tuple[str, ...], placed: tuple[Share, ...]) -> Shared | None:
        pending = [name for name in wanted if name not in done]
        if not pending:
            return Shared(placed, done)
        if any(name not in self.graph.producer or name not in self.sharing.terms for name in pending):
            return None
        name = max(pending, key=lambda name: self.graph.producer[name])
        mark = self._agreed(name, wanted[name])
        i = self.graph.producer[name]
        if mark is None or self._escapes(i, name, mark[0]):
            return None
        for slots in self.sharing.linear(i):
            self.tries += 1
            if self.tries > TRIES:
                return None
            asked: Demands = {key: dict(value) for key, value in wanted.items()}
            shares = self._ask(i, name, mark, slots, asked)
            if shares is not None:
                found = self._go(asked, (*done, name), tuple(dict.fromkeys((*placed, *shares))))
                if found is not None:
                    return found
        return None

    def _ask(self, i: int, name: str, mark: Mark, slots: Sequence[int], asked: Demands) -> list[Share] | None:
        """Adds what inputs of a node have to be shares to what is asked; gives the constants among them."""
        more = self._handed(i, name, mark, slots)
        shares: list[Share] = []
        for slot, (axis, units) in (more or {}).items():
            if (i, slot) in self.sharing.uses:
                portions = self._portions((i, slot), axis, units)
                if portions is None:
                    return None
                shares += portions
                continue
            held = asked.setdefault(self.graph.nodes[i].input[slot], {})
            before = held.get((i, slot), (axis, units))
            if before[0] != axis:
                return None
            held[i, slot] = (axis, before[1] | units)
        return None if more is None else shares

    def _escapes(self, i: int, name: str, axis: int) -> bool:
        """Whether another output of a node carries the dimension too: it would hold shares that nobody adds up."""
        links, terms = self.sharing.between(i), self.sharing.terms
        others = (other for other in self.graph.nodes[i].output if other and other != name)
        return any(links.same(part, terms[name][axis]) for other in others for part in terms.get(other, ()))

    def _agreed(self, name: str, wanted: Mapping[Slot, Mark]) -> Mark | None:
        """What of a tensor becomes shares, if that suits all its readers."""
        graph = self.graph
        inner = any(name in names for names in graph.captured)
        if name in graph.outputs or inner or graph.dtype(name) not in FLOATS:
            return None
        axis = next(iter(wanted.values()))[0]
        if any(mark[0] != axis for mark in wanted.values()):
            return None
        units = np.logical_or.reduce([mark[1] for mark in wanted.values()])
        for reader in graph.consumers.get(name, []):
            if reader[1] in graph.unread(graph.nodes[reader[0]]):
                continue
            asked = wanted[reader][1] if reader in wanted else np.zeros_like(units)
            if not np.array_equal(units & self._read(reader, axis), asked):
                return None
        return axis, units

    def _read(self, reader: Slot, axis: int) -> Units:
        """The units of a dimension that a node reads: a Slice takes some."""
        i, slot = reader
        whole = self.sharing.operand(i, slot)[axis]
        links = self.sharing.between(i)
        units = np.zeros(whole.size, bool)
        for name in self.graph.nodes[i].output:
            for part in self.sharing.terms.get(name, ()):
                for start in links.offsets(whole, part):
                    units[start : start + part.size] = True
        return units if units.any() else ~units

    def _handed(self, i: int, name: str, mark: Mark, slots: Sequence[int]) -> dict[int, Mark] | None:
        """What inputs of a node have to be shares, so that its output is."""
        found: dict[int, Mark] = {}
        for slot in slots:
            here = self._through(i, slot, self.sharing.terms[name], *mark)
            if here is None:
                return None
            if here[1].any():
                found[slot] = here
        return found or None

    def _through(self, i: int, slot: int, made: Terms, axis: int, units: Units) -> Mark | None:
        """The dimension of an input that a dimension of the output comes from, and its units."""
        links, y = self.sharing.between(i), made[axis]
        for place, x in enumerate(self.sharing.operand(i, slot)):
            sides = links.regrouped(x, y)
            if sides:  # equal sizes mean nothing there, positions do
                if x.size == y.size and _inner(sides[0], x, links) == _inner(sides[1], y, links):
                    return place, units
                if units.all() and self._shares(x) and [sum(map(self._shares, side)) for side in sides] == [1, 1]:
                    return place, np.ones(x.size, bool)
                continue
            if links.same(x, y):
                return place, units
            taken, joined = links.offsets(x, y), links.offsets(y, x)
            if len(taken) == 1:
                grown = np.zeros(x.size, bool)
                grown[taken[0] : taken[0] + y.size] = units
                return place, grown
            if len(joined) == 1:
                return place, units[joined[0] : joined[0] + x.size]
            if units.all() and links.alike(x, y):  # the node mixes units of one axis, such as the halves of a rotation
                return place, np.ones(x.size, bool)
        return None

    def _shares(self, term: Term) -> bool:
        return not self.axes.isdisjoint(self.sharing.solver.leaves(term))

    def _portions(self, use: Slot, axis: int, units: Units) -> list[Share] | None:
        """The blocks of a constant's dimension that become shares, if these are blocks of its term."""
        term = self.sharing.solver.resolve(self.sharing.uses[use][axis])
        if units.all() and (self.axes.issuperset(self.sharing.solver.leaves(term)) or isinstance(term, Product)):
            return self._factor(use, axis, term, EMPTY, EMPTY)
        if not isinstance(term, Concatenation):
            return None
        found: list[Share] = []
        starts = np.cumsum([0, *(part.size for part in term.parts)])
        for k, part in enumerate(term.parts):
            here = units[starts[k] : starts[k + 1]]
            if here.any() and not here.all():
                return None
            if here.any() and self._shares(part):
                ahead, behind = (concatenation(*parts) for parts in (term.parts[:k], term.parts[k + 1 :]))
                portion = self._factor(use, axis, self.sharing.solver.resolve(part), ahead, behind)
                if portion is None:
                    return None
                found += portion
        return found

    def _factor(self, use: Slot, axis: int, term: Term, ahead: Term, behind: Term) -> list[Share] | None:
        """The factors of a block that are contracted, which have to be neighbours."""
        parts = term.parts if isinstance(term, Product) else (term,)
        inside = [k for k, part in enumerate(parts) if self._shares(part)]
        if not inside:
            return None
        first, end = inside[0], inside[-1] + 1
        over = parts[first] if len(inside) == 1 else product(*parts[first:end])
        if len(inside) != end - first or not self.axes.issuperset(self.sharing.solver.leaves(over)):
            return None
        return [Share(use, axis, over, product(*parts[:first]), product(*parts[end:]), ahead, behind)]
