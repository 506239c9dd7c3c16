"""Cases of the law, sampling: grids, and pools over regions."""

from __future__ import annotations

from tests.law import Case

SAMPLING = [
    Case(
        "AffineGrid",
        "(float[2,2,3] t) => (float[2,4,5,2] y) <int64[4] s = {2, 3, 4, 5}> { y = AffineGrid(t, s) }",
        "t[a, !, !] -> y[a, !, !, !]",
        20,
    ),
    *(
        Case(
            f"GridSample opset {opset}",
            "(float[2,3,5,4] x, float[2,3,4,2] g) => (float[2,3,3,4] y) { y = GridSample(x, g) }",
            "x[a, b, !, !] g[a, e, f, !] -> y[a, b, e, f]",
            opset,
            low=-0.9,
            high=0.9,
        )
        for opset in (16, 22)
    ),
    Case(
        "MaxRoiPool",
        "(float[2,3,6,6] x) => (float[4,3,2,2] y)"
        "<float[4,5] r = {0, 0, 0, 3, 3, 1, 1, 2, 5, 4, 1, 0, 0, 5, 5, 0, 2, 1, 4, 5}>"
        "{ y = MaxRoiPool<pooled_shape=[2,2]>(x, r) }",
        "x[!, b, !, !] r[e, !] -> y[e, b, !, !]",
    ),
    *(
        Case(
            f"RoiAlign opset {opset}{mode}",
            "(float[5,3,6,6] x, int64[3] i) => (float[3,3,2,2] y) <float[3,4] r = {0, 1, 3, 4, 1, 0, 5, 5, 2, 2, 4, 5}>"
            f"{{ y = RoiAlign<output_height=2, output_width=2{mode}>(x, r, i) }}",
            "x[!, b, !, !] i[e] r[e, !] -> y[e, b, !, !]",
            opset,
        )
        for opset, mode in ((10, ""), (16, ', mode="max"'))
    ),
]
