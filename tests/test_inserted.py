"""Nodes that widening inserts: means behind norms, and factors in front of heads whose weights stay tied."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from onnx_net2net import Expansion, Plan, RequestError, UsageError, expand, verify, widen
from onnx_net2net.algebra.axes import Axis
from onnx_net2net.checking import segments
from onnx_net2net.inference.infer import infer
from onnx_net2net.planning.plan import AxisPlan
from onnx_net2net.storage.model import LazyModel
from onnx_net2net.training.weights import Growth
from onnx_net2net.widening import inserted
from onnx_net2net.widening.apply import apply
from tests.exports import DIMS, export
from tests.test_residual import (
    AXIS,
    BARS,
    DTYPES,
    D,
    V,
    fused,
    fused_rms,
    gelu,
    keras,
    model,
    plain,
    swiglu,
    transformer,
    written,
)
from tests.untouched import assert_untouched

BERT = "model.bert.embeddings.word_embeddings.weight:1"
GPT = "model.lm_head.weight"
HINT = "--allow-nodes"


def equal(made: Expansion, bar: float = 3e-6, **options: Any) -> None:
    """The student equals its teacher, tensor by tensor."""
    verdict = made.verify(per_layer=True, **options)
    assert verdict, verdict.reason
    assert max(output.max_rel for output in verdict.outputs) < bar
    assert verdict.layers is not None
    assert verdict.layers.first is None, str(verdict.layers.first)
    assert_untouched(made.teacher, made.exact, made.plan)
    if not any(node.op_type.startswith("Simplified") for node in made.model.graph.node):  # unknown to the checker
        onnx.checker.check_model(made.model)


def weights(made: ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}


# Means ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [33, 47, 65])
@pytest.mark.parametrize("name", ["bert.dynamo", "bert.torchscript", "bert.dynamo_raw"])
def test_bert_grows_to_any_width(name: str, width: int) -> None:
    made = widen(export(name), widths={BERT: width}, allow_nodes=True, seed=1)
    equal(made, dims=DIMS)
    assert [item.kind for item in made.plan.inserted] == ["mean"] * 4  # behind every norm but the last
    grown = [node for node in made.model.graph.node if node.op_type == "MatMul" and node.name.endswith("_averaged")]
    assert len(grown) == 4


@pytest.mark.parametrize("name", ["bert.dynamo", "bert.torchscript", "bert.dynamo_raw"])
def test_bert_needs_leave_to_do_so(name: str) -> None:
    with pytest.raises(RequestError, match=f"4 inserted nodes can make it .{HINT}"):
        widen(export(name), widths={BERT: 47})
    assert HINT in widen(export(name), factor=1.5).skipped[BERT]
    doubled = widen(export(name), widths={BERT: 64}, allow_nodes=True)
    assert not doubled.plan.inserted  # whole multiples need none
    assert doubled.verify(dims=DIMS)


MORE = {"convnext.dynamo": 8, "mixer.torchscript": 2, "segformer.dynamo_raw": 2, "whisper.dynamo": 1}
"""Where scales for each unit, activations or overlapping patches lose the mean; and how many nodes make it."""


@pytest.mark.parametrize("name", MORE)
def test_other_streams(name: str) -> None:
    made = widen(export(name), factor=1.4, allow_nodes=True, seed=1)
    equal(made, 2e-5, dims=DIMS)
    assert len(made.plan.inserted) == MORE[name]
    without = widen(export(name), factor=1.4, seed=1)
    helped = {item.axis for item in made.plan.inserted}
    assert helped == {name for name, why in without.skipped.items() if HINT in why}
    assert {axis.name for axis in made.plan.axes} == {axis.name for axis in without.plan.axes} | helped


def squared(x: str, y: str, k: str) -> str:
    return f"{plain(x, 'p' + y, k)} {y} = Mul(p{y}, p{y})"


STREAMS: dict[str, tuple[str, int]] = {
    "post-norm": (transformer(fused, post=True), 1),
    "post-norm written out": (transformer(written, post=True), 1),
    "post-norm as TensorFlow writes it": (transformer(keras, post=True), 1),
    "squares of a norm without scale, of which the matrix takes on the power": (transformer(squared, post=True), 1),
    "a scale for each unit": (transformer(fused, lambda x, y: f"{gelu(x, 'r' + y)} {y} = Mul(r{y}, g2)"), 1),
    "an activation": (transformer(fused, lambda x, y: f"{gelu(x, 'r' + y)} {y} = Relu(r{y})"), 1),
    "a stream that starts with an activation": (
        transformer(fused).replace("x0 = Add(t, places)", "u0 = Add(t, places) x0 = Tanh(u0)"),
        1,
    ),
}


@pytest.mark.parametrize("width", [D + 1, 2 * D + 3])
@pytest.mark.parametrize("row", STREAMS)
def test_streams_that_lose_the_mean(row: str, width: int) -> None:
    text, nodes = STREAMS[row]
    made = widen(model(text), widths={AXIS: width}, allow_nodes=True, seed=3)
    equal(made)
    assert len(made.plan.inserted) == nodes


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("row", STREAMS)
def test_streams_in_other_types(row: str, dtype: str) -> None:
    kind = DTYPES[dtype]
    if row == "post-norm written out" and kind is np.float64:
        pytest.skip("onnxruntime fuses it with an epsilon of its own")
    made = widen(model(STREAMS[row][0], kind), widths={AXIS: 13}, allow_nodes=True, seed=3)
    verdict = made.verify(rtol=1e-11 if kind is np.float64 else None)
    assert verdict, verdict.reason
    assert max(output.max_rel for output in verdict.outputs) < BARS[kind]


def test_what_no_node_can_make_is_declined() -> None:
    turned = transformer(fused).replace("x0 = Add(t, places)", "u0 = Add(t, places) x0 = LpNormalization<axis=1>(u0)")
    both = transformer(lambda x, y, k: (fused if k == "1" else fused_rms)(x, y, k))
    assert widen(model(turned), widths={AXIS: 12}, allow_nodes=True).verify()
    with pytest.raises(RequestError, match="would have to hold the mean and zero") as caught:
        widen(model(both), widths={AXIS: 12}, allow_nodes=True)
    assert HINT not in str(caught.value)


# Tied weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [64, 47, 71, 96])
def test_the_head_of_gpt2_stays_tied(width: int) -> None:
    teacher = export("gpt2.dynamo_raw")
    made = widen(teacher, widths={f"{GPT}:1": width}, tied="keep")
    equal(made, dims=DIMS)
    assert made.plan.kept == (GPT,)
    assert made.plan.cloned == ()
    assert [item.value for item in made.plan.inserted] == ([1 / (width // 32)] if width >= 64 else [])
    assert [name for name, value in weights(made.model).items() if 60 in value.shape] == [GPT]
    parted = widen(teacher, widths={f"{GPT}:1": width}, tied="clone")
    assert parted.plan.to_json() == widen(teacher, widths={f"{GPT}:1": width}).plan.to_json()
    assert parted.plan.cloned == (GPT,)
    assert sum(60 in value.shape for value in weights(parted.model).values()) == 2


TIED: dict[str, tuple[str, int]] = {
    "LayerNormalization": (transformer(fused, tied=True), 17),
    "LayerNormalization written out": (transformer(written, tied=True), 17),
    "RMS": (transformer(fused_rms, swiglu, tied=True), 17),
    "by a Gemm": (
        transformer(fused, tied=True).replace(
            "tt = Transpose<perm=[1,0]>(table) y = MatMul(last, tt)",
            "flat = Reshape(last, rows) z = Gemm<transB=1>(flat, table) y = Reshape(z, back)",
        ),
        17,
    ),
    "by an Einsum": (
        transformer(fused, tied=True).replace(
            "tt = Transpose<perm=[1,0]>(table) y = MatMul(last, tt)", 'y = Einsum<equation="bnd,vd->bnv">(last, table)'
        ),
        17,
    ),
    "without norms": (
        f"(int64[2,5] ids) => (float[2,5,{V}] y) {{ t = Gather(table, ids) {gelu('t', 'r')} s = Add(t, r) "
        "tt = Transpose<perm=[1,0]>(table) y = MatMul(s, tt) }",
        17,
    ),
    "post-norm": (transformer(fused, post=True, tied=True), 17),
}


def tied_model(row: str, dtype: Any = np.float32) -> ModelProto:
    made = model(TIED[row][0], dtype, TIED[row][1])
    shapes = {"rows": [-1, D], "back": [2, 5, V]}
    used = {name for node in made.graph.node for name in node.input}
    made.graph.initializer.extend(
        numpy_helper.from_array(np.array(shape), name) for name, shape in shapes.items() if name in used
    )
    return made


@pytest.mark.parametrize("width", [2 * D, D + 2, 2 * D + 5])
@pytest.mark.parametrize("row", TIED)
def test_tied_weights_stay_tied(row: str, width: int) -> None:
    made = widen(tied_model(row), widths={AXIS: width}, tied="keep", allow_nodes=True, seed=2)
    equal(made)
    assert made.plan.kept == ("table",)
    assert sum(V in value.shape for value in weights(made.model).values()) == 1
    assert [item.value for item in made.plan.inserted if item.kind == "scale"] == [1 / (width // D)] * (width >= 2 * D)


@pytest.mark.parametrize("row", [row for row in TIED if row != "RMS"])
def test_tied_weights_in_half_precision(row: str) -> None:
    made = widen(tied_model(row, np.float16), widths={AXIS: 3 * D + 2}, tied="keep", allow_nodes=True, seed=2)
    verdict = made.verify()
    assert verdict, verdict.reason
    assert max(output.max_rel for output in verdict.outputs) < BARS[np.float16]


def test_what_cannot_stay_tied_is_refused() -> None:
    """The head reads what is not zero in filler: an activation, or the stream itself under norms."""
    head = "tt = Transpose<perm=[1,0]>(table) y = MatMul({}, tt)"
    squashed = TIED["without norms"][0].replace(head.format("s"), f"h = Sigmoid(s) {head.format('h')}")
    bare = TIED["LayerNormalization"][0].replace(head.format("last"), head.format("x4"))
    for text in (squashed, bare):
        teacher = model(text)
        with pytest.raises(RequestError, match="any width will do with --tied clone"):
            widen(teacher, widths={AXIS: 12}, tied="keep")
        equal(widen(teacher, widths={AXIS: 12}))
        equal(widen(teacher, widths={AXIS: 16}, tied="keep"))


def test_more_is_made_of_a_weight_than_can_stay_tied() -> None:
    squared = (
        TIED["LayerNormalization"][0]
        .replace("tt = T", "table2 = Mul(table, table) tt = T")
        .replace("MatMul(last, tt)", "MatMul(last, tt) z2 = MatMul(last, tt2)")
    )
    text = squared.replace("z2 = MatMul", "tt2 = Transpose<perm=[1,0]>(table2) z2 = MatMul").replace(
        "y = MatMul(last, tt)", "z1 = MatMul(last, tt)"
    )
    teacher = model(text[:-1] + "y = Add(z1, z2) }")
    with pytest.raises(RequestError, match=r"weight \(table\): it cannot stay one tensor: more is made of it"):
        widen(teacher, widths={AXIS: 16}, tied="keep")
    equal(widen(teacher, widths={AXIS: 16}))


def test_quantised_weights_cannot_stay_tied() -> None:
    text = TIED["without norms"][0].replace(
        "t = Gather(table, ids)", "d1 = DequantizeLinear(stored, step) t = Gather(d1, ids)"
    )
    teacher = model(
        text.replace("Transpose<perm=[1,0]>(table)", "Transpose<perm=[1,0]>(d2)").replace(
            "tt =", "d2 = DequantizeLinear(stored, step) tt ="
        )
    )
    steps = np.random.default_rng(0).integers(-90, 90, (V, D)).astype(np.int8)
    teacher.graph.initializer.append(numpy_helper.from_array(steps, "stored"))
    teacher.graph.initializer.append(numpy_helper.from_array(np.array(0.02, np.float32), "step"))
    (axis,) = {axis.name for axis in widen(teacher, widths={"t": 16}).plan.axes}
    equal(widen(teacher, widths={axis: 16}))
    with pytest.raises(
        RequestError, match=r"weight \(stored\): it cannot stay one tensor: Dequ.* take a factor; use --t"
    ):
        widen(teacher, widths={axis: 16}, tied="keep")


def test_nothing_is_tied() -> None:
    made = widen(model(transformer(fused)), widths={AXIS: 12}, tied="keep")
    assert made.plan.kept == made.plan.inserted == ()
    equal(made)


# Plans ----------------------------------------------------------------------------------------------------------------


def both(**more: Any) -> Expansion:
    return widen(tied_model("post-norm"), widths={AXIS: 19}, tied="keep", allow_nodes=True, **more)


def test_a_plan_says_it_all() -> None:
    made = both(seed=2)
    assert {item.kind for item in made.plan.inserted} == {"mean", "scale"}
    text = made.plan.to_json()
    assert Plan.from_json(text) == made.plan
    again = widen(made.teacher, plan=text)
    assert again.model.SerializeToString(deterministic=True) == made.model.SerializeToString(deterministic=True)
    with pytest.raises(UsageError):
        widen(made.teacher, plan=text, allow_nodes=True)
    first, second = made.plan.inserted
    for wrong in (
        dataclasses.replace(made.plan, inserted=()),
        dataclasses.replace(made.plan, inserted=(first,)),
        dataclasses.replace(made.plan, inserted=(first, dataclasses.replace(second, value=1.0))),
        dataclasses.replace(made.plan, inserted=(dataclasses.replace(first, tensor="x1"), second)),
        dataclasses.replace(made.plan, kept=()),
    ):
        with pytest.raises(RequestError):
            widen(made.teacher, plan=wrong)
    for key, value in (("kind", "median"), ("value", "1"), ("names", ["a", "b"]), ("macs", 1.5)):
        body = json.loads(text)
        body["inserted"][0][key] = value
        with pytest.raises(RequestError, match="not a plan"):
            Plan.from_json(json.dumps(body))


def test_older_plans_are_read() -> None:
    made = widen(model(transformer(fused)), widths={AXIS: 12})
    body = json.loads(made.plan.to_json())
    del body["inserted"], body["kept"]
    assert Plan.from_json(json.dumps(body)) == made.plan


def test_names_are_new() -> None:
    teacher = tied_model("post-norm")
    mean, scale = both().plan.inserted
    for node, name in zip(teacher.graph.node, (*mean.names, *scale.names), strict=False):
        node.name = name
    made = widen(teacher, widths={AXIS: 19}, tied="keep", allow_nodes=True)
    names = [node.name for node in made.model.graph.node if node.name]
    assert len(names) == len(set(names))
    assert not {name for item in made.plan.inserted for name in item.names} & {*mean.names, *scale.names}
    equal(made)


def test_initializers_that_are_inputs() -> None:
    teacher = tied_model("post-norm")
    teacher.ir_version = 3
    teacher.graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in teacher.graph.initializer
    )
    made = widen(teacher, widths={AXIS: 19}, tied="keep", allow_nodes=True)
    assert {t.name for t in made.model.graph.initializer} < {value.name for value in made.model.graph.input}
    equal(made)


def test_what_is_written_down_of_shapes_follows() -> None:
    teacher = onnx.shape_inference.infer_shapes(tied_model("post-norm"))
    assert {"tt", "x2"} < {value.name for value in teacher.graph.value_info}
    made = widen(teacher, widths={AXIS: 19}, tied="keep", allow_nodes=True)
    equal(made)
    onnx.shape_inference.infer_shapes(made.model, strict_mode=True, data_prop=True)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in made.model.graph.value_info}
    assert shapes["tt"] == [19, V]
    assert shapes["x2"] == [2, 5, 19]


def test_a_student_is_a_teacher_too() -> None:
    once = both()
    twice = widen(once.model, factor=1.4)
    assert verify(once.teacher, twice.model)
    assert not [item for item in twice.plan.inserted if item.kind == "mean"]  # the matrices hold it by now


def test_recipes() -> None:
    step = {"do": "widen", "factor": 1.4, "allow-nodes": True, "tied": "keep"}
    made = expand(tied_model("post-norm"), {"steps": [step, {"do": "deepen", "after": "every", "mode": "residual"}]})
    assert made.verify()
    assert made.plan.inserted
    assert made.plan.kept
    again = expand(made.teacher, plan=made.plan.to_json())
    assert again.model.SerializeToString(deterministic=True) == made.model.SerializeToString(deterministic=True)


def test_large_weights_are_written_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of a student that is streamed are those of one in memory."""
    teacher = tied_model("post-norm")
    onnx.save(teacher, tmp_path / "in.onnx", save_as_external_data=True, location="in.data", size_threshold=0)
    for name in ("io.LARGE", "storage.reader.WHOLE", "storage.reader.INLINE", "storage.tensors.INLINE"):
        monkeypatch.setattr(f"onnx_net2net.{name}", 1)
    made = widen(str(tmp_path / "in.onnx"), widths={AXIS: 19}, tied="keep", allow_nodes=True)
    assert isinstance(made.lazy, LazyModel)
    assert {item.names[1] for item in made.plan.inserted if item.kind == "mean"} < made.lazy.made.keys()
    made.provenance = False
    made.save(tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == both().model.SerializeToString()


def test_in_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments.in_segments, "__defaults__", (None, 300))
    made = both()
    verdict = verify(made.teacher, made.model, plan=made.plan, scope="sample")
    assert verdict, verdict.reason
    assert "in 1 segments" not in verdict.notices[0]
    monkeypatch.setattr(inserted, "averaging", identity)
    assert not verify(made.teacher, apply(made.teacher, made.plan), plan=made.plan, scope="sample")


