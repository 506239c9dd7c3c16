"""The solver: makes equations between terms true by merging and refining their atoms.

It works as a type checker does. Atoms are unknowns; an equation binds an atom to a term or cuts both
sides at their common boundaries. What cannot be aligned is a `Conflict`: both its sides have to be
pinned. Conflicts are looked at again once everything else is solved, so the answer does not depend on
the order of the equations. Pure: knows neither ONNX nor graphs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import add, is_, mul

from onnx_net2net.errors import SizeMismatch


class Atom:
    """An unknown axis of ``size`` units; ``bound`` is what the equations made of it."""

    __slots__ = ("bound", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.bound: Term | None = None

    def __repr__(self) -> str:
        return f"Atom({self.size})"


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """Row-major merge of terms, outermost first."""

    parts: tuple[Term, ...]
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Concatenation:
    """Terms one after the other."""

    parts: tuple[Term, ...]
    size: int


Term = Atom | Product | Concatenation
UNIT = Product((), 1)
EMPTY = Concatenation((), 0)


def product(*parts: Term) -> Term:
    """The row-major merge of ``parts``."""
    return parts[0] if len(parts) == 1 else Product(parts, math.prod(part.size for part in parts))


def concatenation(*parts: Term) -> Term:
    """``parts`` one after the other."""
    return parts[0] if len(parts) == 1 else Concatenation(parts, sum(part.size for part in parts))


def fresh(size: int) -> Term:
    """A new unknown of ``size`` units. One unit has no atom: it may be a broadcast in disguise."""
    if size <= 1:
        return Product((), 1) if size else EMPTY
    return Atom(size)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two segments that an equation calls equal but whose boundaries cannot be aligned."""

    left: Term
    right: Term
    why: object


