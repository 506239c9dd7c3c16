"""What optimisers make of transformers: graphs of onnxruntime's, a decoder with a cache, and mixtures of experts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from onnx_net2net import RequestError, inspect, verify, widen
from onnx_net2net.inference.infer import infer
from tests.exports import DIMS, filled
from tests.law import fill, parse
from tests.test_attention import copied, with_weight

FOLDER = Path(__file__).parents[1] / "models" / "fused"
Widths = Mapping[str, int | str]


@cache
def fused(name: str) -> ModelProto:
    """A graph of models/fused, filled. Callers must not change it."""
    return filled(onnx.load(FOLDER / f"{name}.onnx"))


FUSED: dict[str, tuple[str, Widths]] = {
    "bert": (
        "hidden 32 heads 4 4 head_qk 8 8 head_v 8 8 ffn 48 48",
        {"hidden": 64, "heads": 5, "head_qk": 11, "head_v": 9, "ffn": 53},
    ),
    "gpt2": (
        "hidden 32 heads 4 4 head_qk 8 8 head_v 8 8 ffn 128 128",
        {"hidden": 64, "heads": 5, "head_qk": 11, "head_v": 9, "ffn": 131},
    ),
    "qwen3": ("hidden 32 kv_heads 2 2 head_qk 8 head_v 8 8 ffn 48 48", {"head_qk": 16, "head_v": 9, "ffn": 53}),
    "t5": (
        "hidden 32 heads 4 4 4 head_qk 8 8 8 head_v 8 8 8 ffn 48 48",
        {"hidden": 64, "heads": 5, "head_qk": 10, "head_v": 9, "ffn": 50},
    ),
    "gpt2.opset24": (
        "hidden 32 heads 4 4 head_qk 8 8 head_v 8 8 ffn 128 128",
        {"hidden": 37, "heads": 5, "head_qk": 11, "head_v": 9, "ffn": 131},
    ),
    "llama.opset24": (
        "hidden 32 heads 4 kv_heads 2 queries 2 head 8 ffn 48 48",
        {"hidden": 37, "kv_heads": 3, "queries": 3, "head": 14, "ffn": 53},
    ),
    "vit": (
        "hidden 32 heads 4 4 head_qk 8 8 head_v 8 8 ffn 48 48",
        {"hidden": 64, "heads": 7, "head_qk": 13, "head_v": 9, "ffn": 53},
    ),
}


def shown(model: ModelProto) -> str:
    return " ".join(f"{g.name} {' '.join(str(g.size(i)) for i in g.axes)}" for g in inspect(model).groups)


@pytest.mark.parametrize("name", FUSED)
def test_fused_graphs_have_groups(name: str) -> None:
    assert shown(fused(name)) == FUSED[name][0]


@pytest.mark.parametrize("name", FUSED)
def test_fused_graphs_grow_to_odd_widths(name: str) -> None:
    widths = FUSED[name][1]
    made = widen(fused(name), widths=widths, seed=3)
    verdict = made.verify(dims=DIMS)
    assert verdict, verdict.reason
    grown = {group.name: {group.size(i) for i in group.axes} for group in inspect(made.model).groups}
    assert {group: {size} for group, size in widths.items()}.items() <= grown.items()


LAYER = """
  qkv{i} = MatMul(n{i}, qkv{i}w) qkvb{i} = Add(qkv{i}, qkv{i}b)
  a{i}, key{i}, value{i} = com.microsoft.GroupQueryAttention<num_heads=4, kv_num_heads=2, do_rotary=1>
    (qkvb{i}, , , past_key{i}, past_value{i}, seqlens_k, total, cos, sin)
  o{i} = MatMul(a{i}, o{i}w)
  m{i}, , , r{i} = com.microsoft.SkipSimplifiedLayerNormalization<epsilon=0.00001>(s{i}, o{i}, norm{i}a)
  g{i} = MatMul(m{i}, g{i}w) u{i} = MatMul(m{i}, u{i}w) t{i} = Sigmoid(g{i}) w{i} = Mul(g{i}, t{i}) h{i} = Mul(w{i}, u{i})
  d{i} = MatMul(h{i}, d{i}w)
  n{j}, , , s{j} = com.microsoft.SkipSimplifiedLayerNormalization<epsilon=0.00001>(r{i}, d{i}, norm{i}b)
