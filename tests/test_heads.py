"""Heads, widths of heads and feed-forward layers of transformers, under the names that people use."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from onnx_net2net import Expansion, RequestError, UsageError, inspect, verify, widen
from onnx_net2net.planning.plan import ConstantPlan, Plan
from onnx_net2net.widening.apply import apply
from tests.exports import DIMS, export
from tests.law import fill, parse, weights

GROUPS = {
    "bert.dynamo": "hidden 32 heads 4 4 head 8 ffn 48 48",
    "bert.torchscript": "hidden 32 heads 4 4 head_qk 8 8 head_v 8 8 ffn 48 48",
    "gpt2.torchscript": "hidden 32 heads 4 4 head_qk 8 8 head_v 8 8 ffn 128 128",
    "llama.dynamo": "hidden 32 heads 4 kv_heads 2 queries 2 head 8 ffn 48 48",
    "llama.dynamo_raw": "hidden 32 heads 4 4 kv_heads 2 2 queries 2 2 head_qk 8 8 head_v 8 8 ffn 48 48",
    "qwen3.dynamo": "hidden 32 heads 4 kv_heads 2 queries 2 head 8 ffn 48 48",
    "gemma.dynamo": "hidden 32 heads 4 head 16 ffn 48 48",
    "whisper.dynamo": "hidden 32 32 heads 4 4 4 head_qk 8 8 8 head_v 8 8 8 ffn 48 48",
    "swin.dynamo": "hidden 8 16 heads 2 2 4 4 head 4 4 4 4 ffn 32 32 64 64",
    "vit.dynamo": "hidden 32 heads 4 4 head_qk 8 8 head_v 8 8 ffn 48 48",
    "segformer.dynamo": "hidden 8 16 heads 2 head_qk 8 8 head_v 8 8 ffn 16 32",
    "convnext.dynamo": "hidden 8 12 16 24 ffn 32 48 64 96",
    "attention.tf2onnx": "hidden 16 heads 4 head_qk 4 head_v 4 ffn 32",
    "resnet.dynamo": "hidden 32",
    "densenet.dynamo": "",
    "lstm.dynamo": "",
}


@pytest.mark.parametrize("name", GROUPS)
def test_groups_are_found(name: str) -> None:
    found = inspect(export(name)).groups
    assert " ".join(f"{g.name} {' '.join(str(g.size(i)) for i in g.axes)}" for g in found) == GROUPS[name]


WIDER = {
    "bert.dynamo": {"heads": 5, "head": 11, "ffn": "x1.5"},
    "bert.torchscript": {"heads": 5, "head_qk": 11, "head_v": 9, "ffn": "+3"},
    "gpt2.dynamo": {"heads": "x1.25", "head_qk": 11, "head_v": 13, "ffn": 131},
    "gpt2.torchscript": {"head_qk": 9},
    "llama.dynamo": {"kv_heads": 3, "queries": 5, "head": 14, "ffn": 53},
    "llama.dynamo_raw": {"heads": 6, "head_qk": 14, "head_v": 11},
    "llama.torchscript": {"kv_heads": 3, "head_qk": 10, "head_v": 9},
    "gemma.dynamo": {"heads": 7, "head": 22},
    "t5.dynamo": {"heads": 5, "head_qk": 9, "head_v": 11, "ffn": 50},
    "vit.torchscript": {"heads": 7, "head_qk": 13, "head_v": 9, "ffn": "x1.5"},
    "segformer.torchscript": {"head_qk": 11, "heads": 3, "hidden": "x2"},
    "attention.tf2onnx": {"heads": 5, "head_qk": 7, "head_v": 6},
    "swin.torchscript": {"heads": "+1", "head": 7},
    "encoder.dynamo": {"heads": 5, "head": 7},
    "gpt2.dynamo_raw": {"heads": 5, "head_qk": 11},
    "mixtral.dynamo": {"hidden": 37, "head": 14, "ffn": 53},
    "mamba.dynamo": {"hidden": 37, "ffn": 71},
    "llama.optimum": {"head_qk": 12, "ffn": 50},
}


@pytest.mark.parametrize("split", ["uneven", "scatter", "first"])
@pytest.mark.parametrize("name", WIDER)
def test_groups_grow_to_odd_widths(name: str, split: str) -> None:
    if split != "uneven" and "torchscript" in name:
        pytest.skip("one exporter is enough")
    made = widen(export(name), widths=WIDER[name], split=split, seed=3)
    assert made.plan.axes
    verdict = made.verify(dims=DIMS)
    assert verdict, verdict.reason
    grown = {group.name: {group.size(i) for i in group.axes} for group in inspect(made.model).groups}
    exact = {name: {size} for name, size in WIDER[name].items() if isinstance(size, int)}
    assert {name: sizes for name, sizes in grown.items() if name in exact} == exact


@pytest.mark.parametrize(
    ("name", "widths", "kind", "message"),
    [
        ("bert.dynamo", {"head_qk": 9}, RequestError, "its groups are hidden, heads, head, ffn"),
        ("bert.dynamo", {"feed": 9}, RequestError, "its groups are hidden, heads, head, ffn"),
        ("bert.dynamo", {"hidden": 33}, RequestError, "needs a whole multiple"),
        ("bert.dynamo", {"ffn": 40}, RequestError, "cannot shrink"),
        ("llama.dynamo", {"heads": 7}, RequestError, "multiple of 2"),
        ("llama.dynamo", {"head": 9}, RequestError, "multiple of 2"),
        ("llama.dynamo", {"heads": 8, "kv_heads": 4}, UsageError, "give kv_heads and queries"),
        ("llama.dynamo", {"heads": 8, "queries": 4}, UsageError, "named twice"),
        ("encoder.torchscript", {"head": "x2"}, RequestError, "a size that it depends on is computed"),
        ("attention.tf2onnx", {"hidden": "x2"}, RequestError, "its shape must stay"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, widths: dict[str, int | str], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        widen(export(name), widths=widths)


def test_heads_keep_their_number_beside_a_factor() -> None:
    made = widen(export("llama.dynamo"), factor=2, widths={"heads": 6})
    grown = {group.name: [group.size(i) for i in group.axes] for group in inspect(made.model).groups}
    assert grown["heads"] == [6]
    assert grown["kv_heads"] == [2]


def test_a_name_of_the_model_goes_before_a_group() -> None:
    graph = """(float[N,6] x) => (float[N,6] y) <float[6,8] w, float[8,10] ffn, float[10,6] o>
    { a = MatMul(x, w) b = MatMul(a, ffn) y = MatMul(b, o) }"""
    assert weights(widen(fill(parse(graph)), widths={"ffn": 12}).model)["ffn"] == (8, 12)


SCORES = """(float[2,5,6] x) => (float[2,5,6] y)
<float[6,{q}] q, float[{q}] qb, float[6,8] k, float[6,8] v, float[{q},6] o, float[1] f, int64[4] t = {{2, 5, 2, 4}},
 int64[5] u = {{2, 5, 2, {r}, 4}}, int64[5] e = {{2, 2, {r}, 5, 4}}, int64[4] h = {{2, {h}, 5, 4}}, int64[3] m = {{2, 5, {q}}},
 int64[1] two = {{2}}>
{{ a = MatMul(x, q) ab = Add(a, qb) b = MatMul(x, k) c = MatMul(x, v)
  a1 = Reshape(ab, u) a2 = Transpose<perm=[0,2,3,1,4]>(a1) a3 = Reshape(a2, h)
  b1 = Reshape(b, t) b2 = Transpose<perm=[0,2,1,3]>(b1) b3 = Unsqueeze(b2, two) b4 = Expand(b3, e) b5 = Reshape(b4, h)
  c1 = Reshape(c, t) c2 = Transpose<perm=[0,2,1,3]>(c1) c3 = Unsqueeze(c2, two) c4 = Expand(c3, e) c5 = Reshape(c4, h)
  b6 = Transpose<perm=[0,1,3,2]>(b5) s = MatMul(a3, b6) n = Mul(s, f) p = Softmax(n) w = MatMul(p, c5)
  w1 = Transpose<perm=[0,2,1,3]>(w) w2 = Reshape(w1, m) y = MatMul(w2, o) }}"""


def grouped(dtype: str = "float") -> ModelProto:
    """Attention in which three heads of queries share each of two heads of keys."""
    text = SCORES.format(q=24, r=3, h=6)
    return fill(parse(text.replace("float", dtype), 17), low=-1, high=1)


@pytest.mark.parametrize("dtype", ["float", "float16"])
@pytest.mark.parametrize("widths", [{"heads": 8}, {"kv_heads": 5}, {"queries": 4, "kv_heads": 3, "head_qk": 7}])
def test_shared_heads(widths: dict[str, int], dtype: str) -> None:
    made = widen(grouped(dtype), widths=widths, seed=1)
    verdict = made.verify()
    assert verdict, verdict.reason


def plain() -> Expansion:
    """Wider queries and keys; the fractions are the queries'."""
    return widen(grouped(), widths={"head_qk": 7}, seed=1)


