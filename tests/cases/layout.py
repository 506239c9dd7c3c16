"""Cases of the law, layout: Flatten, Reshape, Transpose, Squeeze and their like, blocks of space, Resize."""

from __future__ import annotations

from tests.law import Case

LAYOUT = [
    Case(
        "CenterCropPad",
        "(float[2,3,7,4] x) => (float[2,3,5,9] y) <int64[4] s = {2, 3, 5, 9}> { y = CenterCropPad(x, s) }",
        "x[a, b, !, !] -> y[a, b, !, !]",
        18,
    ),
    Case(
        "CenterCropPad of some axes",
        "(float[2,3,7] x) => (float[2,3,4] y) <int64[2] s = {4, 3}> { y = CenterCropPad<axes=[-1, 1]>(x, s) }",
        "x[a, b, !] -> y[a, b, !]",
        18,
    ),
    Case("Flatten", "(float[2,3,4,5] x) => (float[6,20] y) { y = Flatten<axis=2>(x) }", "x[a, b, c, d] -> y[a*b, c*d]"),
    Case("Flatten all", "(float[2,3] x) => (float[1,6] y) { y = Flatten<axis=0>(x) }", "x[a, b] -> y[1, a*b]"),
    Case(
        "Flatten counted from the end",
        "(float[2,3,4] x) => (float[6,4] y) { y = Flatten<axis=-1>(x) }",
        "x[a, b, c] -> y[a*b, c]",
    ),
    Case(
        "Reshape",
        "(float[2,6,5] x) => (float[2,2,15] y) <int64[3] s = {0, 2, -1}> { y = Reshape(x, s) }",
        "x[a, b*c, d] -> y[a, b, c*d]",
        redundant=True,
    ),
    Case(
        "Reshape that copies a size from elsewhere",
        "(float[6,2,3] x) => (float[3,2,6] y) <int64[3] s = {3, 0, 6}> { y = Reshape(x, s) }",
        "x[a*b, b, c] -> y[a, b, b*c]",
    ),
    Case(
        "Reshape with all sizes written",
        "(float[2,6,5] x) => (float[12,5] y) <int64[2] s = {12, 5}> { y = Reshape(x, s) }",
        "x[a, b, c] -> y[a*b, c]",
    ),
    Case(
        "Reshape that cannot align",
        "(float[2,4,9] x) => (float[2,6,6] y) <int64[3] s = {2, 6, 6}> { y = Reshape(x, s) }",
        "x[a, !, !] -> y[a, !, !]",
    ),
    Case(
        "channel shuffle",
        "(float[2,12,5] x) => (float[2,12,5] y) <int64[4] s = {2, 3, 4, 5}, int64[3] t = {2, 12, 5}>"
        "{ u = Reshape(x, s) v = Transpose<perm=[0,2,1,3]>(u) y = Reshape(v, t) }",
        "x[a, b*c, d] -> y[a, c*b, d]",
    ),
    Case(
        "Transpose",
        "(float[2,3,4] x) => (float[4,2,3] y) { y = Transpose<perm=[2,0,1]>(x) }",
        "x[a, b, c] -> y[c, a, b]",
    ),
    Case("Transpose by default", "(float[2,3] x) => (float[3,2] y) { y = Transpose(x) }", "x[a, b] -> y[b, a]"),
    Case(
        "Squeeze",
        "(float[2,1,3] x) => (float[2,3] y) <int64[1] a = {1}> { y = Squeeze(x, a) }",
        "x[a, 1, b] -> y[a, b]",
    ),
    Case("Squeeze all", "(float[2,1,3,1] x) => (float[2,3] y) { y = Squeeze(x) }", "x[a, 1, b, 1] -> y[a, b]"),
    Case(
        "Squeeze opset 11",
        "(float[2,1,3] x) => (float[2,3] y) { y = Squeeze<axes=[-2]>(x) }",
        "x[a, 1, b] -> y[a, b]",
        11,
    ),
    Case(
        "Unsqueeze",
        "(float[2,3] x) => (float[2,1,3,1] y) <int64[2] a = {1, -1}> { y = Unsqueeze(x, a) }",
        "x[a, b] -> y[a, 1, b, 1]",
    ),
    Case(
        "Unsqueeze opset 11",
        "(float[2,3] x) => (float[1,2,3] y) { y = Unsqueeze<axes=[0]>(x) }",
        "x[a, b] -> y[1, a, b]",
        11,
    ),
    Case(
        "DepthToSpace DCR",
        "(float[2,12,2,3] x) => (float[2,3,4,6] y) { y = DepthToSpace<blocksize=2>(x) }",
        "x[a, !*!*d, e, f] -> y[a, d, e*!, f*!]",
    ),
    Case(
        "DepthToSpace CRD",
        '(float[2,12,2,3] x) => (float[2,3,4,6] y) { y = DepthToSpace<blocksize=2, mode="CRD">(x) }',
        "x[a, b*!*!, e, f] -> y[a, b, e*!, f*!]",
        13,
    ),
    Case(
        "SpaceToDepth",
        "(float[2,3,4,6] x) => (float[2,12,2,3] y) { y = SpaceToDepth<blocksize=2>(x) }",
        "x[a, b, c*!, e*!] -> y[a, !*!*b, c, e]",
    ),
    Case(
        "Resize by scales",
        '(float[2,3,4] x) => (float[2,3,8] y) <float[3] k = {1.0, 1.0, 2.0}> { y = Resize<mode="nearest">(x, , k) }',
        "x[a, b, !] k[!] -> y[a, b, !]",
    ),
    Case(
        "Resize by sizes",
        '(float[2,3,4] x) => (float[2,3,8] y) <int64[3] s = {2, 3, 8}> { y = Resize<mode="nearest">(x, , , s) }',
        "x[a, b, !] -> y[a, b, !]",
    ),
    Case(
        "Resize opset 10",
        '(float[2,3,4] x) => (float[2,3,8] y) <float[3] k = {1.0, 1.0, 2.0}> { y = Resize<mode="nearest">(x, k) }',
        "x[a, b, !] k[!] -> y[a, b, !]",
        10,
    ),
    Case(
        "Upsample",
        '(float[2,3,4] x) => (float[2,3,8] y) <float[3] k = {1.0, 1.0, 2.0}> { y = Upsample<mode="nearest">(x, k) }',
        "x[a, b, !] k[!] -> y[a, b, !]",
        9,
    ),
    Case(
        "Upsample opset 7",
        '(float[2,3,4] x) => (float[2,3,8] y) { y = Upsample<mode="nearest", scales=[1.0, 1.0, 2.0]>(x) }',
        "x[a, b, !] -> y[a, b, !]",
        7,
    ),
]
