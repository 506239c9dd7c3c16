"""Attention and what goes with it. Heads are carried, and so is the width of values.

Queries and keys are contracted over their width, and scores stay divided by the root of the teacher's. The positions
of keys are pinned, since scores are normalised over them.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx_net2net.algebra.facts import Contract, Default, Equal, Fact, Node, Operand, Pin, Size, Terms
from onnx_net2net.algebra.unify import UNIT, Term, fresh, product
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import rule
from onnx_net2net.rules.elementwise import broadcast
from onnx_net2net.rules.joining import others


def equal(given: Terms, *wanted: Term) -> list[Fact]:
    """Equates an operand's dimensions with terms.

    Raises:
        Declined: If it has another rank.
    """
    if len(given) != len(wanted):
        raise Declined(f"an operand has rank {len(given)} instead of {len(wanted)}")
    return [Equal(a, b) for a, b in zip(wanted, given, strict=True)]


def share(dim: Term, count: int) -> Term:
    """An unknown for the width of each of ``count`` heads that are merged in a dimension."""
    if count < 1 or dim.size % count:
        raise Declined(f"{dim.size} units do not divide among {count} heads")
    return fresh(dim.size // count)


@dataclass(frozen=True, slots=True)
class Parts:
    """The axes of an attention: each of ``groups`` heads of keys serves ``each`` heads of queries."""

    batch: Term
    length: Term
    keys: Term
    groups: Term
    each: Term
    depth: Term
    value: Term

    @property
    def heads(self) -> Term:
        """The heads of queries."""
        return product(self.groups, self.each)

    def queries(self, q: Terms, y: Terms) -> list[Fact]:
        """Of queries and the output, which have heads of their own (rank 4) or merge them (rank 3)."""
        return self._placed(q, self.heads, self.length, self.depth) + self._placed(
            y, self.heads, self.length, self.value
        )

    def memory(self, k: Terms, v: Terms) -> list[Fact]:
        """Of keys and values."""
        return self._placed(k, self.groups, self.keys, self.depth) + self._placed(v, self.groups, self.keys, self.value)

    def cached(self, k: Terms | None, v: Terms | None) -> list[Fact]:
        """Of keys and values from before, and of those that are handed on."""
        facts: list[Fact] = []
        for terms, wide in ((k, self.depth), (v, self.value)):
            if terms:
                positions = fresh(terms[2].size)
                facts += equal(terms, self.batch, self.groups, positions, wide)
                facts.append(Pin(positions, "scores are normalised over it"))
        return facts

    def scores(self, *given: Terms | None) -> list[Fact]:
        """Of masks and other tensors that broadcast to the scores."""
        row = (self.batch, self.heads, self.length)
        return [fact for terms in given if terms for fact in broadcast(terms[:-1], row)]

    def sums(self, q: Terms, k: Terms, *, scaled: bool, cached: bool) -> list[Fact]:
        """Of the width of queries and keys; unless they are ``scaled`` explicitly, scores are by its root.

        Keys take no fractions where some are ``cached``, which have none.
        """
        sides = [(0, q, self.heads)] + [(1, k, self.groups)] * (not cached)
        operands = tuple(
            Operand(slot, len(terms) - 1, self.depth, UNIT if len(terms) == 4 else count)
            for slot, terms, count in sides
        )
        default = [] if scaled else [Default("scale", self.depth.size**-0.5, self.depth)]
        return [Contract(self.depth, operands), *default]

    def roles(self, *, ordered: bool) -> list[Fact]:
        """The pins of positions."""
        pins: list[Fact] = [Pin(self.keys, "scores are normalised over it")]
        return pins + [Pin(self.length, "it attends by position")] * ordered

    def _placed(self, given: Terms, count: Term, positions: Term, wide: Term) -> list[Fact]:
        if len(given) == 4:
            return equal(given, self.batch, count, positions, wide)
        return equal(given, self.batch, positions, product(count, wide))


def parts(q: Terms, k: Terms, v: Terms, heads: int, groups: int) -> Parts:
    """Unknowns for the axes of queries, keys and values, all of rank 3 or all of rank 4.

    Raises:
        Declined: If the heads do not divide as they should.
    """
    ranks = {len(terms) for terms in (q, k, v)}
    if len(ranks) > 1 or not ranks <= {3, 4}:
        raise Declined("its queries, keys and values do not have one rank")
    if min(heads, groups) < 1 or heads % groups:
        raise Declined("its heads of queries do not divide among those of keys")
    place = 1 if ranks == {3} else 2
    widths = (share(k[2], groups), share(v[2], groups)) if ranks == {3} else (fresh(k[3].size), fresh(v[3].size))
    batch, length, keys = (fresh(dim.size) for dim in (q[0], q[place], k[place]))
    return Parts(batch, length, keys, fresh(groups), fresh(heads // groups), *widths)


def given(node: Node, slot: int) -> Terms | None:
    """Terms of an optional input."""
    return node.x(slot) if node.has(slot) else None


def asked(node: Node, slot: int) -> Terms | None:
    """Terms of an optional output."""
    return node.y(slot) if node.gives(slot) else None


def counts(node: Node, **terms: Term) -> list[Fact]:
    """The attributes that hold sizes, where they are given."""
    return [Size(name, ((0, term, 1),)) for name, term in terms.items() if node.attr(name, 0)]


@rule(
    "Attention",
    since=23,
    notation="Q[B, H*R, S, d] K[B, H, !L, d] V[B, H, !L, v] mask[bcast B, H*R, S, !L] -> Y[B, H*R, S, v]"
    "  contract d @ Q|K  size H @ kv_num_heads  size H*R @ q_num_heads  (past and present as K and V; causal: !S)",
)
def attention(node: Node) -> list[Fact]:
    q, k, v = (node.x(slot) for slot in range(3))
    merged = len(q) == 3
    found = parts(
        q,
        k,
        v,
        int(node.attr("q_num_heads", 0)) if merged else q[1].size,
        int(node.attr("kv_num_heads", 0)) if merged else k[1].size,
    )
    windows = [node.attr(name, -1) for name in ("left_window_size", "right_window_size")]
    return [
        *found.queries(q, node.y()),
        *found.memory(k, v),
        *found.cached(given(node, 4), given(node, 5)),
        *found.cached(asked(node, 1), asked(node, 2)),
        *found.scores(given(node, 3), asked(node, 3)),
        *(equal(node.x(6), found.batch) if node.has(6) else []),
        *counts(node, q_num_heads=found.heads, kv_num_heads=found.groups),
        *found.sums(q, k, scaled=bool(node.attr("scale", 0.0)), cached=node.has(4)),
        *found.roles(ordered=bool(node.attr("is_causal", 0)) or max(windows) >= 0),
    ]


@rule(
    "LinearAttention",
    since=27,
    notation="Q[B, !S, H*R*!d] K[B, !S, H*!d] V[B, !S, H*v] past[B, H, !d, v] decay[B, !S, H*!d] beta[B, !S, H]"
    " -> Y[B, !S, H*R*v] present[B, H, !d, v]  size H @ kv_num_heads  size H*R @ q_num_heads",
)
def linear_attention(node: Node) -> list[Fact]:
    q, k, v = (node.x(slot) for slot in range(3))
    found = parts(q, k, v, int(node.attr("q_num_heads", 0)), int(node.attr("kv_num_heads", 0)))
    state = (found.batch, found.groups, found.depth, found.value)
    facts = [*found.queries(q, node.y()), *found.memory(k, v), Equal(found.length, found.keys)]
    for terms in filter(None, (given(node, 3), asked(node, 1))):
        facts += equal(terms, *state)
    for terms in filter(None, (given(node, 4), given(node, 5))):
        whole = found.groups if terms[2].size == found.groups.size else product(found.groups, found.depth)
        facts += broadcast(terms, (found.batch, found.keys, whole))
    return [
        *facts,
        *counts(node, q_num_heads=found.heads, kv_num_heads=found.groups),
        Pin(found.depth, "its state is summed over it"),
        Pin(found.keys, "it goes through it step by step"),
    ]


@rule(
    "RotaryEmbedding",
    since=23,
    notation="X[B, H, S, !d] cos[!p, !r] sin[!p, !r] position[B, S] -> Y[B, H, S, !d]"
    "  size H @ num_heads  (or X[B, S, H*!d]; or cos[B, S, !r] without position)",
)
def rotary_embedding(node: Node) -> list[Fact]:
    heads = int(node.attr("num_heads", 0)) if len(node.x(0)) == 3 else node.x(0)[1].size
    return rotated(node, heads, tables=(1, 2), position=3)


def rotated(node: Node, heads: int, *, tables: tuple[int, ...], position: int) -> list[Fact]:
    """Rotates pairs of units by angles that depend on the position."""
    x = node.x(0)
    if len(x) == 3:
        batch, length, count, wide = x[0], x[1], fresh(heads), share(x[2], heads)
        facts: list[Fact] = [Equal(product(count, wide), x[2])]
    elif len(x) == 4:
        (batch, count, length, wide), facts = x, []
    else:
        raise Declined(f"its input has rank {len(x)}")
    facts += [*others(x, node.y(), set()), *counts(node, num_heads=count)]
    facts.append(Pin(wide, "its units are rotated in pairs"))
    if node.has(position):
        each = len(node.x(position)) == 2
        facts += broadcast(node.x(position), (batch, length)) if each else [Pin(length, "it counts from a position")]
        return facts + [Pin(dim, "it is indexed by position") for slot in tables for dim in node.x(slot)]
    for slot in tables:
        facts += broadcast(node.x(slot)[:-1], (batch, length))
        facts.append(Pin(node.x(slot)[-1], "its units are rotated in pairs"))
    return facts


@rule("TensorScatter", since=24, notation="past[B, ..., !d_axis, ...] update[B, ..., !e, ...] start[B] -> Y[B, ...]")
def tensor_scatter(node: Node) -> list[Fact]:
    past, update = node.x(0), node.x(1)
    axis = node.axis("axis", -2, len(past))
    facts = [*others(past, node.y(), set()), *others(past, update, {axis})]
    facts += equal(node.x(2), past[0]) if node.has(2) else []
    return facts + [Pin(dim, "it is written by position") for dim in (past[axis], update[axis])]
