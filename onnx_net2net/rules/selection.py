"""Operators that select, write or order positions along an axis."""

from onnx_net2net.algebra.facts import Equal, Fact, Node, Pin, Terms, normal_axis
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import rule
from onnx_net2net.rules.elementwise import broadcast
from onnx_net2net.rules.joining import others

INDEXED = "it is indexed by position"
WRITTEN = "two of its units may be written to one position"


@rule("Compress", since=9, notation="X[..., !d_axis, ...] condition[!] -> Y[...]")
def compress(node: Node) -> list[Fact]:
    x, y = node.x(0), node.y()
    if "axis" not in node.attributes:
        raise Declined("it selects elements of the whole tensor")
    axis = node.axis("axis", 0, len(x))
    pinned = (x[axis], y[axis], *node.x(1))
    return [*others(x, y, {axis}), *(Pin(dim, "it selects positions") for dim in pinned)]


@rule("CumProd", since=26, notation="X[..., !d_axis, ...] axis -> Y[...]")
@rule("CumSum", since=11, notation="X[..., !d_axis, ...] axis -> Y[...]")
def cumulative(node: Node) -> list[Fact]:
    x = node.x(0)
    axis = normal_axis(node.ints(1, "axis")[0], len(x))
    return [*broadcast(x, node.y()), Pin(x[axis], "it accumulates along it")]


@rule("Gather", notation="X[..., !d_axis, ...] indices[...] -> Y[..., indices..., ...]")
def gather(node: Node) -> list[Fact]:
    x, indices, y = node.x(0), node.x(1), node.y()
    axis = node.axis("axis", 0, len(x))
    kept = [*x[:axis], *indices, *x[axis + 1 :]]
    pairs = [Equal(a, b) for a, b in zip(kept, y, strict=True)]
    picked = node.value(1) if 1 in node.constants else None
    read = () if picked is None else tuple(sorted({int(k) % max(1, x[axis].size) for k in picked.ravel()}))
    return [*pairs, Pin(x[axis], INDEXED, read)]


@rule("GatherElements", since=11, notation="X[..., !d_axis, ...] indices[..., e, ...] -> Y[..., e, ...]")
def gather_elements(node: Node) -> list[Fact]:
    x, indices = node.x(0), node.x(1)
    axis = node.axis("axis", 0, len(x))
    facts: list[Fact] = [*others(indices, node.y(), set()), Pin(x[axis], INDEXED)]
    return facts + _beside(x, indices, axis)


@rule("GatherND", since=11, notation="X[b..., !..., c...] indices[b..., d..., !k] -> Y[b..., d..., c...]")
def gather_nd(node: Node) -> list[Fact]:
    x, indices = node.x(0), node.x(1)
    batch = int(node.attr("batch_dims", 0))
    behind = batch + indices[-1].size
    pairs = zip([*indices[:-1], *x[behind:]], node.y(), strict=True)
    facts: list[Fact] = [Equal(a, b) for a, b in pairs]
    facts += [Equal(a, b) for a, b in zip(x[:batch], indices[:batch], strict=True)]
    return facts + [Pin(dim, INDEXED) for dim in (*x[batch:behind], indices[-1])]


@rule("OneHot", since=9, notation="indices[...] depth values[!] -> Y[..., !depth, ...]")
def one_hot(node: Node) -> list[Fact]:
    y = list(node.y())
    depth = y.pop(node.axis("axis", -1, len(y)))
    kept: list[Fact] = [Equal(a, b) for a, b in zip(node.x(0), y, strict=True)]
    return [*kept, *(Pin(dim, "its units stand for values") for dim in (depth, *node.x(2)))]


@rule("ReverseSequence", since=10, notation="X[..., b, ..., !t, ...] lengths[b] -> Y[...]")
def reverse_sequence(node: Node) -> list[Fact]:
    x = node.x(0)
    batch, time = node.axis("batch_axis", 1, len(x)), node.axis("time_axis", 0, len(x))
    facts: list[Fact] = [Equal(x[batch], node.x(1)[0]), Pin(x[time], "it reverses it")]
    return others(x, node.y(), set()) + facts


@rule("ScatterElements", since=11, notation="X[..., !d_axis, ...] indices[..., !e, ...] updates[...] -> Y[...]")
@rule("Scatter", since=9, notation="X[..., !d_axis, ...] indices[..., !e, ...] updates[...] -> Y[...]")
def scatter_elements(node: Node) -> list[Fact]:
    x, indices = node.x(0), node.x(1)
    axis = node.axis("axis", 0, len(x))
    facts: list[Fact] = others(x, node.y(), set()) + others(indices, node.x(2), set())
    facts += [Pin(x[axis], INDEXED), Pin(indices[axis], WRITTEN)]
    return facts + _beside(x, indices, axis)


@rule("ScatterND", since=11, notation="X[!..., c...] indices[!..., !k] updates[!..., c...] -> Y[..., c...]")
def scatter_nd(node: Node) -> list[Fact]:
    x, indices, updates = node.x(0), node.x(1), node.x(2)
    depth = indices[-1].size
    wanted = [*indices[:-1], *x[depth:]]
    facts: list[Fact] = others(x, node.y(), set())
    facts += [Equal(a, b) for a, b in zip(wanted, updates, strict=True)]
    facts += [Pin(dim, INDEXED) for dim in (*x[:depth], indices[-1])]
    return facts + [Pin(dim, WRITTEN) for dim in indices[:-1]]


@rule("TopK", since=10, notation="X[..., !d_axis, ...] k -> values[...] indices[...]")
def top_k(node: Node) -> list[Fact]:
    x = node.x(0)
    axis = node.axis("axis", -1, len(x))
    facts: list[Fact] = [Pin(x[axis], "it orders its units")]
    for terms in filter(None, node.outputs):
        facts += others(x, terms, {axis})
        facts.append(Pin(terms[axis], "it holds the k largest"))
    return facts


def _beside(x: Terms, indices: Terms, axis: int) -> list[Fact]:
    """Along other axes an index belongs to the unit in its place; if there are fewer, only the first have one."""
    facts: list[Fact] = []
    for i, (a, b) in enumerate(zip(x, indices, strict=True)):
        if i != axis:
            few = [Pin(dim, "only its first units are indexed") for dim in (a, b)]
            facts += [Equal(a, b)] if a.size == b.size else few
    return facts
