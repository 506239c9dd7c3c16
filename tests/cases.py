"""Cases of the law, by family. Each row is checked against the rule's expected signature."""

from __future__ import annotations

from onnx_net2net.rules.elementwise import IDEMPOTENT, UNARY, VARIADIC
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
    *(binary(op) for op in VARIADIC if op != "Where"),
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

CONVOLUTION = [
    Case(
        "Conv",
        "(float[2,3,6,6] x) => (float[2,4,4,4] y) <float[4,3,3,3] w, float[4] b> { y = Conv(x, w, b) }",
        "x[a, b, !, !] w[e, b, !, !] b[e] -> y[a, e, !, !]",
    ),
    Case(
        "Conv grouped",
        "(float[2,6,5,5] x) => (float[2,4,5,5] y) <float[4,3,1,1] w, float[4] b> { y = Conv<group=2>(x, w, b) }",
        "x[a, b*c, !, !] w[b*f, c, 1, 1] b[b*f] -> y[a, b*f, !, !]",
    ),
    Case(
        "Conv depthwise",
        "(float[2,4,5,5] x) => (float[2,4,5,5] y) <float[4,1,3,3] w> { y = Conv<group=4, pads=[1,1,1,1]>(x, w) }",
        "x[a, b, !, !] w[b, 1, !, !] -> y[a, b, !, !]",
    ),
    Case(
        "Conv depthwise with multiplier",
        "(float[2,4,5] x) => (float[2,8,3] y) <float[8,1,3] w, float[8] b> { y = Conv<group=4>(x, w, b) }",
        "x[a, b, !] w[b*d, 1, !] b[b*d] -> y[a, b*d, !]",
    ),
    Case(
        "Conv 3-D",
        "(float[2,2,3,3,3] x) => (float[2,3,2,2,2] y) <float[3,2,2,2,2] w> { y = Conv(x, w) }",
        "x[a, b, !, !, !] w[f, b, !, !, !] -> y[a, f, !, !, !]",
    ),
    Case(
        "ConvTranspose grouped",
        "(float[2,6,4,4] x) => (float[2,4,5,5] y) <float[6,2,2,2] w, float[4] b> { y = ConvTranspose<group=2>(x, w, b) }",
        "x[a, b*c, !, !] w[b*c, f, !, !] b[b*f] -> y[a, b*f, !, !]",
    ),
]

LINEAR = [
    Case(
        "Gemm",
        "(float[2,3] x) => (float[2,4] y) <float[3,4] w, float[4] b> { y = Gemm<alpha=0.7, beta=1.3>(x, w, b) }",
        "x[a, b] w[b, c] b[c] -> y[a, c]",
    ),
    Case(
        "Gemm transB, C a matrix",
        "(float[2,3] x) => (float[2,4] y) <float[4,3] w, float[2,4] c> { y = Gemm<transB=1>(x, w, c) }",
        "x[a, b] w[c, b] c[a, c] -> y[a, c]",
    ),
    Case(
        "Gemm constant on the left, transA",
        "(float[3,4] x) => (float[2,4] y) <float[3,2] w> { y = Gemm<transA=1>(w, x) }",
        "x[a, b] w[a, c] -> y[c, b]",
    ),
    Case(
        "Gemm of two activations",
        "(float[2,3] x, float[3,4] z) => (float[2,4] y) { y = Gemm(x, z) }",
        "x[a, !] z[!, c] -> y[a, c]",
    ),
    Case(
        "MatMul N-D",
        "(float[2,5,3] x) => (float[2,5,4] y) <float[3,4] w> { y = MatMul(x, w) }",
        "x[a, b, c] w[c, d] -> y[a, b, d]",
    ),
    Case(
        "MatMul constant on the left",
        "(float[2,3,4] x) => (float[2,5,4] y) <float[5,3] w> { y = MatMul(w, x) }",
        "x[a, b, c] w[d, b] -> y[a, d, c]",
    ),
    Case(
        "MatMul with a batch of weights",
        "(float[2,5,3] x) => (float[2,5,4] y) <float[2,3,4] w> { y = MatMul(x, w) }",
        "x[a, b, c] w[a, c, d] -> y[a, b, d]",
    ),
    Case(
        "MatMul by a vector", "(float[2,3] x) => (float[2] y) <float[3] w> { y = MatMul(x, w) }", "x[a, b] w[b] -> y[a]"
    ),
    Case(
        "MatMul of a vector", "(float[3] x) => (float[4] y) <float[3,4] w> { y = MatMul(x, w) }", "x[a] w[a, b] -> y[b]"
    ),
    Case(
        "MatMul of two activations",
        "(float[2,5,3] x, float[2,3,4] z) => (float[2,5,4] y) { y = MatMul(x, z) }",
        "x[a, b, !] z[a, !, d] -> y[a, b, d]",
    ),
]

