"""From the solver's terms, which still change, to named and immutable ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from onnx_net2net.algebra.axes import Axis, Dim, Prod, Sum, atoms
from onnx_net2net.algebra.facts import (
    Contract,
    Default,
    Equal,
    Fact,
    Idempotent,
    Operand,
    Size,
    Terms,
    Uniform,
    terms_of,
)
from onnx_net2net.algebra.filler import Fill
from onnx_net2net.algebra.unify import Atom, Product, Solver, Term
from onnx_net2net.inference.absorb import locate
from onnx_net2net.inference.axis_map import AxisInfo, AxisMap, Blame, Claim, Meeting, Scaled, Slot, Statistic, Written
from onnx_net2net.inference.follow import Follower
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import label
from onnx_net2net.inference.share import Shared


class Freezer:
    """Names the axes of a solved system and freezes all that refers to them.

    Args:
        graph: The graph.
        solver: The solver, done.
        terms: Terms of each computed tensor.
        uses: Terms of each constant, by use.
        facts: What the rules stated, with the node.
        pins: Pinned terms, with whom to blame.
        shared: By number of the fact, who takes the fractions of a contraction of two computed operands.
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
        shared: Mapping[int, Shared],
        follower: Follower,
        lists: Mapping[str, tuple[Terms, ...]],
    ) -> None:
        self.graph = graph
        self.solver = solver
        self.terms = terms
        self.uses = uses
        self.facts = facts
        self.pins = pins
        self.shared = shared
        self.follower = follower
        self.lists = lists
        found = ((k, locate(graph, uses, i, f)) for k, (i, f) in enumerate(facts) if isinstance(f, Contract))
        self.places = {k: place for k, place in found if place is not None}
        self.labels = [label(node) for node in graph.nodes]
        self.names: dict[Atom, str] = {}
        self.taken: set[str] = set()
        self.named: set[Term] = set()
        self.numbers: Counter[tuple[str, int]] = Counter()
        self.roots: dict[Term, Term] = {}
        self.known: dict[Term, list[Atom]] = {}
        self.frozen: dict[Term, Dim] = {}

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
        pins: dict[Atom, dict[Blame, None]] = {}
        for term, blame in self.pins:
            for atom in self._leaves(term):
                pins.setdefault(atom, {})[blame] = None
        for atom, blames in pins.items():
            result.axes[self.names[atom]].pins.extend(blames)
        for k, (i, fact) in enumerate(self.facts):
            self._role(k, i, fact, result)
        self._claims(result)
        self._carriers(result)
        return result

    def _name_all(self) -> None:
        """An axis is named after the first constant that carries it, else that contracts it, else a tensor."""
        contracted = {(*place.use, place.axis) for place in self.places.values()}
        kinds: dict[bool, list[Slot]] = {True: [], False: []}
        for use in self.uses:
            kinds[self.graph.is_weight(self._tensor(use))].append(use)
        floats, others = kinds[True], kinds[False]
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
        self._name_inner()

    def _name_inner(self) -> None:
        """Atoms that no tensor has."""
        for i, fact in self.facts:  # that only rules mention, such as padding
            for term in terms_of(fact):
                self._name(next(iter(self.graph.makes[i]), ""), "in", term, "")
        for name, members in self.lists.items():  # of sequences that no rule knows
            for term in (term for terms in members for term in terms):
                self._name(name, "in", term, "")
        for claim in self.follower.claims:  # that only arithmetic on shapes mentions
            for term in claim.depends:
                self._name(claim.tensor, "in", term, "")
        for written, demands in self.follower.demands.items():
            self._name(self._tensor(written.use), "in", demands[0][1], "")

    def _name(self, tensor: str, axis: int | str, term: Term, node: str) -> None:
        root = self._root(term)
        if root in self.named:
            return
        self.named.add(root)
        leaves = self._leaves(root)
        for k, atom in enumerate(leaves):
            if atom not in self.names:
                base = f"{tensor}:{axis}" + (f"[{k}]" if len(leaves) > 1 else "")
                self.names[atom] = self._unique(base, node)

    def _unique(self, base: str, node: str) -> str:
        """``base``, or with the node, or else a number; many may ask for the same."""
        first = 1 if not node else 2
        name = f"{base}@{node}" if node and base in self.taken else base
        while name in self.taken:  # all numbers up to the last one are
            name = f"{base}#{first + self.numbers[base, first]}"
            self.numbers[base, first] += 1
        self.taken.add(name)
        return name

    def _root(self, term: Term) -> Term:
        """The term resolved; the solver is done, so this cannot change any more."""
        if isinstance(term, Atom):
            return self.solver.resolve(term)
        found = self.roots.get(term)
        if found is None:
            found = self.roots[term] = self.solver.resolve(term)
        return found

    def _leaves(self, term: Term) -> list[Atom]:
        root = self._root(term)
        found = self.known.get(root)
        if found is None:
            found = self.known[root] = self.solver.leaves(root)
        return found

    def _tensor(self, use: Slot) -> str:
        return self.graph.tensor(use)

    def _dims(self, terms: Iterable[Term]) -> tuple[Dim, ...]:
        return tuple([self._dim(term) for term in terms])

    def _dim(self, term: Term) -> Dim:
        term = self._root(term)
        found = self.frozen.get(term)
        if found is None:
            if isinstance(term, Atom):
                found = Axis(self.names[term], term.size)
            else:
                kind = Prod if isinstance(term, Product) else Sum
                found = kind(tuple([self._dim(part) for part in term.parts]))
            self.frozen[term] = found
        return found

    def _raw(self, term: Term) -> Dim:
        """A side of an equation as the rule wrote it, so that the certificate does not repeat the solver."""
        if isinstance(term, Atom):
            return self._dim(term)
        kind = Prod if isinstance(term, Product) else Sum
        return kind(tuple([self._raw(part) for part in term.parts]))

    def _role(self, k: int, i: int, fact: Fact, into: AxisMap) -> None:
        if isinstance(fact, Equal):
            into.equations.append((self._raw(fact.left), self._raw(fact.right), self.labels[i]))
        elif isinstance(fact, Uniform):
            blame = Blame(self.labels[i], fact.reason)
            into.uniform.append(Statistic(i, self._dim(fact.over), blame, fact.fills, fact.epsilon))
            for axis in atoms(into.uniform[-1].over):
                into.axes[axis.name].uniform.append(blame)
        elif isinstance(fact, Idempotent):
            blame = Blame(self.labels[i], "takes the largest over it")
            into.idempotent.append(Statistic(i, self._dim(fact.over), blame, (Fill("copy"),)))
            for axis in atoms(into.idempotent[-1].over):
                into.axes[axis.name].idempotent.append(blame)
        elif isinstance(fact, Size):
            entries = tuple((place, self._dim(term), sign) for place, term, sign in fact.entries)
            into.written.append(Written(i, fact.where, entries, fact.fill, fact.instead_of))
        elif isinstance(fact, Default):
            into.defaults.append((i, fact.where, fact.value, self._dim(fact.over)))
        elif isinstance(fact, Contract):
            self._contract(k, i, fact, into)

    def _contract(self, k: int, i: int, fact: Contract, into: AxisMap) -> None:
        """Who absorbs the fractions of what is summed away."""
        for axis in atoms(self._dim(fact.over)):
            into.axes[axis.name].contracted_by.append(self.labels[i])
        for operand in (operand for operand in fact.operands if not operand.is_carried):
            into.contracted.setdefault((i, operand.slot), []).append((operand.axis, self._dim(operand.over)))
        if k in self.places:
            place = self.places[k]
            before, over, after = self._dims((place.operand.before, place.operand.over, place.operand.after))
            into.scaled.append(Scaled(place.use, place.axis, before, over, after, place.zero, place.channel))
        elif len(fact.operands) > 1 and not (k in self.shared and self.shared[k].picked):
            into.meetings.append(Meeting(i, self._dim(fact.over), tuple(self._beside(i, o) for o in fact.operands)))
        if k in self.shared:
            self._share(self.shared[k], fact, into)

    def _beside(self, i: int, operand: Operand) -> tuple[Dim, ...]:
        """What an operand has beside what is contracted."""
        use = (i, operand.slot)
        terms = self.uses.get(use) or self.terms.get(self._tensor(use), ())
        others = (term for axis, term in enumerate(terms) if axis != operand.axis)
        return self._dims((*others, operand.before, operand.after))

    def _share(self, found: Shared, contract: Contract, into: AxisMap) -> None:
        """Constants that carry an axis and take its fractions."""
        for share in found.shares:
            before, over, after = self._dims((share.before, share.over, share.after))
            ahead, behind = self._dims((share.ahead, share.behind))
            carried = not found.picked
            into.scaled.append(
                Scaled(share.use, share.axis, before, over, after, ahead=ahead, behind=behind, carried=carried)
            )
        names = tuple(axis.name for axis in atoms(self._dim(contract.over)))
        for name in found.tensors:
            into.shared[name] = tuple(dict.fromkeys((*into.shared.get(name, ()), *names)))

    def _claims(self, into: AxisMap) -> None:
        """The claims, and the sizes that what they speak of is computed from."""
        follower, graph = self.follower, self.graph
        for c in follower.claims:
            written = [term for w in c.written for place, term in follower.demanded(w.use) if place == w.place]
            dim = None if c.term is None else self._dim(c.term)
            into.claims.append(
                Claim(self.labels[c.node], c.tensor, c.place, dim, c.sign, self._dims((*c.depends, *written)))
            )
        for i in sorted(graph.ancestors({c.tensor for c in follower.claims})):
            for slot in range(len(graph.reads[i])):
                into.held[i, slot] = tuple((place, self._dim(term)) for place, term in follower.demanded((i, slot)))
            for name in filter(None, graph.makes[i]):
                sources = enumerate(follower.elements.get(name, np.empty(0, object)).ravel())
                into.held[name] = tuple((place, self._dim(s)) for place, s in sources if isinstance(s, Term))

    def _carriers(self, into: AxisMap) -> None:
        for name, dims in into.dims.items():
            for carried in dict.fromkeys(axis.name for dim in dims for axis in atoms(dim)):
                into.axes[carried].tensors.append(name)
        contracted = {(scaled.use, scaled.axis) for scaled in into.scaled if not scaled.carried}
        initializers: dict[str, dict[str, None]] = {}
        carried_by: dict[str, dict[str, None]] = {}
        for use, dims in into.uses.items():
            tensor = self._tensor(use)
            if not self.graph.is_weight(tensor):
                continue
            for place, dim in enumerate(dims):
                for axis in atoms(dim):
                    initializers.setdefault(axis.name, {})[tensor] = None
                    if (use, place) not in contracted:
                        carried_by.setdefault(axis.name, {})[tensor] = None
        for name, info in into.axes.items():
            info.initializers.extend(initializers.get(name, ()))
            info.carried_by.extend(carried_by.get(name, ()))
