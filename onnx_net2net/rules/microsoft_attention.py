"""Attention as onnxruntime's optimisers write it; see `attention.py` for what is carried and what is pinned."""

from onnx_net2net.algebra.facts import Contract, Equal, Fact, Node, Operand, Pin, Size, Terms
from onnx_net2net.algebra.unify import Term, concatenation, fresh, product
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import rule, stands_for
from onnx_net2net.rules.attention import Parts, asked, counts, equal, given, parts, rotated
from onnx_net2net.rules.microsoft import DOMAIN


def _projected(found: Parts) -> tuple[Term, Term, Term]:
    """Queries, keys and values of all heads."""
    deep = product(found.heads, found.depth)
    return deep, deep, product(found.heads, found.value)


def _mask(terms: Terms | None, found: Parts) -> list[Fact]:
    """A mask for every sample, or its number of keys; the dimensions behind that are pinned."""
    if not terms:
        return []
    if len(terms) == 1 and terms[0].size != found.batch.size:
        raise Declined("its mask holds positions")
    return [Equal(found.batch, terms[0])] if terms[0].size > 1 else []


def _sums(node: Node, found: Parts) -> list[Fact]:
    """Of the width of queries and keys, whose bias is added in the node."""
    if node.has(3):
        return [Pin(found.depth, "it adds a bias to queries and keys")]
    return found.sums(node.x(0), node.x(1), scaled=bool(node.attr("scale", 0.0)), cached=node.has(6))


@rule(
    "MultiHeadAttention",
    domain=DOMAIN,
    notation="Q[B, S, H*d] K[B, !L, H*d] V[B, !L, H*v] bias[H*d + H*d + H*v] mask[B, ...] scores[bcast B, H, S, !L]"
    " -> Y[B, S, H*v]  contract d @ Q|K  size H @ num_heads  (past and present as [B, H, !L, ..]; unidirectional: !S)",
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
        *(equal(node.x(3), concatenation(*_projected(found))) if node.has(3) else []),
        *_mask(given(node, 4), found),
        *found.scores(given(node, 5), asked(node, 3)),
        *found.cached(given(node, 6), given(node, 7)),
        *found.cached(asked(node, 1), asked(node, 2)),
        *counts(node, num_heads=found.heads),
        *_sums(node, found),
        *found.roles(ordered=bool(node.attr("unidirectional", 0))),
        *([Pin(found.value, "values are as wide as keys")] if node.has(7) else []),
    ]


@rule(
    "GroupQueryAttention",
    domain=DOMAIN,
    notation="Q[B, !S, H*R*!d] K[B, !S, H*!d] V[B, !S, H*!d] past[B, H, !P, !d] past[B, H, !P, !d] lengths[B] total"
    " cos[!p, !r] sin[!p, !r] -> Y[B, !S, H*R*!d]  size H @ kv_num_heads  size H*R @ num_heads",
)
def group_query_attention(node: Node) -> list[Fact]:
    if not node.has(1) or not node.has(2):
        raise Declined("its queries, keys and values are packed")
    if node.has(12) or node.has(13):
        raise Declined("its cache is quantised")
    q, k, v = (node.x(slot) for slot in range(3))
    found = parts(q, k, v, int(node.attr("num_heads", 0)), int(node.attr("kv_num_heads", 0)))
    lengths, sinks = given(node, 5), given(node, 11)
    return [
        *found.queries(q, node.y()),
        *found.memory(k, v),
        *found.cached(given(node, 3), given(node, 4)),
        *found.cached(asked(node, 1), asked(node, 2)),
        *found.scores(given(node, 10), asked(node, 3)),
        *([Equal(found.batch, lengths[0])] if lengths else []),
        *([Equal(found.batch, node.x(9)[0])] if node.has(9) and node.x(9)[0].size > 1 else []),
        *(equal(sinks, found.heads) if sinks else []),
        *counts(node, num_heads=found.heads, kv_num_heads=found.groups),
        *found.roles(ordered=True),
        Pin(found.depth, "values are as wide as keys"),
        Pin(found.value, "values are as wide as keys"),
    ]


@rule(
    "Attention",
    domain=DOMAIN,
    notation="X[B, S, I] W[I, H*!d + H*!d + H*v] bias[H*!d + H*!d + H*v] mask[B, ...] -> Y[B, !S, H*v]"
    "  contract I @ W  size H @ num_heads  size H*d, H*d, H*v @ qkv_hidden_sizes  (unidirectional: !S)",
)
def packed_attention(node: Node) -> list[Fact]:
    x, w, y = node.x(0), node.x(1), node.y()
    heads = int(node.attr("num_heads", 0))
    sizes = list(node.attr("qkv_hidden_sizes", [])) or [w[1].size // 3] * 3
    if (
        len(x) != 3
        or heads < 1
        or any(size % heads for size in sizes)
        or sum(sizes) != w[1].size
        or sizes[0] != sizes[1]
    ):
        raise Declined("its sizes do not divide among its heads")
    if node.has(4) or node.has(6) or node.gives(1):
        raise Declined("it keeps a cache")
    batch, length, taken = (fresh(dim.size) for dim in x)
    depth, value = fresh(sizes[0] // heads), fresh(sizes[2] // heads)
    found = Parts(batch, length, length, fresh(heads), fresh(1), depth, value)
    rows = _projected(found)
    named = "qkv_hidden_sizes" in node.attributes
    return [
        *equal(x, batch, length, taken),
        *equal(w, taken, concatenation(*rows)),
        *(equal(node.x(2), concatenation(*rows)) if node.has(2) else []),
        *equal(y, batch, length, rows[2]),
        *_mask(given(node, 3), found),
        *found.scores(given(node, 5)),
        Contract(taken, (Operand(1, 0, taken),)),
        *counts(node, num_heads=found.heads),
        *([Size("qkv_hidden_sizes", tuple((i, row, 1) for i, row in enumerate(rows)))] if named else []),
        *([] if named else [Pin(value, "values are as wide as keys")]),
        Pin(found.depth, "it projects queries and keys itself"),
        *found.roles(ordered=False),
    ]


@rule(
    "RotaryEmbedding",
    domain=DOMAIN,
    notation="X[B, H, S, !d] position[B, S] cos[!p, !r] sin[!p, !r] -> Y[B, H, S, !d]"
    "  size H @ num_heads  (or X[B, S, H*!d]; or one position: !S)",
)
def rotary_embedding(node: Node) -> list[Fact]:
    if node.attr("is_packed_batching", 0):
        raise Declined("its batch is packed")
    x, whole = node.x(0), 2 * node.x(2)[-1].size
    heads = int(node.attr("num_heads", 0)) or (x[2].size // whole if whole and not x[2].size % whole else 0)
    return rotated(node, heads, tables=(2, 3), position=1)


stands_for("MultiHeadAttention", DOMAIN, "Einsum", (0, 2), needed=2, attributes={"equation": "bsq,blv->bsv"})
stands_for("GroupQueryAttention", DOMAIN, "Einsum", (0, 1), needed=2, attributes={"equation": "bsq,blk->bsq"})
stands_for("RotaryEmbedding", DOMAIN, "Identity", (0,))
