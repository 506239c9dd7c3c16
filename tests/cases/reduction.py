"""Cases of the law, reduction: reductions over one axis or all, ArgMax, ArgMin."""

from __future__ import annotations

from tests.law import Case

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
