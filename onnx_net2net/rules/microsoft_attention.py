"""Attention as onnxruntime's optimisers write it; see `attention.py` for what is carried and what is pinned."""

from onnx_net2net.algebra.facts import Contract, Equal, Fact, Node, Operand, Pin, Size, Terms
from onnx_net2net.algebra.unify import UNIT, concatenation, fresh, product
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import rule, stands_for, states
from onnx_net2net.rules.attention import (
    TURNED,
    Pairs,
    Parts,
    asked,
    counts,
    equal,
    given,
    parts,
    rotated,
    share,
    stepped,
)
from onnx_net2net.rules.microsoft import DOMAIN


def _mask(terms: Terms | None, found: Parts) -> list[Fact]:
    """A mask for every sample, or its number of keys; the dimensions behind that are pinned."""
    if not terms:
        return []
    if len(terms) == 1 and terms[0].size != found.batch.size:
        raise Declined("its mask holds positions")
    return [Equal(found.batch, terms[0])] if terms[0].size > 1 else []


@rule(
    "MultiHeadAttention",
    domain=DOMAIN,
    notation="Q[B, S, H*d] K[B, !L, H*d] V[B, !L, H*v] bias[H*d + H*d + H*v] mask[B, ...] scores[bcast B, H, S, !L]"
    " -> Y[B, S, H*v]  contract d @ Q+bias|K+bias  size H @ num_heads"
    "  (past and present as [B, H, !L, ..]; unidirectional: !S)",
)
def multi_head_attention(node: Node) -> list[Fact]:
    if not node.has(1) or not node.has(2) or len(node.x(0)) != 3:
        raise Declined("its queries, keys and values are packed")
    if node.has(8) or node.has(9):
        raise Declined("its buffers are shared")
    heads = int(node.attr("num_heads", 0))
    q, k, v = (node.x(slot) for slot in range(3))
    found = parts(q, k, v, heads, heads)
    return [
        *found.queries(q, node.y()),
        *found.memory(k, v),
        *(equal(node.x(3), concatenation(*found.rows)) if node.has(3) else []),
        *_mask(given(node, 4), found),
        *found.scores(given(node, 5), asked(node, 3)),
        *found.cached(given(node, 6), given(node, 7)),
        *found.cached(asked(node, 1), asked(node, 2)),
        *counts(node, num_heads=found.heads),
        *found.sums(node, *found.sides(node, bias=3 if node.has(3) else None, cached=node.has(6) or node.gives(1))),
        *found.roles(ordered=bool(node.attr("unidirectional", 0))),
        *([Pin(found.value, "values are as wide as keys")] if node.has(7) else []),
    ]


STEP = 8
"""The kernels take widths of heads in such steps, and tables of angles; of heads that may be rotated in twice these."""


