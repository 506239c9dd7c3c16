"""Cases of the law, quantized: quantized weights and activations, integer arithmetic."""

from __future__ import annotations

from tests.law import Case

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
