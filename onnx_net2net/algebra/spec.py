"""The notation of rules: one line that says how axes run through an operator. Pure.

A line reads ``X[N, G*I, !...] W[G*O, I, !...] B[G*O] -> Y[N, G*O, !...]  contract I @ W  size G @ group``:

- a letter (or word) names an axis; the same letter means the same axis;
- ``*`` merges axes row-major;
- ``...`` stands for the remaining dimensions, the same in every operand; ``!...`` for remaining
  dimensions that are pinned;
- ``!x`` pins an axis;
- ``contract K @ A|B``: K is summed away, and whichever operand is constant absorbs the fractions;
- ``uniform C``: statistics are taken over C;
- ``size G @ group``: the attribute ``group`` holds the size of G.

Trailing operands that a node leaves out are passed over.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

from onnx_net2net.algebra.facts import Contract, Equal, Fact, Node, Operand, Pin, Size, Uniform
from onnx_net2net.algebra.unify import Term, fresh, product
from onnx_net2net.errors import Declined

_OPERAND = re.compile(r"([A-Za-z]\w*)\[([^\]]*)\]")
_CLAUSE = re.compile(r"(contract|uniform|size)\s+(\w+)(?:\s*@\s*([\w|]+))?")
_REST = ("...", "!...")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One operand: its name, and for each dimension its letters or the mark of the rest."""

    name: str
    dims: tuple[tuple[str, ...] | str, ...]

    @cache  # noqa: B019  # patterns are few and stay
    def align(self, rank: int) -> list[tuple[int, tuple[str, ...] | str]]:
        """(dimension, letters or mark) for an operand of ``rank`` dimensions."""
        rest = next((i for i, dim in enumerate(self.dims) if dim in _REST), None)
        if rest is None:
            if rank != len(self.dims):
                raise Declined(f"{self.name} has rank {rank} instead of {len(self.dims)}")
            return list(enumerate(self.dims))
        extra = rank - len(self.dims) + 1
        if extra < 0:
            raise Declined(f"{self.name} has rank {rank}, too few for {len(self.dims) - 1}")
        middle: list[tuple[str, ...] | str] = [str(self.dims[rest])] * extra
        return list(enumerate([*self.dims[:rest], *middle, *self.dims[rest + 1 :]]))


@dataclass(frozen=True, slots=True)
class Spec:
    """A parsed line."""

    inputs: tuple[Pattern, ...]
    outputs: tuple[Pattern, ...]
    pinned: frozenset[str]
    contract: tuple[tuple[str, tuple[str, ...]], ...]
    uniform: tuple[str, ...]
    size: tuple[tuple[str, str], ...]

    def facts(self, node: Node) -> list[Fact]:
        """States the line's equations and roles for one node.

        Raises:
            Declined: If the node's operands do not have the shapes that the line describes.
        """
        aligned, operands = self._align(node)
        letters = self._letters(node, aligned)
        facts: list[Fact] = []
        rest: dict[int, Term] = {}
        for terms, dims in aligned:
            first = next((i for i, dim in dims if dim in _REST), 0)
            for i, dim in dims:
                if dim == "!...":
                    facts.append(Pin(terms[i], "positions along it are combined"))
                elif dim == "...":
                    facts.append(Equal(rest.setdefault(i - first, fresh(terms[i].size)), terms[i]))
                else:
                    facts.append(Equal(product(*(letters[name] for name in dim)), terms[i]))
        pinned = sorted(self.pinned & letters.keys())  # an operand that has the others may be left out
        facts += [Pin(letters[name], "its units are not interchangeable") for name in pinned]
        facts += [Uniform(letters[name], "takes statistics over it") for name in self.uniform]
        facts += [Size(where, ((0, letters[name], 1),)) for name, where in self.size]
        for name, choices in self.contract:
            found = [_operand(name, slot, operands[slot], letters) for slot in self._slots(choices) if slot in operands]
            facts.append(Contract(letters[name], tuple(found)))
        return facts

    def _slots(self, choices: tuple[str, ...]) -> list[int]:
        return [i for i, pattern in enumerate(self.inputs) if pattern.name in choices]

    def _align(self, node: Node):  # type: ignore[no-untyped-def]  # nested lists of terms and letters
        aligned, operands = [], {}
        for slot, pattern in enumerate(self.inputs):
            if node.has(slot):
                operands[slot] = pattern.align(len(node.x(slot)))
                aligned.append((node.x(slot), operands[slot]))
            elif slot == 0:
                raise Declined("input 0 is missing")
        for slot, pattern in enumerate(self.outputs):
            if node.gives(slot):
                aligned.append((node.y(slot), pattern.align(len(node.y(slot)))))
        return aligned, operands

    def _letters(self, node: Node, aligned) -> dict[str, Term]:  # type: ignore[no-untyped-def]
        """Finds the size of every letter from the shapes, and makes an unknown of each."""
        sizes = {name: int(node.attr(where, 1)) for name, where in self.size}
        pending = [(dim, terms[i].size) for terms, dims in aligned for i, dim in dims if dim not in _REST]
        while pending:
            later = []
            for names, total in pending:
                unknown = {name for name in names if name not in sizes}
                known = 1
                for name in names:
                    known *= sizes.get(name, 1)
                if len(unknown) > 1:
                    later.append((names, total))
                elif unknown and known and total % known == 0:
                    sizes[unknown.pop()] = total // known
                elif unknown or known != total:
                    raise Declined(f"{'*'.join(names)} should be {total} but is not")
            if len(later) == len(pending):
                raise Declined(f"the sizes in {later[0][0]} are not determined")
            pending = later
        return {name: fresh(size) for name, size in sizes.items()}


