"""Attention between projections: heads grow, and so do the widths of values, and of queries with their keys."""

from __future__ import annotations

import pytest
from onnx import ModelProto

from onnx_net2net import RequestError, verify, widen
from tests.law import fill, parse, weights

STANDARD = """(float[N,5,6] x) => (float[N,5,6] y) <float[6,16] q, float[6,8] k, float[6,10] v, float[20,6] o>
{ a = MatMul(x, q) b = MatMul(x, k) c = MatMul(x, v)
  d = Attention<q_num_heads=4, kv_num_heads=2, is_causal=1>(a, b, c)
  y = MatMul(d, o) }"""

MULTI_HEAD = """(float[N,5,6] x) => (float[N,5,6] y) <float[6,8] q, float[6,8] k, float[6,10] v, float[26] bias, float[10,6] o>
{ a = MatMul(x, q) b = MatMul(x, k) c = MatMul(x, v)
  d = com.microsoft.MultiHeadAttention<num_heads=2>(a, b, c, bias)
  y = MatMul(d, o) }"""

GROUPED = """(float[2,5,6] x) => (float[2,5,6] y)
<float[6,64] q, float[6,32] k, float[6,32] v, float[64,6] o, int32[2] n = {4, 4}, int32 t = {5}, float[9,8] cos, float[9,8] sin>
{ a = MatMul(x, q) b = MatMul(x, k) c = MatMul(x, v)
  d = com.microsoft.GroupQueryAttention<num_heads=4, kv_num_heads=2, do_rotary=1>(a, b, c, , , n, t, cos, sin)
  y = MatMul(d, o) }"""

EINSUMS = """(float[N,5,6] x) => (float[N,5,6] y) <float[6,2,4] q, float[6,2,4] k, float[6,2,3] v, float[2,3,6] o>
{ a = Einsum<equation="bsi,ihd->bhsd">(x, q) b = Einsum<equation="bsi,ihd->bhsd">(x, k)
  c = Einsum<equation="bsi,ihd->bhsd">(x, v)
  s = Einsum<equation="bhqd,bhkd->bhqk">(a, b) p = Softmax(s)
  d = Einsum<equation="bhqk,bhkd->bhqd">(p, c)
  y = Einsum<equation="bhqd,hdo->bqo">(d, o) }"""


@pytest.mark.parametrize(
    ("graph", "opset", "grown"),
    [
        (STANDARD, 23, {"q": (6, 32), "k": (6, 16), "v": (6, 20), "o": (40, 6)}),
        (MULTI_HEAD, 17, {"q": (6, 16), "k": (6, 16), "v": (6, 20), "bias": (52,), "o": (20, 6)}),
        (GROUPED, 17, {"q": (6, 128), "k": (6, 64), "v": (6, 64), "o": (128, 6)}),
        (EINSUMS, 17, {"q": (6, 4, 8), "k": (6, 4, 8), "v": (6, 4, 6), "o": (4, 6, 6)}),
    ],
    ids=["Attention", "MultiHeadAttention", "GroupQueryAttention", "Einsum"],
)
def test_heads_grow(graph: str, opset: int, grown: dict[str, tuple[int, ...]]) -> None:
    made = widen(fill(parse(graph, opset), low=-1, high=1), factor=2)
    assert grown.items() <= weights(made.model).items()
    verdict = made.verify()
    assert verdict, verdict.reason


WITHOUT_BIAS = MULTI_HEAD.replace(", bias)", ")")


@pytest.mark.parametrize(
    ("graph", "opset"), [(STANDARD, 23), (WITHOUT_BIAS, 17)], ids=["Attention", "MultiHeadAttention"]
)
def test_queries_and_keys_grow_and_scores_keep_their_scale(graph: str, opset: int) -> None:
    made = widen(fill(parse(graph, opset), low=-1, high=1), widths={"head_qk": 7})
    assert weights(made.model)["q"][1] == weights(made.teacher)["q"][1] * 7 // 4
    verdict = made.verify()
    assert verdict, verdict.reason
    unscaled = ModelProto()
    unscaled.CopyFrom(made.model)
    (node,) = (node for node in unscaled.graph.node if "Attention" in node.op_type)
    (scale,) = (attribute for attribute in node.attribute if attribute.name == "scale")
    assert scale.f == 0.5
    node.attribute.remove(scale)
    assert not verify(made.teacher, unscaled)


def test_a_bias_inside_the_node_keeps_queries_and_keys() -> None:
    with pytest.raises(RequestError, match="it adds a bias to queries and keys"):
        widen(fill(parse(MULTI_HEAD), low=-1, high=1), widths={"q:1[1]": 7})


@pytest.mark.parametrize(
    ("graph", "opset"), [(STANDARD, 23), (MULTI_HEAD, 17)], ids=["Attention", "MultiHeadAttention"]
)
def test_values_grow_by_themselves(graph: str, opset: int) -> None:
    made = widen(fill(parse(graph, opset), low=-1, high=1), widths={"v:1[1]": 8})
    assert weights(made.model)["v"] == (6, 16)
    assert weights(made.model)["q"] == weights(made.teacher)["q"]
    verdict = made.verify()
    assert verdict, verdict.reason
