"""Remapping inference: model -> `AxisMap`, a term for every dimension and a reason for every pin.

The engine knows no operator names. It asks the rules for facts, hands the equations to the solver, and
reads roles and pins off the solved terms. Dynamic dimensions are analysed at two trial sizes: what comes
out differently is pinned.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from onnx_net2net import rules
from onnx_net2net.algebra.axes import Axis, Dim, atoms
from onnx_net2net.algebra.facts import Contract, Equal, Fact, Node, OneOf, Pin, Terms, terms_of
from onnx_net2net.algebra.unify import Solver, Term, fresh
from onnx_net2net.errors import Declined, ModelError, SizeMismatch
from onnx_net2net.inference.absorb import locate
from onnx_net2net.inference.axis_map import AxisInfo, AxisMap, Blame, Claim, Slot
from onnx_net2net.inference.borders import STAYS, Allowed, lift
from onnx_net2net.inference.filler import fill_up
from onnx_net2net.inference.follow import REASON, Follower
from onnx_net2net.inference.freeze import Freezer
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import label
from onnx_net2net.inference.recompute import broken
from onnx_net2net.inference.share import Shared, Sharing
from onnx_net2net.inference.symbols import completed, compute, sums
from onnx_net2net.storage.model import AnyModel


def infer(model: AnyModel, *, borders: bool = True, allow: Allowed = False) -> AxisMap:
    """Infers how axes run through a model.

    Args:
        model: The teacher; it is not changed.
        borders: Whether the shapes of graph inputs and outputs must stay; tests of single operators
            switch this off.
        allow: Which of these shapes may change where that is exact: those of states (True), or of what globs name.

    Raises:
        ModelError: If the graph is invalid or contradicts itself.
        RequestError: If a glob names no graph input or output.
    """
    graph = Graph(model)
    keys = sorted(graph.dynamic())
    solved: list[AxisMap] = []
    failure: Exception | None = None
    for group in _trials(keys):
        for trial in group:
            try:
                solved.append(_Inference(graph.at(trial), borders).run())
            except (ModelError, SizeMismatch) as error:
                failure = failure or error
        if len(solved) > 1 or (solved and not keys):
            break
    if not keys and not solved:
        raise failure if isinstance(failure, ModelError) else ModelError(str(failure), "check the model")
    if not solved:  # no size fits all dynamic dimensions: what then has no shape is pinned
        solved.append(_Inference(graph.at({}), borders).run())
        lift(solved, allow)
        return solved[0]
    lift(solved, allow)
    if keys:
        _pin_what_differs(solved[0], solved[1:])
    _pin_claims(solved[0])
    fill_up(solved[0])
    return solved[0]


def _trials(every: Sequence[str]) -> Iterator[list[dict[str, int]]]:
    """Sizes to try for the dynamic dimensions, never 0 or 1, in groups; one group with two that fit is enough.

    First all dimensions differ: primes, and multiples of 4 and of 32 for models that halve them. Then all are
    alike, and then one is the sum of two others. Those that are expressions of others follow from them.
    """
    derived = {key for key in every if compute(key, dict.fromkeys(every, 2)) is not None}
    keys = [key for key in every if key not in derived]
    for group in _sizes(keys):
        yield [completed(every, trial) for trial in group]


def _sizes(keys: Sequence[str]) -> Iterator[list[dict[str, int]]]:
    if not keys:
        yield [{}]
        return
    large, small = ([_prime(i, start) for i in range(len(keys))] for start in (97, 5))
    different = [dict(zip(keys, (step * n for n in small), strict=True)) for step in (4, 32)]
    few = [{key: step * n for key, n in zip(keys, small, strict=True)} for step in (1, 2)]
    yield [dict(zip(keys, large, strict=True)), *different]
    yield few
    yield [dict.fromkeys(keys, size) for size in (97, 96, 160)]
    yield [dict.fromkeys(keys, size) for size in (7, 6, 4)]
    for whole, a, b in sums(keys):
        yield [{**sizes, whole: sizes[a] + sizes[b]} for sizes in few]


def _prime(place: int, start: int) -> int:
    """The prime number at a place, counted from ``start``."""
    n = start
    while True:
        if all(n % d for d in range(2, math.isqrt(n) + 1)):
            if not place:
                return n
            place -= 1
        n += 1


class _Inference:
    """One analysis at fixed sizes."""

    def __init__(self, graph: Graph, borders: bool) -> None:
        self.graph = graph
        self.borders = borders
        self.solver = Solver()
        self.terms: dict[str, tuple[Term, ...]] = {}
        self.lists: dict[str, tuple[Terms, ...]] = {}
        self.uses: dict[Slot, tuple[Term, ...]] = {}
        self.facts: list[tuple[int, Fact]] = []
        self.pins: list[tuple[Term, Blame]] = []
        self.ties: list[str] = []
        self.follower = Follower(graph)

    def run(self) -> AxisMap:
        for value in self.graph.inputs:
            self._make(value.name)
        for i in range(len(self.graph.nodes)):
            if i not in self.graph.constant_nodes:
                self._visit(i)
        self.facts += self.follower.settle()
        for i, fact in self.facts:
            if isinstance(fact, Equal):
                self._equate(i, fact)
        self.solver.settle()
        self._choose()
        self._tie()
        shared = self._share()
        self._collect_pins(shared)
        frozen = Freezer(
            self.graph,
            self.solver,
            terms=self.terms,
            uses=self.uses,
            facts=self.facts,
            pins=self.pins,
            shared=shared,
            follower=self.follower,
            lists=self.lists,
        )
        return frozen.axis_map(self.ties)

    def _make(self, name: str) -> tuple[Term, ...] | None:
        shape = self.graph.shape(name)
        if shape is None:
            members = self.graph.shapes.lists.get(name)
            if members is not None:
                self.lists[name] = tuple(tuple(fresh(size) for size in shape) for _, shape in members)
            return None
        self.terms[name] = tuple(fresh(size) for size in shape)
        return self.terms[name]

    def _visit(self, i: int) -> None:
        """Asks the node's rule for facts; without an answer, pins all that touches the node."""
        reads, makes = self.graph.reads[i], self.graph.makes[i]
        inputs = [self._operand(i, slot, name) for slot, name in enumerate(reads)]
        outputs = [self._make(name) if name else None for name in makes]
        found = self.graph.rule(i)
        unknown = self._unknown((*reads, *makes), (*inputs, *outputs))
        node = self._node(i, inputs, outputs)
        facts: list[Fact] = []
        try:
            if found is None:
                raise Declined("no rule knows this operator")
            if unknown:
                raise Declined(f"the shape of {unknown[0]} is not known")
            self.graph.check_attributes(self.graph.nodes[i])
            facts = rules.facts_of(found, node)
        except Declined as why:
            self._pin_all(i, [node.terms], str(why))
        self.facts += [(i, fact) for fact in self.follower.visit(i, found, facts)]
        for name in sorted(self.graph.captured[i]):
            members = self.lists.get(name, ())
            self._pin_all(i, [self.terms.get(name), self.follower.fix(name), *members], "its subgraph uses it")

    def _node(self, i: int, inputs: Sequence[Terms | None], outputs: Sequence[Terms | None]) -> Node:
        """What the rule may see of a node."""
        proto, reads = self.graph.nodes[i], self.graph.reads[i]
        constants, lists = self.graph.constants, self.lists
        return Node(
            proto.op_type,
            self.graph.operators[i].opset,
            self.graph.attributes(i),
            inputs,
            outputs,
            proto.domain,
            lambda slot: self.graph.small_value(reads[slot]) if reads[slot] else None,
            frozenset([s for s, name in enumerate(reads) if name in constants]),
            {s: lists[name] for s, name in enumerate(reads) if name in lists} if lists else {},
            {s: lists[name] for s, name in enumerate(self.graph.makes[i]) if name in lists} if lists else {},
        )

    def _unknown(self, names: Sequence[str], terms: Sequence[Terms | None]) -> list[str]:
        """The tensors that somebody reads and of which nothing is known."""
        if None not in terms:
            return []
        missing = [name for name, known in zip(names, terms, strict=True) if name and known is None]
        return [name for name in missing if name not in self.lists and not self._unused(name)]

    def _unused(self, name: str) -> bool:
        return name not in self.graph.consumers and name not in self.graph.outputs

    def _operand(self, i: int, slot: int, name: str) -> tuple[Term, ...] | None:
        if not name:
            return None
        if name in self.graph.constants:
            shape = self.graph.shape(name)
            if shape is None:
                return None
            self.uses[i, slot] = tuple(fresh(size) for size in shape)
            return self.uses[i, slot]
        return self.terms.get(name)

    def _equate(self, i: int, fact: Equal) -> None:
        try:
            self.solver.equate(fact.left, fact.right, i)
        except SizeMismatch as error:
            node = self.graph.nodes[i]
            raise ModelError(
                f"its shapes contradict each other ({error})",
                "check the model with onnx.checker",
                op=node.op_type,
                node=node.name,
            ) from error

    def _choose(self) -> None:
        """Settles on one of several equations, now that all that is certain is known."""
        for i, fact in list(self.facts):
            if isinstance(fact, OneOf):
                fits = (o for o in fact.options if self.solver.attempt([(o.left, o.right)], i))
                option = next(fits, None)
                pins = [Pin(term, fact.reason) for term in terms_of(fact)]
                self.facts += [(i, option)] if option else [(i, pin) for pin in pins]

    def _tie(self) -> None:
        """Lets all uses of a shared weight agree, so that it is widened once and stays shared."""
        first: dict[str, tuple[Term, ...]] = {}
        for (i, slot), terms in self.uses.items():
            name = self.graph.tensor((i, slot))
            if sum(term.size > 1 for term in terms) < 2:
                continue
            pairs = list(zip(first.setdefault(name, terms), terms, strict=True))
            if not self.solver.attempt(pairs, i):
                self.ties.append(f"{name} at {label(self.graph.nodes[i])}")

    def _share(self) -> dict[int, Shared]:
        """Who takes the fractions where two computed operands are contracted, by number of the fact."""
        sharing = Sharing(self.graph, self.solver, self.terms, self.lists, self.uses, self.facts, self._seen)
        contractions = ((k, i, fact) for k, (i, fact) in enumerate(self.facts) if isinstance(fact, Contract))
        computed = [(k, i, fact) for k, i, fact in contractions if locate(self.graph, self.uses, i, fact) is None]
        found = {k: sharing.find([(i, fact)]) for k, i, fact in computed}
        together: dict[frozenset[Term], dict[int, tuple[int, Contract]]] = {}
        for k, i, fact in computed:
            if found[k] is None:
                together.setdefault(frozenset(self.solver.leaves(fact.over)), {})[k] = (i, fact)
        for rest in together.values():
            shared = sharing.find(list(rest.values())) if len(rest) > 1 else None
            if shared is not None:  # the first of them stands for all
                found.update({k: replace(shared, shares=()) for k in rest})
                found[next(iter(rest))] = shared
        return {k: shared for k, shared in found.items() if shared is not None}

    def _seen(self, i: int) -> Node:
        """A node once more as its rule saw it."""
        proto = self.graph.nodes[i]
        inputs = [self.uses.get((i, slot)) or self.terms.get(name) for slot, name in enumerate(proto.input)]
        return self._node(i, inputs, [self.terms.get(name) for name in proto.output])

    def _collect_pins(self, shared: Mapping[int, Shared]) -> None:
        if self.borders:
            borders = {"graph input": [v.name for v in self.graph.inputs], "graph output": self.graph.outputs}
            for border, names in borders.items():
                for name in names:
                    blame = Blame(f"{border} '{name}'", STAYS, name)
                    self.pins += [(term, blame) for term in self.terms.get(name, ())]
                    members = [term for terms in self.lists.get(name, ()) for term in terms]
                    always = Blame(f"{border} '{name}'", STAYS)
                    self.pins += [(term, always) for term in (*members, *self.follower.fix(name))]
        for k, (i, fact) in enumerate(self.facts):
            if isinstance(fact, Pin):
                self.pins.append((fact.over, self._blame(i, fact.reason)))
            elif isinstance(fact, Contract) and k not in shared and locate(self.graph, self.uses, i, fact) is None:
                self.pins.append((fact.over, self._blame(i, "no weight can absorb the fractions")))
        for conflict in self.solver.settle():
            i = int(str(conflict.why))
            shown = f"{self.solver.sizes(conflict.left)} against {self.solver.sizes(conflict.right)}"
            blame = self._blame(i, f"it cannot align {shown}")
            self.pins += [(conflict.left, blame), (conflict.right, blame)]

    def _pin_all(self, i: int, operands: Iterable[Sequence[Term] | None], reason: str) -> None:
        blame = self._blame(i, reason)
        self.pins += [(term, blame) for terms in operands for term in terms or ()]

    def _blame(self, i: int, reason: str) -> Blame:
        return Blame(label(self.graph.nodes[i]), reason)