@rule(
    "GroupQueryAttention",
    domain=DOMAIN,
    notation="Q[B, !S, H*R*d] K[B, !S, H*d] V[B, !S, H*d] past[B, H, !P, d] past[B, H, !P, d] lengths[B] total"
    " cos[!p, r] sin[!p, r] -> Y[B, !S, H*R*d]  contract d @ Q|K  size H @ kv_num_heads  size H*R @ num_heads"
    "  (d in steps of 8; do_rotary: d = r + r + ..; or Q[B, !S, H*R*d + H*d + H*d])",
)
def group_query_attention(node: Node) -> list[Fact]:
    if node.has(12) or node.has(13):
        raise Declined("its cache is quantised")
    if node.has(1) is not node.has(2):
        raise Declined("it has keys or values alone")
    q, packed = node.x(0), not node.has(1)
    heads, groups = (int(node.attr(name, 0)) for name in ("num_heads", "kv_num_heads"))
    if len(q) != 3 or min(heads, groups) < 1 or heads % groups:
        raise Declined("its heads of queries do not divide among those of keys")
    size = share(q[2], heads + 2 * groups * packed).size
    pairs = _rotated(node, size) if node.attr("do_rotary", 0) else None
    depth, pins = (pairs.width, pairs.pins) if pairs else stepped(size, 2 * STEP if node.has(7) else STEP)
    length = fresh(q[1].size)
    keys = length if packed else fresh(node.x(1)[1].size)
    found = Parts(fresh(q[0].size), length, keys, fresh(groups), fresh(heads // groups), depth, depth)
    lengths, sinks = given(node, 5), given(node, 11)
    return [
        *(_packed(node, found) if packed else found.queries(q, node.y())),
        *([] if packed else found.memory(node.x(1), node.x(2))),
        *found.cached(given(node, 3), given(node, 4)),
        *found.cached(asked(node, 1), asked(node, 2)),
        *found.scores(given(node, 10), asked(node, 3)),
        *([Equal(found.batch, lengths[0])] if lengths else []),
        *([Equal(found.batch, node.x(9)[0])] if node.has(9) and node.x(9)[0].size > 1 else []),
        *(equal(sinks, found.heads) if sinks else []),
        *([Equal(pairs.half, node.x(slot)[1]) for slot in (7, 8)] if pairs else []),
        *([Pin(node.x(slot)[0], "it is indexed by position") for slot in (7, 8)] if pairs else []),
        *counts(node, num_heads=found.heads, kv_num_heads=found.groups),
        *found.sums(node, *(found.blocks(0, 2, cached=True) if packed else found.sides(node, cached=True))),
        *found.roles(ordered=True),
        *pins,
        *([Pin(depth, "it normalises queries and keys itself")] if node.has(14) or node.has(15) else []),
    ]


def _rotated(node: Node, size: int) -> Pairs:
    """The width of heads that are rotated in the node."""
    if not node.has(7) or not node.has(8):
        raise Declined("it rotates without tables")
    return Pairs.of(size, 2 * node.x(7)[1].size, bool(node.attr("rotary_interleaved", 0)), STEP)


def _packed(node: Node, found: Parts) -> list[Fact]:
    """Queries, keys and values one after the other, and the output."""
    q, y = node.x(0), node.y()
    facts = equal(q, found.batch, found.length, concatenation(*found.rows))
    return facts + equal(y, found.batch, found.length, product(found.heads, found.value))


Shapes = list[tuple[int, tuple[int, ...]]]


def _group_query_shapes(node: Node) -> Shapes:
    """Of the output, and of keys and values with those of before."""
    batch, length, wide = (dim.size for dim in node.x(0))
    heads, groups = (max(1, int(node.attr(name, 0))) for name in ("num_heads", "kv_num_heads"))
    size = wide // (heads if node.has(1) else heads + 2 * groups)
    keys = node.x(1)[1].size if node.has(1) else length
    cache = (batch, groups, keys + _before(node, 3), size)
    return [(0, (batch, length, heads * size)), (0, cache), (0, cache)]


def _multi_head_shapes(node: Node) -> Shapes:
    """The same, where values have a width of their own."""
    heads, ranks = max(1, int(node.attr("num_heads", 0))), [len(node.x(slot)) for slot in range(3) if node.has(slot)]
    if ranks != [3, 3, 3]:
        return []
    batch, length, _ = (dim.size for dim in node.x(0))
    (_, keys, deep), (_, _, wide) = ([dim.size for dim in node.x(slot)] for slot in (1, 2))
    caches = [(0, (batch, heads, keys + _before(node, 6), size // heads)) for size in (deep, wide)]
    return [(0, (batch, length, wide)), *caches]


def _before(node: Node, slot: int) -> int:
    """How many keys a cache holds."""
    return node.x(slot)[2].size if node.has(slot) and len(node.x(slot)) == 4 else 0


@rule(
    "Attention",
    domain=DOMAIN,
    notation="X[B, S, I] W[I, H*d + H*d + H*v] bias[H*d + H*d + H*v] mask[B, ...] -> Y[B, !S, H*v]"
    "  contract I @ W  contract d @ W+bias  size H @ num_heads  size H*d, H*d, H*v @ qkv_hidden_sizes",
)
def packed_attention(node: Node) -> list[Fact]:
    x, w, y = node.x(0), node.x(1), node.y()
    heads, sizes = int(node.attr("num_heads", 0)), _sizes(node)
    if len(x) != 3 or heads < 1 or any(size % heads for size in sizes) or sum(sizes) != w[1].size:
        raise Declined("its sizes do not divide among its heads")
    if sizes[0] != sizes[1]:
        raise Declined("its queries are not as wide as its keys")
    if node.has(4) or node.has(6) or node.gives(1):
        raise Declined("it keeps a cache")
    batch, length, taken = (fresh(dim.size) for dim in x)
    depth, value = fresh(sizes[0] // heads), fresh(sizes[2] // heads)
    found = Parts(batch, length, length, fresh(heads), UNIT, depth, value)
    written = tuple((i, row, 1) for i, row in enumerate(found.rows))
    bias = 2 if node.has(2) else None
    return [
        *equal(x, batch, length, taken),
        *equal(w, taken, concatenation(*found.rows)),
        *(equal(node.x(2), concatenation(*found.rows)) if node.has(2) else []),
        *equal(y, batch, length, found.rows[2]),
        *_mask(given(node, 3), found),
        *found.scores(given(node, 5)),
        Contract(taken, (Operand(1, 0, taken),)),
        *found.sums(node, *found.blocks(1, 1, bias=bias)),
        *counts(node, num_heads=found.heads),
        Size("qkv_hidden_sizes", written, () if node.attr("qkv_hidden_sizes") else tuple(sizes)),
        *([Pin(depth, "it rotates queries and keys itself")] if node.attr("do_rotary", 0) else []),
        *found.roles(ordered=False),
    ]


def _sizes(node: Node) -> list[int]:
    """How many of the columns of the weight are queries, keys and values."""
    return [int(size) for size in node.attr("qkv_hidden_sizes", [])] or [node.x(1)[1].size // 3] * 3


def _packed_shapes(node: Node) -> Shapes:
    batch, length, _ = (dim.size for dim in node.x(0))
    return [(0, (batch, length, _sizes(node)[2]))]


@rule(
    "RotaryEmbedding",
    domain=DOMAIN,
    notation="X[B, H, S, r + r + d] position[B, S] cos[!p, r] sin[!p, r]" + TURNED + "; or one position: !S)",
)
def rotary_embedding(node: Node) -> list[Fact]:
    if node.attr("is_packed_batching", 0):
        raise Declined("its batch is packed")
    x, whole = node.x(0), 2 * node.x(2)[-1].size
    heads = int(node.attr("num_heads", 0)) or (x[2].size // whole if whole and not x[2].size % whole else 0)
    return rotated(node, heads, tables=(2, 3), position=1)


stands_for("MultiHeadAttention", DOMAIN, "Einsum", (0, 2), needed=2, attributes={"equation": "bsq,blv->bsv"})
stands_for("GroupQueryAttention", DOMAIN, "Einsum", (0, 1), needed=2, attributes={"equation": "bsq,blk->bsq"})
states("MultiHeadAttention", domain=DOMAIN, shapes=_multi_head_shapes)
states("GroupQueryAttention", domain=DOMAIN, shapes=_group_query_shapes)
states("Attention", domain=DOMAIN, shapes=_packed_shapes)
states("RotaryEmbedding", domain=DOMAIN, linear=lambda node: [(0,)])
stands_for("RotaryEmbedding", DOMAIN, "Identity", (0,))