def test_checkpoints_grow_with_what_is_inserted() -> None:
    """As PyTorch holds it: embedding and head under two names, with one value."""
    made = both()
    held = {name: value for name, value in weights(made.teacher).items() if value.dtype == np.float32}
    growth = Growth(made.teacher, made.plan, {**held, "head.weight": held["table"]})
    wanted = weights(made.model)
    for name, value in growth.state.items():
        np.testing.assert_array_equal(value, wanted["table" if name == "head.weight" else name])
    assert growth.state.keys() == {*wanted, "head.weight"}
    mean, scale = made.plan.inserted
    assert [(added.tensor, added.shape, added.kind, added.after) for added in growth.report.added] == [
        (mean.names[1], (19, 19), "mean", "x2"),
        (scale.names[1], (), "scale", "last"),
    ]


@pytest.mark.parametrize("split", ["even", "uneven"])
def test_state_of_a_tied_weight(split: Any) -> None:
    made = widen(tied_model("without norms"), widths={AXIS: 16}, tied="keep", split=split)
    growth = Growth(made.teacher, made.plan, weights(made.teacher))
    grown, inexact = growth.optimizer({"table": {"exp_avg": weights(made.teacher)["table"]}})
    if split == "even":
        assert not inexact
        np.testing.assert_allclose(grown["table"]["exp_avg"] * 2, weights(made.model)["table"])
    else:
        assert "the two are to stay tied, and the fractions of table:1 are not even" in inexact["table"]


