"""Cases of the law, pooling: pools over windows and over all places."""

from __future__ import annotations

from tests.law import Case

POOLING = (
    [
        Case(
            "MaxPool whose indices have no name",
            '(float[2,3,6] x) => (float[2,3,3] y) { y, "" = MaxPool<kernel_shape=[2], strides=[2]>(x) }',
            "x[a, b, !] -> y[a, b, !]",
        )
    ]
    + [
        Case(
            op,
            f"(float[2,3,6,6] x) => (float[2,3,3,3] y) {{ y = {op}<kernel_shape=[2,2], strides=[2,2]>(x) }}",
            "x[a, b, !, !] -> y[a, b, !, !]",
        )
        for op in ("AveragePool", "LpPool", "MaxPool")
    ]
    + [
        Case(
            op,
            f"(float[2,3,4,4] x) => (float[2,3,1,1] y) {{ y = {op}(x) }}",
            "x[a, b, {}, {}] -> y[a, b, 1, 1]".format(*marks),
        )
        for op, marks in {"GlobalAveragePool": ("~c", "~d"), "GlobalLpPool": "!!", "GlobalMaxPool": "cd"}.items()
    ]
)
