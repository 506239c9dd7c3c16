"""Follows sizes through arithmetic on shapes: where each element of a small computed tensor comes from.

Exporters write ``Reshape(x, Concat(Gather(Shape(x), 0), [8], [64]))``. The first element is the size of an
axis and changes with it; the others are written down in constants and can be rewritten there. An element
that is computed in any other way is claimed to follow: that is put to the test once the new sizes are chosen
(see `recompute.py`). Where a value so computed is used as a number it pins the axes that it depends on.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_net2net.algebra.facts import Equal, Fact, Holds, OneOf, Pin, Size
from onnx_net2net.algebra.unify import Atom, Concatenation, Product, Term, fresh, product
from onnx_net2net.inference.axis_map import Slot
from onnx_net2net.inference.graph import Graph
from onnx_net2net.rules import Rule

Elements = NDArray[Any]
"""An array of `Source`, one for each element of a tensor."""


@dataclass(frozen=True, slots=True)
class Written:
    """An element that is written down in a constant: the use that reads it, and its position there."""

    use: Slot
    place: int


@dataclass(frozen=True, slots=True)
class Computed:
    """An element that depends on sizes in a way that cannot be followed."""

    terms: tuple[Term, ...]
    written: tuple[Written, ...]


@dataclass(frozen=True, slots=True)
class Claimed:
    """What an element has to be in the student: a term's size (times a sign), or without a term what it was.

    Attributes:
        node: The node that reads it.
        tensor: The tensor that it is an element of, and ``place`` where.
        depends: The terms that it is computed from.
        written: The written elements that it is computed from.
    """

    node: int
    tensor: str
    place: int
    term: Term | None
    sign: int
    depends: tuple[Term, ...]
    written: tuple[Written, ...]


Source = Atom | Product | Concatenation | Written | Computed
EXACT = frozenset(map(np.dtype, ("int32", "int64", "float32", "float64")))
"""Types that can number all elements of a small tensor."""
FEW = 3
"""Factors of which all orders are tried."""
REASON = "a size that it depends on is computed while the model runs"


@dataclass(slots=True)
class Follower:
    """Collects where sizes come from, node by node, and what that means for the equations."""

    graph: Graph
    elements: dict[str, Elements] = field(default_factory=dict)
    demands: dict[Written, list[tuple[int, Term, int]]] = field(default_factory=dict)
    places: dict[Slot, dict[Written, None]] = field(default_factory=dict)
    fixed: set[Written] = field(default_factory=set)
    claims: list[Claimed] = field(default_factory=list)
    factors: dict[Written, Term] = field(default_factory=dict)

    def visit(self, i: int, rule: Rule | None, facts: Sequence[Fact]) -> list[Fact]:
        """Follows a node's output if shapes determine it, and says what reading such values means for others.

        Returns:
            The node's facts, those on sizes in computed slots replaced by what they amount to.
        """
        reads, makes = self.graph.reads[i], self.graph.makes[i]
        determined = bool(makes) and makes[0] in self.graph.shapes.values
        result: list[Fact] = [fact for fact in facts if not isinstance(fact, Holds)]
        if not determined and not any(name in self.elements for name in reads):
            return result  # most nodes have nothing to do with sizes
        follow = rule.follow if rule is not None and determined else ""
        data = range(len(reads)) if rule is None or not rule.data else rule.data
        everything = set(range(len(reads))) if determined else set()
        passed = {"moves": set(data), "fills": set[int]()}.get(follow, everything)
        if determined:
            self._trace(i, follow, list(data), facts)
        for slot, name in enumerate(reads):
            if name in self.elements and slot not in passed:
                mine = [fact for fact in result if isinstance(fact, Size) and fact.where == slot]
                if mine:
                    result = [fact for fact in result if fact not in mine]
                result += self._read(i, name, mine, determined)
        return result

    def fix(self, name: str) -> list[Term]:
        """The terms that a tensor depends on, which something needs to stay as it is."""
        terms: list[Term] = []
        for source in self.elements[name].ravel() if name in self.elements else ():
            terms += self._hold(source)
        return terms

    def settle(self) -> list[tuple[int, Fact]]:
        """What the demands on written sizes amount to, once all nodes were visited."""
        facts: list[tuple[int, Fact]] = []
        for written, wanted in self.demands.items():
            node, term, sign = wanted[0]
            facts += [(i, Equal(term, other)) for i, other, _ in wanted[1:]]
            if written in self.fixed or any(s != sign for _, _, s in wanted):
                facts.append((node, Pin(term, REASON)))
            else:
                facts.append((written.use[0], Size(written.use[1], ((written.place, term, sign),))))
        return facts

    def demanded(self, use: Slot) -> list[tuple[int, Term]]:
        """The places of a constant whose elements follow terms, and these."""
        return [(w.place, self.demands[w][0][1]) for w in self.places.get(use, ()) if w not in self.fixed]

    def _demand(self, written: Written, node: int, term: Term, sign: int) -> None:
        self.demands.setdefault(written, []).append((node, term, sign))
        self.places.setdefault(written.use, {})[written] = None

    def _trace(self, i: int, follow: str, data: Sequence[int], facts: Sequence[Fact]) -> None:
        """Notes the sources of a node's outputs."""
        node = self.graph.nodes[i]
        held = next((fact for fact in facts if isinstance(fact, Holds)), None)
        if held is not None:
            self.elements[node.output[0]] = _array(held.sizes, self._shape(node.output[0]))
        elif follow == "fills":
            shape = self._shape(node.output[0])
            self.elements[node.output[0]] = _array([Computed((), ())] * math.prod(shape), shape)
        elif follow == "moves":
            self._move(i, data)
        elif follow == "product":
            self._each(i, lambda x, y: self._times(i, x, y))
        elif follow == "folds" and self._shape(node.output[0]) in ((), (1,)):
            sources = [self._operand(i, slot).ravel() for slot in data]
            whole = functools.reduce(lambda x, y: self._times(i, x, y), np.concatenate(sources))
            self.elements[node.output[0]] = _array([whole], self._shape(node.output[0]))
        elif follow == "each":
            self._each(i, lambda *sources: Computed(*_parts(sources)))
        else:
            self._compute(i)

    def _each(self, i: int, make: Callable[..., Source]) -> None:
        """Every output element depends on the elements of the inputs at its place."""
        node = self.graph.nodes[i]
        every = np.broadcast_arrays(*(self._operand(i, slot) for slot, name in enumerate(node.input) if name))
        sources = [make(*each) for each in zip(*(elements.ravel() for elements in every), strict=True)]
        self.elements[node.output[0]] = _array(sources, self._shape(node.output[0]))

    def _times(self, i: int, x: Source, y: Source) -> Source:
        """The product of two elements: of sizes it is the size of a product, in which written ones are factors."""
        for written, other in ((x, y), (y, x)):
            if isinstance(written, Written) and not isinstance(other, (Written, Computed)):
                value = self.graph.value(self.graph.tensor(written.use)).ravel()[written.place]
                if value.dtype.kind != "i" or value < 1:
                    break
                factor = self.factors.setdefault(written, fresh(int(value)))
                self._demand(written, i, factor, 1)
                return product(other, factor) if other is y else product(factor, other)
        if isinstance(x, (Written, Computed)) or isinstance(y, (Written, Computed)):
            return Computed(*_parts([x, y]))
        return product(x, y)

    def _move(self, i: int, data: Sequence[int]) -> None:
        """Runs the node on numbers in place of its data: what comes out says where elements went."""
        node = NodeProto()
        node.CopyFrom(self.graph.nodes[i])
        unread = self.graph.unread(node)
        sources: list[Source] = []
        feeds: dict[str, Any] = {}
        for slot, name in enumerate(node.input):
            if not name:
                continue
            value = self.graph.blank(name) if slot in unread else self._value(name)
            node.input[slot] = str(slot)  # one tensor may stand in several slots
            if slot in data:
                if value.dtype not in EXACT:
                    self._compute(i)
                    return
                elements = self._operand(i, slot)
                numbers = np.arange(len(sources), len(sources) + elements.size).reshape(elements.shape)
                value = numbers.astype(value.dtype)
                sources += list(elements.ravel())
            feeds[str(slot)] = value
        moved = self.graph.evaluate(node, feeds)
        if any(numbers.dtype not in EXACT for numbers in moved.values()):
            self._compute(i)
            return
        for name, numbers in moved.items():
            self.elements[name] = _array([sources[int(n)] for n in numbers.ravel()], numbers.shape)

    def _compute(self, i: int) -> None:
        """Every output element may depend on every input element."""
        node = self.graph.nodes[i]
        every = [s for slot, name in enumerate(node.input) if name for s in self._operand(i, slot).ravel()]
        terms, written = _parts(every)
        for name in filter(None, node.output):
            shape = self._shape(name)
            self.elements[name] = _array([Computed(terms, written)] * math.prod(shape), shape)

    def _operand(self, i: int, slot: int) -> Elements:
        """Sources of the elements of an input."""
        name = self.graph.tensor((i, slot))
        if name in self.elements:
            return self.elements[name]
        if name not in self.graph.constants or slot in self.graph.unread(self.graph.nodes[i]):
            return _array([], (0,))
        value = self.graph.value(name)
        return _array([Written((i, slot), place) for place in range(value.size)], value.shape)

    def _read(self, i: int, name: str, sizes: Iterable[Size], determined: bool) -> list[Fact]:
        """What it means that a node reads a followed value, with the sizes that its rule knows it to hold."""
        entries: Mapping[int, tuple[Term, int]] = {
            place: (term, sign) for fact in sizes for place, term, sign in fact.entries
        }
        facts: list[Fact] = []
        values = self._value(name).ravel()
        for place, source in enumerate(self.elements[name].ravel()):
            term, sign = entries.get(place, (None, 1))
            if term is None and not determined:
                facts += [Pin(t, REASON) for t in self._hold(source)]
            elif term is None or (isinstance(source, Computed) and values[place] == sign * term.size):
                self.claims.append(Claimed(i, name, place, term, sign, *_parts([source])))
            elif isinstance(source, Written):
                self._demand(source, i, term, sign)
            elif isinstance(source, Computed) or values[place] != term.size:
                facts += [Pin(t, REASON) for t in (term, *self._hold(source))]
            else:
                facts.append(_same(source, term))
        return facts

    def _hold(self, source: Source) -> list[Term]:
        terms, written = _parts([source])
        self.fixed.update(written)
        return list(terms)

    def _value(self, name: str) -> NDArray[Any]:
        values = self.graph.shapes.values
        return values[name] if name in values else self.graph.value(name)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.graph.shapes.values[name].shape


