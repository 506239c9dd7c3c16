"""Cases of the law, attention: scaled dot products with and without groups, masks and caches; rotations; caches."""

from __future__ import annotations

from tests.law import Case

ATTENTION = [
    *(
        Case(
            f"Attention opset {opset}",
            "(float[2,3,5,4] q, float[2,3,6,4] k, float[2,3,6,7] v) => (float[2,3,5,7] y) { y = Attention(q, k, v) }",
            "q[a, b, c, !] k[a, b, !, !] v[a, b, !, f] -> y[a, b, c, f]",
            opset,
        )
        for opset in (23, 24)
    ),
    Case(
        "Attention in groups, causal",
        "(float[2,6,5,4] q, float[2,2,5,4] k, float[2,2,5,3] v) => (float[2,6,5,3] y)"
        "{ y = Attention<is_causal=1>(q, k, v) }",
        "q[a, b*c, !, !] k[a, b, !, !] v[a, b, !, g] -> y[a, b*c, !, g]",
        23,
    ),
    Case(
        "Attention of one head of keys",
        "(float[2,3,5,4] q, float[2,1,6,4] k, float[2,1,6,7] v) => (float[2,3,5,7] y) { y = Attention(q, k, v) }",
        "q[a, b, c, !] k[a, 1, !, !] v[a, 1, !, f] -> y[a, b, c, f]",
        23,
    ),
    Case(
        "Attention with merged heads and a mask",
        "(float[2,5,24] q, float[2,6,8] k, float[2,6,6] v, float[2,1,5,6] m) => (float[2,5,18] y)"
        "{ y = Attention<q_num_heads=6, kv_num_heads=2>(q, k, v, m) }",
        "q[a, b, c*d*!] k[a, !, c*!] v[a, !, c*g] m[a, 1, b, !] -> y[a, b, c*d*g]",
        23,
    ),
    Case(
        "Attention with a mask of heads",
        "(float[2,3,5,4] q, float[2,3,6,4] k, float[2,3,6,7] v, float[3,5,6] m) => (float[2,3,5,7] y)"
        "{ y = Attention<softcap=2.0>(q, k, v, m) }",
        "q[a, b, c, !] k[a, b, !, !] v[a, b, !, f] m[b, c, !] -> y[a, b, c, f]",
        23,
    ),
    Case(
        "Attention with a cache and its scores",
        "(float[2,4,5,3] q, float[2,2,5,3] k, float[2,2,5,7] v, float[2,2,3,3] h, float[2,2,3,7] i)"
        "=> (float[2,4,5,7] y, float[2,2,8,3] l, float[2,2,8,7] w, float[2,4,5,8] s)"
        "{ y, l, w, s = Attention<is_causal=1>(q, k, v, , h, i) }",
        "q[a, b*c, !, !] k[a, b, !, !] v[a, b, !, g] h[a, b, !, !] i[a, b, !, g]"
        " -> y[a, b*c, !, g] l[a, b, !, !] w[a, b, !, g] s[a, b*c, !, !]",
        23,
    ),
    Case(
        "Attention to a number of keys",
        "(float[2,3,5,4] q, float[2,3,6,4] k, float[2,3,6,7] v, int64[2] n) => (float[2,3,5,7] y)"
        "{ y = Attention(q, k, v, , , , n) }",
        "q[a, b, c, !] k[a, b, !, !] v[a, b, !, f] n[a] -> y[a, b, c, f]",
        24,
    ),
    *(
        Case(
            f"LinearAttention, decay for {wide} units",
            f"(float[2,4,12] q, float[2,4,6] k, float[2,4,10] v, float[2,2,3,5] h, float[2,4,{wide}] d, float[2,4,{beta}] b)"
            "=> (float[2,4,20] y, float[2,2,3,5] p)"
            f'{{ y, p = LinearAttention<q_num_heads=4, kv_num_heads=2, update_rule="gated_delta">(q, k, v, h, d, b) }}',
            f"q[a, !, c*d*!] k[a, !, c*!] v[a, !, c*f] h[a, c, !, f] d[a, !, {decay}] b[a, !, {rate}]"
            " -> y[a, !, c*d*f] p[a, c, !, f]",
            27,
            low=-0.5,
            high=0.5,
            reference=True,
        )
        for wide, decay, beta, rate in ((2, "c", 1, "1"), (6, "c*!", 2, "c"))
    ),
    Case(
        "RotaryEmbedding",
        "(float[2,3,5,4] x, int64[2,5] p) => (float[2,3,5,4] y) <float[20,2] c, float[20,2] s>"
        "{ y = RotaryEmbedding(x, c, s, p) }",
        "x[a, b, c, d+d] p[a, c] c[!, d] s[!, d] -> y[a, b, c, d+d]",
        23,
    ),
    Case(
        "RotaryEmbedding of merged heads, with angles for each position",
        "(float[2,5,12] x, float[2,5,1] c, float[2,5,1] s) => (float[2,5,12] y)"
        "{ y = RotaryEmbedding<num_heads=3, rotary_embedding_dim=2, interleaved=1>(x, c, s) }",
        "x[a, b, c*(!+e)] c[a, b, 1] s[a, b, 1] -> y[a, b, c*(!+e)]",
        23,
    ),
    Case(
        "RotaryEmbedding of neighbours, in part",
        "(float[2,3,5,7] x, int64[2,5] p) => (float[2,3,5,7] y) <float[20,2] c, float[20,2] s>"
        "{ y = RotaryEmbedding<rotary_embedding_dim=4, interleaved=1>(x, c, s, p) }",
        "x[a, b, c, d*!+f] p[a, c] c[!, d] s[!, d] -> y[a, b, c, d*!+f]",
        23,
    ),
    Case(
        "Attention of projected queries",
        "(float[2,5,3] x, float[2,6,8] k, float[2,6,6] v) => (float[2,5,18] y) <float[3,24] w>"
        "{ q = MatMul(x, w) y = Attention<q_num_heads=6, kv_num_heads=2>(q, k, v) }",
        "x[a, b, c] k[a, !, e*f] v[a, !, e*g] w[c, e*h*f] -> y[a, b, e*h*g]",
        23,
    ),
    Case(
        "Attention of projected keys that it hands on",
        "(float[2,5,8] q, float[2,6,3] x, float[2,6,8] v) => (float[2,5,8] y, float[2,2,6,4] h, float[2,2,6,4] i)"
        "<float[3,8] w> { k = MatMul(x, w) y, h, i = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v) }",
        "q[a, b, c*!] x[a, !, f] v[a, !, c*g] w[f, c*!] -> y[a, b, c*g] h[a, c, !, !] i[a, c, !, g]",
        23,
    ),
    Case(
        "Attention of rotated queries",
        "(float[2,5,3] x, float[2,6,12] k, float[2,6,4] v, int64[2,5] p) => (float[2,5,4] y)"
        "<float[3,12] w, float[20,2] c, float[20,2] s>"
        "{ a = MatMul(x, w) q = RotaryEmbedding<num_heads=2, rotary_embedding_dim=4>(a, c, s, p)"
        "  y = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v) }",
        "x[a, b, c] k[a, !, e*(f+f+g)] v[a, !, e*h] p[a, b] w[c, e*(f+f+g)] c[!, f] s[!, f] -> y[a, b, e*h]",
        23,
    ),
    Case(
        "TensorScatter",
        "(float[2,3,8,4] x, float[2,3,2,4] u, int64[2] i) => (float[2,3,8,4] y) { y = TensorScatter(x, u, i) }",
        "x[a, b, !, d] u[a, b, !, d] i[a] -> y[a, b, !, d]",
        24,
    ),
]