def _operand(name, slot, dims, letters) -> Operand:  # type: ignore[no-untyped-def]
    axis, factors = next((i, dim) for i, dim in dims if name in dim)
    place = factors.index(name)
    before = product(*(letters[f] for f in factors[:place]))
    after = product(*(letters[f] for f in factors[place + 1 :]))
    return Operand(slot, axis, letters[name], before, after)


def parse(text: str) -> Spec:
    """Reads one line of the notation.

    Raises:
        ValueError: If the line cannot be read, or names an axis that it then says nothing of.
    """
    left, arrow, right = text.partition("->")
    if not arrow:
        raise ValueError(f"{text!r} has no '->'")
    tail = _OPERAND.sub("", right)
    clauses = _CLAUSE.findall(tail)
    if _CLAUSE.sub("", tail).strip() or _OPERAND.sub("", left).strip():
        raise ValueError(f"{text!r} has words that mean nothing")
    pinned: set[str] = set()
    inputs, outputs = (tuple(_patterns(side, pinned)) for side in (left, right))
    count = Counter(n for p in (*inputs, *outputs) for dim in p.dims if dim not in _REST for n in dim)
    roles = {name for _, name, _ in clauses} | pinned
    if missing := roles - set(count):
        raise ValueError(f"{text!r} gives a role to {missing}, which no operand has")
    if loose := {name for name, n in count.items() if n < 2} - roles:
        raise ValueError(f"{text!r} names {loose} only once and gives it no role")
    return Spec(
        inputs,
        outputs,
        frozenset(pinned),
        tuple((name, tuple(at.split("|"))) for kind, name, at in clauses if kind == "contract"),
        tuple(name for kind, name, _ in clauses if kind == "uniform"),
        tuple((name, at) for kind, name, at in clauses if kind == "size"),
    )


def _patterns(side: str, pinned: set[str]) -> list[Pattern]:
    result = []
    for name, body in _OPERAND.findall(side):
        dims: list[tuple[str, ...] | str] = []
        for dim in filter(None, (part.strip() for part in body.split(","))):
            if dim in _REST:
                dims.append(dim)
                continue
            factors = [factor.strip() for factor in dim.split("*")]
            pinned |= {factor[1:] for factor in factors if factor.startswith("!")}
            dims.append(tuple(factor.lstrip("!") for factor in factors))
        result.append(Pattern(name, tuple(dims)))
    return result
