"""Cases of the law, joining: Concat, Split, Slice, Pad, Expand, Tile."""

from __future__ import annotations

from tests.law import Case

JOINING = [
    Case(
        "Concat",
        "(float[2,3] x, float[2,4] z) => (float[2,9] y) <float[2,2] w> { y = Concat<axis=-1>(x, w, z) }",
        "x[a, b] z[a, c] w[a, d] -> y[a, b+d+c]",
    ),
    Case(
        "Concat of one tensor twice",
        "(float[2,3] x) => (float[2,6] y) { y = Concat<axis=1>(x, x) }",
        "x[a, b] -> y[a, b+b]",
        redundant=True,
    ),
    Case(
        "residual that joins a Concat",
        "(float[2,3] x, float[2,4] z, float[2,7] r) => (float[2,7] y) { t = Concat<axis=1>(x, z) y = Add(t, r) }",
        "x[a, b] z[a, c] r[a, b+c] -> y[a, b+c]",
    ),
    Case(
        "Split",
        "(float[2,7] x) => (float[2,3] y, float[2,4] z) <int64[2] s = {3, 4}> { y, z = Split<axis=1>(x, s) }",
        "x[a, b+c] -> y[a, b] z[a, c]",
    ),
    Case(
        "Split opset 11",
        "(float[2,7] x) => (float[2,3] y, float[2,4] z) { y, z = Split<axis=1, split=[3,4]>(x) }",
        "x[a, b+c] -> y[a, b] z[a, c]",
        11,
    ),
    Case(
        "Split opset 11 in equal parts",
        "(float[2,6] x) => (float[2,3] y, float[2,3] z) { y, z = Split<axis=1>(x) }",
        "x[a, b+c] -> y[a, b] z[a, c]",
        11,
    ),
    Case(
        "Split opset 13 in equal parts",
        "(float[2,6] x) => (float[2,3] y, float[2,3] z) { y, z = Split<axis=1>(x) }",
        "x[a, b+c] -> y[a, b] z[a, c]",
    ),
    Case(
        "Split opset 18 by number",
        "(float[2,7] x) => (float[2,4] y, float[2,3] z) { y, z = Split<axis=1, num_outputs=2>(x) }",
        "x[a, b+c] -> y[a, b] z[a, c]",
        18,
    ),
    Case(
        "Slice",
        "(float[2,9] x) => (float[2,4] y) <int64[1] s = {2}, int64[1] e = {6}, int64[1] a = {1}> { y = Slice(x, s, e, a) }",
        "x[a, b+c+d] -> y[a, c]",
    ),
    Case(
        "Slice counted from the end",
        "(float[2,9] x) => (float[2,4] y) <int64[1] s = {-7}, int64[1] e = {-3}, int64[1] a = {-1}> { y = Slice(x, s, e, a) }",
        "x[a, b+c+d] -> y[a, c]",
    ),
    Case(
        "Slice to the very end",
        "(float[2,9] x) => (float[2,4] y) <int64[1] s = {5}, int64[1] e = {9223372036854775807}, int64[1] a = {1}>"
        "{ y = Slice(x, s, e, a) }",
        "x[a, b+c] -> y[a, c]",
    ),
    Case(
        "Slice that keeps all",
        "(float[2,9] x) => (float[2,9] y) <int64[1] s = {0}, int64[1] e = {9}, int64[1] a = {1}> { y = Slice(x, s, e, a) }",
        "x[a, b] -> y[a, b]",
    ),
    *(
        Case(
            f"Slice by steps of {step} from {start} to {end}",
            f"(float[3,{n}] x) => (float[3,{out}] y) <int64[1] s = {{{start}}}, int64[1] e = {{{end}}}, int64[1] a = {{1}},"
            f" int64[1] k = {{{step}}}> {{ y = Slice(x, s, e, a, k) }}",
            expect,
        )
        for n, out, start, end, step, expect in [
            (9, 3, 0, 9, 3, "x[a, b*!] -> y[a, b]"),
            (8, 4, 1, 2**63 - 1, 2, "x[a, b*!] -> y[a, b]"),
            (9, 3, 0, 7, 3, "x[a, b*!] -> y[a, b]"),
            (8, 4, 0, -1, 2, "x[a, b*!] -> y[a, b]"),
            (8, 4, -8, 9, 2, "x[a, b*!] -> y[a, b]"),
            (8, 4, -12, 8, 2, "x[a, b*!] -> y[a, b]"),
            (8, 3, 0, 6, 2, "x[a, !] -> y[a, !]"),
            (9, 5, 0, 9, 2, "x[a, !] -> y[a, !]"),
            (8, 4, -7, 8, 2, "x[a, !] -> y[a, !]"),
            (8, 8, -1, -(2**63) + 1, -1, "x[a, !] -> y[a, !]"),
        ]
    ),
    Case(
        "Slice opset 9",
        "(float[2,9] x) => (float[2,4] y) { y = Slice<axes=[1], starts=[2], ends=[6]>(x) }",
        "x[a, b+c+d] -> y[a, c]",
        9,
    ),
    Case(
        "Pad channels with zeros",
        "(float[2,3,4] x) => (float[2,8,6] y) <int64[6] p = {0, 2, 1, 0, 3, 1}> { y = Pad(x, p) }",
        "x[a, b, c] -> y[a, d+b+e, 1+c+1]",
    ),
    Case(
        "Pad opset 9",
        "(float[2,3,4] x) => (float[2,5,4] y) { y = Pad<pads=[0,2,0,0,0,0]>(x) }",
        "x[a, b, c] -> y[a, d+b, c]",
        9,
    ),
    Case(
        "Pad by reflection",
        '(float[2,3,4] x) => (float[2,3,6] y) <int64[6] p = {0, 0, 1, 0, 0, 1}> { y = Pad<mode="reflect">(x, p) }',
        "x[a, b, !] -> y[a, b, !]",
    ),
    Case(
        "Expand",
        "(float[3,1] x) => (float[2,3,4] y) <int64[3] s = {2, 3, 4}> { y = Expand(x, s) }",
        "x[a, 1] -> y[b, a, c]",
    ),
    Case(
        "Tile",
        "(float[2,3] x) => (float[2,6] y) <int64[2] r = {1, 2}> { y = Tile(x, r) }",
        "x[a, b] -> y[a, !*b]",
    ),
]