"""
CACHE = "float[batch,2,past,32] past_key{i}, float[batch,2,past,32] past_value{i}"
KEPT = "float[batch,2,all,32] key{i}, float[batch,2,all,32] value{i}"
WEIGHTS = """float[12,256] qkv{i}w, float[256] qkv{i}b, float[128,12] o{i}w, float[12] norm{i}a, float[12,20] g{i}w,
 float[12,20] u{i}w, float[20,12] d{i}w, float[12] norm{i}b"""


def decoder(*, cached: bool = True) -> ModelProto:
    """Two layers as generation builds them: packed projections, rotations and the cache inside, fused norms."""
    layers = range(2)

    def each(text: str) -> str:
        return ", ".join(text.format(i=i) for i in layers)

    body = "".join(LAYER.format(i=i, j=i + 1) for i in layers)
    if not cached:
        body = body.replace("past_key0, past_value0", ", ").replace("past_key1, past_value1", ", ")
    graph = f"""(int64[batch,tokens] ids, int32[batch] seqlens_k, int32 total{", " + each(CACHE) if cached else ""})
    => (float[batch,tokens,9] logits{", " + each(KEPT) if cached else ""})
    <float[9,12] words, float[12] first, float[12,9] lm, float[64,16] cos, float[64,16] sin, {each(WEIGHTS)}>
    {{ s0 = Gather(words, ids) n0 = SimplifiedLayerNormalization<axis=-1, epsilon=0.00001>(s0, first) {body}
      logits = MatMul(n2, lm) }}"""
    return fill(parse(graph), low=-0.5, high=0.5)


PROMPT = {"batch": 2, "tokens": 5, "past": 0}
STEP = {"batch": 2, "tokens": 1, "past": 4}


@pytest.mark.parametrize("dims", [PROMPT, STEP], ids=["prompt", "step"])
def test_a_decoder_with_a_cache_grows(dims: dict[str, int]) -> None:
    made = widen(decoder(), widths={"queries": 3, "ffn": 23, "hidden": 24}, seed=2)
    verdict = made.verify(dims=dims)
    assert verdict, verdict.reason
    with pytest.raises(RequestError, match="head cannot grow, graph input 'past_key0'"):
        widen(decoder(), widths={"head": 48})
    with pytest.raises(RequestError, match="kv_heads cannot grow, graph input 'past_key0'"):
        widen(decoder(), widths={"kv_heads": 3})


@pytest.mark.parametrize("dims", [PROMPT, STEP], ids=["prompt", "step"])
def test_a_cache_that_may_change_grows(dims: dict[str, int]) -> None:
    asked = {"kv_heads": 3, "queries": 3, "head": 48, "ffn": 23, "hidden": 24}
    made = widen(decoder(), widths=asked, seed=2, allow_io_change=True)
    verdict = made.verify(dims=dims)
    assert verdict, verdict.reason
    assert shown(made.model) == "hidden 24 heads 9 9 kv_heads 3 3 queries 3 3 head 48 ffn 23 23"


def test_a_decoder_without_a_cache_grows_in_every_group() -> None:
    asked = {"kv_heads": 3, "queries": 3, "head": 48, "ffn": 23, "hidden": 24}
    made = widen(decoder(cached=False), widths=asked, seed=2)
    verdict = made.verify(dims=PROMPT)
    assert verdict, verdict.reason
    assert shown(made.model).startswith("hidden 24 heads 9 9 kv_heads 3 3 queries 3 3 head 48 ffn 23 23")


def test_damage_inside_a_decoder_is_caught() -> None:
    made = widen(decoder(cached=False), widths={"queries": 3, "head": 48}, seed=2)
    assert verify(made.teacher, made.model, dims=PROMPT)
    stored = {t.name: numpy_helper.to_array(t) for t in made.model.graph.initializer}
    wrong = [with_weight(made.model, "cos", np.roll(stored["cos"], 1, 1)), copied(made.model), copied(made.model)]
    for node in wrong[1].graph.node:
        kept = [a for a in node.attribute if a.name != "scale"]
        del node.attribute[:]
        node.attribute.extend(kept)
    queries, rest = np.split(stored["qkv1w"], [2 * 3 * 48], 1)
    tiled = queries.reshape(12, 2, 3, 48).transpose(0, 2, 1, 3).reshape(12, -1)
    wrong[2] = with_weight(made.model, "qkv1w", np.concatenate([tiled, rest], 1))
    assert not any(verify(made.teacher, student, dims=PROMPT) for student in wrong)


NORM = "n = LayerNormalization(x, gamma) "
EXPERTS = {
    "fused": (
        "float[4,7,6] w, float[4,7] b, float[4,6,7] v, float[6,4] gate",
        """g = MatMul(n, gate) f = Reshape(g, pairs)
        y0 = com.microsoft.MoE<k=2, activation_type="silu", normalize_routing_weights=1>(n, f, w, b, v)""",
    ),
    "all of them": (
        "float[4,6,7] w, float[4,7,6] v, float[6,4] gate",
        """f = Reshape(n, rows) g = MatMul(f, gate) p = Softmax(g) h = MatMul(f, w) a = Relu(h) e = MatMul(a, v)
        t = Transpose<perm=[1,0]>(p) u = Unsqueeze(t, two) m = Mul(e, u) q = ReduceSum<keepdims=0>(m, zero)
        y0 = Reshape(q, whole)""",
    ),
    "by Einsum": (
        "float[4,6,7] w, float[4,7,6] v, float[6,4] gate",
        """g = MatMul(n, gate) p = Softmax(g) h = Einsum<equation="bsi,eif->besf">(n, w) a = Relu(h)
        y0 = Einsum<equation="besf,efi,bse->bsi">(a, v, p)""",
    ),
    "gathered": (
        "float[4,6,7] w, float[4,7,6] v, float[6,4] gate",
        """f = Reshape(n, rows) g = MatMul(f, gate) p = Softmax(g) best, k = TopK(p, many)
        wk = Gather(w, k) vk = Gather(v, k) h = Einsum<equation="ti,tkif->tkf">(f, wk) a = Relu(h)
        e = Einsum<equation="tkf,tkfi,tk->ti">(a, vk, best) y0 = Reshape(e, whole)""",
    ),
    "masked": (
        "float[6,7] w0, float[7,6] v0, float[6,7] w1, float[7,6] v1, float[6,2] gate",
        """p = MatMul(n, gate) best = ArgMax<axis=2>(p)
        c0 = Equal(best, first) m0 = Cast<to=1>(c0) h0 = MatMul(n, w0) a0 = Relu(h0) e0 = MatMul(a0, v0) f0 = Mul(e0, m0)
        c1 = Equal(best, second) m1 = Cast<to=1>(c1) h1 = MatMul(n, w1) a1 = Relu(h1) e1 = MatMul(a1, v1) f1 = Mul(e1, m1)
        y0 = Add(f0, f1)""",
    ),
}


def experts(name: str) -> ModelProto:
    """A layer with a router and two or four experts of seven units, in one of the ways that graphs have them."""
    weights, body = EXPERTS[name]
    graph = f"""(float[2,5,6] z) => (float[2,5,6] y) <float[6,6] start, float[6,6] end, float[6] gamma, {weights},
    int64[2] rows = {{10, 6}}, int64[2] pairs = {{10, 4}}, int64[3] whole = {{2, 5, 6}}, int64[1] two = {{2}},
    int64[1] zero = {{0}}, int64[1] many = {{2}}, int64 first = {{0}}, int64 second = {{1}}>
    {{ x = MatMul(z, start) {NORM} {body} s = Add(x, y0) y = MatMul(s, end) }}"""
    return fill(parse(graph, 18), low=-1, high=1)


@pytest.mark.parametrize("name", [name for name in EXPERTS if name != "gathered"])
def test_experts_grow(name: str) -> None:
    made = widen(experts(name), widths={"ffn": 10, "hidden": 12}, seed=5)
    verdict = made.verify()
    assert verdict, verdict.reason
    assert "hidden 12 ffn 10" in shown(made.model)


def test_experts_that_are_picked_by_an_index_grow() -> None:
    made = widen(experts("gathered"), widths={"w:2": 10, "start:1": 9}, seed=5)
    verdict = made.verify()
    assert verdict, verdict.reason
    assert {"vk", "wk"} <= set(infer(made.teacher).shared)


def test_the_number_of_experts_stays() -> None:
    found = infer(experts("fused"))
    (axis,) = (info for name, info in found.axes.items() if info.axis.size == 4)
    assert "the router picks the best of them" in " ".join(map(str, axis.pins))


def test_gates_of_experts_stay_beside_what_they_multiply() -> None:
    graph = """(float[10,6] z) => (float[10,6] y) <float[6,6] s, float[6,4] g, float[4,14,6] w, float[4,14] b, float[4,6,7] v,
     float[6,6] e>
    { x = MatMul(z, s) r = MatMul(x, g)
      a = com.microsoft.MoE<k=2, activation_type="swiglu", swiglu_fusion=1>(x, r, w, b, v) c = Add(a, x) y = MatMul(c, e) }"""
    made = widen(fill(parse(graph), low=-1, high=1), widths={"w:1[0]": 11})
    assert made.verify()
    value = {t.name: numpy_helper.to_array(t) for t in made.model.graph.initializer}["w"]
    chunked = value.reshape(4, 11, 2, 6).transpose(0, 2, 1, 3).reshape(4, 22, 6)
    assert not verify(made.teacher, with_weight(made.model, "w", chunked))
