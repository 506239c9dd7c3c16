"""Fourier transforms. The signal's axis and the two parts of complex numbers are pinned."""

from onnx_net2net.algebra.facts import Equal, Fact, Node, Pin, normal_axis
from onnx_net2net.rules._registry import line, rule

_NOTATION = "X[..., !d_axis, ..., !part] -> Y[..., !e_axis, ..., !part]"


@rule("DFT", since=20, notation=_NOTATION)
def dft_input(node: Node) -> list[Fact]:
    return _transformed(node, node.ints(2, "axis")[0] if node.has(2) else -2)


@rule("DFT", since=17, notation=_NOTATION)
def dft_attribute(node: Node) -> list[Fact]:
    return _transformed(node, int(node.attr("axis", 1)))


def _transformed(node: Node, axis: int) -> list[Fact]:
    x, y = node.x(0), node.y()
    mixed = {normal_axis(axis, len(x)), len(x) - 1}
    facts: list[Fact] = []
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        facts += [Pin(dim, "it transforms it") for dim in (a, b)] if i in mixed else [Equal(a, b)]
    return facts


line("STFT", "X[N, !...] -> Y[N, !...]", since=17)
