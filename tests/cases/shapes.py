"""Cases of the law, shapes: shapes that a graph computes and what reads them."""

from __future__ import annotations

from tests.law import Case

SHAPES = [
    Case(
        "Shape, Gather, Concat, Reshape",
        "(float[2,6,5] x) => (float[2,3,10] y) <int64 i = {0}, int64[1] a = {0}, int64[2] r = {3, 10}>"
        "{ s = Shape(x) n = Gather(s, i) u = Unsqueeze(n, a) t = Concat<axis=0>(u, r) y = Reshape(x, t) }",
        "x[a, b*c, d] -> y[a, b, c*d]",
        redundant=True,
    ),
    Case(
        "two reshapes that share a written size",
        "(float[2,6,5] x, float[2,6,5] z) => (float[2,3,10] y, float[2,3,10] w) <int64[1] r = {3}, int64[1] m = {-1}>"
        "{ s = Shape<start=0, end=1>(x) t = Concat<axis=0>(s, r, m) y = Reshape(x, t) w = Reshape(z, t) }",
        "x[a, b*c, d] z[a, b*e, f] -> y[a, b, c*d] w[a, b, e*f]",
        redundant=True,
    ),
    Case(
        "a product of sizes",
        "(float[2,3,5] x) => (float[2,15] y) <int64 i = {1}, int64 j = {2}, int64[1] a = {0}>"
        "{ s = Shape(x) n = Shape<start=0, end=1>(x) b = Gather(s, i) c = Gather(s, j) d = Mul(b, c) e = Unsqueeze(d, a)"
        "  t = Concat<axis=0>(n, e) y = Reshape(x, t) }",
        "x[a, b, c] -> y[a, b*c]",
        redundant=True,
    ),
    Case(
        "a computed size that follows, and a number that does not",
        "(float[2,6] x) => (float[2,2,3] y) <int64[1] k = {2}>"
        "{ n = Shape<start=0, end=1>(x) s = Shape<start=1, end=2>(x) h = Div(s, k) t = Concat<axis=0>(n, k, h)"
        "  y = Reshape(x, t) }",
        "x[a, !*c] -> y[a, !, c]",
        redundant=True,
    ),
    Case(
        "a size as a number pins its axis",
        "(float[2,3] x) => (float[2,3] y) { s = Shape<start=1>(x) f = Cast<to=1>(s) y = Div(x, f) }",
        "x[a, !] -> y[a, !]",
        redundant=True,
    ),
    Case(
        "Size",
        "(float[2,3] x, float[6] z) => (float[2,3] y, float[6] w) <int64[1] a = {0}>"
        "{ s = Size(x) t = Unsqueeze(s, a) w = Expand(z, t) y = Neg(x) }",
        "x[a, b] z[a*b] -> y[a, b] w[a*b]",
        redundant=True,
    ),
    Case(
        "ConstantOfShape of a computed shape",
        "(float[2,3] x) => (float[2,3] y) { s = Shape(x) c = ConstantOfShape<value = float[1] {1.5}>(s) y = Mul(x, c) }",
        "x[a, b] -> y[a, b]",
        redundant=True,
    ),
    Case(
        "Range",
        "(float[2,3] x) => (float[2,3] y) <int64 z = {0}, int64 o = {1}, int64 i = {1}>"
        "{ s = Shape(x) n = Gather(s, i) r = Range(z, n, o) f = Cast<to=1>(r) y = Add(x, f) }",
        "x[a, !] -> y[a, !]",
        redundant=True,
    ),
    Case(
        "Trilu",
        "(float[2,3,3] x) => (float[2,3,3] y) { y = Trilu(x) }",
        "x[a, !, !] -> y[a, !, !]",
    ),
    Case(
        "a Slice to a computed end",
        "(float[2,9] x, float[2,4] z) => (float[2,4] y) <int64[1] b = {0}, int64[1] a = {1}>"
        "{ s = Shape<start=1>(z) c = Slice(x, b, s, a) y = Add(c, z) }",
        "x[a, b+c] z[a, b] -> y[a, b]",
        redundant=True,
    ),
]
