"""Normalisations, softmaxes and other operators that mix the units of an axis."""

from onnx_net2net.algebra.facts import Equal, Fact, Node, Pin, Uniform
from onnx_net2net.algebra.filler import Content, Fill
from onnx_net2net.algebra.spec import parse
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import line, rule
from onnx_net2net.rules.elementwise import broadcast

_BATCH = "X[N, C, ...] scale[C] B[C] mean[C] var[C] -> Y[N, C, ...]"
_batch = parse(_BATCH)


@rule("BatchNormalization", since=7, notation=_BATCH)
def batch_normalization(node: Node) -> list[Fact]:
    if node.attr("training_mode", 0) or any(node.gives(i) for i in range(1, 5)):
        raise Declined("it is in training mode; export the model in evaluation mode")
    if not node.attr("spatial", 1):
        raise Declined("spatial=0 keeps statistics for each position")
    return _batch.facts(node)


_GROUP = "X[N, G*C, !...] scale[G*C] B[G*C] -> Y[N, G*C, !...]  uniform C  size G @ num_groups"
_GROUP_18 = "X[N, G*C, !...] scale[G] B[G] -> Y[N, G*C, !...]  uniform C  size G @ num_groups"
line("GroupNormalization", _GROUP, since=21)
line("GroupNormalization", _GROUP_18, since=18)
line("InstanceNormalization", "X[N, C, !...] scale[C] B[C] -> Y[N, C, !...]", since=6)


@rule("LRN", notation="X[N, !C, ...] -> Y[N, !C, ...]")
def lrn(node: Node) -> list[Fact]:
    mixed = Pin(node.x(0)[1], "it sums over neighbouring channels")
    return [*broadcast(node.x(0), node.y()), mixed]


@rule("LayerNormalization", since=17, notation="X[..., d_axis, ...] scale[d] B[d] -> Y[...]  uniform d")
def layer_normalization(node: Node) -> list[Fact]:
    return normalized(node, "mean")


def normalized(node: Node, content: Content) -> list[Fact]:
    """Statistics over the last axes; over one alone, filler with this content leaves them right but for a factor."""
    x, y = node.x(0), node.y()
    axis = node.axis("axis", -1, len(x))
    facts = broadcast(x, y)
    for slot in range(1, 3):
        facts += broadcast(node.x(slot), x) if node.has(slot) else []
    for slot in (1, 2):
        facts += broadcast(node.y(slot), x) if node.gives(slot) else []
    alone = sum(d.size > 1 for d in x[axis:]) == 1 and not any(node.gives(slot) for slot in (1, 2))
    fills = (Fill(content, -1),) if alone else ()
    return facts + [Uniform(d, "takes mean and variance over it", fills, ("epsilon", 1e-5)) for d in x[axis:]]


@rule("RMSNormalization", since=23, notation="X[..., d_axis, ...] scale[d] -> Y[...]  uniform d")
def rms_normalization(node: Node) -> list[Fact]:
    return normalized(node, "zero")


@rule("LpNormalization", notation="X[..., !d_axis, ...] -> Y[...]")
def lp_normalization(node: Node) -> list[Fact]:
    axis = node.axis("axis", -1, len(node.x(0)))
    return [*broadcast(node.x(0), node.y()), Pin(node.x(0)[axis], "it divides by the norm over it")]


@rule("MeanVarianceNormalization", since=9, notation="X[...] -> Y[...]  uniform d_axes")
def mean_variance_normalization(node: Node) -> list[Fact]:
    x = node.x(0)
    axes = [axis % len(x) for axis in node.attr("axes", [0, 2, 3]) if axis < len(x)]
    return [*broadcast(x, node.y()), *(Uniform(x[a], "takes mean and variance over it") for a in axes)]


@rule("Hardmax", "LogSoftmax", "Softmax", since=13, notation="X[..., !d_axis, ...] -> Y[...]")
def softmax(node: Node) -> list[Fact]:
    x = node.x(0)
    pinned = Pin(x[node.axis("axis", -1, len(x))], "it normalises over it")
    return [*(Equal(a, b) for a, b in zip(x, node.y(), strict=True)), pinned]


@rule("Hardmax", "LogSoftmax", "Softmax", notation="X[..., !d_axis, !...] -> Y[...]")
def softmax_flattened(node: Node) -> list[Fact]:
    """Before opset 13 the operator worked on a matrix: every axis from ``axis`` on is normalised over."""
    x = node.x(0)
    axis = node.axis("axis", 1, len(x))
    pinned = [Pin(d, "it normalises over it") for d in x[axis:]]
    return [*(Equal(a, b) for a, b in zip(x, node.y(), strict=True)), *pinned]
