"""Cases of the law, linear: Gemm and MatMul, with weights and between activations."""

from __future__ import annotations

from tests.law import Case

LINEAR = [
    *(
        Case(
            f"Det opset {opset}",
            "(float[2,3,4,4] x) => (float[2,3] y) { y = Det(x) }",
            "x[a, b, !, !] -> y[a, b]",
            opset,
        )
        for opset in (11, 22)
    ),
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
