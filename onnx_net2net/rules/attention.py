"""Attention and what goes with it. Heads are carried, and so is the width of values.

Queries and keys are contracted over their width, and scores stay divided by the root of the teacher's. The positions
of keys are pinned, since scores are normalised over them.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx_net2net.algebra.facts import Contract, Default, Equal, Fact, Node, Operand, Pin, Size, Terms
from onnx_net2net.algebra.unify import UNIT, Term, concatenation, fresh, product
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import rule, states
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

    @property
    def rows(self) -> tuple[Term, Term, Term]:
        """Queries, keys and values of all their heads."""
        return product(self.heads, self.depth), product(self.groups, self.depth), product(self.groups, self.value)

    def sums(self, node: Node, q: Operand, k: Operand) -> list[Fact]:
        """Of the width of queries and keys; unless they are scaled explicitly, scores are by its root."""
        scaled = bool(node.attr("scale", 0.0))
        default = [] if scaled else [Default("scale", self.depth.size**-0.5, self.depth)]
        return [Contract(self.depth, (q, k)), *default]

    def sides(self, node: Node, *, bias: int | None = None, cached: bool) -> tuple[Operand, Operand]:
        """Queries and keys in inputs of their own, with an input that holds the biases of both.

        Keys take no fractions where some are ``cached``: older ones have none, and others would read them.
        """
        (q, k), count = (len(node.x(slot)) for slot in (0, 1)), (self.heads, self.groups)
        inner = [UNIT if rank == 4 else heads for rank, heads in zip((q, k), count, strict=True)]
        added: tuple[Operand, ...] = () if bias is None else self.blocks(bias, 0)
        return (
            Operand(0, q - 1, self.depth, inner[0], plus=added[:1]),
            Operand(1, k - 1, self.depth, inner[1], plus=added[1:], kept=cached),
        )

    def blocks(self, slot: int, axis: int, *, bias: int | None = None, cached: bool = False) -> tuple[Operand, Operand]:
        """Queries and keys as blocks of one dimension, in front of values."""
        q, k, v = self.rows
        added: tuple[Operand, ...] = () if bias is None else self.blocks(bias, 0)
        return (
            Operand(slot, axis, self.depth, self.heads, behind=concatenation(k, v), plus=added[:1]),
            Operand(slot, axis, self.depth, self.groups, ahead=q, behind=v, plus=added[1:], kept=cached),
        )

    def roles(self, *, ordered: bool) -> list[Fact]:
        """The pins of positions."""
        pins: list[Fact] = [Pin(self.keys, "scores are normalised over it")]
        return pins + [Pin(self.length, "it attends by position")] * (ordered and self.length is not self.keys)

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
        *found.sums(node, *found.sides(node, cached=node.has(4) or node.gives(1))),
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


TURNED = (
    " -> Y[B, H, S, r + r + d]  size H @ num_heads  size 2*r @ rotary_embedding_dim"
    "  (or [B, S, H*(r + r + d)]; interleaved: r*!2"
)


@rule(
    "RotaryEmbedding",
    since=23,
    notation="X[B, H, S, r + r + d] cos[!p, r] sin[!p, r] position[B, S]" + TURNED + "; or cos[B, S, r])",
)
def rotary_embedding(node: Node) -> list[Fact]:
    heads = int(node.attr("num_heads", 0)) if len(node.x(0)) == 3 else node.x(0)[1].size
    return rotated(node, heads, tables=(1, 2), position=3)


def rotated(node: Node, heads: int, *, tables: tuple[int, ...], position: int) -> list[Fact]:
    """Rotates pairs of units by angles that depend on the position; both units of a pair have copies together."""
    x, y = node.x(0), node.y()
    if len(x) not in (3, 4):
        raise Declined(f"its input has rank {len(x)}")
    merged = len(x) == 3
    count, length = (fresh(heads), x[1]) if merged else (x[1], x[2])
    turned = int(node.attr("rotary_embedding_dim", 0))
    pairs = Pairs.of(share(x[-1], heads).size if merged else x[-1].size, turned, bool(node.attr("interleaved", 0)))
    whole = product(count, pairs.width) if merged else pairs.width
    facts: list[Fact] = [*others(x, y, {len(x) - 1}), Equal(whole, x[-1]), Equal(whole, y[-1]), *pairs.pins]
    facts += counts(node, num_heads=count)
    both = concatenation(pairs.half, pairs.half)
    facts += [Size("rotary_embedding_dim", ((0, both, 1),))] if turned and pairs.half.size > 1 else []
    facts += [Equal(pairs.half, node.x(slot)[-1]) for slot in tables]
    if node.has(position):
        each = len(node.x(position)) == 2
        facts += broadcast(node.x(position), (x[0], length)) if each else [Pin(length, "it counts from a position")]
        return facts + [Pin(node.x(slot)[0], "it is indexed by position") for slot in tables]
    return facts + [fact for slot in tables for fact in broadcast(node.x(slot)[:-1], (x[0], length))]


@dataclass(frozen=True, slots=True)
class Pairs:
    """The width of a head of which the first units are rotated in pairs, by angles for ``half`` of them."""

    width: Term
    half: Term
    pins: tuple[Pin, ...]

    @staticmethod
    def of(size: int, turned: int, interleaved: bool, step: int = 1) -> Pairs:
        """Unknowns for a width of which ``turned`` units are rotated, or all; each half of these grows by whole steps.

        Raises:
            Declined: If it has no such pairs.
        """
        turned = turned or size
        if turned % 2 or turned > size:
            raise Declined(f"{turned} of {size} units are no pairs")
        half, pins = stepped(turned // 2, step)
        rest, more = stepped(size - turned, 2 * step if step > 1 else 1)
        pair = Pin(fresh(2), "its units are rotated in pairs")
        both = product(half, pair.over) if interleaved else concatenation(half, half)
        width = concatenation(both, rest) if rest.size else both
        return Pairs(width, half, (*pins, *more, *[pair] * interleaved))


def stepped(size: int, step: int) -> tuple[Term, tuple[Pin, ...]]:
    """An unknown that grows by whole steps; one that is not made of these does not grow."""
    step = step if size % step == 0 else size
    inner = Pin(fresh(step), f"the operator takes widths in steps of {step}")
    return (fresh(size), ()) if step == 1 else (product(fresh(size // step), inner.over), (inner,) if size else ())


@rule("TensorScatter", since=24, notation="past[B, ..., !d_axis, ...] update[B, ..., !e, ...] start[B] -> Y[B, ...]")
def tensor_scatter(node: Node) -> list[Fact]:
    past, update = node.x(0), node.x(1)
    axis = node.axis("axis", -2, len(past))
    facts = [*others(past, node.y(), set()), *others(past, update, {axis})]
    facts += equal(node.x(2), past[0]) if node.has(2) else []
    return facts + [Pin(dim, "it is written by position") for dim in (past[axis], update[axis])]


states("RotaryEmbedding", linear=lambda node: [(0,)])
