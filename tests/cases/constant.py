"""Cases of the law, constant: weights that nodes make from constants."""

from __future__ import annotations

from tests.law import Case

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
