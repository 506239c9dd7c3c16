"""Cases of the law, microsoft: operators of com.microsoft."""

from __future__ import annotations

from tests.law import Case

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