JOINING = [
    Case(
        "Concat",
        "(float[2,3] x, float[2,4] z) => (float[2,9] y) <float[2,2] w> { y = Concat<axis=-1>(x, w, z) }",
        "x[a, b] z[a, c] w[a, d] -> y[a, b+d+c]",
    ),
    Case(
        "Concat of one tensor twice",
        "(float[2,3] x) => (float[2,6] y) { y = Concat<axis=1>(x, x) }",
        "x[a, b] -> y[a, b+b]",
        redundant=True,
    ),
    Case(
        "residual that joins a Concat",
        "(float[2,3] x, float[2,4] z, float[2,7] r) => (float[2,7] y) { t = Concat<axis=1>(x, z) y = Add(t, r) }",
        "x[a, b] z[a, c] r[a, b+c] -> y[a, b+c]",
    ),
    Case(
        "Split",
        "(float[2,7] x) => (float[2,3] y, float[2,4] z) <int64[2] s = {3, 4}> { y, z = Split<axis=1>(x, s) }",
        "x[a, b+c] -> y[a, b] z[a, c]",
    ),
    Case(
        "Split opset 11",
        "(float[2,7] x) => (float[2,3] y, float[2,4] z) { y, z = Split<axis=1, split=[3,4]>(x) }",
        "x[a, b+c] -> y[a, b] z[a, c]",
        11,
    ),
    Case(
        "Split opset 11 in equal parts",
        "(float[2,6] x) => (float[2,3] y, float[2,3] z) { y, z = Split<axis=1>(x) }",
        "x[a, b+c] -> y[a, b] z[a, c]",
        11,
    ),
    Case(
        "Split opset 13 in equal parts",
        "(float[2,6] x) => (float[2,3] y, float[2,3] z) { y, z = Split<axis=1>(x) }",
        "x[a, b+c] -> y[a, b] z[a, c]",
    ),
    Case(
        "Split opset 18 by number",
        "(float[2,7] x) => (float[2,4] y, float[2,3] z) { y, z = Split<axis=1, num_outputs=2>(x) }",
        "x[a, b+c] -> y[a, b] z[a, c]",
        18,
    ),
    Case(
        "Slice",
        "(float[2,9] x) => (float[2,4] y) <int64[1] s = {2}, int64[1] e = {6}, int64[1] a = {1}> { y = Slice(x, s, e, a) }",
        "x[a, b+c+d] -> y[a, c]",
    ),
    Case(
        "Slice counted from the end",
        "(float[2,9] x) => (float[2,4] y) <int64[1] s = {-7}, int64[1] e = {-3}, int64[1] a = {-1}> { y = Slice(x, s, e, a) }",
        "x[a, b+c+d] -> y[a, c]",
    ),
    Case(
        "Slice to the very end",
        "(float[2,9] x) => (float[2,4] y) <int64[1] s = {5}, int64[1] e = {9223372036854775807}, int64[1] a = {1}>"
        "{ y = Slice(x, s, e, a) }",
        "x[a, b+c] -> y[a, c]",
    ),
    Case(
        "Slice that keeps all",
        "(float[2,9] x) => (float[2,9] y) <int64[1] s = {0}, int64[1] e = {9}, int64[1] a = {1}> { y = Slice(x, s, e, a) }",
        "x[a, b] -> y[a, b]",
    ),
    Case(
        "Slice with a step",
        "(float[3,9] x) => (float[3,3] y) <int64[1] s = {0}, int64[1] e = {9}, int64[1] a = {1}, int64[1] k = {3}>"
        "{ y = Slice(x, s, e, a, k) }",
        "x[a, !] -> y[a, !]",
    ),
    Case(
        "Slice opset 9",
        "(float[2,9] x) => (float[2,4] y) { y = Slice<axes=[1], starts=[2], ends=[6]>(x) }",
        "x[a, b+c+d] -> y[a, c]",
        9,
    ),
    Case(
        "Pad channels with zeros",
        "(float[2,3,4] x) => (float[2,8,6] y) <int64[6] p = {0, 2, 1, 0, 3, 1}> { y = Pad(x, p) }",
        "x[a, b, c] -> y[a, d+b+e, 1+c+1]",
    ),
    Case(
        "Pad opset 9",
        "(float[2,3,4] x) => (float[2,5,4] y) { y = Pad<pads=[0,2,0,0,0,0]>(x) }",
        "x[a, b, c] -> y[a, d+b, c]",
        9,
    ),
    Case(
        "Pad by reflection",
        '(float[2,3,4] x) => (float[2,3,6] y) <int64[6] p = {0, 0, 1, 0, 0, 1}> { y = Pad<mode="reflect">(x, p) }',
        "x[a, b, !] -> y[a, b, !]",
    ),
    Case(
        "Expand",
        "(float[3,1] x) => (float[2,3,4] y) <int64[3] s = {2, 3, 4}> { y = Expand(x, s) }",
        "x[a, 1] -> y[b, a, c]",
    ),
    Case(
        "Tile",
        "(float[2,3] x) => (float[2,6] y) <int64[2] r = {1, 2}> { y = Tile(x, r) }",
        "x[a, b] -> y[a, !*b]",
    ),
]

