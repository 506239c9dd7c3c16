"""Cases of the law, convolution: Conv and ConvTranspose, plain, grouped and depthwise."""

from __future__ import annotations

from tests.law import Case

CONVOLUTION = [
    Case(
        "CausalConvWithState",
        "(float[2,3,5] x, float[2,3,3] p) => (float[2,3,5] y, float[2,3,3] q) <float[3,1,4] w, float[3] b>"
        '{ y, q = CausalConvWithState<activation="silu">(x, w, b, p) }',
        "x[a, b, !] p[a, b, !] w[b, 1, !] b[b] -> y[a, b, !] q[a, b, !]",
        27,
        reference=True,
    ),
    Case(
        "CausalConvWithState without state",
        "(float[2,3,5] x) => (float[2,3,5] y) <float[3,1,4] w> { y, q = CausalConvWithState(x, w) }",
        "x[a, b, !] w[b, 1, !] -> y[a, b, !]",
        27,
        reference=True,
    ),
    Case(
        "DeformConv without mask",
        "(float[2,6,4,4] x, float[2,8,3,3] o) => (float[2,4,3,3] y) <float[4,6,2,2] w> { y = DeformConv(x, w, o) }",
        "x[a, b, !, !] o[a, !, !, !] w[h, b, !, !] -> y[a, h, !, !]",
        22,
    ),
    Case(
        "Col2Im",
        "(float[2,12,4] x) => (float[2,3,4,4] y) <int64[2] i = {4, 4}, int64[2] b = {2, 2}>"
        "{ y = Col2Im<strides=[2,2]>(x, i, b) }",
        "x[a, b*!, !] -> y[a, b, !, !]",
        18,
    ),
    *(
        Case(
            f"DeformConv, {offsets} sets of offsets, {groups} groups",
            f"(float[2,12,4,4] x, float[2,{8 * offsets},3,3] o, float[2,{4 * offsets},3,3] m) => (float[2,4,3,3] y)"
            f"<float[4,{12 // groups},2,2] w, float[4] b>"
            f"{{ y = DeformConv<group={groups}, offset_group={offsets}>(x, w, o, b, m) }}",
            expect,
            19,
        )
        for offsets, groups, expect in (
            (
                1,
                1,
                "x[a, b, !, !] o[a, !, !, !] m[a, !, !, !] w[k, b, !, !] b[k] -> y[a, k, !, !]",
            ),
            (
                1,
                2,
                "x[a, b*c, !, !] o[a, !, !, !] m[a, !, !, !] w[b*l, c, !, !] b[b*l] -> y[a, b*l, !, !]",
            ),
            (
                3,
                1,
                "x[a, !*c, !, !] o[a, !, !, !] m[a, !, !, !] w[l, !*c, !, !] b[l] -> y[a, l, !, !]",
            ),
        )
    ),
    Case(
        "Conv",
        "(float[2,3,6,6] x) => (float[2,4,4,4] y) <float[4,3,3,3] w, float[4] b> { y = Conv(x, w, b) }",
        "x[a, b, !, !] w[e, b, !, !] b[e] -> y[a, e, !, !]",
    ),
    Case(
        "Conv grouped",
        "(float[2,6,5,5] x) => (float[2,4,5,5] y) <float[4,3,1,1] w, float[4] b> { y = Conv<group=2>(x, w, b) }",
        "x[a, b*c, !, !] w[b*f, c, 1, 1] b[b*f] -> y[a, b*f, !, !]",
    ),
    Case(
        "Conv depthwise",
        "(float[2,4,5,5] x) => (float[2,4,5,5] y) <float[4,1,3,3] w> { y = Conv<group=4, pads=[1,1,1,1]>(x, w) }",
        "x[a, b, !, !] w[b, 1, !, !] -> y[a, b, !, !]",
    ),
    Case(
        "Conv depthwise with multiplier",
        "(float[2,4,5] x) => (float[2,8,3] y) <float[8,1,3] w, float[8] b> { y = Conv<group=4>(x, w, b) }",
        "x[a, b, !] w[b*d, 1, !] b[b*d] -> y[a, b*d, !]",
    ),
    Case(
        "Conv 3-D",
        "(float[2,2,3,3,3] x) => (float[2,3,2,2,2] y) <float[3,2,2,2,2] w> { y = Conv(x, w) }",
        "x[a, b, !, !, !] w[f, b, !, !, !] -> y[a, f, !, !, !]",
    ),
    Case(
        "ConvTranspose grouped",
        "(float[2,6,4,4] x) => (float[2,4,5,5] y) <float[6,2,2,2] w, float[4] b> { y = ConvTranspose<group=2>(x, w, b) }",
        "x[a, b*c, !, !] w[b*c, f, !, !] b[b*f] -> y[a, b*f, !, !]",
    ),
]
