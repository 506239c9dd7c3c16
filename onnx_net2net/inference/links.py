"""How the dimensions of what a node reads and makes are related, as its rule wrote it, before anything is solved."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnx_net2net.algebra.facts import Equal, Fact, Pin, Unread
from onnx_net2net.algebra.unify import Atom, Concatenation, Product, Term


class Links:
    """How the dimensions of one node's operands are related, as the rule wrote it."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self.root: dict[Term, Term] = {}
        self.merges: list[tuple[Term, Term]] = []
        equations = [fact for fact in facts if isinstance(fact, Equal)]
        for fact in equations:
            if isinstance(fact.left, Atom) and isinstance(fact.right, Atom):
                left, right = self.of(fact.left), self.of(fact.right)
                if left is not right:
                    self.root[left] = right
            else:
                self.merges += [(fact.left, fact.right), (fact.right, fact.left)]
        self.picked = {fact.over: fact.read for fact in facts if isinstance(fact, Pin) and fact.read}
        equated = {part for fact in equations for side in (fact.left, fact.right) for part in (side, *_parts(side))}
        self.unread = {fact.over for fact in facts if isinstance(fact, Unread)} - equated

    def of(self, term: Term) -> Term:
        """The one term that stands for all that are called equal."""
        while term in self.root:
            term = self.root[term]
        return term

    def same(self, a: Term, b: Term) -> bool:
        """Whether the node calls two dimensions equal; of size one, whether they are the same."""
        return a.size > 0 and self.of(a) is self.of(b)

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

    def inner(self, factors: Sequence[Term], factor: Term) -> int:
        """How many units lie between two neighbours of a factor, in row-major order."""
        place = next(k for k, part in enumerate(factors) if self.same(part, factor))
        return math.prod(part.size for part in factors[place + 1 :])


def _parts(term: Term) -> Sequence[Term]:
    return () if isinstance(term, Atom) else term.parts
