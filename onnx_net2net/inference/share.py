"""Who takes the fractions of an axis that two computed operands contract.

Scores are sums over ``q * k``. Where linear nodes alone make q from weights, these weights take the fractions: each
copy of a unit of q then is a share of it, every copy of a unit of k is whole, and the sum is the teacher's. Between
the weights and the contraction tensors hold shares, so nothing else may read them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_net2net import rules
from onnx_net2net.algebra.box import Box, Units, alike, join, meet, tidy
from onnx_net2net.algebra.facts import Contract, Equal, Fact, Node, Operand, Pin, Terms, Unread
from onnx_net2net.algebra.unify import EMPTY, UNIT, Atom, Concatenation, Product, Solver, Term, concatenation, product
from onnx_net2net.inference.axis_map import Slot
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.links import Links
from onnx_net2net.inference.proto import FLOATS


@dataclass(frozen=True, slots=True)
class Mark:
    """What of a tensor becomes shares.

    Attributes:
        axis: The dimension that is contracted in the end.
        box: Which units of it, and of other dimensions; those not named are whole.
    """

    axis: int
    box: Box


Demands = dict[str, dict[Slot, Mark]]
"""What the readers of a tensor want to be shares."""
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
    """Constants that take the fractions of a contraction, and the tensors between them and it.

    ``picked`` is whether the tensors hold nothing but these constants, of which an index may pick parts.
    """

    shares: tuple[Share, ...]
    tensors: tuple[str, ...]
    picked: bool = False


class Sharing:
    """Answers for the contractions of a solved system; members of sequences are tensors like others.

    Args:
        graph: The graph.
        solver: The solver, done.
        terms: Terms of each computed tensor.
        lists: Terms of the members of each sequence.
        uses: Terms of each constant, by use.
        facts: What the rules stated, with the node.
        view: A node as rules see it.
    """

    def __init__(
        self,
        graph: Graph,
        solver: Solver,
        terms: Mapping[str, Terms],
        lists: Mapping[str, Sequence[Terms]],
        uses: Mapping[Slot, Terms],
        facts: Sequence[tuple[int, Fact]],
        view: Callable[[int], Node],
    ) -> None:
        self.graph, self.solver, self.uses, self.view = graph, solver, uses, view
        self.members = {name: [f"{name}[{k}]" for k in range(len(parts))] for name, parts in lists.items()}
        self.whole = {member: name for name, members in self.members.items() for member in members}
        inside = {m: parts[k] for name, parts in lists.items() for k, m in enumerate(self.members[name])}
        self.terms = {**terms, **inside}
        self.facts: dict[int, list[Fact]] = {}
        for i, fact in facts:
            if isinstance(fact, (Equal, Pin, Unread)):
                self.facts.setdefault(i, []).append(fact)
        picked = (fact.over for _, fact in facts if isinstance(fact, Pin) and fact.read)
        self.picked = {leaf for over in picked for leaf in solver.leaves(over)}
        self.links: dict[int, Links] = {}

    def find(self, contractions: Sequence[tuple[int, Contract]]) -> Shared | None:
        """Who takes the fractions of an axis that these nodes contract, all of the same operand; None if nothing can.

        Several together: steps of a loop that is written out read one tensor, each at another position.
        """
        ordered = [sorted(contract.operands, key=lambda operand: operand.slot) for _, contract in contractions]
        for operands in zip(*ordered, strict=False):
            if all(operand.over.size > 1 and not operand.kept for operand in operands):
                axes = {leaf for operand in operands for leaf in self.solver.leaves(operand.over)}
                found = _Search(self, axes).run([(i, o) for (i, _), o in zip(contractions, operands, strict=True)])
                if found is not None:
                    return found
        return None

    def linear(self, i: int) -> list[tuple[int, ...]]:
        """Sets of slots in which a node is linear; constants last, for they may be tables of a rotation."""
        node = self.graph.nodes[i]
        rule = rules.find(node.op_type, node.domain, self.graph.opset(node.domain))
        sets = [] if rule is None else rule.factors(self.view(i))
        given = [tuple(slot for slot in slots if node.input[slot]) for slots in sets]
        return sorted(given, key=lambda slots: any((i, slot) in self.uses for slot in slots))

    def between(self, i: int) -> Links:
        """How the dimensions of a node's operands are related."""
        if i not in self.links:
            self.links[i] = Links(self.facts.get(i, []))
        return self.links[i]

    def operands(self, i: int, slot: int) -> list[tuple[str, Terms]]:
        """What a node reads in a slot, and its terms: one tensor, or the members of a sequence."""
        name = self.graph.tensor((i, slot))
        if (i, slot) in self.uses:
            return [(name, self.uses[i, slot])]
        return [(one, self.terms[one]) for one in self.members.get(name, [name]) if one in self.terms]

    def outputs(self, i: int) -> list[str]:
        """What a node makes: tensors, and the members of sequences."""
        names = [name for name in self.graph.nodes[i].output if name]
        return [one for name in names for one in self.members.get(name, [name]) if one in self.terms]

    def maker(self, name: str) -> int | None:
        """The node that makes a tensor, or the sequence that it is in."""
        return self.graph.producer.get(self.whole.get(name, name))

    def readers(self, name: str) -> list[Slot] | None:
        """Where a tensor is read; None if others than nodes read it, or it holds no fractions."""
        graph, whole = self.graph, self.whole.get(name, name)
        inner = any(whole in names for names in graph.captured)
        kind = graph.dtype(name) if name == whole else self._dtype(whole)
        if whole in graph.outputs or inner or kind not in FLOATS:
            return None
        readers = graph.consumers.get(whole, [])
        return [(i, slot) for i, slot in readers if slot not in graph.unread(graph.nodes[i])]

    def _dtype(self, sequence: str) -> int:
        """The type of the members of a sequence."""
        return self.graph.shapes.lists[sequence][0][0]