def test_modules_are_not_changed_by_themselves() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    from onnx_net2net.training.torch_modules import insert

    made = both()
    growth = Growth(made.teacher, made.plan, weights(made.teacher))
    with pytest.raises(RequestError, match=r"\(x2\): inserted nodes have to be made by hand"):
        insert(torch.nn.Linear(1, 1), growth, ())


def test_the_budget_counts_what_is_inserted() -> None:
    made = both()
    mean, scale = made.plan.inserted
    assert mean.macs == 2 * 5 * 19**2
    assert scale.macs == 0
    aimed = widen(made.teacher, target_params="3x", allow_nodes=True, only=["x2"])
    size = sum(value.size for value in weights(aimed.model).values())
    assert size == pytest.approx(3 * sum(value.size for value in weights(made.teacher).values()), rel=0.2)


# What is wrong is caught ----------------------------------------------------------------------------------------------


def averaging_all(axis: AxisPlan, factor: float, dtype: Any) -> np.ndarray[Any, Any]:
    matrix = np.eye(axis.new, dtype=dtype)
    matrix[:, axis.new - axis.filler :] = 1 / axis.new
    return matrix


def averaging_one_less(axis: AxisPlan, factor: float, dtype: Any) -> np.ndarray[Any, Any]:
    copied = axis.new - axis.filler
    matrix = np.eye(axis.new, dtype=dtype)
    matrix[:, copied:] = 0
    matrix[1:copied, copied:] = 1 / (copied - 1)
    return matrix


