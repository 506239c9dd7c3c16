"""Pooling. Positions are combined, channels are carried."""

from onnx_net2net.errors import Declined
from onnx_net2net.facts import Fact, Node
from onnx_net2net.rules._registry import line, rule
from onnx_net2net.spec import parse

_POOL = "X[N, C, !...] -> Y[N, C, !...]"
_pool = parse(_POOL)

for _op in "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool".split():
    line(_op, _POOL)


@rule("MaxPool", notation=_POOL)
def max_pool(node: Node) -> list[Fact]:
    if node.gives(1):
        raise Declined("its Indices output counts elements of the whole tensor")
    return _pool.facts(node)
