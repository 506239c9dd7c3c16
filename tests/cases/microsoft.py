"""Cases of the law, microsoft: operators of com.microsoft."""

from __future__ import annotations

from tests.law import Case

MICROSOFT = [
    *(
        Case(op, f"(float[2,3,4] x) => (float[2,3,4] y) {{ y = com.microsoft.{op}(x) }}", "x[a, b, c] -> y[a, b, c]")
        for op in ("FastGelu", "Gelu", "QuickGelu")
    ),
    Case(
        "BiasGelu",
        "(float[2,3,4] x) => (float[2,3,4] y) <float[4] b> { y = com.microsoft.BiasGelu(x, b) }",
        "x[a, b, c] b[c] -> y[a, b, c]",
    ),
    Case(
        "FusedConv with an addend",
        "(float[2,6,5,5] x, float[2,4,5,5] z) => (float[2,4,5,5] y) <float[4,3,1,1] w, float[4] b>"
        '{ y = com.microsoft.FusedConv<group=2, activation="Relu">(x, w, b, z) }',
        "x[a, b*c, !, !] z[a, b*f, !, !] w[b*f, c, 1, 1] b[b*f] -> y[a, b*f, !, !]",
    ),
    *(
        Case(
            op,
            "(float[2,3,5] x) => (float[2,5,4] y) <float[4,3] w>"
            f"{{ y = com.microsoft.{op}<transA=1, transB=1, alpha=0.5>(x, w) }}",
            "x[a, b, c] w[d, b] -> y[a, c, d]",
        )
        for op in ("FusedMatMul", "TransposeMatMul")
    ),
    Case(
        "CausalConvWithState of com.microsoft",
        "(float[2,3,5] x, float[2,3,3] p) => (float[2,3,5] y, float[2,3,3] q) <float[3,1,4] w, float[3] b>"
        '{ y, q = com.microsoft.CausalConvWithState<activation="silu">(x, w, b, p) }',
        "x[a, b, !] p[a, b, !] w[b, 1, !] b[b] -> y[a, b, !] q[a, b, !]",
    ),
    Case(
        "SkipLayerNormalization",
        "(float[2,3,4] x, float[2,3,4] z) => (float[2,3,4] y, float[2,3,4] s) <float[4] g, float[4] b, float[4] c>"
        "{ y, m, v, s = com.microsoft.SkipLayerNormalization(x, z, g, b, c) }",
        "x[a, b, ~c] z[a, b, ~c] g[~c] b[~c] c[~c] -> y[a, b, ~c] s[a, b, ~c]",
    ),
    Case(
        "SkipSimplifiedLayerNormalization",
        "(float[2,3,4] x, float[2,3,4] z) => (float[2,3,4] y) <float[4] g>"
        "{ y = com.microsoft.SkipSimplifiedLayerNormalization(x, z, g) }",
        "x[a, b, ~c] z[a, b, ~c] g[~c] -> y[a, b, ~c]",
    ),
    Case(
        "SimplifiedLayerNormalization",
        "(float[2,3,4] x) => (float[2,3,4] y) <float[4] g> { y = SimplifiedLayerNormalization(x, g) }",
        "x[a, b, ~c] g[~c] -> y[a, b, ~c]",
    ),
    Case(
        "EmbedLayerNormalization",
        "(int32[2,5] i, int32[2,5] s, int32[2,5] m) => (float[2,5,4] y, int32[2] k, float[2,5,4] e)"
        "<float[9,4] w, float[6,4] p, float[5,4] t, float[4] g, float[4] b>"
        "{ y, k, e = com.microsoft.EmbedLayerNormalization(i, s, w, p, t, g, b, m) }",
        "i[a, !] s[a, !] m[a, !] w[!, ~d] p[!, ~d] t[!, ~d] g[~d] b[~d] -> y[a, !, ~d] k[a] e[a, !, ~d]",
    ),
    Case(
        "EmbedLayerNormalization without segments, at given places",
        "(int32[2,5] i, int32[2,5] q) => (float[2,5,4] y, int32[2] k)"
        "<float[9,4] w, float[6,4] p, float[4] g, float[4] b>"
        "{ y, k = com.microsoft.EmbedLayerNormalization(i, , w, p, , g, b, , q) }",
        "i[a, b] q[a, b] w[!, ~d] p[!, ~d] g[~d] b[~d] -> y[a, b, ~d] k[a]",
    ),
    *(
        Case(
            f"MoE, {name}",
            f"(float[{tokens},3] x, float[10,4] r) => (float[{tokens},3] y)"
            f"<float[4,{rows},3] w, float[4,{rows}] b, float[4,3,5] v, float[4,3] c>"
            f"{{ y = com.microsoft.MoE<k=2, {attributes}>(x, r, w, b, v, c) }}",
            expect,
        )
        for name, tokens, rows, attributes, expect in (
            (
                "relu",
                "10",
                5,
                'activation_type="relu"',
                "x[a, b] r[a, !] w[!, d, b] b[!, d] v[!, b, d] c[!, b] -> y[a, b]",
            ),
            (
                "of sequences",
                "2,5",
                5,
                'activation_type="silu", normalize_routing_weights=1',
                "x[a, b, c] r[a*b, !] w[!, e, c] b[!, e] v[!, c, e] c[!, c] -> y[a, b, c]",
            ),
            (
                "gated",
                "10",
                10,
                'activation_type="swiglu", swiglu_fusion=1',
                "x[a, b] r[a, !] w[!, d*!, b] b[!, d*!] v[!, b, d] c[!, b] -> y[a, b]",
            ),
        )
    ),
    Case(
        "FusedGemm",
        "(float[2,3] x) => (float[2,4] y) <float[4,3] w, float[4] b>"
        '{ y = com.microsoft.FusedGemm<transB=1, activation="LeakyRelu", activation_alpha=0.2>(x, w, b) }',
        "x[a, b] w[c, b] b[c] -> y[a, c]",
    ),
    Case(
        "MultiHeadAttention",
        "(float[2,5,12] q, float[2,6,12] k, float[2,6,15] v, int32[2] m, float[1,3,5,6] s) => (float[2,5,15] y)"
        "<float[39] b> { y = com.microsoft.MultiHeadAttention<num_heads=3>(q, k, v, b, m, s) }",
        "q[a, b, c*!] k[a, !, c*!] v[a, !, c*f] m[a] s[1, c, b, !] b[c*!+c*!+c*f] -> y[a, b, c*f]",
    ),
    Case(
        "MultiHeadAttention with a cache, in order",
        "(float[2,5,12] q, float[2,5,12] k, float[2,5,12] v, float[2,3,4,4] h, float[2,3,4,4] i)"
        "=> (float[2,5,12] y, float[2,3,9,4] l, float[2,3,9,4] w)"
        "{ y, l, w = com.microsoft.MultiHeadAttention<num_heads=3, unidirectional=1>(q, k, v, , , , h, i) }",
        "q[a, !, c*!] k[a, !, c*!] v[a, !, c*!] h[a, c, !, !] i[a, c, !, !] -> y[a, !, c*!] l[a, c, !, !] w[a, c, !, !]",
    ),
    Case(
        "MultiHeadAttention of projected queries, with a bias",
        "(float[2,5,3] x, float[2,6,12] k, float[2,6,15] v) => (float[2,5,15] y) <float[3,12] w, float[39] b>"
        "{ q = MatMul(x, w) y = com.microsoft.MultiHeadAttention<num_heads=3>(q, k, v, b) }",
        "x[a, b, c] k[a, !, e*f] v[a, !, e*g] w[c, e*f] b[e*f+e*f+e*g] -> y[a, b, e*g]",
    ),
    Case(
        "MultiHeadAttention of projected keys, with a bias",
        "(float[2,5,12] q, float[2,6,3] x, float[2,6,15] v) => (float[2,5,15] y) <float[3,12] w, float[39] b>"
        "{ a = Relu(q) k = MatMul(x, w) y = com.microsoft.MultiHeadAttention<num_heads=3>(a, k, v, b) }",
        "q[a, b, c*d] x[a, !, f] v[a, !, c*g] w[f, c*d] b[c*d+c*d+c*g] -> y[a, b, c*g]",
    ),
    *(
        Case(
            f"GroupQueryAttention of projected queries, {name}",
            f"(float[2,5,3] x, float[2,5,{2 * d}] k, float[2,5,{2 * d}] v)"
            f"=> (float[2,5,{4 * d}] y, float[2,2,5,{d}] l, float[2,2,5,{d}] w)"
            f"<float[3,{4 * d}] p, int32[2] n = {{4, 4}}, int32 t = {{5}}, float[9,{d // 4}] c, float[9,{d // 4}] s>"
            f"{{ q = MatMul(x, p) y, l, w = com.microsoft.GroupQueryAttention<num_heads=4, kv_num_heads=2{more}>"
            f"(q, k, v, , , n, t{', c, s' * tables}) }}",
            f"x[a, !, c] k[a, !, e*{head}] v[a, !, e*{head}] p[c, e*{r}*{head}]{angles} -> y[a, !, e*{r}*{head}]"
            f" l[a, e, !, {head.strip('()')}] w[a, e, !, {head.strip('()')}]",
        )
        for name, d, tables, more, head, r, angles in (
            ("in steps", 16, False, "", "f*!", "h", ""),
            ("with tables that it does not use", 32, True, "", "f*!", "h", " c[!, !] s[!, !]"),
            ("rotated in part", 64, True, ", do_rotary=1", "(f*!+f*!+h*!)", "j", " c[!, f*!] s[!, f*!]"),
            (
                "neighbours rotated in part",
                64,
                True,
                ", do_rotary=1, rotary_interleaved=1",
                "(f*!*!+i*!)",
                "k",
                " c[!, f*!] s[!, f*!]",
            ),
        )
    ),
    Case(
        "GroupQueryAttention, packed",
        "(float[2,5,3] x) => (float[2,5,64] y, float[2,2,5,16] l, float[2,2,5,16] w)"
        "<float[3,128] p, float[128] b, int32[2] n = {4, 4}, int32 t = {5}>"
        "{ a = MatMul(x, p) q = Add(a, b)"
        "  y, l, w = com.microsoft.GroupQueryAttention<num_heads=4, kv_num_heads=2>(q, , , , , n, t) }",
        "x[a, !, c] p[c, d*e*f*!+d*f*!+d*f*!] b[d*e*f*!+d*f*!+d*f*!] -> y[a, !, d*e*f*!] l[a, d, !, f*!] w[a, d, !, f*!]",
    ),
    Case(
        "packed Attention",
        "(float[2,5,6] x, int32[2,5] m) => (float[2,5,12] y) <float[6,36] w, float[36] b>"
        "{ y = com.microsoft.Attention<num_heads=3>(x, w, b, m) }",
        "x[a, !, c] m[a, !] w[c, e*f+e*f+e*g] b[e*f+e*f+e*g] -> y[a, !, e*g]",
    ),
    Case(
        "packed Attention of three widths",
        "(float[2,5,6] x) => (float[2,5,15] y) <float[6,39] w, float[39] b>"
        "{ y = com.microsoft.Attention<num_heads=3, qkv_hidden_sizes=[12,12,15], unidirectional=1>(x, w, b) }",
        "x[a, !, c] w[c, d*e+d*e+d*f] b[d*e+d*e+d*f] -> y[a, !, d*f]",
    ),
    Case(
        "RotaryEmbedding of com.microsoft",
        "(float[2,5,12] x, int64[2,5] p) => (float[2,5,12] y) <float[40,2] c, float[40,2] s>"
        "{ y = com.microsoft.RotaryEmbedding(x, p, c, s) }",
        "x[a, b, c*(d+d)] p[a, b] c[!, d] s[!, d] -> y[a, b, c*(d+d)]",
    ),
    Case(
        "RotaryEmbedding of com.microsoft from a position on",
        "(float[2,3,5,4] x) => (float[2,3,5,4] y) <int64[1] p = {2}, float[40,2] c, float[40,2] s>"
        "{ y = com.microsoft.RotaryEmbedding(x, p, c, s) }",
        "x[a, b, !, d+d] c[!, d] s[!, d] -> y[a, b, !, d+d]",
    ),
    Case(
        "RotaryEmbedding of com.microsoft in part",
        "(float[2,5,12] x, int64[2,5] p) => (float[2,5,12] y) <float[40,1] c, float[40,1] s>"
        "{ y = com.microsoft.RotaryEmbedding<num_heads=3, rotary_embedding_dim=2>(x, p, c, s) }",
        "x[a, b, c*(1+1+d)] p[a, b] c[!, 1] s[!, 1] -> y[a, b, c*(1+1+d)]",
    ),
    *(
        Case(
            f"DynamicQuantizeLSTM, {name}",
            f"(float[4,3,3] x) => (float[4,{d},3,2] y, float[{d},3,2] h)"
            f"<uint8[{d},3,8] w, uint8[{d},2,8] r, float[{d},16] b, float[{scale}] k, uint8[{scale}] z = {{{zeros}}},"
            f" float[{scale}] l, uint8[{scale}] o = {{{zeros}}}>"
            f'{{ y, h = com.microsoft.DynamicQuantizeLSTM<hidden_size=2, direction="{direction}">'
            "(x, w, r, b, , , , , k, z, l, o) }",
            expect,
            low=-0.3,
            high=0.3,
        )
        for name, d, direction, scale, zeros, expect in (
            (
                *("a scale for each direction", 2, "bidirectional", "2", "3, 2"),
                "x[!, b, c] w[!, c, e+e+e+e] r[!, e, e+e+e+e] b[!, e+e+e+e+e+e+e+e] k[!] z[!] l[!] o[!]"
                " -> y[!, !, b, e] h[!, b, e]",
            ),
            (
                *("a scale for each column", 1, "forward", "1,8", ", ".join("3" * 8)),
                "x[!, b, c] w[1, c, d+d+d+d] r[1, d, d+d+d+d] b[1, d+d+d+d+d+d+d+d] k[1, d+d+d+d] z[1, d+d+d+d]"
                " l[1, d+d+d+d] o[1, d+d+d+d] -> y[!, 1, b, d] h[1, b, d]",
            ),
        )
    ),
    Case(
        "DynamicQuantizeMatMul",
        "(float[2,5,3] x) => (float[2,5,4] y) <uint8[3,4] w, float[4] k, uint8[4] z, float[4] b>"
        "{ y = com.microsoft.DynamicQuantizeMatMul(x, w, k, z, b) }",
        "x[a, b, c] w[c, d] k[d] z[d] b[d] -> y[a, b, d]",
    ),
    Case(
        "QGemm",
        "(uint8[2,3] x) => (uint8[2,4] y) <float k = {0.1}, uint8 o = {3}, int8[4,3] w, float[4] l, int8[4] p, int32[4] b,"
        " float m = {0.07}> { y = com.microsoft.QGemm<transB=1>(x, k, o, w, l, p, b, m, o) }",
        "x[a, b] w[c, b] l[c] p[c] -> y[a, c]",
    ),
    Case(
        "QLinearConcat",
        "(uint8[2,3] x, uint8[2,4] z) => (uint8[2,7] y) <float k = {0.1}, uint8 o = {3}, float l = {0.05}>"
        "{ y = com.microsoft.QLinearConcat<axis=1>(k, o, x, l, o, z, k, o) }",
        "x[a, b] z[a, c] -> y[a, b+c]",
    ),
    *(
        Case(
            f"{op}{layout}",
            f"(uint8[{shape}] x) => (uint8[{result}] y) <float k = {{0.1}}, uint8 o = {{3}}, float l = {{0.03}}>"
            f"{{ y = com.microsoft.{op}<{kernel}{layout}>(x, k, o, l, o) }}",
            expect,
        )
        for op, shape, result, kernel, layout, expect in (
            ("QLinearAveragePool", "2,3,4,4", "2,3,3,3", "kernel_shape=[2,2]", "", "x[a, b, !, !] -> y[a, b, !, !]"),
            (
                *("QLinearAveragePool", "2,4,4,3", "2,3,3,3", "kernel_shape=[2,2]", ", channels_last=1"),
                "x[a, !, !, d] -> y[a, !, !, d]",
            ),
            ("QLinearGlobalAveragePool", "2,3,4,4", "2,3,1,1", "channels_last=0", "", "x[a, b, !, !] -> y[a, b, 1, 1]"),
        )
    ),
    *(
        Case(
            f"QLinearSoftmax opset {opset}",
            "(uint8[2,3,4] x) => (uint8[2,3,4] y) <float k = {0.7}, uint8 o = {3}, float l = {0.005}>"
            f"{{ y = com.microsoft.QLinearSoftmax<axis=1, opset={opset}>(x, k, o, l, o) }}",
            expect,
        )
        for opset, expect in ((12, "x[a, !, !] -> y[a, !, !]"), (13, "x[a, !, c] -> y[a, !, c]"))
    ),
    Case(
        "QLinearWhere",
        "(bool[2,3] c, uint8[2,3] x, uint8[3] z) => (uint8[2,3] y) <float k = {0.1}, uint8 o = {3}, float l = {0.05}>"
        "{ y = com.microsoft.QLinearWhere(c, x, k, o, z, l, o, l, o) }",
        "c[a, b] x[a, b] z[b] -> y[a, b]",
    ),
    *(
        Case(
            op,
            "(uint8[2,3,4] x, uint8[3,1] z) => (uint8[2,3,4] y) <float k = {0.1}, uint8 o = {3}, float l = {0.05}, float m = {0.02}>"
            f"{{ y = com.microsoft.{op}(x, k, o, z, l, o, m, o) }}",
            "x[a, b, c] z[b, 1] -> y[a, b, c]",
        )
        for op in ("QLinearAdd", "QLinearMul")
    ),
    *(
        Case(
            op,
            "(uint8[2,3,4] x) => (uint8[2,3,4] y) <float k = {0.1}, uint8 o = {3}, float m = {0.005}>"
            f"{{ y = com.microsoft.{op}(x, k, o, m, o) }}",
            "x[a, b, c] -> y[a, b, c]",
        )
        for op in ("QLinearLeakyRelu", "QLinearSigmoid")
    ),
]