LAYOUT = [
    Case("Flatten", "(float[2,3,4,5] x) => (float[6,20] y) { y = Flatten<axis=2>(x) }", "x[a, b, c, d] -> y[a*b, c*d]"),
    Case("Flatten all", "(float[2,3] x) => (float[1,6] y) { y = Flatten<axis=0>(x) }", "x[a, b] -> y[1, a*b]"),
    Case(
        "Flatten counted from the end",
        "(float[2,3,4] x) => (float[6,4] y) { y = Flatten<axis=-1>(x) }",
        "x[a, b, c] -> y[a*b, c]",
    ),
    Case(
        "Reshape",
        "(float[2,6,5] x) => (float[2,2,15] y) <int64[3] s = {0, 2, -1}> { y = Reshape(x, s) }",
        "x[a, b*c, d] -> y[a, b, c*d]",
        redundant=True,
    ),
    Case(
        "Reshape that copies a size from elsewhere",
        "(float[6,2,3] x) => (float[3,2,6] y) <int64[3] s = {3, 0, 6}> { y = Reshape(x, s) }",
        "x[a*b, b, c] -> y[a, b, b*c]",
    ),
    Case(
        "Reshape with all sizes written",
        "(float[2,6,5] x) => (float[12,5] y) <int64[2] s = {12, 5}> { y = Reshape(x, s) }",
        "x[a, b, c] -> y[a*b, c]",
    ),
    Case(
        "Reshape that cannot align",
        "(float[2,4,9] x) => (float[2,6,6] y) <int64[3] s = {2, 6, 6}> { y = Reshape(x, s) }",
        "x[a, !, !] -> y[a, !, !]",
    ),
    Case(
        "channel shuffle",
        "(float[2,12,5] x) => (float[2,12,5] y) <int64[4] s = {2, 3, 4, 5}, int64[3] t = {2, 12, 5}>"
        "{ u = Reshape(x, s) v = Transpose<perm=[0,2,1,3]>(u) y = Reshape(v, t) }",
        "x[a, b*c, d] -> y[a, c*b, d]",
    ),
    Case(
        "Transpose",
        "(float[2,3,4] x) => (float[4,2,3] y) { y = Transpose<perm=[2,0,1]>(x) }",
        "x[a, b, c] -> y[c, a, b]",
    ),
    Case("Transpose by default", "(float[2,3] x) => (float[3,2] y) { y = Transpose(x) }", "x[a, b] -> y[b, a]"),
    Case(
        "Squeeze",
        "(float[2,1,3] x) => (float[2,3] y) <int64[1] a = {1}> { y = Squeeze(x, a) }",
        "x[a, 1, b] -> y[a, b]",
    ),
    Case("Squeeze all", "(float[2,1,3,1] x) => (float[2,3] y) { y = Squeeze(x) }", "x[a, 1, b, 1] -> y[a, b]"),
    Case(
        "Squeeze opset 11",
        "(float[2,1,3] x) => (float[2,3] y) { y = Squeeze<axes=[-2]>(x) }",
        "x[a, 1, b] -> y[a, b]",
        11,
    ),
    Case(
        "Unsqueeze",
        "(float[2,3] x) => (float[2,1,3,1] y) <int64[2] a = {1, -1}> { y = Unsqueeze(x, a) }",
        "x[a, b] -> y[a, 1, b, 1]",
    ),
    Case(
        "Unsqueeze opset 11",
        "(float[2,3] x) => (float[1,2,3] y) { y = Unsqueeze<axes=[0]>(x) }",
        "x[a, b] -> y[1, a, b]",
        11,
    ),
    Case(
        "DepthToSpace DCR",
        "(float[2,12,2,3] x) => (float[2,3,4,6] y) { y = DepthToSpace<blocksize=2>(x) }",
        "x[a, !*!*d, e, f] -> y[a, d, e*!, f*!]",
    ),
    Case(
        "DepthToSpace CRD",
        '(float[2,12,2,3] x) => (float[2,3,4,6] y) { y = DepthToSpace<blocksize=2, mode="CRD">(x) }',
        "x[a, b*!*!, e, f] -> y[a, b, e*!, f*!]",
        13,
    ),
    Case(
        "SpaceToDepth",
        "(float[2,3,4,6] x) => (float[2,12,2,3] y) { y = SpaceToDepth<blocksize=2>(x) }",
        "x[a, b, c*!, e*!] -> y[a, !*!*b, c, e]",
    ),
    Case(
        "Resize by scales",
        '(float[2,3,4] x) => (float[2,3,8] y) <float[3] k = {1.0, 1.0, 2.0}> { y = Resize<mode="nearest">(x, , k) }',
        "x[a, b, !] k[!] -> y[a, b, !]",
    ),
    Case(
        "Resize by sizes",
        '(float[2,3,4] x) => (float[2,3,8] y) <int64[3] s = {2, 3, 8}> { y = Resize<mode="nearest">(x, , , s) }',
        "x[a, b, !] -> y[a, b, !]",
    ),
    Case(
        "Resize opset 10",
        '(float[2,3,4] x) => (float[2,3,8] y) <float[3] k = {1.0, 1.0, 2.0}> { y = Resize<mode="nearest">(x, k) }',
        "x[a, b, !] k[!] -> y[a, b, !]",
        10,
    ),
    Case(
        "Upsample",
        '(float[2,3,4] x) => (float[2,3,8] y) <float[3] k = {1.0, 1.0, 2.0}> { y = Upsample<mode="nearest">(x, k) }',
        "x[a, b, !] k[!] -> y[a, b, !]",
        9,
    ),
    Case(
        "Upsample opset 7",
        '(float[2,3,4] x) => (float[2,3,8] y) { y = Upsample<mode="nearest", scales=[1.0, 1.0, 2.0]>(x) }',
        "x[a, b, !] -> y[a, b, !]",
        7,
    ),
]

