"""Operators that select or order positions along an axis."""

from onnx_net2net.facts import Equal, Fact, Node, Pin, normal_axis
from onnx_net2net.rules._registry import rule
from onnx_net2net.rules.elementwise import broadcast


@rule("CumSum", since=11, notation="X[..., !d_axis, ...] axis -> Y[...]")
def cumulative(node: Node) -> list[Fact]:
    x = node.x(0)
    axis = normal_axis(node.ints(1, "axis")[0], len(x))
    return [*broadcast(x, node.y()), Pin(x[axis], "it adds up along it")]


@rule("Gather", notation="X[..., !d_axis, ...] indices[...] -> Y[..., indices..., ...]")
def gather(node: Node) -> list[Fact]:
    x, indices, y = node.x(0), node.x(1), node.y()
    axis = node.axis("axis", 0, len(x))
    kept = [*x[:axis], *indices, *x[axis + 1 :]]
    pairs = [Equal(a, b) for a, b in zip(kept, y, strict=True)]
    return [*pairs, Pin(x[axis], "it is indexed by position")]


@rule("TopK", since=10, notation="X[..., !d_axis, ...] k -> values[...] indices[...]")
def top_k(node: Node) -> list[Fact]:
    x = node.x(0)
    axis = node.axis("axis", -1, len(x))
    facts: list[Fact] = [Pin(x[axis], "it orders its units")]
    for terms in filter(None, node.outputs):
        facts += [Equal(a, b) for i, (a, b) in enumerate(zip(x, terms, strict=True)) if i != axis]
        facts.append(Pin(terms[axis], "it holds the k largest"))
    return facts