def _array(sources: Sequence[Source], shape: tuple[int, ...]) -> Elements:
    result = np.empty(len(sources), object)
    result[:] = sources
    return result.reshape(shape)


def _parts(sources: Iterable[Source]) -> tuple[tuple[Term, ...], tuple[Written, ...]]:
    """The terms and the written elements that sources depend on, each once."""
    terms: dict[int, Term] = {}
    written: dict[Written, None] = {}
    for source in sources:
        if isinstance(source, Written):
            written[source] = None
        elif isinstance(source, Computed):
            terms.update((id(term), term) for term in source.terms)
            written.update(dict.fromkeys(source.written))
        else:
            terms[id(source)] = source
    return tuple(terms.values()), tuple(written)


def _same(source: Term, term: Term) -> Fact:
    """A size is a term's. Of a product, numbers do not tell the order of the factors."""
    if not isinstance(source, Product):
        return Equal(source, term)
    factors = _factors(source)
    orders = itertools.permutations(factors) if len(factors) <= FEW else [factors, factors[::-1]]
    return OneOf(tuple(Equal(product(*order), term) for order in orders), "its factors align in no order")


def _factors(term: Term) -> tuple[Term, ...]:
    return tuple(f for part in term.parts for f in _factors(part)) if isinstance(term, Product) else (term,)