def _pin_what_differs(first: AxisMap, others: Sequence[AxisMap]) -> None:
    """Pins the axes that come out differently at another size of the dynamic dimensions."""
    bad = set[str]().union(*(_Comparison(first, other).differing() for other in others)) if others else set(first.axes)
    for name in sorted(bad):
        if not first.axes[name].pins:
            first.axes[name].pins.append(Blame("", "it depends on the size of a dynamic dimension"))


def _pin_claims(found: AxisMap) -> None:
    """Pins what is computed from dynamic sizes, which no test settles for all of them, and what cannot follow."""
    for claim in found.claims:
        if any(info.dynamic for info in _claimed(found, claim)):
            _pin_claimed(found, claim, _claimed(found, claim))
    free = {info.axis.name: info for claim in found.claims for info in _claimed(found, claim) if not info.pins}
    for claim in broken(found, {name: 2 * info.axis.size for name, info in free.items()}):
        alone = [info for info in _claimed(found, claim) if not info.pins]
        _pin_claimed(found, claim, [i for i in alone if broken(found, {i.axis.name: 2 * i.axis.size}, [claim])])


def _claimed(found: AxisMap, claim: Claim) -> list[AxisInfo]:
    return [found.axes[axis.name] for dim in claim.dims for axis in atoms(dim)]