_BN = "<float[3] s, float[3] b, float[3] m, float[3] v>"
NORMALIZATION = [
    *(
        Case(
            f"BatchNormalization opset {opset}",
            f"(float[2,3,4] x) => (float[2,3,4] y) {_BN} {{ y = BatchNormalization<epsilon=0.01>(x, s, b, m, v) }}",
            "x[a, b, c] s[b] b[b] m[b] v[b] -> y[a, b, c]",
            opset,
            0.5,
            2.0,
        )
        for opset in (7, 9, 14, 15)
    ),
    Case(
        "InstanceNormalization",
        "(float[2,3,4] x) => (float[2,3,4] y) <float[3] s, float[3] b> { y = InstanceNormalization(x, s, b) }",
        "x[a, b, !] s[b] b[b] -> y[a, b, !]",
    ),
    Case(
        "GroupNormalization opset 21",
        "(float[2,6,4] x) => (float[2,6,4] y) <float[6] s, float[6] b> { y = GroupNormalization<num_groups=2>(x, s, b) }",
        "x[a, b*~c, !] s[b*~c] b[b*~c] -> y[a, b*~c, !]",
        21,
    ),
    Case(
        "GroupNormalization opset 18",
        "(float[2,6,4] x) => (float[2,6,4] y) <float[2] s, float[2] b> { y = GroupNormalization<num_groups=2>(x, s, b) }",
        "x[a, b*~c, !] s[b] b[b] -> y[a, b*~c, !]",
        18,
    ),
    Case(
        "LayerNormalization",
        "(float[2,3,4] x) => (float[2,3,4] y) <float[4] s, float[4] b> { y = LayerNormalization(x, s, b) }",
        "x[a, b, ~c] s[~c] b[~c] -> y[a, b, ~c]",
    ),
    Case(
        "LayerNormalization over two axes, with mean and deviation",
        "(float[2,3,4] x) => (float[2,3,4] y, float[2,1,1] m, float[2,1,1] d) <float[3,4] s>"
        "{ y, m, d = LayerNormalization<axis=1>(x, s) }",
        "x[a, ~b, ~c] s[~b, ~c] -> y[a, ~b, ~c] m[a, 1, 1] d[a, 1, 1]",
    ),
    Case(
        "RMSNormalization",
        "(float[2,3,4] x) => (float[2,3,4] y) <float[4] s> { y = RMSNormalization(x, s) }",
        "x[a, b, ~c] s[~c] -> y[a, b, ~c]",
        23,
    ),
    Case(
        "LRN",
        "(float[2,5,4,3] x) => (float[2,5,4,3] y) { y = LRN<size=3, alpha=0.5>(x) }",
        "x[a, !, c, d] -> y[a, !, c, d]",
    ),
    Case(
        "LpNormalization",
        "(float[2,5,4] x) => (float[2,5,4] y) { y = LpNormalization<axis=1>(x) }",
        "x[a, !, c] -> y[a, !, c]",
    ),
    Case(
        "MeanVarianceNormalization",
        "(float[2,3,4,5] x) => (float[2,3,4,5] y) { y = MeanVarianceNormalization<axes=[0,2,3]>(x) }",
        "x[~a, b, ~c, ~d] -> y[~a, b, ~c, ~d]",
        13,
    ),
    *(
        Case(op, f"(float[2,3,4] x) => (float[2,3,4] y) {{ y = {op}<axis=1>(x) }}", "x[a, !, c] -> y[a, !, c]")
        for op in ("Hardmax", "LogSoftmax", "Softmax")
    ),
    *(
        Case(
            f"{op} opset 11",
            f"(float[2,3,4] x) => (float[2,3,4] y) {{ y = {op}<axis=1>(x) }}",
            "x[a, !, !] -> y[a, !, !]",
            11,
        )
        for op in ("Hardmax", "LogSoftmax", "Softmax")
    ),
]