def test_queries_take_the_fractions_and_keys_do_not() -> None:
    made = plain()
    split = {constant.source for constant in made.plan.constants if constant.splits}
    assert split == {"q", "qb"}
    assert weights(made.model)["k"] == (6, 14)


def swapped(plan: Plan, change: dict[str, ConstantPlan]) -> Plan:
    return dataclasses.replace(plan, constants=tuple(change.get(c.source, c) for c in plan.constants))


def student_with(made: Expansion, change: dict[str, ConstantPlan]) -> ModelProto:
    return apply(made.teacher, swapped(made.plan, change))


def wrong(made: Expansion, student: ModelProto) -> bool:
    """Whether the check notices."""
    return not verify(made.teacher, student)


def test_fractions_on_both_sides_are_caught() -> None:
    made = plain()
    by_name = {constant.source: constant for constant in made.plan.constants}
    (split,) = by_name["q"].splits
    both = dataclasses.replace(split, before=by_name["k"].dims[1].parts[0])  # type: ignore[union-attr]
    assert wrong(made, student_with(made, {"k": dataclasses.replace(by_name["k"], splits=(both,))}))


@pytest.mark.parametrize("name", ["q", "qb"])
def test_fractions_that_a_weight_does_not_take_are_caught(name: str) -> None:
    made = plain()
    (constant,) = (constant for constant in made.plan.constants if constant.source == name)
    assert wrong(made, student_with(made, {name: dataclasses.replace(constant, splits=())}))


