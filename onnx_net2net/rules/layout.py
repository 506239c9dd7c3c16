"""Operators that only move elements, and those that resize positions."""

from onnx_net2net.algebra.facts import Equal, Fact, Node, Pin, Size, normal_axis
from onnx_net2net.algebra.spec import parse
from onnx_net2net.algebra.unify import Term, product
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import rule

_BLOCK_FIRST = "X[N, !b*!c*C, H, W] -> Y[N, C, H*b, W*c]"
_CHANNEL_FIRST = "X[N, C*!b*!c, H, W] -> Y[N, C, H*b, W*c]"
_TO_DEPTH = "X[N, C, H*!b, W*!c] -> Y[N, b*c*C, H, W]"


@rule("CenterCropPad", since=18, notation="X[c_i, !d_j, ...] shape -> Y[c_i, !e_j, ...]  c: kept whole  size c @ shape")
def center_crop_pad(node: Node) -> list[Fact]:
    x, y = node.x(0), node.y()
    node.ints(1, "shape")
    axes = [normal_axis(axis, len(x)) for axis in node.attr("axes", range(len(x)))]
    facts: list[Fact] = []
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        whole = a.size == b.size
        facts += [Equal(a, b)] if whole else [Pin(dim, "it crops or pads both of its ends") for dim in (a, b)]
        facts += [Size(1, ((axes.index(i), b, 1),))] if whole and i in axes else []
    return facts


@rule("DepthToSpace", notation=f"DCR: {_BLOCK_FIRST}  CRD: {_CHANNEL_FIRST}")
def depth_to_space(node: Node) -> list[Fact]:
    crd = node.attr("mode", b"DCR") == b"CRD"
    return _blocks(node, _CHANNEL_FIRST if crd else _BLOCK_FIRST)


@rule("SpaceToDepth", notation=_TO_DEPTH)
def space_to_depth(node: Node) -> list[Fact]:
    return _blocks(node, _TO_DEPTH)


def _blocks(node: Node, text: str) -> list[Fact]:
    spec = parse(f"{text} size b @ blocksize size c @ blocksize")
    facts = spec.facts(node)
    return [fact for fact in facts if not isinstance(fact, Size)]  # a block never grows


@rule("Flatten", notation="X[a..., b...] -> Y[a*.., b*..]")
def flatten(node: Node) -> list[Fact]:
    x, y = node.x(0), node.y()
    axis = int(node.attr("axis", 1))
    axis += len(x) if axis < 0 else 0
    return [Equal(product(*x[:axis]), y[0]), Equal(product(*x[axis:]), y[1])]


@rule("Reshape", since=5, notation="X[d...] shape -> Y[e...]  d*.. = e*..  size e @ shape")
def reshape(node: Node) -> list[Fact]:
    x, y = node.x(0), node.y()
    target = node.ints(1, "shape")
    if any(dim.size == 0 for dim in (*x, *y)):
        raise Declined("it reshapes an empty tensor")
    facts: list[Fact] = [Equal(product(*x), product(*y))]
    if not node.attr("allowzero", 0):
        facts += [Equal(x[i], y[i]) for i, size in enumerate(target) if size == 0]
    return [*facts, Size(1, tuple((i, y[i], 1) for i, size in enumerate(target) if size > 0))]


@rule("Squeeze", since=13, notation="X[..., 1, ...] axes -> Y[...]")
def squeeze_input(node: Node) -> list[Fact]:
    return _squeeze(node, node.ints(1, "axes") if node.has(1) else None)


@rule("Squeeze", notation="X[..., 1, ...] -> Y[...]  (axes)")
def squeeze_attribute(node: Node) -> list[Fact]:
    return _squeeze(node, node.attr("axes"))


def _squeeze(node: Node, axes: list[int] | None) -> list[Fact]:
    x = node.x(0)
    if axes is None:
        axes = [i for i, dim in enumerate(x) if dim.size == 1]
    return _moved([dim for i, dim in enumerate(x) if i not in {normal_axis(axis, len(x)) for axis in axes}], node.y())


@rule("Transpose", notation="X[d...] -> Y[d_perm...]")
def transpose(node: Node) -> list[Fact]:
    x = node.x(0)
    return _moved([x[i] for i in node.attr("perm", range(len(x))[::-1])], node.y())


@rule("Unsqueeze", since=13, notation="X[...] axes -> Y[..., 1, ...]")
def unsqueeze_input(node: Node) -> list[Fact]:
    return _unsqueeze(node, node.ints(1, "axes"))


@rule("Unsqueeze", notation="X[...] -> Y[..., 1, ...]  (axes)")
def unsqueeze_attribute(node: Node) -> list[Fact]:
    return _unsqueeze(node, node.attr("axes"))


def _unsqueeze(node: Node, axes: list[int]) -> list[Fact]:
    y = node.y()
    added = {normal_axis(axis, len(y)) for axis in axes}
    return _moved(list(node.x(0)), tuple(dim for i, dim in enumerate(y) if i not in added))


def _moved(x: list[Term], y: tuple[Term, ...]) -> list[Fact]:
    if len(x) != len(y):
        raise Declined("its shapes and axes contradict each other")
    return [Equal(a, b) for a, b in zip(x, y, strict=True)]


_SCALED = "X[c_i, !d_j, ...] -> Y[c_i, !e_j, ...]  c: scale one  size c @ sizes"


@rule("Upsample", since=7, notation=_SCALED)
def upsample(node: Node) -> list[Fact]:
    scales = node.attr("scales") or _floats(node, 1)
    return _scaled(node, [scale == 1 for scale in scales])


@rule("Resize", since=11, notation=_SCALED)
def resize(node: Node) -> list[Fact]:
    rank = len(node.x(0))
    axes = [normal_axis(axis, rank) for axis in node.attr("axes", range(rank))]
    scales = _floats(node, 2) if node.has(2) else []
    mode = node.attr("coordinate_transformation_mode", b"half_pixel")
    exact = mode in (b"half_pixel", b"asymmetric", b"align_corners", b"pytorch_half_pixel")
    kept = [True] * rank
    exact = exact and node.attr("keep_aspect_ratio_policy", b"stretch") == b"stretch"  # else all share one scale
    for i, axis in enumerate(axes):
        same = node.x(0)[axis].size == node.y()[axis].size
        kept[axis] = exact and same and (not scales or scales[i] == 1)
    entries: tuple[tuple[int, Term, int], ...] = ()
    if not scales:
        node.ints(3, "sizes")
        entries = tuple((i, node.y()[axis], 1) for i, axis in enumerate(axes) if kept[axis])
    return [*_scaled(node, kept), *([Size(3, entries)] if entries else [])]


@rule("Resize", since=10, notation=_SCALED)
def resize_scales(node: Node) -> list[Fact]:
    return _scaled(node, [scale == 1 for scale in _floats(node, 1)])


def _floats(node: Node, slot: int) -> list[float]:
    value = node.value(slot)
    if value is None:
        raise Declined(f"its scales (input {slot}) are computed while the model runs")
    return [float(v) for v in value.ravel()]


def _scaled(node: Node, kept: list[bool]) -> list[Fact]:
    facts: list[Fact] = []
    for a, b, same in zip(node.x(0), node.y(), kept, strict=True):
        facts += [Equal(a, b)] if same else [Pin(d, "it interpolates along it") for d in (a, b)]
    return facts
