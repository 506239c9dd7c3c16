"""Cases of the law, selection: CumSum, Gather, TopK."""

from __future__ import annotations

from tests.law import Case

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