POOLING = [
    Case(
        op,
        f"(float[2,3,6,6] x) => (float[2,3,3,3] y) {{ y = {op}<kernel_shape=[2,2], strides=[2,2]>(x) }}",
        "x[a, b, !, !] -> y[a, b, !, !]",
    )
    for op in ("AveragePool", "LpPool", "MaxPool")
] + [
    Case(
        op,
        f"(float[2,3,4,4] x) => (float[2,3,1,1] y) {{ y = {op}(x) }}",
        "x[a, b, {}, {}] -> y[a, b, 1, 1]".format(*marks),
    )
    for op, marks in {"GlobalAveragePool": ("~c", "~d"), "GlobalLpPool": "!!", "GlobalMaxPool": "cd"}.items()
]

REDUCTION = [
    *(
        Case(
            op,
            f"(float[2,3,4] x) => (float[2,4] y) {{ y = {op}<axes=[1], keepdims=0>(x) }}",
            f"x[a, {mark}, c] -> y[a, c]",
        )
        for op, mark in [
            *((op, "b") for op in ("ReduceMax", "ReduceMin")),
            ("ReduceMean", "~b"),
            *((op, "!") for op in ("ReduceL1", "ReduceL2", "ReduceProd", "ReduceSumSquare")),
        ]
    ),
    *(
        Case(
            op,
            f"(float[2,3,4] x) => (float[2,1,4] y) {{ y = {op}<axes=[1]>(x) }}",
            "x[a, !, c] -> y[a, 1, c]",
            17,
            0.5,
            2.0,
        )
        for op in ("ReduceLogSum", "ReduceLogSumExp")
    ),
    Case(
        "ReduceSum, axes as input",
        "(float[2,3,4] x) => (float[2,1,4] y) <int64[1] a = {-2}> { y = ReduceSum(x, a) }",
        "x[a, !, c] -> y[a, 1, c]",
    ),
    Case("ReduceMean over all", "(float[2,3] x) => (float y) { y = ReduceMean<keepdims=0>(x) }", "x[~a, ~b] -> y[]"),
    Case(
        "ReduceSum over nothing",
        "(float[2,3] x) => (float[2,3] y) { y = ReduceSum<noop_with_empty_axes=1>(x) }",
        "x[a, b] -> y[a, b]",
    ),
    Case("ArgMax", "(float[2,3,4] x) => (int64[2,4] y) { y = ArgMax<axis=1, keepdims=0>(x) }", "x[a, !, c] -> y[a, c]"),
    Case("ArgMin", "(float[2,3,4] x) => (int64[2,1,4] y) { y = ArgMin<axis=1>(x) }", "x[a, !, c] -> y[a, 1, c]"),
]

