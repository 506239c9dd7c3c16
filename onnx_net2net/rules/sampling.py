"""Operators that sample an image at computed places. Places and channels are carried, positions are not."""

from onnx_net2net.algebra.facts import Equal, Fact, Node, Pin, Size
from onnx_net2net.rules._registry import line, rule

POSITION = "its positions are coordinates"

line("MaxRoiPool", "X[!N, C, !...] rois[R, !five] -> Y[R, C, !...]")
line("RoiAlign", "X[!N, C, !...] rois[R, !four] image[R] -> Y[R, C, !...]", since=10)


@rule("AffineGrid", since=20, notation="theta[N, !...] size -> grid[N, !...]  size N @ size")
def affine_grid(node: Node) -> list[Fact]:
    theta, grid = node.x(0), node.y()
    node.ints(1, "size")
    pinned = (*theta[1:], *grid[1:])
    return [Equal(theta[0], grid[0]), Size(1, ((0, grid[0], 1),)), *(Pin(dim, POSITION) for dim in pinned)]


@rule("GridSample", since=16, notation="X[N, C, !...] grid[N, p..., !k] -> Y[N, C, p...]")
def grid_sample(node: Node) -> list[Fact]:
    x, grid, y = node.x(0), node.x(1), node.y()
    facts: list[Fact] = [Equal(x[0], y[0]), Equal(x[1], y[1]), Equal(grid[0], y[0])]
    facts += [Equal(a, b) for a, b in zip(grid[1:-1], y[2:], strict=True)]
    return facts + [Pin(dim, POSITION) for dim in (*x[2:], grid[-1])]
