"""Attention between projections: heads grow, and so do the widths of values, and of queries with their keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from onnx_net2net import Expansion, inspect, verify, widen
from onnx_net2net.planning.plan import Split
from onnx_net2net.widening.apply import apply
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


PACKED = """(float[2,5,6] x) => (float[2,5,6] y) <float[6,24] w, float[24] bias, float[8,6] o>
{ d = com.microsoft.Attention<num_heads=2>(x, w, bias) y = MatMul(d, o) }"""

ROTATED = """(float[2,5,6] x) => (float[2,5,6] y)
<float[6,128] q, float[6,64] k, float[6,64] v, float[128,6] o, int32[2] n = {4, 4}, int32 t = {5}, float[9,16] cos, float[9,16] sin>
{ a = MatMul(x, q) b = MatMul(x, k) c = MatMul(x, v)
  d = com.microsoft.GroupQueryAttention<num_heads=4, kv_num_heads=2, do_rotary=1>(a, b, c, , , n, t, cos, sin)
  y = MatMul(d, o) }"""

STEPS = """(float[2,5,6] x) => (float[2,5,6] y)
<float[6,128] w, float[128] bias, float[64,6] o, int32[2] n = {4, 4}, int32 t = {5}>
{ a = MatMul(x, w) b = Add(a, bias)
  d = com.microsoft.GroupQueryAttention<num_heads=4, kv_num_heads=2>(b, , , , , n, t)
  y = MatMul(d, o) }"""

AHEAD = """(float[2,5,6] x, int64[2,5] p) => (float[2,5,6] y)
<float[6,16] q, float[6,16] k, float[6,6] v, float[6,6] o, float[9,2] cos, float[9,2] sin>
{ a = MatMul(x, q) b = MatMul(x, k) c = MatMul(x, v)
  e = com.microsoft.RotaryEmbedding<num_heads=2, rotary_embedding_dim=4, interleaved=1>(a, p, cos, sin)
  f = com.microsoft.RotaryEmbedding<num_heads=2, rotary_embedding_dim=4, interleaved=1>(b, p, cos, sin)
  d = com.microsoft.MultiHeadAttention<num_heads=2>(e, f, c)
  y = MatMul(d, o) }"""

FUSED = {
    "Attention": (STANDARD, 23, "kv_heads 2 queries 2 head_qk 4 head_v 5", {"head_qk": 7, "head_v": 6}),
    "MultiHeadAttention": (MULTI_HEAD, 17, "heads 2 head_qk 4 head_v 5", {"head_qk": 7, "heads": 3}),
    "packed Attention": (PACKED, 17, "heads 2 head_qk 4 head_v 4", {"head_qk": 7, "head_v": 5, "heads": 3}),
    "GroupQueryAttention": (ROTATED, 17, "kv_heads 2 queries 2 head 32", {"head": 48, "kv_heads": 3, "queries": 3}),
    "packed GroupQueryAttention": (STEPS, 17, "kv_heads 2 queries 2 head 16", {"head": 24, "queries": 3}),
    "RotaryEmbedding": (AHEAD, 17, "heads 2 head_qk 4 4 head_v 3", {"q:1[1]": 3, "q:1[3]": 7, "heads": 3}),
}


def wide(name: str, widths: Mapping[str, int | str] | None = None, split: Split = "uneven") -> Expansion:
    graph, opset, _, asked = FUSED[name]
    return widen(fill(parse(graph, opset), low=-1, high=1), widths=widths or asked, split=split, seed=4)


@pytest.mark.parametrize("name", FUSED)
def test_fused_attention_has_groups(name: str) -> None:
    graph, opset, named, _ = FUSED[name]
    found = inspect(fill(parse(graph, opset))).groups
    shown = [f"{group.name} {' '.join(str(group.size(axis)) for axis in group.axes)}" for group in found]
    assert " ".join(text for text in shown if not text.startswith("heads") or "kv_heads" not in named) == named


@pytest.mark.parametrize("split", ["uneven", "scatter", "first"])
@pytest.mark.parametrize("name", FUSED)
def test_fused_attention_grows_to_odd_widths(name: str, split: Split) -> None:
    made = wide(name, split=split)
    verdict = made.verify()
    assert verdict, verdict.reason
    grown = {group.name: {group.size(axis) for axis in group.axes} for group in inspect(made.model).groups}
    asked = {group: {size} for group, size in FUSED[name][3].items() if group in grown}
    assert asked.items() <= grown.items()


@pytest.mark.parametrize("name", [name for name in FUSED if name != "RotaryEmbedding"])
def test_scores_keep_their_scale(name: str) -> None:
    made = wide(name, {group: "x1.5" for group in FUSED[name][3] if group in ("head", "head_qk")})
    assert made.verify()
    unscaled = copied(made.model)
    (node,) = (node for node in unscaled.graph.node if "Attention" in node.op_type)
    (scale,) = (attribute for attribute in node.attribute if attribute.name == "scale")
    node.attribute.remove(scale)
    assert not verify(made.teacher, unscaled)


@pytest.mark.parametrize(
    ("name", "group", "bias"),
    [
        ("MultiHeadAttention", "head_qk", "bias"),
        ("packed Attention", "head_qk", "bias"),
        ("packed GroupQueryAttention", "head", "bias"),
    ],
)
def test_a_bias_that_takes_no_fractions_is_caught(name: str, group: str, bias: str) -> None:
    made = wide(name, {group: "x1.5"})
    kept = [dataclasses.replace(c, splits=()) if c.source == bias else c for c in made.plan.constants]
    assert verify(made.teacher, apply(made.teacher, made.plan))
    assert not verify(made.teacher, apply(made.teacher, dataclasses.replace(made.plan, constants=tuple(kept))))


def test_heads_of_queries_that_are_tiled_are_caught() -> None:
    made = wide("GroupQueryAttention", {"queries": 3})
    value = {t.name: numpy_helper.to_array(t) for t in made.model.graph.initializer}["q"]
    tiled = value.reshape(6, 2, 3, 32).transpose(0, 2, 1, 3).reshape(6, 192)
    assert verify(made.teacher, made.model)
    assert not verify(made.teacher, with_weight(made.model, "q", tiled))


@pytest.mark.parametrize("name", ["GroupQueryAttention", "RotaryEmbedding"])
def test_angles_in_another_order_are_caught(name: str) -> None:
    made = wide(name)
    value = {t.name: numpy_helper.to_array(t) for t in made.model.graph.initializer}["cos"]
    assert not verify(made.teacher, with_weight(made.model, "cos", np.roll(value, 1, 1)))


def copied(model: ModelProto) -> ModelProto:
    student = ModelProto()
    student.CopyFrom(model)
    return student


def with_weight(model: ModelProto, name: str, value: np.ndarray) -> ModelProto:
    student = copied(model)
    tensor = next(t for t in student.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return student


@pytest.mark.parametrize(
    ("graph", "opset"), [(STANDARD, 23), (MULTI_HEAD, 17)], ids=["Attention", "MultiHeadAttention"]
)
def test_values_grow_by_themselves(graph: str, opset: int) -> None:
    made = widen(fill(parse(graph, opset), low=-1, high=1), widths={"v:1[1]": 8})
    assert weights(made.model)["v"] == (6, 16)
    assert weights(made.model)["q"] == weights(made.teacher)["q"]
    verdict = made.verify()
    assert verdict, verdict.reason