SELECTION = [
    Case(
        "CumSum",
        "(float[2,3,4] x) => (float[2,3,4] y) <int64 a = {1}> { y = CumSum(x, a) }",
        "x[a, !, c] -> y[a, !, c]",
    ),
    Case(
        "Gather from an embedding",
        "(int64[2,3] i) => (float[2,3,4] y) <float[7,4] w> { y = Gather(w, i) }",
        "i[a, b] w[!, d] -> y[a, b, d]",
    ),
    Case(
        "Gather one position",
        "(float[2,3,4] x) => (float[2,4] y) <int64 i = {1}> { y = Gather<axis=1>(x, i) }",
        "x[a, !, c] -> y[a, c]",
    ),
    Case(
        "TopK",
        "(float[2,5,4] x) => (float[2,2,4] y, int64[2,2,4] i) <int64[1] k = {2}> { y, i = TopK<axis=1>(x, k) }",
        "x[a, !, c] -> y[a, !, c] i[a, !, c]",
    ),
]

CONSTANT = [
    Case(
        "weight made by Constant and moved",
        "(float[2,3] x) => (float[2,2] y) { c = Constant<value = float[2,3] {0.5,-1.0,2.0,0.3,1.7,-0.2}>()"
        " w = Transpose(c) y = MatMul(x, w) }",
        "x[a, b] w[b, c] -> y[a, c]",
    ),
    Case(
        "weight made by ConstantOfShape",
        "(float[2,3] x) => (float[2,4] y) <int64[2] s = {3, 4}>"
        " { w = ConstantOfShape<value = float[1] {0.7}>(s) y = MatMul(x, w) }",
        "x[a, b] w[b, c] -> y[a, c]",
    ),
    Case(
        "weight stored as integers",
        "(float[2,3] x) => (float[2,4] y) <int8[3,4] q> { w = Cast<to=1>(q) y = MatMul(x, w) }",
        "x[a, b] w[b, c] -> y[a, c]",
    ),
]

SHAPES = [
    Case(
        "Shape, Gather, Concat, Reshape",
        "(float[2,6,5] x) => (float[2,3,10] y) <int64 i = {0}, int64[1] a = {0}, int64[2] r = {3, 10}>"
        "{ s = Shape(x) n = Gather(s, i) u = Unsqueeze(n, a) t = Concat<axis=0>(u, r) y = Reshape(x, t) }",
        "x[a, b*c, d] -> y[a, b, c*d]",
        redundant=True,
    ),
    Case(
        "two reshapes that share a written size",
        "(float[2,6,5] x, float[2,6,5] z) => (float[2,3,10] y, float[2,3,10] w) <int64[1] r = {3}, int64[1] m = {-1}>"
        "{ s = Shape<start=0, end=1>(x) t = Concat<axis=0>(s, r, m) y = Reshape(x, t) w = Reshape(z, t) }",
        "x[a, b*c, d] z[a, b*e, f] -> y[a, b, c*d] w[a, b, e*f]",
        redundant=True,
    ),
    Case(
        "a product of sizes",
        "(float[2,3,5] x) => (float[2,15] y) <int64 i = {1}, int64 j = {2}, int64[1] a = {0}>"
        "{ s = Shape(x) n = Shape<start=0, end=1>(x) b = Gather(s, i) c = Gather(s, j) d = Mul(b, c) e = Unsqueeze(d, a)"
        "  t = Concat<axis=0>(n, e) y = Reshape(x, t) }",
        "x[a, b, c] -> y[a, b*c]",
        redundant=True,
    ),
    Case(
        "a computed size pins what it depends on",
        "(float[2,6] x) => (float[2,2,3] y) <int64[1] k = {2}>"
        "{ n = Shape<start=0, end=1>(x) s = Shape<start=1, end=2>(x) h = Div(s, k) t = Concat<axis=0>(n, k, h)"
        "  y = Reshape(x, t) }",
        "x[a, !*!] -> y[a, !, !]",
        redundant=True,
    ),
    Case(
        "a size as a number pins its axis",
        "(float[2,3] x) => (float[2,3] y) { s = Shape<start=1>(x) f = Cast<to=1>(s) y = Div(x, f) }",
        "x[a, !] -> y[a, !]",
        redundant=True,
    ),
    Case(
        "Size",
        "(float[2,3] x, float[6] z) => (float[2,3] y, float[6] w) <int64[1] a = {0}>"
        "{ s = Size(x) t = Unsqueeze(s, a) w = Expand(z, t) y = Neg(x) }",
        "x[a, b] z[a*b] -> y[a, b] w[a*b]",
        redundant=True,
    ),
    Case(
        "ConstantOfShape of a computed shape",
        "(float[2,3] x) => (float[2,3] y) { s = Shape(x) c = ConstantOfShape<value = float[1] {1.5}>(s) y = Mul(x, c) }",
        "x[a, b] -> y[a, b]",
        redundant=True,
    ),
    Case(
        "Range",
        "(float[2,3] x) => (float[2,3] y) <int64 z = {0}, int64 o = {1}, int64 i = {1}>"
        "{ s = Shape(x) n = Gather(s, i) r = Range(z, n, o) f = Cast<to=1>(r) y = Add(x, f) }",
        "x[a, !] -> y[a, !]",
        redundant=True,
    ),
    Case(
        "Trilu",
        "(float[2,3,3] x) => (float[2,3,3] y) { y = Trilu(x) }",
        "x[a, !, !] -> y[a, !, !]",
    ),
    Case(
        "a Slice to a computed end",
        "(float[2,9] x, float[2,4] z) => (float[2,4] y) <int64[1] b = {0}, int64[1] a = {1}>"
        "{ s = Shape<start=1>(z) c = Slice(x, b, s, a) y = Add(c, z) }",
        "x[a, b+c] z[a, b] -> y[a, b]",
        redundant=True,
    ),
]

