"""Recurrent layers in whole models: stacked, bidirectional, and as exporters write them."""

from __future__ import annotations

import pytest

from onnx_net2net import inspect, widen
from tests.law import fill, parse, weights
from tests.untouched import assert_untouched

STACKED = """(float[6,2,5] x, int32[2] l) => (float[2,3] y)
<float[2,16,5] w1, float[2,16,4] r1, float[2,32] b1, float[2,12,8] w2, float[2,12,4] r2, float[2,24] b2, float[3,8] w, float[3] b,
 int64[3] flat = {0, 0, -1}, int64[2] row = {0, -1}>
{ y1 = LSTM<hidden_size=4, direction="bidirectional">(x, w1, r1, b1, l)
  t1 = Transpose<perm=[0,2,1,3]>(y1)
  f1 = Reshape(t1, flat)
  , h2 = GRU<hidden_size=4, direction="bidirectional", linear_before_reset=1>(f1, w2, r2, b2, l)
  t2 = Transpose<perm=[1,0,2]>(h2)
  f2 = Reshape(t2, row)
  y = Gemm<transB=1>(f2, w, b) }"""

EXPORTED = """(float[N,6,5] x) => (float[N,6,3] y)
<float[1,16,5] w1, float[1,16,4] r1, float[1,32] b1, float[1,4,4] w2, float[1,4,4] r2, float[1,8] b2, float[4,3] w,
 int64[1] one = {1}, int64 zero = {0}, int64[1] axis = {0}, int64[1] four = {4}>
{ t = Transpose<perm=[1,0,2]>(x)
  s = Shape(x)
  n = Gather<axis=0>(s, zero)
  m = Unsqueeze(n, axis)
  shape = Concat<axis=0>(one, m, four)
  h = ConstantOfShape(shape)
  y1 = LSTM<hidden_size=4>(t, w1, r1, b1, , h, h)
  f1 = Squeeze(y1, one)
  y2 = RNN<hidden_size=4>(f1, w2, r2, b2)
  f2 = Squeeze(y2, one)
  g = Transpose<perm=[1,0,2]>(f2)
  y = MatMul(g, w) }"""


@pytest.mark.parametrize(
    ("graph", "grown"),
    [
        (STACKED, {"r1": (2, 24, 6), "w2": (2, 18, 12), "r2": (2, 18, 6), "w": (3, 12)}),
        (EXPORTED, {"r1": (1, 24, 6), "w2": (1, 6, 6), "r2": (1, 6, 6), "w": (6, 3)}),
    ],
    ids=["stacked and bidirectional", "as exported"],
)
def test_every_hidden_axis_grows(graph: str, grown: dict[str, tuple[int, ...]]) -> None:
    made = widen(fill(parse(graph), low=-1, high=1), factor=1.5)
    assert grown.items() <= weights(made.model).items()
    verdict = made.verify()
    assert verdict, verdict.reason
    assert_untouched(made.teacher, made.exact, made.plan)


def test_an_unknown_activation_pins() -> None:
    model = fill(
        parse(
            '(float[4,2,3] x) => (float[4,1,2,2] y) <float[1,2,3] w, float[1,2,2] r> { y = RNN<hidden_size=2, activations=["Softmax"]>(x, w, r) }'
        )
    )
    assert "its activation softmax is not known" in str(inspect(model))