class Solver:
    """Solves equations one by one; `settle` then returns what could not be aligned."""

    def __init__(self) -> None:
        self._conflicts: list[Conflict] = []
        self._journal: list[tuple[Atom, Term | None]] | None = None  # kept during an attempt
        self._bindings = 0
        self._version = 0
        self._flat: dict[Product | Concatenation, int] = {}

    def equate(self, left: Term, right: Term, why: object) -> None:
        """Makes ``left`` and ``right`` the same term, as far as their boundaries align.

        Args:
            left: A term.
            right: A term of the same size.
            why: Whom to blame; kept in conflicts.

        Raises:
            SizeMismatch: If the sizes differ, so that the equation cannot be meant.
        """
        pending = [(left, right)]
        while pending:
            left, right = pending.pop()
            a, b = self.resolve(left), self.resolve(right)
            if a is b:
                continue
            if a.size != b.size:
                raise SizeMismatch(f"{self.sizes(a)} and {self.sizes(b)} are called equal but differ in size")
            if a.size <= 1:
                continue
            if isinstance(a, Atom):
                self._bind(a, b)
            elif isinstance(b, Atom):
                self._bind(b, a)
            elif isinstance(a, Concatenation):
                pending += _cut_sum(a, b) if isinstance(b, Concatenation) else _cut_mixed(a, b)
            elif isinstance(b, Concatenation):
                pending += _cut_mixed(b, a)
            else:
                pending += self._cut_product(a, b, why)

    def attempt(self, pairs: Iterable[tuple[Term, Term]], why: object) -> bool:
        """Equates all ``pairs`` if that leaves no new conflict, else changes nothing. Says which."""
        conflicts, bindings = len(self._conflicts), self._bindings
        journal = self._journal = []
        try:
            for left, right in pairs:
                self.equate(left, right, why)
            if len(self._conflicts) == conflicts:
                return True
        except SizeMismatch:
            pass
        finally:
            self._journal = None
        for atom, before in reversed(journal):
            atom.bound = before
        del self._conflicts[conflicts:]
        self._bindings = bindings
        self._version += 1
        return False

    def settle(self) -> list[Conflict]:
        """Looks at the conflicts again until nothing changes, and returns those that remain."""
        before = -1
        while self._conflicts and before != self._bindings:
            before = self._bindings
            again, self._conflicts = self._conflicts, []
            for conflict in again:
                self.equate(conflict.left, conflict.right, conflict.why)
        return self._conflicts

    def resolve(self, term: Term) -> Term:
        """Follows bindings, flattens nested terms of one kind, drops units and empty blocks."""
        if isinstance(term, Atom):
            bound = term.bound
            if bound is None:
                return term
            if isinstance(bound, Atom) and bound.bound is None:
                return bound
            chain = []
            while isinstance(term, Atom) and term.bound is not None:
                chain.append(term)
                term = term.bound
            root = term if isinstance(term, Atom) else self._flatten(term)
            for atom in chain:  # the next visit gets there in one step
                if atom.bound is not root:
                    self._set(atom, root)
            return root
        return self._flatten(term)

    def leaves(self, term: Term) -> list[Atom]:
        """The unbound atoms of ``term``, outermost and leftmost first, with repetitions."""
        found: list[Atom] = []
        pending = [term]
        while pending:
            part = pending.pop()
            if not isinstance(part, Atom) or part.bound is not None:
                part = self.resolve(part)
            if isinstance(part, Atom):
                found.append(part)
            else:
                pending.extend(reversed(part.parts))
        return found

    def sizes(self, term: Term) -> str:
        """The factors and blocks of ``term`` by their sizes, for example ``4*(2+1)``."""
        term = self.resolve(term)
        if isinstance(term, Atom) or not term.parts:
            return str(term.size)
        merge = isinstance(term, Product)
        parts = (self.resolve(part) for part in term.parts)
        shown = [f"({self.sizes(p)})" if merge and isinstance(p, Concatenation) else self.sizes(p) for p in parts]
        return ("*" if merge else "+").join(shown)

    def _flatten(self, term: Product | Concatenation) -> Term:
        if term.size <= 1:
            return UNIT if term.size else EMPTY
        if self._flat.get(term) == self._version:  # no binding since
            return term
        kind = type(term)
        neutral = 1 if kind is Product else 0
        flat: list[Term] = []
        pending = list(reversed(term.parts))
        while pending:
            part = pending.pop()
            while isinstance(part, Atom) and part.bound is not None:
                part = part.bound
            if part.size == neutral:
                continue
            if not isinstance(part, (Atom, kind)):  # kinds take turns at most as often as a size can be halved
                part = self._flatten(part)
            if isinstance(part, kind):
                pending.extend(reversed(part.parts))
            else:
                flat.append(part)
        if len(flat) == 1:
            return flat[0]
        if len(flat) != len(term.parts) or not all(map(is_, flat, term.parts)):
            term = kind(tuple(flat), term.size)
        self._flat[term] = self._version
        return term

    def _bind(self, atom: Atom, term: Term) -> None:
        self._set(atom, term)
        self._bindings += 1
        self._version += 1

    def _set(self, atom: Atom, term: Term) -> None:
        if self._journal is not None:
            self._journal.append((atom, atom.bound))
        atom.bound = term

    def _cut_product(self, a: Product, b: Product, why: object) -> list[tuple[Term, Term]]:
        """Aligns two products on the cumulative sizes of their factors, counted from the innermost.

        A boundary of one side can cut the other side too where it divides, or is divided by, all others.
        """
        pairs: list[tuple[Term, Term]] = []
        for left, right in _segments(a.parts[::-1], b.parts[::-1], mul):
            if len(left) == 1 or len(right) == 1:
                pairs.append((_merge(left), _merge(right)))
                continue
            every = _boundaries(left, right, mul)
            cuts = [c for c in every if all(c % d == 0 or d % c == 0 for d in every)]
            if cuts == every[-1:]:
                pairs += self._refuse(_merge(left), _merge(right), why)
                continue
            mine, cut = _refine(left, cuts)
            theirs, also = _refine(right, cuts)
            pairs += [*cut, *also, (_merge(mine), _merge(theirs))]
        return pairs

    def _refuse(self, left: Term, right: Term, why: object) -> list[tuple[Term, Term]]:
        """Notes a conflict, unless one side can be cut as a concatenation."""
        pair = _distributed(left), _distributed(right)
        if any(isinstance(side, Concatenation) for side in pair):
            return [pair]
        self._conflicts.append(Conflict(left, right, why))
        return []