def changed(model: ModelProto, name: str, value: np.ndarray) -> ModelProto:
    student = ModelProto()
    student.CopyFrom(model)
    tensor: TensorProto = next(t for t in student.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    return student


def test_heads_that_are_tiled_instead_of_interleaved_are_caught() -> None:
    made = widen(grouped(), widths={"queries": 4}, seed=1)
    value = {t.name: numpy_helper.to_array(t) for t in made.model.graph.initializer}["q"]
    tiled = value.reshape(6, 2, 4, 4).transpose(0, 2, 1, 3).reshape(6, 32)
    assert not wrong(made, made.model)
    assert wrong(made, changed(made.model, "q", tiled))


def test_a_scale_of_the_new_width_is_caught() -> None:
    made = plain()
    scale = next(numpy_helper.to_array(t) for t in made.model.graph.initializer if t.name == "f")
    assert wrong(made, changed(made.model, "f", scale * np.sqrt(4 / 7)))


def test_norms_of_queries_take_the_fractions() -> None:
    made = widen(export("qwen3.dynamo"), widths={"head": 16}, seed=2)
    split = {constant.source for constant in made.plan.constants if any(s.axis == 0 for s in constant.splits)}
    assert any("q_norm" in name for name in split)
    assert not any("k_norm" in name for name in split)
    verdict = made.verify(dims=DIMS)
    assert verdict, verdict.reason


def test_what_something_else_reads_takes_no_fractions() -> None:
    graph = """(float[2,5,6] x) => (float[2,5,5] y, float[2,5,6] z) <float[6,8] q, float[6,8] k, float[8,6] o>
    { a = MatMul(x, q) b = MatMul(x, k) c = Transpose<perm=[0,2,1]>(b) y = MatMul(a, c) d = Relu(OTHER) z = MatMul(d, o) }"""
    both = fill(parse(graph.replace("OTHER", "a").replace("Transpose<perm=[0,2,1]>(b)", "Transpose<perm=[0,2,1]>(e)")
                      .replace("c = ", "e = Relu(b) c = ")))  # fmt: skip
    one = fill(parse(graph.replace("OTHER", "a")))
    with pytest.raises(RequestError, match="no weight can absorb the fractions"):
        widen(both, widths={"q:1": 11})
    made = widen(one, widths={"q:1": 11})
    assert made.verify()
    split = {constant.source for constant in made.plan.constants if constant.splits}
    assert split == {"k", "o"}, "queries are read by two, so keys take the fractions"


def test_inspect_lists_groups() -> None:
    found = inspect(export("llama.dynamo")).to_dict()["groups"]
    heads = next(group for group in found if group["name"] == "heads")
    assert heads["sizes"] == [4]
    assert heads["status"] == ["free"]
    assert heads["meaning"] == "attention heads"
