"""Cases of the law, selection: operators that select, write or order positions."""

from __future__ import annotations

from tests.law import Case

SELECTION = [
    *(
        Case(
            op,
            f"(float[2,3,4] x) => (float[2,3,4] y) <int64 a = {{1}}> {{ y = {op}(x, a) }}",
            "x[a, !, c] -> y[a, !, c]",
            opset,
        )
        for op, opset in (("CumSum", 17), ("CumProd", 26))
    ),
    Case(
        "Compress",
        "(float[2,3,4] x) => (float[2,2,4] y) <bool[3] c = {1, 0, 1}> { y = Compress<axis=1>(x, c) }",
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
        "GatherElements",
        "(float[2,6,4] x, int64[2,3,4] i) => (float[2,3,4] y) { y = GatherElements<axis=1>(x, i) }",
        "x[a, !, c] i[a, d, c] -> y[a, d, c]",
    ),
    Case(
        "GatherElements of the first rows only",
        "(float[6,4] x, int64[3,2] i) => (float[3,2] y) { y = GatherElements(x, i) }",
        "x[!, !] i[c, !] -> y[c, !]",
    ),
    Case(
        "GatherND",
        "(float[6,6,4] x, int64[5,2] i) => (float[5,4] y) { y = GatherND(x, i) }",
        "x[!, !, c] i[d, !] -> y[d, c]",
    ),
    Case(
        "GatherND in a batch",
        "(float[3,6,4] x, int64[3,2,1] i) => (float[3,2,4] y) { y = GatherND<batch_dims=1>(x, i) }",
        "x[a, !, c] i[a, d, 1] -> y[a, d, c]",
    ),
    Case(
        "GatherND at places that are known",
        "(float[6,6,4] x) => (float[3,4] y) <int64[3,2] i = {0, 5, 2, 2, -1, 1}> { y = GatherND(x, i) }",
        "x[!, !, c] -> y[d, c]",
    ),
    Case(
        "OneHot",
        "(int64[2,3] i) => (float[2,3,5] y) <int64 d = {5}, float[2] v = {-0.3, 0.8}> { y = OneHot(i, d, v) }",
        "i[a, b] v[!] -> y[a, b, !]",
    ),
    Case(
        "OneHot in front",
        "(int64[2,3] i) => (float[5,2,3] y) <int64 d = {5}, float[2] v = {-0.3, 0.8}> { y = OneHot<axis=0>(i, d, v) }",
        "i[a, b] v[!] -> y[!, a, b]",
    ),
    Case(
        "ReverseSequence",
        "(float[5,3,2] x, int64[3] l) => (float[5,3,2] y) { y = ReverseSequence(x, l) }",
        "x[!, b, c] l[b] -> y[!, b, c]",
    ),
    Case(
        "ReverseSequence, batch first",
        "(float[3,5,2] x, int64[3] l) => (float[3,5,2] y) { y = ReverseSequence<batch_axis=0, time_axis=1>(x, l) }",
        "x[a, !, c] l[a] -> y[a, !, c]",
    ),
    Case(
        "Scatter",
        "(float[6,4] x, float[1,4] u) => (float[6,4] y) <int64[1,4] i> { y = Scatter(x, i, u) }",
        "x[!, b] u[1, b] -> y[!, b]",
        9,
    ),
    *(
        Case(
            f"ScatterElements opset {opset}{more}",
            f"(float[2,6,4] x, float[2,3,4] u, int64[2,3,4] i) => (float[2,6,4] y)"
            f"{{ y = ScatterElements<axis=1{more}>(x, i, u) }}",
            "x[a, !, c] u[a, !, c] i[a, !, c] -> y[a, !, c]",
            opset,
        )
        for opset, more in ((11, ""), (18, ', reduction="add"'))
    ),
    Case(
        "ScatterElements to the first columns only",
        '(float[6,4] x, float[3,2] u, int64[3,2] i) => (float[6,4] y) { y = ScatterElements<reduction="add">(x, i, u) }',
        "x[!, !] u[!, !] i[!, !] -> y[!, !]",
        18,
    ),
    Case(
        "ScatterND of which the last one stays",
        "(float[6,6,4] x, float[3,4] u) => (float[6,6,4] y) <int64[3,2] i = {1, 2, 1, 2, 3, 0}> { y = ScatterND(x, i, u) }",
        "x[!, !, c] u[!, c] -> y[!, !, c]",
        11,
    ),
    Case(
        "ScatterND that multiplies",
        '(float[6,6,4] x, float[5,4] u, int64[5,2] i) => (float[6,6,4] y){ y = ScatterND<reduction="mul">(x, i, u) }',
        "x[!, !, c] u[!, c] i[!, !] -> y[!, !, c]",
        18,
    ),
    Case(
        "TopK",
        "(float[2,5,4] x) => (float[2,2,4] y, int64[2,2,4] i) <int64[1] k = {2}> { y, i = TopK<axis=1>(x, k) }",
        "x[a, !, c] -> y[a, !, c] i[a, !, c]",
    ),
]
