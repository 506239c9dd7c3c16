"""Operators that work on each element by itself, with right-aligned broadcasting."""

from collections.abc import Sequence

from onnx_net2net.algebra.facts import Equal, Fact, Node, Unread
from onnx_net2net.algebra.unify import Term
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import always, register, rule

UNARY = """
    Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Celu Cos Cosh Elu Erf Exp Gelu HardSigmoid HardSwish Identity
    IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Selu Shrink Sigmoid Sin Sinh Softplus Softsign Sqrt Swish
    Tan Tanh
""".split()
IDEMPOTENT = """
    Abs Ceil Floor Relu Round Sign
""".split()
VARIADIC = """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Mod Mul Or PRelu
    Pow Sub Where Xor
""".split()
LISTS = ["Max", "Mean", "Min", "Sum"]
"""Operators of any number of inputs, which before opset 8 had to have one shape."""
POINTWISE = "X_i[bcast ...] -> Y[...]"


def broadcast(operand: Sequence[Term], result: Sequence[Term]) -> list[Fact]:
    """Equates the dimensions of a right-aligned operand with the result's; size one equates with nothing."""
    if len(operand) > len(result):
        raise Declined("an operand has more dimensions than the result")
    pairs = zip(reversed(operand), reversed(result), strict=False)
    return [Equal(x, y) for x, y in pairs if x.size != 1]


def pointwise(node: Node) -> list[Fact]:
    """Every given input broadcasts to the output."""
    given = [terms for terms in node.inputs if terms is not None]
    return [fact for terms in given for fact in broadcast(terms, node.y())]


for _op in (*UNARY, *VARIADIC):
    register(_op, pointwise, POINTWISE, since=7 if _op in VARIADIC else 1)
for _op in LISTS:
    register(_op, pointwise, POINTWISE)
register("BitCast", pointwise, POINTWISE, since=26)
register("SwiGLU", pointwise, POINTWISE, since=28)
for _op in IDEMPOTENT:
    register(_op, pointwise, POINTWISE, idempotent=always)
register("Clip", pointwise, POINTWISE, since=6, idempotent=always)  # whatever its bounds
register("ThresholdedRelu", pointwise, POINTWISE, since=10, idempotent=lambda node: node.attr("alpha", 1.0) >= 0)


@rule("CastLike", since=15, notation="X[...] like[any] -> Y[...]")
def cast_like(node: Node) -> list[Fact]:
    return [*broadcast(node.x(0), node.y()), *map(Unread, node.x(1))]


@rule("Dropout", since=7, notation="X[...] -> Y[...] mask[...]")
def dropout(node: Node) -> list[Fact]:
    if node.has(2) and (node.value(2) is None or bool(node.value(2))):
        raise Declined("it drops units at random (training mode); export the model in evaluation mode")
    masks = broadcast(node.x(0), node.y(1)) if node.gives(1) else []
    return broadcast(node.x(0), node.y()) + masks
