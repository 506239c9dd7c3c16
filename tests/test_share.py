"""Who takes the fractions of an axis that two computed operands contract: weights behind picks, sequences and loops."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_net2net import RequestError, inspect, widen
from onnx_net2net.algebra.box import Box, alike, join, meet, tidy
from tests.law import fill, parse, weights

HEAD = "(float[N,5,6] x) => (float[N,5,6] y) <float[6,24] w, float[24] bias, float[8,6] o, "
REST = """t = Transpose<perm=[0,1,3,2]>(k) s = MatMul(q, t) p = Softmax(s) d = MatMul(p, v)
  e = Transpose<perm=[0,2,1,3]>(d) f = Reshape(e, out) y = MatMul(f, o) }"""
PICKED = f"""{HEAD}int64[5] split = {{0, 5, 3, 2, 4}}, int64[3] out = {{0, 5, 8}}, int64 i = {{0}}, int64 j = {{-2}}, int64 n = {{2}}>
{{ a = MatMul(x, w) b = Add(a, bias) r = Reshape(b, split) c = Transpose<perm=[2,0,3,1,4]>(r)
  q = Gather(c, i) k = Gather(c, j) v = Gather(c, n) {REST}"""
SLICED = f"""{HEAD}int64[5] split = {{0, 5, 3, 2, 4}}, int64[3] out = {{0, 5, 8}},
 int64[1] i = {{0}}, int64[1] j = {{1}}, int64[1] n = {{2}}, int64[1] m = {{3}}>
{{ a = MatMul(x, w) b = Add(a, bias) r = Reshape(b, split) c = Transpose<perm=[2,0,3,1,4]>(r)
  q1 = Slice(c, i, j, i) k1 = Slice(c, j, n, i) v1 = Slice(c, n, m, i)
  q = Squeeze(q1, i) k = Squeeze(k1, i) v = Squeeze(v1, i) {REST}"""
LISTED = f"""{HEAD}int64[3] parts = {{8, 8, 8}}, int64[4] split = {{0, 5, 2, 4}}, int64[3] out = {{0, 5, 8}},
 int64 i = {{0}}, int64 j = {{1}}, int64 n = {{2}}>
{{ a = MatMul(x, w) b = Add(a, bias) c = SplitToSequence<axis=2>(b, parts)
  q3 = SequenceAt(c, i) k3 = SequenceAt(c, j) v3 = SequenceAt(c, n)
  q4 = Reshape(q3, split) k4 = Reshape(k3, split) v4 = Reshape(v3, split)
  q = Transpose<perm=[0,2,1,3]>(q4) k = Transpose<perm=[0,2,1,3]>(k4) v = Transpose<perm=[0,2,1,3]>(v4) {REST}"""
LOOP = """(float[N,2,6] x) => (float[N,2,1] y)
<float[6,4] w, float[6,4] u, int64 i = {0}, int64 j = {1}, int64[1] last = {2}>
{ a = MatMul(x, w) h = Tanh(a) c = MatMul(x, u)
  c0 = Gather<axis=1>(c, i) c1 = Gather<axis=1>(c, j) d0 = Unsqueeze(c0, last) d1 = Unsqueeze(c1, last)
  y0 = MatMul(h, d0) y1 = MatMul(h, d1) y = Add(y0, y1) }"""
EXPERTS = """(float[N,6] x, int64[N] chosen) => (float[N,6] y) <float[3,4,6] w, float[3,6,4] u, int64[1] last = {2}>
{ a = Gather(w, chosen) b = Unsqueeze(x, last) c = MatMul(a, b) d = Tanh(c)
  e = Gather(u, chosen) f = MatMul(e, d) y = Squeeze(f, last) }"""


@pytest.mark.parametrize(
    ("graph", "widths", "grown"),
    [
        (PICKED, {"head": 7}, {"w": (6, 42), "bias": (42,), "o": (14, 6)}),
        (SLICED, {"head": 7, "heads": 3}, {"w": (6, 63), "bias": (63,), "o": (21, 6)}),
        (LISTED, {"head_qk": 7}, {"w": (6, 36), "bias": (36,), "o": (8, 6)}),
        (LOOP, {"h": 7}, {"w": (6, 7), "u": (6, 7)}),
        (EXPERTS, {"c:1": 7}, {"w": (3, 7, 6), "u": (3, 6, 7)}),
    ],
    ids=["picked by an index", "sliced", "from a sequence", "a loop that is written out", "weights picked by an index"],
)
@pytest.mark.parametrize("split", ["uneven", "scatter", "first"])
def test_grows(graph: str, widths: dict[str, int], grown: dict[str, tuple[int, ...]], split: str) -> None:
    made = widen(fill(parse(graph, 17), low=-1, high=1), widths=widths, split=split)
    assert grown.items() <= weights(made.model).items()
    verdict = made.verify()
    assert verdict, verdict.reason


@pytest.mark.parametrize(
    "graph",
    [
        PICKED.replace("k = Gather(c, j)", "k = Gather(c, i)"),
        SLICED.replace("k1 = Slice(c, j, n, i)", "k1 = Slice(c, i, n, i)").replace("k = Squeeze(k1, i)", "k2 = Slice(k1, i, j, i) k = Squeeze(k2, i)"),
        LISTED.replace("k3 = SequenceAt(c, j)", "k3 = SequenceAt(c, i)"),
        PICKED.replace("float[N,5,6] x)", "float[N,5,6] x, int64 i)").replace(", int64 i = {0}", ""),
        LOOP.replace("y = Add(y0, y1)", "z = ReduceMean(c0) z1 = Add(y0, y1) y = Add(z1, z)"),
    ],
    ids=["queries are keys", "queries are keys, sliced", "queries are keys, listed", "at run time", "read elsewhere"],
)  # fmt: skip
def test_stays(graph: str) -> None:
    teacher = fill(parse(graph, 17), low=-1, high=1)
    name = next(
        (group.name for group in inspect(teacher).groups if group.name.startswith("head") and group.name != "heads"),
        "h",
    )
    with pytest.raises(RequestError, match="no weight can absorb"):
        widen(teacher, widths={name: 7})


def test_an_expert_is_a_matrix_and_no_attention() -> None:
    found = inspect(fill(parse(EXPERTS, 17), low=-1, high=1)).groups
    assert not [group.name for group in found if group.name.startswith("head")]


def box(**units: str) -> Box:
    return {int(dim[1:]): np.array([unit == "1" for unit in shown]) for dim, shown in units.items()}


@pytest.mark.parametrize(
    ("a", "b", "both", "either"),
    [
        (box(), box(), box(), box()),
        (box(d0="110"), box(d0="011"), box(d0="010"), box()),
        (box(d0="100"), box(d0="010"), None, box(d0="110")),
        (box(d0="10", d1="01"), box(d0="10"), box(d0="10", d1="01"), box(d0="10")),
        (box(d0="10"), box(d1="10"), box(d0="10", d1="10"), None),
        (box(d0="10", d1="10"), box(d0="01", d1="10"), None, box(d1="10")),
    ],
)
def test_boxes(a: Box, b: Box, both: Box | None, either: Box | None) -> None:
    assert alike(meet(a, b), both)
    assert alike(join([a, b]), either)
    assert alike(join([b, a]), either)
    assert alike(tidy({**a, 7: np.ones(3, bool)}), a)
    assert not alike(a, None)