QUANTIZED = [
    Case(
        "DequantizeLinear of a weight",
        "(float[2,6] x) => (float[2,4] y) <uint8[6,4] q, float k = {0.1}, uint8 z = {3}>"
        "{ w = DequantizeLinear(q, k, z) y = MatMul(x, w) }",
        "x[a, b] q[b, c] -> y[a, c]",
    ),
    Case(
        "DequantizeLinear by channel, transposed",
        "(float[2,6] x) => (float[2,4] y) <int8[4,6] q, float[4] k, int8[4] z>"
        "{ d = DequantizeLinear<axis=0>(q, k, z) w = Transpose(d) y = MatMul(x, w) }",
        "x[a, b] q[c, b] k[c] z[c] -> y[a, c]",
        13,
    ),
    Case(
        "DequantizeLinear of a kernel and a bias",
        "(float[2,3,5] x) => (float[2,4,3] y) <int8[4,3,3] q, float[4] k, int8[4] z, int32[4] b, float[4] l>"
        "{ w = DequantizeLinear<axis=0>(q, k, z) c = DequantizeLinear<axis=0>(b, l) y = Conv(x, w, c) }",
        "x[a, b, !] q[d, b, !] k[d] z[d] l[d] -> y[a, d, !]",
        13,
    ),
    Case(
        "QuantizeLinear and back",
        "(float[2,6] x) => (float[2,6] y) <float k = {0.1}, uint8 z = {128}>"
        "{ q = QuantizeLinear(x, k, z) y = DequantizeLinear(q, k, z) }",
        "x[a, b] -> y[a, b]",
    ),
    Case(
        "QuantizeLinear by channel",
        "(float[2,6] x) => (int8[2,6] y) <float[6] k, int8[6] z> { y = QuantizeLinear<axis=1>(x, k, z) }",
        "x[a, b] k[b] z[b] -> y[a, b]",
        13,
        0.5,
        2.0,
    ),
    Case(
        "DynamicQuantizeLinear",
        "(float[2,6] x) => (uint8[2,6] y) { y, k, z = DynamicQuantizeLinear(x) }",
        "x[a, b] -> y[a, b]",
    ),
    Case(
        "ConvInteger",
        "(uint8[2,3,5] x) => (int32[2,4,3] y) <uint8 z = {2}, uint8[4,3,3] w, uint8 v = {3}>"
        "{ y = ConvInteger(x, w, z, v) }",
        "x[a, b, !] w[d, b, !] -> y[a, d, !]",
    ),
    Case(
        "MatMulInteger",
        "(uint8[2,6] x) => (int32[2,4] y) <uint8 z = {2}, uint8[6,4] w, uint8[4] v> { y = MatMulInteger(x, w, z, v) }",
        "x[a, b] w[b, c] v[c] -> y[a, c]",
    ),
    Case(
        "QLinearMatMul",
        "(uint8[2,6] x) => (uint8[2,4] y) <float k = {0.1}, uint8 z = {2}, uint8[6,4] w, float[4] l, uint8[4] v,"
        " float m = {0.2}, uint8 u = {9}> { y = QLinearMatMul(x, k, z, w, l, v, m, u) }",
        "x[a, b] w[b, c] l[c] v[c] -> y[a, c]",
        17,
        0.01,
        0.2,
    ),
    Case(
        "QLinearConv grouped",
        "(uint8[2,6,5] x) => (uint8[2,4,3] y) <float k = {0.1}, uint8 z = {2}, uint8[4,3,3] w, float[4] l, uint8[4] v,"
        " float m = {0.02}, uint8 u = {9}, int32[4] b> { y = QLinearConv<group=2>(x, k, z, w, l, v, m, u, b) }",
        "x[a, b*c, !] w[b*e, c, !] l[b*e] v[b*e] -> y[a, b*e, !]",
        17,
        0.01,
        0.2,
    ),
]

