"""Convolutions. Spatial positions are combined with their neighbours, so they stay pinned."""

from onnx_net2net.algebra.facts import Equal, Fact, Node, Pin
from onnx_net2net.algebra.spec import parse
from onnx_net2net.algebra.unify import fresh, product
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import line, rule

line(
    "Conv",
    "X[N, G*I, !...] W[G*O, I, !...] B[G*O] -> Y[N, G*O, !...]  contract I @ W  size G @ group",
)
line(
    "ConvTranspose",
    "X[N, G*I, !...] W[G*I, O, !...] B[G*O] -> Y[N, G*O, !...]  contract I @ W  size G @ group",
)
line(
    "CausalConvWithState",
    "X[B, C, !L] W[C, !one, !k] bias[C] past[B, C, !p] -> Y[B, C, L] present[B, C, p]",
    since=27,
)


@rule("Col2Im", since=18, notation="X[N, C*!k, !L] image block -> Y[N, C, !...]")
def col2im(node: Node) -> list[Fact]:
    x, y = node.x(0), node.y()
    block = fresh(x[1].size // max(y[1].size, 1))
    pinned = (block, x[2], *y[2:])
    return [
        Equal(x[0], y[0]),
        Equal(x[1], product(y[1], block)),
        *(Pin(dim, "its positions overlap") for dim in pinned),
    ]


_DEFORMED = (
    "X[N, G*I, !...] W[G*O, I, !...] offset[N, !k, !...] B[G*O] mask[N, !m, !...] -> Y[N, G*O, !...]"
    "  contract I @ W  size G @ group"
)
_deformed = parse(_DEFORMED)


@rule("DeformConv", since=19, notation=_DEFORMED + "  (G*I in offset_group blocks)")
def deform_conv(node: Node) -> list[Fact]:
    channels, blocks = node.x(0)[1], int(node.attr("offset_group", 1))
    if blocks < 1 or channels.size % blocks:
        raise Declined("its channels do not divide into its offset groups")
    if blocks == 1:
        return _deformed.facts(node)
    block = fresh(blocks)
    share = product(block, fresh(channels.size // blocks))
    return [*_deformed.facts(node), Equal(share, channels), Pin(block, "each has offsets of its own")]
