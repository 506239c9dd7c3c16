"""Cases of the law, normalization: batch, instance, group and layer normalization, LRN, Softmax and its like."""

from __future__ import annotations

from tests.law import Case

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