def identity(axis: AxisPlan, factor: float, dtype: Any) -> np.ndarray[Any, Any]:
    return np.eye(axis.new, dtype=dtype)


@pytest.mark.parametrize("wrong", [averaging_all, averaging_one_less, identity])
def test_another_mean_is_caught(wrong: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = export("bert.dynamo")
    plan = widen(teacher, widths={BERT: 47}, allow_nodes=True).plan
    assert verify(teacher, apply(teacher, plan), dims=DIMS)
    monkeypatch.setattr(inserted, "averaging", wrong)
    assert not verify(teacher, apply(teacher, plan), dims=DIMS)


def test_another_factor_is_caught() -> None:
    teacher = export("gpt2.dynamo_raw")
    plan = widen(teacher, widths={f"{GPT}:1": 71}, tied="keep").plan
    assert verify(teacher, apply(teacher, plan), dims=DIMS)
    (scale,) = plan.inserted
    for wrong in ((), (dataclasses.replace(scale, value=1.0),), (dataclasses.replace(scale, value=32 / 71),)):
        changed = dataclasses.replace(plan, inserted=wrong)
        assert not verify(teacher, apply(teacher, changed), dims=DIMS)


def test_a_head_that_reads_filler_is_caught() -> None:
    teacher = export("gpt2.dynamo_raw")
    plan = widen(teacher, widths={f"{GPT}:1": 71}, tied="keep").plan
    found = infer(teacher)
    stream = {name for name, info in found.axes.items() if info.axis == Axis(f"{GPT}:1", 32)}
    shift = next(c for c in plan.constants if c.source.endswith("ln_f.bias"))
    assert shift.fills[0].over in stream
    without = tuple(dataclasses.replace(c, fills=()) if c is shift else c for c in plan.constants)
    assert not verify(teacher, apply(teacher, dataclasses.replace(plan, constants=without)), dims=DIMS)
