"""Cases of the law, elementwise: unary and n-ary operators one by one, broadcasting, Clip, Dropout, casts."""

from __future__ import annotations

from onnx_net2net.rules.elementwise import IDEMPOTENT, LISTS, UNARY, VARIADIC
from tests.law import Case

INTEGER = {"BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Mod", "BitwiseNot"}
LOGICAL = {"And", "Or", "Xor", "Not"}
COMPARE = {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsInf", "IsNaN"}
NEW = {"BitwiseAnd": 18, "BitwiseOr": 18, "BitwiseXor": 18, "BitwiseNot": 18, "Mish": 18, "Gelu": 20, "Swish": 24}
MINUS_ONE_TO_ONE = {"Acos", "Asin", "Atanh"}
POSITIVE = {"Acosh", "Log", "Sqrt", "Reciprocal", "Pow", "Div"}
ATTRIBUTES = {"BitShift": '<direction="LEFT">', "Cast": "<to=1>"}


def _types(op: str) -> tuple[str, str]:
    source = "uint8" if op == "BitShift" else "int32" if op in INTEGER else "bool" if op in LOGICAL else "float"
    return source, "bool" if op in COMPARE else source


def _range(op: str) -> tuple[float, float]:
    if op in MINUS_ONE_TO_ONE:
        return -0.9, 0.9
    return (1.1, 3.0) if op in POSITIVE else (-2.0, 2.0)


def unary(op: str) -> Case:
    source, target = _types(op)
    graph = f"({source}[2,3,4] x) => ({target}[2,3,4] y) {{ y = {op}{ATTRIBUTES.get(op, '')}(x) }}"
    return Case(op, graph, "x[a, b, c] -> y[a, b, c]", NEW.get(op, 17), *_range(op))


def binary(op: str) -> Case:
    source, target = _types(op)
    attributes = ATTRIBUTES.get(op, "")
    graph = (
        f"({source}[2,3,4] x, {source}[3,1] z) => ({target}[2,3,4] y) <{source}[4] w>"
        f"{{ t = {op}{attributes}(x, z) y = {op}{attributes}(t, w) }}"
    )
    expect = "x[a, b, c] z[b, 1] w[c] -> y[a, b, c]"
    if op in COMPARE:
        graph = f"({source}[2,3,4] x) => (bool[2,3,4] y) <{source}[3,1] w> {{ y = {op}(x, w) }}"
        expect = "x[a, b, c] w[b, 1] -> y[a, b, c]"
    elif source not in ("float", "uint8"):
        expect = "x[a, b, c] z[b, 1] -> y[a, b, c]"
    return Case(op, graph, expect, NEW.get(op, 17), *_range(op))


ELEMENTWISE = [
    *(unary(op) for op in (*UNARY, *IDEMPOTENT)),
    *(binary(op) for op in (*VARIADIC, *LISTS) if op != "Where"),
    *(
        Case(
            f"{op} opset 6",
            f"(float[2,3] x, float[2,3] z) => (float[2,3] y) {{ y = {op}(x, z) }}",
            "x[a, b] z[a, b] -> y[a, b]",
            6,
        )
        for op in LISTS
    ),
    Case("BitCast", "(float[2,3] x) => (int32[2,3] y) { y = BitCast<to=6>(x) }", "x[a, b] -> y[a, b]", 26),
    Case(
        "SwiGLU",
        "(float[2,3] x) => (float[2,3] y) <float[2,3] w> { y = SwiGLU<alpha=0.7>(x, w) }",
        "x[a, b] w[a, b] -> y[a, b]",
        28,
        reference=True,
    ),
    Case(
        "Where",
        "(bool[2,3,1] c, float[2,3,4] x) => (float[2,3,4] y) <float[4] w> { y = Where(c, x, w) }",
        "c[a, b, 1] x[a, b, c] w[c] -> y[a, b, c]",
    ),
    Case(
        "PRelu slope per channel",
        "(float[2,3,4,4] x) => (float[2,3,4,4] y) <float[3,1,1] s> { y = PRelu(x, s) }",
        "x[a, b, c, d] s[b, 1, 1] -> y[a, b, c, d]",
    ),
    Case(
        "Sum of three",
        "(float[2,3] x, float[2,3] z) => (float[2,3] y) <float[3] w> { y = Sum(x, z, w) }",
        "x[a, b] z[a, b] w[b] -> y[a, b]",
    ),
    Case(
        "outer product by broadcasting",
        "(float[3,1] x, float[1,4] z) => (float[3,4] y) { y = Mul(x, z) }",
        "x[a, 1] z[1, b] -> y[a, b]",
    ),
    Case(
        "an axis added to itself transposed",
        "(float[3,3] x) => (float[3,3] y) { t = Transpose(x) y = Add(x, t) }",
        "x[a, a] -> y[a, a]",
        redundant=True,
    ),
    Case(
        "Clip with bounds",
        "(float[2,3] x) => (float[2,3] y) <float lo = {-1.0}, float hi = {1.0}> { y = Clip(x, lo, hi) }",
        "x[a, b] -> y[a, b]",
    ),
    Case(
        "Clip opset 6", "(float[2,3] x) => (float[2,3] y) { y = Clip<min=-0.5, max=0.7>(x) }", "x[a, b] -> y[a, b]", 9
    ),
    Case(
        "ThresholdedRelu",
        "(float[2,3] x) => (float[2,3] y) { y = ThresholdedRelu<alpha=0.3>(x) }",
        "x[a, b] -> y[a, b]",
    ),
    Case(
        "Dropout", "(float[2,3] x) => (float[2,3] y) { y, mask = Dropout(x) }", "x[a, b] -> y[a, b]", 13, redundant=True
    ),
    Case(
        "Dropout with its mask",
        "(float[2,3] x) => (float[2,3] y, bool[2,3] m) { y, m = Dropout(x) }",
        "x[a, b] -> y[a, b] m[a, b]",
        13,
    ),
    Case("Dropout opset 9", "(float[2,3] x) => (float[2,3] y) { y = Dropout<ratio=0.4>(x) }", "x[a, b] -> y[a, b]", 9),
    Case(
        "CastLike",
        "(float[2,3] x, double[4] z) => (double[2,3] y) { y = CastLike(x, z) }",
        "x[a, b] z[c] -> y[a, b]",
    ),
]
