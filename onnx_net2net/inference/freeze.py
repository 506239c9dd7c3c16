"""From the solver's terms, which still change, to named and immutable ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from onnx_net2net.algebra.axes import Axis, Dim, Prod, Sum, atoms
from onnx_net2net.algebra.facts import Contract, Equal, Fact, Idempotent, Size, Terms, Uniform, terms_of
from onnx_net2net.algebra.unify import Atom, Product, Solver, Term
from onnx_net2net.inference.absorb import locate
from onnx_net2net.inference.axis_map import AxisInfo, AxisMap, Blame, Claim, Scaled, Slot, Written
from onnx_net2net.inference.follow import Follower
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import label


class Freezer:
    """Names the axes of a solved system and freezes all that refers to them.

    Args:
        graph: The graph.
        solver: The solver, done.
        terms: Terms of each computed tensor.
        uses: Terms of each constant, by use.
        facts: What the rules stated, with the node.
        pins: Pinned terms, with whom to blame.
        follower: Where sizes come from.
        lists: Terms of the members of each sequence.
    """

    def __init__(
        self,
        graph: Graph,
        solver: Solver,
        *,
        terms: Mapping[str, Terms],
        uses: Mapping[Slot, Terms],
        facts: Sequence[tuple[int, Fact]],
        pins: Sequence[tuple[Term, Blame]],
        follower: Follower,
        lists: Mapping[str, tuple[Terms, ...]],
    ) -> None:
        self.graph = graph
        self.solver = solver
        self.terms = terms
        self.uses = uses
        self.facts = facts
        self.pins = pins
        self.follower = follower
        self.lists = lists
        found = ((k, locate(graph, uses, i, f)) for k, (i, f) in enumerate(facts) if isinstance(f, Contract))
        self.places = {k: place for k, place in found if place is not None}
        self.names: dict[Atom, str] = {}
        self.taken: set[str] = set()
        self.cache: dict[int, tuple[Term, Dim]] = {}

    def axis_map(self, ties: list[str]) -> AxisMap:
        """The frozen result."""
        self._name_all()
        result = AxisMap(
            self.graph,
            {name: AxisInfo(Axis(name, atom.size)) for atom, name in self.names.items()},
            {name: self._dims(terms) for name, terms in self.terms.items()},
            {use: self._dims(terms) for use, terms in self.uses.items()},
            ties=ties,
            lists={name: tuple(map(self._dims, members)) for name, members in self.lists.items()},
        )
        for term, blame in self.pins:
            for atom in self.solver.leaves(term):
                info = result.axes[self.names[atom]]
                if blame not in info.pins:
                    info.pins.append(blame)
        for k, (i, fact) in enumerate(self.facts):
            self._role(k, i, fact, result)
        self._claims(result)
        self._carriers(result)
        return result

    def _name_all(self) -> None:
        """An axis is named after the first constant that carries it, else that contracts it, else a tensor."""
        contracted = {(*place.use, place.axis) for place in self.places.values()}
        floats = [use for use in self.uses if self.graph.is_weight(self._tensor(use))]
        others = [use for use in self.uses if use not in set(floats)]
        for wanted in (False, True):
            for use in floats:
                for axis, term in enumerate(self.uses[use]):
                    if ((*use, axis) in contracted) is wanted:
                        self._name(self._tensor(use), axis, term, self.graph.nodes[use[0]].name)
        for name, terms in self.terms.items():
            for axis, term in enumerate(terms):
                self._name(name, axis, term, "")
        for use in others:
            for axis, term in enumerate(self.uses[use]):
                self._name(self._tensor(use), axis, term, self.graph.nodes[use[0]].name)
        for i, fact in self.facts:  # atoms that only rules mention, such as padding
            for term in terms_of(fact):
                self._name(self.graph.nodes[i].output[0], "in", term, "")
        for name, members in self.lists.items():  # of sequences that no rule knows
            for term in (term for terms in members for term in terms):
                self._name(name, "in", term, "")
        self._name_sizes()

    def _name_sizes(self) -> None:
        """Atoms that only arithmetic on shapes mentions."""
        for claim in self.follower.claims:
            for term in claim.depends:
                self._name(claim.tensor, "in", term, "")
        for written, demands in self.follower.demands.items():
            self._name(self._tensor(written.use), "in", demands[0][1], "")

    def _name(self, tensor: str, axis: int | str, term: Term, node: str) -> None:
        leaves = self.solver.leaves(term)
        for k, atom in enumerate(leaves):
            if atom in self.names:
                continue
            base = f"{tensor}:{axis}" + (f"[{k}]" if len(leaves) > 1 else "")
            name, n = base, 1
            while name in self.taken:
                name = f"{base}@{node}" if node and n == 1 else f"{base}#{n}"
                n += 1
            self.taken.add(name)
            self.names[atom] = name

    def _tensor(self, use: Slot) -> str:
        return self.graph.tensor(use)

    def _dims(self, terms: Iterable[Term]) -> tuple[Dim, ...]:
        return tuple(self._dim(term) for term in terms)

    def _dim(self, term: Term) -> Dim:
        term = self.solver.resolve(term)
        if isinstance(term, Atom):
            return Axis(self.names[term], term.size)
        if id(term) not in self.cache:  # the term is kept, so that no other can take its place in memory
            kind = Prod if isinstance(term, Product) else Sum
            self.cache[id(term)] = (term, kind(tuple(self._dim(part) for part in term.parts)))
        return self.cache[id(term)][1]

    def _raw(self, term: Term) -> Dim:
        """A side of an equation as the rule wrote it, so that the certificate does not repeat the solver."""
        if isinstance(term, Atom):
            return self._dim(term)
        kind = Prod if isinstance(term, Product) else Sum
        return kind(tuple(self._raw(part) for part in term.parts))

    def _role(self, k: int, i: int, fact: Fact, into: AxisMap) -> None:
        if isinstance(fact, Equal):
            into.equations.append((self._raw(fact.left), self._raw(fact.right), label(self.graph.nodes[i])))
        elif isinstance(fact, Uniform):
            blame = Blame(label(self.graph.nodes[i]), fact.reason)
            into.uniform.append((self._dim(fact.over), blame))
            for axis in atoms(into.uniform[-1][0]):
                into.axes[axis.name].uniform.append(blame)
        elif isinstance(fact, Idempotent):
            for axis in atoms(self._dim(fact.over)):
                into.axes[axis.name].idempotent.append(Blame(label(self.graph.nodes[i]), "takes the largest over it"))
        elif isinstance(fact, Size):
            entries = tuple((place, self._dim(term), sign) for place, term, sign in fact.entries)
            into.written.append(Written(i, fact.where, entries, fact.fill, fact.instead_of))
        elif isinstance(fact, Contract):
            for axis in atoms(self._dim(fact.over)):
                into.axes[axis.name].contracted_by.append(label(self.graph.nodes[i]))
            if k in self.places:
                place = self.places[k]
                before, over, after = self._dims((place.operand.before, place.operand.over, place.operand.after))
                into.scaled.append(Scaled(place.use, place.axis, before, over, after, place.zero, place.channel))

    def _claims(self, into: AxisMap) -> None:
        """The claims, and the sizes that what they speak of is computed from."""
        follower, graph = self.follower, self.graph
        for c in follower.claims:
            written = [term for w in c.written for place, term in follower.demanded(w.use) if place == w.place]
            dim = None if c.term is None else self._dim(c.term)
            into.claims.append(
                Claim(label(graph.nodes[c.node]), c.tensor, c.place, dim, c.sign, self._dims((*c.depends, *written)))
            )
        for i in sorted(graph.ancestors({c.tensor for c in follower.claims})):
            for slot in range(len(graph.nodes[i].input)):
                into.held[i, slot] = tuple((place, self._dim(term)) for place, term in follower.demanded((i, slot)))
            for name in filter(None, graph.nodes[i].output):
                sources = enumerate(follower.elements.get(name, np.empty(0, object)).ravel())
                into.held[name] = tuple((place, self._dim(s)) for place, s in sources if isinstance(s, Term))

    def _carriers(self, into: AxisMap) -> None:
        for name, dims in into.dims.items():
            for carried in dict.fromkeys(axis.name for dim in dims for axis in atoms(dim)):
                into.axes[carried].tensors.append(name)
        contracted = {(scaled.use, scaled.axis) for scaled in into.scaled}
        for use, dims in into.uses.items():
            tensor = self._tensor(use)
            if not self.graph.is_weight(tensor):
                continue
            for place, dim in enumerate(dims):
                for axis in atoms(dim):
                    info = into.axes[axis.name]
                    if tensor not in info.initializers:
                        info.initializers.append(tensor)
                    if (use, place) not in contracted and tensor not in info.carried_by:
                        info.carried_by.append(tensor)
