"""Cases of the law, recurrent: LSTM, GRU and RNN in all directions, with and without what they can do without."""

from __future__ import annotations

from tests.law import Case

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def layer(op: str, direction: str, opset: int, more: str = "") -> Case:
    """A layer of 3 inputs and 2 hidden units, with biases."""
    n, d = GATES[op], DIRECTIONS[direction]
    graph = (
        f"(float[4,3,3] x) => (float[4,{d},3,2] y, float[{d},3,2] z)"
        f"<float[{d},{2 * n},3] w, float[{d},{2 * n},2] r, float[{d},{4 * n}] b>"
        f'{{ y, z = {op}<hidden_size=2, direction="{direction}"{more}>(x, w, r, b) }}'
    )
    mark, hidden = ("1", "d") if d == 1 else ("!", "e")
    rows, both = "+".join(hidden * n), "+".join(hidden * 2 * n)
    expect = (
        f"x[!, b, c] w[{mark}, {rows}, c] r[{mark}, {rows}, {hidden}] b[{mark}, {both}]"
        f" -> y[!, {mark}, b, {hidden}] z[{mark}, b, {hidden}]"
    )
    return Case(f"{op} {direction} opset {opset}{more}", graph, expect, opset, low=-1.0, high=1.0)


RECURRENT = [
    *(
        layer(op, direction, opset)
        for op in GATES
        for opset, direction in ((7, "reverse"), (14, "forward"), (22, "bidirectional"))
    ),
    layer("GRU", "forward", 17, ", linear_before_reset=1"),
    layer("GRU", "bidirectional", 17, ", linear_before_reset=1"),
    layer("LSTM", "forward", 17, ", input_forget=1, clip=0.9"),
    layer("RNN", "forward", 17, ', activations=["Affine"], activation_alpha=[0.7], activation_beta=[0.2]'),
    layer("RNN", "bidirectional", 17, ', activations=["Relu", "Softsign"]'),
    layer(
        "GRU",
        "forward",
        17,
        ', activations=["HardSigmoid", "ScaledTanh"], activation_alpha=[0.2, 0.8], activation_beta=[0.5, 0.6]',
    ),
    layer("LSTM", "forward", 17, ', activations=["Sigmoid", "Elu", "LeakyRelu"]'),
    Case(
        "LSTM with lengths, states and peepholes",
        "(float[5,3,3] x, int32[3] l, float[2,3,2] h, float[2,3,2] c)"
        "=> (float[5,2,3,2] y, float[2,3,2] yh, float[2,3,2] yc)"
        "<float[2,8,3] w, float[2,8,2] r, float[2,16] b, float[2,6] p>"
        '{ y, yh, yc = LSTM<hidden_size=2, direction="bidirectional">(x, w, r, b, l, h, c, p) }',
        "x[!, b, c] l[b] h[!, b, e] c[!, b, e]"
        " w[!, e+e+e+e, c] r[!, e+e+e+e, e] b[!, e+e+e+e+e+e+e+e] p[!, e+e+e]"
        " -> y[!, !, b, e] yh[!, b, e] yc[!, b, e]",
    ),
    Case(
        "GRU with lengths and a state, last step only",
        "(float[5,3,3] x, int32[3] l) => (float[1,3,2] z) <float[1,6,3] w, float[1,6,2] r, float[1,3,2] h>"
        "{ , z = GRU<hidden_size=2>(x, w, r, , l, h) }",
        "x[!, b, c] l[b] w[1, d+d+d, c] r[1, d+d+d, d] h[1, b, d] -> z[1, b, d]",
    ),
    *(
        Case(
            f"{op} batch first",
            f"(float[3,4,3] x) => (float[3,4,1,2] y, float[3,1,2] z) <float[1,{2 * n},3] w, float[1,{2 * n},2] r>"
            f"{{ y, z = {op}<hidden_size=2, layout=1>(x, w, r) }}",
            f"x[a, !, c] w[1, {'+'.join('d' * n)}, c] r[1, {'+'.join('d' * n)}, d] -> y[a, !, 1, d] z[a, 1, d]",
            reference=True,
        )
        for op, n in GATES.items()
    ),
]