MICROSOFT = [
    *(
        Case(op, f"(float[2,3,4] x) => (float[2,3,4] y) {{ y = com.microsoft.{op}(x) }}", "x[a, b, c] -> y[a, b, c]")
        for op in ("FastGelu", "Gelu", "QuickGelu")
    ),
    Case(
        "BiasGelu",
        "(float[2,3,4] x) => (float[2,3,4] y) <float[4] b> { y = com.microsoft.BiasGelu(x, b) }",
        "x[a, b, c] b[c] -> y[a, b, c]",
    ),
    Case(
        "FusedConv with an addend",
        "(float[2,6,5,5] x, float[2,4,5,5] z) => (float[2,4,5,5] y) <float[4,3,1,1] w, float[4] b>"
        '{ y = com.microsoft.FusedConv<group=2, activation="Relu">(x, w, b, z) }',
        "x[a, b*c, !, !] z[a, b*f, !, !] w[b*f, c, 1, 1] b[b*f] -> y[a, b*f, !, !]",
    ),
    Case(
        "FusedMatMul",
        "(float[2,3,5] x) => (float[2,5,4] y) <float[4,3] w>"
        "{ y = com.microsoft.FusedMatMul<transA=1, transB=1, alpha=0.5>(x, w) }",
        "x[a, b, c] w[d, b] -> y[a, c, d]",
    ),
    Case(
        "SkipLayerNormalization",
        "(float[2,3,4] x, float[2,3,4] z) => (float[2,3,4] y, float[2,3,4] s) <float[4] g, float[4] b, float[4] c>"
        "{ y, m, v, s = com.microsoft.SkipLayerNormalization(x, z, g, b, c) }",
        "x[a, b, ~c] z[a, b, ~c] g[~c] b[~c] c[~c] -> y[a, b, ~c] s[a, b, ~c]",
    ),
    Case(
        "SkipSimplifiedLayerNormalization",
        "(float[2,3,4] x, float[2,3,4] z) => (float[2,3,4] y) <float[4] g>"
        "{ y = com.microsoft.SkipSimplifiedLayerNormalization(x, z, g) }",
        "x[a, b, ~c] z[a, b, ~c] g[~c] -> y[a, b, ~c]",
    ),
    Case(
        "SimplifiedLayerNormalization",
        "(float[2,3,4] x) => (float[2,3,4] y) <float[4] g> { y = SimplifiedLayerNormalization(x, g) }",
        "x[a, b, ~c] g[~c] -> y[a, b, ~c]",
    ),
    *(
        Case(
            op,
            "(uint8[2,3,4] x, uint8[3,1] z) => (uint8[2,3,4] y) <float k = {0.1}, uint8 o = {3}, float l = {0.05}, float m = {0.02}>"
            f"{{ y = com.microsoft.{op}(x, k, o, z, l, o, m, o) }}",
            "x[a, b, c] z[b, 1] -> y[a, b, c]",
        )
        for op in ("QLinearAdd", "QLinearMul")
    ),
    *(
        Case(
            op,
            "(uint8[2,3,4] x) => (uint8[2,3,4] y) <float k = {0.1}, uint8 o = {3}, float m = {0.005}>"
            f"{{ y = com.microsoft.{op}(x, k, o, m, o) }}",
            "x[a, b, c] -> y[a, b, c]",
        )
        for op in ("QLinearLeakyRelu", "QLinearSigmoid")
    ),
]

CASES = [
    *MICROSOFT,
    *QUANTIZED,
    *SHAPES,
    *ELEMENTWISE,
    *CONVOLUTION,
    *LINEAR,
    *JOINING,
    *LAYOUT,
    *NORMALIZATION,
    *POOLING,
    *REDUCTION,
    *SELECTION,
    *CONSTANT,
]