def _pin_claimed(found: AxisMap, claim: Claim, axes: Iterable[AxisInfo]) -> None:
    for info in axes:
        info.pins = info.pins or [Blame(claim.node, REASON)]


class _Comparison:
    """Walks the terms of two analyses side by side."""

    def __init__(self, first: AxisMap, second: AxisMap) -> None:
        self.first = first
        self.second = second
        self.partner: dict[str, str] = {}
        self.back: dict[str, str] = {}
        self.bad: set[str] = set()

    def differing(self) -> set[str]:
        """Axes of the first analysis that the second does not confirm."""
        others = dict(self.second.operands())
        for key, dims in self.first.operands():
            theirs = others.get(key, ())
            if len(dims) == len(theirs):
                for a, b in zip(dims, theirs, strict=True):
                    self._compare(a, b)
            else:
                self._reject(dims)
        self._compare_sizes()
        return self.bad

    def _compare_sizes(self) -> None:
        """Sizes that have to be written down whole must not depend on a trial."""
        fills = [(w.node, w.where, w.fill) for w in self.second.written]
        for written in self.first.written:
            if written.fill and (written.node, written.where, written.fill) not in fills:
                self._reject(dim for _, dim, _ in written.entries)

    def _reject(self, dims: Iterable[Dim]) -> None:
        self.bad.update(axis.name for dim in dims for axis in atoms(dim))

    def _compare(self, a: Dim, b: Dim) -> None:
        if isinstance(a, Axis) or isinstance(b, Axis):
            if not (isinstance(a, Axis) and isinstance(b, Axis) and self._same(a, b)):
                self._reject([a])
        elif type(a) is type(b) and len(a.parts) == len(b.parts):
            for left, right in zip(a.parts, b.parts, strict=True):
                self._compare(left, right)
        else:
            self._reject([a])

    def _same(self, a: Axis, b: Axis) -> bool:
        """Whether two axes have met only each other, and are both pinned or both free and of one size."""
        met = self.partner.setdefault(a.name, b.name) == b.name and self.back.setdefault(b.name, a.name) == a.name
        self.first.axes[a.name].dynamic |= a.size != b.size
        mine, theirs = self.first.axes[a.name].pins, self.second.axes[b.name].pins
        return met and bool(mine) == bool(theirs) and (bool(mine) or a.size == b.size)
