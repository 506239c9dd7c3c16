"""Operators that read shapes or make tensors of a given shape, and how sizes move through arithmetic on them."""

from onnx_net2net.algebra.facts import Equal, Fact, Holds, Node, Pin, Size, Unread
from onnx_net2net.algebra.unify import product
from onnx_net2net.rules._registry import follows, rule


@rule("ConstantOfShape", since=9, notation="shape -> Y[d...]  size d @ shape")
def constant_of_shape(node: Node) -> list[Fact]:
    node.ints(0, "shape")
    return [Size(0, tuple((i, dim, 1) for i, dim in enumerate(node.y())))]


@rule("Range", since=11, notation="start, limit, delta -> Y[!d]")
def range_(node: Node) -> list[Fact]:
    return [Pin(dim, "it counts positions") for dim in node.y()]


@rule("Shape", notation="X[d...] -> the sizes of d")
def shape(node: Node) -> list[Fact]:
    x = node.x(0)
    return [Holds(x[slice(node.attr("start", 0), node.attr("end", len(x)))]), *map(Unread, x)]


@rule("Size", notation="X[d...] -> the size of d*..")
def size(node: Node) -> list[Fact]:
    return [Holds((product(*node.x(0)),))]


def trilu_keeps(node: Node) -> list[Fact]:
    """The two last axes of a triangle are positions."""
    x, y = node.x(0), node.y()
    kept: list[Fact] = [Equal(a, b) for a, b in zip(x[:-2], y[:-2], strict=True)]
    return kept + [Pin(dim, "it masks by position") for dim in (*x[-2:], *y[-2:])]


rule("Trilu", since=14, notation="X[..., !m, !n] -> Y[..., !m, !n]")(trilu_keeps)

follows("fills", "ConstantOfShape")
follows("", "Shape", "Size", unread=(0,))
follows("folds", "ReduceProd", data=(0,))
follows("product", "Mul")
follows(
    "each",
    *"Abs Add And Ceil Div Equal Floor Greater GreaterOrEqual Less LessOrEqual Max Min Mod Neg Not Or".split(),
    *"Pow Reciprocal Round Sign Sqrt Sub Xor".split(),
)
follows("moves", "CastLike", data=(0,), unread=(1,))
follows("moves", "Concat")
follows("moves", "Where", data=(1, 2))
follows(
    "moves",
    *"Cast Expand Flatten Gather Identity Reshape Slice Split Squeeze Tile Transpose Unsqueeze".split(),
    data=(0,),
)
