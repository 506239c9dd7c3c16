"""Quantised operators. Weights stay as they are stored: the tensor of integers is gathered and split in whole steps."""

from onnx_net2net.algebra.facts import Contract, Equal, Fact, Node, Operand
from onnx_net2net.algebra.spec import parse
from onnx_net2net.algebra.unify import Term
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import passes, rule
from onnx_net2net.rules.elementwise import broadcast
from onnx_net2net.rules.linear import matmul

_SCALED = "X[..., c_axis, ...] scale[c] zero_point[c] -> Y[...]"
_CONV = parse("X[N, G*I, !...] W[G*O, I, !...] -> Y[N, G*O, !...] contract I @ W size G @ group")


def steps(node: Node, slots: tuple[int, ...], axis: Term) -> list[Fact]:
    """Scales and zero points are one number, or one for each unit of an axis."""
    given = [node.x(slot) for slot in slots if node.has(slot)]
    if any(len(terms) > 1 for terms in given):
        raise Declined("its scales hold for blocks")
    return [Equal(terms[0], axis) for terms in given if terms and terms[0].size > 1]


@rule("DequantizeLinear", "QuantizeLinear", since=10, notation=_SCALED)
def scaled(node: Node) -> list[Fact]:
    x = node.x(0)
    if node.attr("block_size", 0):
        raise Declined("its scales hold for blocks")
    axis = x[node.axis("axis", 1, len(x))] if len(x) > 1 or node.attr("axis") is not None else (*x, *node.x(1))[0]
    return [*broadcast(x, node.y()), *steps(node, (1, 2), axis)]


@rule("DynamicQuantizeLinear", since=11, notation="X[...] -> Y[...] scale zero_point  (the range of X)")
def dynamic(node: Node) -> list[Fact]:
    return broadcast(node.x(0), node.y())


@rule(
    "ConvInteger",
    since=10,
    notation="X[N, G*I, !...] W[G*O, I, !...] x_zero w_zero[G*O] -> Y[N, G*O, !...]  contract I @ W  size G @ group",
)
def conv_integer(node: Node) -> list[Fact]:
    return [*with_zero(_CONV.facts(only(node, 0, 1)), 3, 0), *steps(node, (3,), node.y()[1])]


_QLINEAR_CONV = "X[N, G*I, !...] W[G*O, I, !...] B[G*O] -> Y[N, G*O, !...]  contract I @ W  size G @ group"


@rule("QLinearConv", since=10, notation=_QLINEAR_CONV)
def qlinear_conv(node: Node) -> list[Fact]:
    facts = with_zero(_CONV.facts(only(node, 0, 3)), 5, 0)
    facts = [moved(fact, {1: 3}) for fact in facts]
    bias = [Equal(node.x(8)[0], node.y()[1])] if node.has(8) else []
    return [*facts, *steps(node, (4, 5), node.y()[1]), *bias]


@rule("MatMulInteger", since=10, notation="A[..., M, K] B[..., K, N] a_zero b_zero[N] -> Y[..., M, N]  contract K @ B")
def matmul_integer(node: Node) -> list[Fact]:
    facts = with_zero(matmul(only(node, 0, 1)), 3, -1)
    return [*facts, *steps(node, (3,), node.y()[-1]), *scalar(node, 2)]


@rule(
    "QLinearMatMul", since=10, notation="A[..., M, K] B[..., K, N] -> Y[..., M, N]  contract K @ B  (scales: B's [N])"
)
def qlinear_matmul(node: Node) -> list[Fact]:
    facts = [moved(fact, {1: 3}) for fact in with_zero(matmul(only(node, 0, 3)), 5, -1)]
    return [*facts, *steps(node, (4, 5), node.y()[-1]), *scalar(node, 1, 2, 6, 7)]


def only(node: Node, *slots: int) -> Node:
    """The node as if it had these inputs and no others."""
    inputs = [node.x(slot) for slot in slots]
    return Node(node.op, node.opset, node.attributes, inputs, node.outputs, node.domain)


def with_zero(facts: list[Fact], slot: int, channel: int) -> list[Fact]:
    """Says of the weight (input 1) where its zero point is; a constant left operand absorbs nothing."""
    return [
        Contract(
            f.over,
            tuple(Operand(o.slot, o.axis, o.over, o.before, o.after, slot, channel) for o in f.operands if o.slot),
        )
        if isinstance(f, Contract)
        else f
        for f in facts
    ]


def moved(fact: Fact, slots: dict[int, int]) -> Fact:
    """A contraction whose operands stand in other slots."""
    if not isinstance(fact, Contract):
        return fact
    moved = (
        Operand(slots.get(o.slot, o.slot), o.axis, o.over, o.before, o.after, o.zero, o.channel) for o in fact.operands
    )
    return Contract(fact.over, tuple(moved))


def scalar(node: Node, *slots: int) -> list[Fact]:
    """Refuses scales and zero points that differ by row."""
    if any(node.has(slot) and any(term.size > 1 for term in node.x(slot)) for slot in slots):
        raise Declined("its left operand is scaled by row")
    return []


passes("DequantizeLinear", lambda attributes, axis, rank: axis, stored=True, zero=2)
passes("Cast", lambda attributes, axis, rank: axis)
passes("Identity", lambda attributes, axis, rank: axis)
passes("Transpose", lambda attributes, axis, rank: attributes.get("perm", range(rank)[::-1])[axis])