Parts = Sequence[Term]
Join = Callable[[Parts], Term]
Cumulate = Callable[[int, int], int]


def _merge(parts: Parts) -> Term:
    """The product of factors that are listed innermost first."""
    return product(*reversed(parts))


def _distributed(term: Term) -> Term:
    """A product whose outermost factor is a concatenation as a concatenation of products: (a+b)*c = a*c + b*c.

    It can be cut at any boundary of its blocks, where as a product it could not be aligned.
    """
    if isinstance(term, Product) and isinstance(term.parts[0], Concatenation):
        return concatenation(*(product(block, *term.parts[1:]) for block in term.parts[0].parts))
    return term


def _chain(parts: Parts) -> Term:
    return concatenation(*parts)


def _ends(parts: Parts, step: Cumulate) -> list[int]:
    return list(accumulate((part.size for part in parts), step))


def _boundaries(left: Parts, right: Parts, step: Cumulate) -> list[int]:
    return sorted({*_ends(left, step), *_ends(right, step)})


def _segments(a: Parts, b: Parts, step: Cumulate) -> list[tuple[Parts, Parts]]:
    """Splits both sides at their common boundaries."""
    a_ends, b_ends = ({end: i + 1 for i, end in enumerate(_ends(side, step))} for side in (a, b))
    result, i, j = [], 0, 0
    for end, stop in a_ends.items():
        if end in b_ends:
            result.append((a[i:stop], b[j : b_ends[end]]))
            i, j = stop, b_ends[end]
    return result


def _refine(parts: Parts, cuts: Sequence[int]) -> tuple[list[Term], list[tuple[Term, Term]]]:
    """Factors (innermost first) cut at given boundaries, and equations that say what was cut."""
    refined: list[Term] = []
    pairs: list[tuple[Term, Term]] = []
    start = 1
    for part, end in zip(parts, _ends(parts, mul), strict=True):
        inside = [start, *(cut for cut in cuts if start < cut < end), end]
        pieces = [part] if len(inside) == 2 else [fresh(high // low) for low, high in pairwise(inside)]
        if len(pieces) > 1:
            pairs.append((part, _merge(pieces)))
        refined += pieces
        start = end
    return refined, pairs


def _distribute(
    parts: Parts, cuts: Sequence[int], pieces: Parts, step: Cumulate, join: Join
) -> list[tuple[Term, Term]]:
    """Pairs each part of one side with the elementary pieces between its boundaries."""
    place = {cut: i + 1 for i, cut in enumerate(cuts)}
    pairs, start = [], 0
    for part, end in zip(parts, _ends(parts, step), strict=True):
        pairs.append((part, join(pieces[start : place[end]])))
        start = place[end]
    return pairs


def _cut_sum(a: Concatenation, b: Concatenation) -> list[tuple[Term, Term]]:
    """Aligns two concatenations on the boundaries of their blocks; this always succeeds."""
    pairs: list[tuple[Term, Term]] = []
    for left, right in _segments(a.parts, b.parts, add):
        if len(left) == 1 or len(right) == 1:
            pairs.append((_chain(left), _chain(right)))
            continue
        cuts = _boundaries(left, right, add)
        pieces = [fresh(high - low) for low, high in pairwise([0, *cuts])]
        pairs += _distribute(left, cuts, pieces, add, _chain)
        pairs += _distribute(right, cuts, pieces, add, _chain)
    return pairs


def _cut_mixed(total: Concatenation, merged: Product) -> list[tuple[Term, Term]]:
    """Cuts the outermost factor of a product where the blocks of a concatenation begin and end.

    A unit of that factor that a boundary straddles becomes a piece of its own; the boundary then refines
    the inner factors when that piece is aligned in its turn.
    """
    outer, inner = merged.parts[0], merged.parts[1:]
    step = math.prod(part.size for part in inner)
    cuts = {0, outer.size}
    for boundary in _ends(total.parts, add)[:-1]:
        cuts |= {boundary // step, -(-boundary // step)}
    pieces = [fresh(high - low) for low, high in pairwise(sorted(cuts))]
    rows = [product(piece, *inner) for piece in pieces]
    return [(total, concatenation(*rows)), (outer, concatenation(*pieces))]
