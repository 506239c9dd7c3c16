"""Reductions: exact over other axes; over the axis itself they are idempotent, uniform or pinned."""

from onnx_net2net.algebra.facts import Equal, Fact, Idempotent, Node, Pin, Uniform, normal_axis
from onnx_net2net.algebra.filler import Fill
from onnx_net2net.rules._registry import rule

FILLS = (Fill("mean"), Fill("zero", 2))
"""Filler that holds the mean leaves the mean as it is; zeros make it smaller."""
_NOTATION = "X[..., {}d_axes, ...] -> Y[...]"


def _axes(node: Node, rank: int) -> list[int]:
    """The reduced axes, from the attribute (older opsets) or the constant input (newer ones)."""
    given = node.attr("axes")
    if given is None and node.has(1):
        given = node.ints(1, "axes")
    if not given:
        return [] if node.attr("noop_with_empty_axes", 0) else list(range(rank))
    return [normal_axis(int(axis), rank) for axis in given]


def reduced(node: Node, axes: list[int]) -> list[Fact]:
    """Equates the dimensions that are kept."""
    x, y = node.x(0), node.y()
    keep = bool(node.attr("keepdims", 1))
    places = [i for i in range(len(x)) if keep or i not in axes]
    pairs = zip(places, y, strict=True)
    return [Equal(x[i], dim) for i, dim in pairs if i not in axes]


@rule("ReduceMax", "ReduceMin", notation=_NOTATION.format("") + "  idempotent d")
def idempotent(node: Node) -> list[Fact]:
    axes = _axes(node, len(node.x(0)))
    return reduced(node, axes) + [Idempotent(node.x(0)[a]) for a in axes]


@rule("ReduceMean", notation=_NOTATION.format("") + "  uniform d")
def mean(node: Node) -> list[Fact]:
    axes = _axes(node, len(node.x(0)))
    return reduced(node, axes) + [Uniform(node.x(0)[a], "takes the mean over it", FILLS) for a in axes]


@rule(
    *["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd", "ReduceSum", "ReduceSumSquare"],
    notation=_NOTATION.format("!"),
)
def pinned(node: Node) -> list[Fact]:
    axes = _axes(node, len(node.x(0)))
    return reduced(node, axes) + [Pin(node.x(0)[a], "it sums over it and no weight can absorb that") for a in axes]


@rule("ArgMax", "ArgMin", notation=_NOTATION.format("!"))
def arg(node: Node) -> list[Fact]:
    axis = node.axis("axis", 0, len(node.x(0)))
    return [*reduced(node, [axis]), Pin(node.x(0)[axis], "its result counts positions along it")]