def _block(operand: Operand) -> Units:
    """The units of an operand's dimension that are contracted."""
    inside = operand.before.size * operand.over.size * operand.after.size
    return np.repeat([False, True, False], [operand.ahead.size, inside, operand.behind.size])


class _Search:
    """Goes from operands of contractions up to weights, the last node first.

    Args:
        sharing: What is known.
        axes: The axes that are contracted.
    """

    def __init__(self, sharing: Sharing, axes: set[Atom]) -> None:
        self.sharing, self.axes = sharing, axes
        self.tries = 0

    def run(self, operands: Sequence[tuple[int, Operand]]) -> Shared | None:
        """The constants, if all that makes these operands of nodes is linear."""
        wanted: Demands = {}
        placed: list[Share] = []
        for i, operand in operands:
            for part in (operand, *operand.plus):
                use, mark = (i, part.slot), Mark(part.axis, tidy({part.axis: _block(part)}))
                if use in self.sharing.uses:
                    portions = self._portions(use, mark)
                    if portions is None:
                        return None
                    placed += portions
                else:
                    wanted.setdefault(self.sharing.graph.tensor(use), {})[use] = mark
        return self._go(wanted, (), tuple(placed))

    def _go(self, wanted: Demands, done: tuple[str, ...], placed: tuple[Share, ...]) -> Shared | None:
        makers = {name: self.sharing.maker(name) for name in wanted if name not in done}
        if not makers:
            return Shared(placed, done, bool(done) and not any(self._is_mixed(name, done) for name in done))
        if any(i is None for i in makers.values()) or not self.sharing.terms.keys() >= makers.keys():
            return None
        name = max(makers, key=lambda name: makers[name] or 0)
        mark, i = self._agreed(name, wanted[name]), makers[name]
        if mark is None or i is None:
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

    def _is_mixed(self, name: str, done: Collection[str]) -> bool:
        """Whether the node that makes a tensor also reads numbers that the model computes from others than these."""
        graph = self.sharing.graph
        read = (
            operand for operand in graph.nodes[self.sharing.maker(name) or 0].input if operand in self.sharing.terms
        )
        return any(graph.dtype(operand) in FLOATS and operand not in done for operand in read)

    def _ask(self, i: int, name: str, mark: Mark, slots: Sequence[int], asked: Demands) -> list[Share] | None:
        """Adds what inputs of a node have to be shares to what is asked; gives the constants among them."""
        more = self._handed(i, name, mark, slots)
        shares: list[Share] = []
        for slot, (operand, wanted) in (more or {}).items():
            if (i, slot) in self.sharing.uses:
                portions = self._portions((i, slot), wanted)
                if portions is None:
                    return None
                shares += portions
                continue
            held = asked.setdefault(operand, {})
            before = held.get((i, slot), wanted)
            box = join([before.box, wanted.box]) if before.axis == wanted.axis else None
            if box is None:
                return None
            held[i, slot] = Mark(wanted.axis, box)
        return None if more is None else shares

    def _handed(self, i: int, name: str, mark: Mark, slots: Sequence[int]) -> dict[int, tuple[str, Mark]] | None:
        """What inputs of a node have to be shares, so that its output is."""
        terms, found = self.sharing.terms, {}
        for slot in slots:
            ways = (
                (one, dims, self._behind(i, dims, terms[name], mark)) for one, dims in self.sharing.operands(i, slot)
            )
            here = next(((one, dims, mark) for one, dims, mark in ways if mark is not None), None)
            if here is None or self._escapes(i, name, *here[1:]):
                return None
            if all(units.any() for units in here[2].box.values()):
                found[slot] = here[0], here[2]
        return found or None

    def _escapes(self, i: int, name: str, dims: Terms, mark: Mark) -> bool:
        """Whether another output of a node carries some of the shares too: there nobody would add them up."""
        links, terms = self.sharing.between(i), self.sharing.terms
        for other in self.sharing.outputs(i):
            for axis, part in enumerate(terms[other]) if other != name else ():
                if links.same(part, dims[mark.axis]):
                    theirs = self._behind(i, dims, terms[other], Mark(axis, {}))
                    if theirs is None or meet(theirs.box, mark.box) is not None:
                        return True
        return False

    def _agreed(self, name: str, wanted: Mapping[Slot, Mark]) -> Mark | None:
        """What of a tensor becomes shares, if that suits all its readers: as much as they let it."""
        readers, dims = self.sharing.readers(name), self.sharing.terms[name]
        axis = next(iter(wanted.values())).axis
        box = join([mark.box for mark in wanted.values()])
        if readers is None or box is None or any(mark.axis != axis for mark in wanted.values()):
            return None
        asked = [(self._read(dims, reader), wanted[reader].box if reader in wanted else None) for reader in readers]

        def suits(box: Box) -> bool:
            return all(alike(None if read is None else meet(box, read), given) for read, given in asked)

        for dim in sorted(box.keys() - {axis}):
            less = {place: units for place, units in box.items() if place != dim}
            box = less if suits(less) else box
        return Mark(axis, box) if suits(box) else None

    def _read(self, dims: Terms, reader: Slot) -> Box | None:
        """The units of an operand that a node reads: a Slice takes some."""
        links, box = self.sharing.between(reader[0]), {}
        if links.unread.issuperset(dim for dim in dims if dim.size > 1):
            return None
        for place, whole in enumerate(dims):
            units = np.zeros(whole.size, bool)
            units[list(links.picked.get(whole, ()))] = True
            for made in self.sharing.outputs(reader[0]):
                for part in self.sharing.terms[made]:
                    for start in links.offsets(whole, part):
                        units[start : start + part.size] = True
            box[place] = units if units.any() else ~units
        return tidy(box)

    def _behind(self, i: int, dims: Terms, made: Terms, mark: Mark) -> Mark | None:
        """What of an operand has to be shares, so that of an output ``mark`` is."""
        links, box = self.sharing.between(i), {}
        axis, seen = None, set[int]()
        for place, x in enumerate(dims):
            for sources, units in self._images(links, x, made, mark):
                if axis is None or mark.axis not in sources:
                    axis = place if mark.axis in sources else axis
                    box[place], seen = units, seen | sources
                    break
            if x in links.picked:
                box[place] = np.isin(np.arange(x.size), links.picked[x])
        return None if axis is None or mark.box.keys() - seen else Mark(axis, tidy(box))

    def _images(self, links: Links, x: Term, made: Terms, mark: Mark) -> Iterator[tuple[set[int], Units]]:
        """The units of a dimension of an operand that marked ones of an output come from, and that's dimensions."""
        for k, y in enumerate(made):
            units = mark.box.get(k, np.ones(y.size, bool))
            sides = links.regrouped(x, y)
            if sides:  # equal sizes mean nothing there, positions do
                if x.size == y.size and links.inner(sides[0], x) == links.inner(sides[1], y):
                    yield {k}, units
                elif k == mark.axis and self._merges(x, sides):
                    merged = self._merged(links, x, sides, made, mark)
                    if merged is not None or units.all():
                        yield merged or ({k}, np.ones(x.size, bool))
                continue
            if links.same(x, y):
                yield {k}, units
                continue
            taken, joined = links.offsets(x, y), links.offsets(y, x)
            if len(taken) == 1:
                grown = np.zeros(x.size, bool)
                grown[taken[0] : taken[0] + y.size] = units
                yield {k}, grown
            elif len(joined) == 1:
                yield {k}, units[joined[0] : joined[0] + x.size]
            elif k == mark.axis and units.all() and links.alike(x, y):
                yield {k}, np.ones(x.size, bool)  # the node mixes units of one axis, such as the halves of a rotation

    def _merges(self, x: Term, sides: Sequence[Sequence[Term]]) -> bool:
        """Whether the contracted axis is in one factor of either side of an equation, here in ``x``."""
        return self._shares(x) and [sum(map(self._shares, side)) for side in sides] == [1, 1]

    def _merged(
        self, links: Links, x: Term, sides: Sequence[Sequence[Term]], made: Terms, mark: Mark
    ) -> tuple[set[int], Units] | None:
        """The units of a dimension that several of an output are merged in, if it is made of whole ones."""
        low = links.inner(sides[0], x)
        inner, units, sources = 1, np.ones(1, bool), set[int]()
        for factor in reversed(sides[1]):
            outer = inner * factor.size
            if inner >= low and outer <= low * x.size:
                k = next((k for k, dim in enumerate(made) if links.same(dim, factor)), None)
                if k is None:
                    return None
                units = np.logical_and.outer(mark.box.get(k, np.ones(factor.size, bool)), units).ravel()
                sources.add(k)
            elif outer > low and inner < low * x.size:
                return None
            inner = outer
        return sources, units

    def _shares(self, term: Term) -> bool:
        return not self.axes.isdisjoint(self.sharing.solver.leaves(term))

    def _portions(self, use: Slot, mark: Mark) -> list[Share] | None:
        """The blocks of a constant's dimension that become shares, if these are blocks of its term."""
        dims = self.sharing.uses[use]
        alone, read = {k: units for k, units in mark.box.items() if k == mark.axis}, self._read(dims, use)
        if read is None or not alike(meet(alone, read), mark.box):
            return None
        whole = dims[mark.axis]
        units, term = mark.box.get(mark.axis, np.ones(whole.size, bool)), self.sharing.solver.resolve(whole)
        if units.all() and (self.axes.issuperset(self.sharing.solver.leaves(term)) or isinstance(term, Product)):
            return self._factor(use, mark.axis, term, EMPTY, EMPTY)
        parts = self._blocks(term)
        found: list[Share] = []
        starts = np.cumsum([0, *(part.size for part in parts)])
        for k, part in enumerate(parts):
            here = units[starts[k] : starts[k + 1]]
            if here.any() and not here.all():
                return None
            if here.any() and self._shares(part):
                ahead, behind = concatenation(*parts[:k]), concatenation(*parts[k + 1 :])
                portion = self._factor(use, mark.axis, self.sharing.solver.resolve(part), ahead, behind)
                if portion is None:
                    return None
                found += portion
        return found or None

    def _blocks(self, term: Term) -> Sequence[Term]:
        """The blocks that a dimension is a concatenation of; those that a position is picked of have a fixed number."""
        if isinstance(term, Product):
            first, *inner = term.parts
            outer = [UNIT] * first.size if first in self.sharing.picked else [first]
            outer = list(first.parts) if isinstance(first, Concatenation) else outer
            return [product(part, *inner) for part in outer]
        return term.parts if isinstance(term, Concatenation) else [term]

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
