"""Pooling. Positions are combined, channels are carried."""

from onnx_net2net.algebra.facts import Equal, Fact, Idempotent, Node, Uniform
from onnx_net2net.algebra.spec import parse
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import line, rule

_POOL = "X[N, C, !...] -> Y[N, C, !...]"
_pool = parse(_POOL)

for _op in ["AveragePool", "GlobalLpPool", "LpPool"]:
    line(_op, _POOL)


@rule("GlobalAveragePool", notation="X[N, C, d...] -> Y[N, C, 1...]  uniform d")
def global_average(node: Node) -> list[Fact]:
    return [*_kept(node), *(Uniform(d, "takes the mean over it") for d in node.x(0)[2:])]


@rule("GlobalMaxPool", notation="X[N, C, d...] -> Y[N, C, 1...]  idempotent d")
def global_max(node: Node) -> list[Fact]:
    return [*_kept(node), *(Idempotent(d) for d in node.x(0)[2:])]


def _kept(node: Node) -> list[Fact]:
    return [Equal(x, y) for x, y in zip(node.x(0)[:2], node.y()[:2], strict=True)]


@rule("MaxPool", notation=_POOL)
def max_pool(node: Node) -> list[Fact]:
    if node.gives(1):
        raise Declined("its Indices output counts elements of the whole tensor")
    return _pool.facts(node)
