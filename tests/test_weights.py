"""A checkpoint grows into what the student holds, in whatever names and layouts a framework keeps it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from onnx_net2net import RequestError, deepen, expand, widen
from onnx_net2net.algebra.axes import Axis, Prod, Sum
from onnx_net2net.training import expand_checkpoint
from onnx_net2net.training.lookup import Index
from onnx_net2net.training.weights import Growth
from tests.law import fill, parse

Values = dict[str, np.ndarray]

NET = """(float[2,3,6,6] x) => (float[2,4] y)
<float[6,3,3,3] c1.weight, float[6] c1.bias, float[8,6,3,3] c2.weight, float[8] c2.bias, float[8] n.scale, float[8] n.b,
 float[8] n.mean, float[8] n.var, float[5,8] fc.weight, float[5] fc.bias, float[5,4] head>
{ a = Conv(x, c1.weight, c1.bias)  b = Relu(a)  c = Conv(b, c2.weight, c2.bias)
  d = BatchNormalization(c, n.scale, n.b, n.mean, n.var)  e = Relu(d)  g = GlobalAveragePool(e)  f = Flatten(g)
  h = Gemm<transB=1>(f, fc.weight, fc.bias)  r = Relu(h)  y = MatMul(r, head) }"""
JOINED = """(float[2,3] x) => (float[2,4] y) <float[3,15] qkv, float[15] bias, float[5,4] out>
{ p = MatMul(x, qkv)  s = Add(p, bias)  q, k, v = Split<axis=1>(s)  t = Tanh(q)  u = Mul(t, k)  w = Add(u, v)
  y = MatMul(w, out) }"""
APART = """(float[2,3] x) => (float[2,4] y) <float[3,5] wq, float[3,5] wk, float[3,5] wv, float[5,4] out>
{ q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)  t = Tanh(q)  u = Mul(t, k)  w = Add(u, v)  y = MatMul(w, out) }"""
DERIVED = """(float[2,5] x) => (float[2,5] y) <float[5,5] a.weight, float[5,5] b.weight, float[7,5] table, float[5] b.bias,
 int64[2] rows = {1, 2}>
{ at = Transpose<perm=[1,0]>(a.weight)  p = MatMul(x, at)  t = Gather<axis=0>(table, rows)  q = Add(p, t)  r = Relu(q)
  bt = Transpose<perm=[1,0]>(b.weight)  s = MatMul(r, bt)  y = Add(s, b.bias) }"""


def as_it_is(values: Values) -> Values:
    return values


def renamed(values: Values) -> Values:
    return {f"layer{i}": value for i, value in enumerate(values.values())}


def turned(values: Values) -> Values:
    """Kernels as Keras and Flax keep them, matrices transposed, vectors with units around them."""
    made = {}
    for name, value in values.items():
        order = {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim)
        made[f"params/{name}/kernel"] = value.transpose(order) if order else value.reshape(1, -1, 1)
    return made


def cut_apart(values: Values) -> Values:
    rest = {"o.weight": values["out"].T}
    for i, part in enumerate("qkv"):
        rest[f"{part}.weight"] = np.split(values["qkv"], 3, 1)[i].T
        rest[f"{part}.bias"] = np.split(values["bias"], 3)[i]
    return rest


def reordered(values: Values) -> Values:
    """Blocks in another order, as frameworks order the gates of recurrent layers."""
    q, k, v = np.split(values["qkv"], 3, 1)
    b, c, d = np.split(values["bias"], 3)
    return {"w": np.concatenate([v, q, k], 1).T, "b": np.concatenate([d, b, c]), "o": values["out"]}


def fused(values: Values) -> Values:
    return {"qkv": np.concatenate([values["wv"].T, values["wq"].T, values["wk"].T]), "o": values["out"]}


LAYOUTS: dict[str, tuple[str, Callable[[Values], Values]]] = {
    "names": (NET, as_it_is),
    "prefix": (NET, lambda values: {f"module.model.{name}": value for name, value in values.items()}),
    "values": (NET, renamed),
    "another layout": (NET, turned),
    "joined in the model": (JOINED, cut_apart),
    "blocks in another order": (JOINED, reordered),
    "joined in the checkpoint": (APART, fused),
}


def initializers(model: ModelProto) -> Values:
    made = {t.name: np.array(numpy_helper.to_array(t)) for t in model.graph.initializer}
    return {name: value for name, value in made.items() if value.dtype != np.int64}


def of(model: ModelProto, values: Mapping[str, np.ndarray]) -> ModelProto:
    """The same model with other values."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    return copy


def other(values: Values, seed: int = 9) -> Values:
    """As they might be after some training."""
    rng = np.random.default_rng(seed)
    return {name: (value + rng.normal(0, 0.1, value.shape)).astype(value.dtype) for name, value in values.items()}


def model_of(graph: str, seed: int = 0) -> ModelProto:
    dotted = re.sub(r"\b([a-z]\w*)\.([a-z])", r"\1__\2", graph)  # the text format knows no dots in names
    model = fill(parse(dotted), seed, low=0.1, high=2.0)
    for item in (*model.graph.initializer, *model.graph.input, *model.graph.value_info):
        item.name = item.name.replace("__", ".")
    for node in model.graph.node:
        node.input[:] = [name.replace("__", ".") for name in node.input]
    return model


def alike(left: Values, right: Values) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.dtype == right[name].dtype
        assert np.array_equal(value, right[name]), name


@pytest.mark.parametrize("options", [{}, {"split": "scatter"}, {"split": "first", "noise": 0.1}], ids=str)
@pytest.mark.parametrize("row", LAYOUTS)
def test_it_grows_into_what_the_student_holds(row: str, options: Any) -> None:
    graph, layout = LAYOUTS[row]
    teacher = model_of(graph)
    made = widen(teacher, factor=1.7, **options)
    state, report = expand_checkpoint(teacher, made.plan.to_json(), layout(initializers(teacher)))
    alike(state, layout(initializers(made.model)))
    assert sum(value.size for value in state.values()) > 1.3 * sum(v.size for v in initializers(teacher).values())
    assert not report.kept
    assert report.modules


@pytest.mark.parametrize("row", LAYOUTS)
def test_a_later_checkpoint_grows_with_the_one_that_was_exported(row: str) -> None:
    graph, layout = LAYOUTS[row]
    teacher = model_of(graph)
    later = other(initializers(teacher))
    made = widen(teacher, factor=1.7)
    state, _ = expand_checkpoint(teacher, made.plan, layout(later), reference=layout(initializers(teacher)))
    alike(state, layout(initializers(widen(of(teacher, later), plan=made.plan).model)))


@pytest.mark.parametrize("graph", [NET, DERIVED], ids=["plain", "behind constant nodes"])
def test_a_later_checkpoint_grows_by_name(graph: str) -> None:
    teacher = model_of(graph)
    later = other(initializers(teacher))
    made = widen(teacher, factor=1.7)
    state, report = expand_checkpoint(teacher, made.plan, later)
    assert all("moved on" in change.how for change in report.changes)
    model = widen(of(teacher, later), plan=made.plan).model
    student = initializers(model)
    if graph == DERIVED:
        assert state["table"].shape == (7, 9), "the rows that were not exported grow as well"
        student |= {"a.weight": student.pop("at").T, "b.weight": student.pop("bt").T, "table": state["table"]}
        assert np.array_equal(state["table"][1:3], student.pop("t"))
    alike(state, {name: student[name] for name in state})


def test_half_floats_grow_like_the_weights_they_came_from() -> None:
    teacher = model_of(NET)
    half = {name: value.astype(np.float16).astype(np.float32) for name, value in initializers(teacher).items()}
    teacher = of(teacher, half)
    made = widen(teacher, factor=2)
    state, _ = expand_checkpoint(teacher, made.plan, renamed({n: v.astype(np.float16) for n, v in half.items()}))
    for name, value in renamed(initializers(made.model)).items():
        assert state[name].dtype == np.float16
        assert np.allclose(state[name].astype(np.float32), value, atol=2e-3)


def test_what_is_no_weight_passes_through() -> None:
    teacher = model_of(NET)
    extra = {"n.num_batches_tracked": np.array(7), "aux.weight": np.ones((3, 3), np.float32)}
    made = widen(teacher, factor=2)
    state, report = expand_checkpoint(teacher, made.plan, initializers(teacher) | extra, keep=["aux.*"])
    assert report.kept == {"n.num_batches_tracked": "a single number", "aux.weight": "kept, as was asked for"}
    alike({name: state[name] for name in extra}, extra)


def test_what_only_reaches_constants_that_stay_passes_through() -> None:
    graph = """(float[2,3] x) => (float[2,4] y) <float[3,5] w, float[5,4] head, float[4] raw>
    { h = MatMul(x, w)  r = Relu(h)  s = MatMul(r, head)  e = Exp(raw)  y = Mul(s, e) }"""
    teacher = model_of(graph)
    values = initializers(teacher)
    _, report = expand_checkpoint(teacher, widen(teacher, factor=2).plan, values)
    assert report.kept == {"raw": "all that is made of it stays as it is"}
    teacher = model_of(
        graph.replace("float[4] raw", "float[5] raw")
        .replace("Relu(h)", "Mul(h, e)")
        .replace("Mul(s, e)", "Relu(s)")
        .replace("r = ", "e = Exp(raw) r = ")
        .replace("  e = Exp(raw)  y", "  y")
    )
    with pytest.raises(RequestError, match=r"the model holds no raw \[5\]"):
        expand_checkpoint(teacher, widen(teacher, factor=2).plan, initializers(teacher))


def test_the_report_speaks_of_modules() -> None:
    teacher = model_of(NET)
    growth = Growth(teacher, widen(teacher, widths={"c1.weight": 9, "fc.weight": 7}).plan, initializers(teacher))
    assert growth.report.modules == {
        "c1": "out 6 -> 9",
        "c2": "in 6 -> 9",
        "fc": "out 5 -> 7",
        "head": "in 5 -> 7",
    }
    assert growth.report.to_dict()["changes"][0]["how"] == "by name"


def test_inserted_layers_are_listed() -> None:
    teacher = model_of(NET)
    plan = deepen(teacher, after=["b", "r"]).plan
    state, report = expand_checkpoint(teacher, plan, initializers(teacher))
    assert [(a.kind, a.after, a.shape) for a in report.added] == [("Conv", "b", (6, 6, 3, 3)), ("Gemm", "r", (5, 5))]
    alike(
        {name: value for name, value in state.items() if name not in {a.tensor for a in report.added}},
        initializers(teacher),
    )
    assert np.array_equal(state[report.added[1].tensor], np.eye(5, dtype=np.float32))


FOLDED = """(float[2,3,6,6] x) => (float[2,4] y) <float[6,3,3,3] conv.weight, float[6] conv_bias, float[6,6,1,1] w2, float[6] b2, float[6,4] head>
{ a = Conv(x, conv.weight, conv_bias)  b = Relu(a)  c = Conv(b, w2, b2)  d = Relu(c)  g = GlobalAveragePool(d)  f = Flatten(g)  y = MatMul(f, head) }"""


def norm(values: Values, name: str) -> np.ndarray:
    return values[f"{name}.weight"] / np.sqrt(values[f"{name}.running_var"] + 1e-5)


def folded(values: Values) -> Values:
    """What exporters make of a convolution and its batch normalisation."""
    one, two = norm(values, "bn1"), norm(values, "bn2")
    made = {
        "conv.weight": values["conv.weight"] * one[:, None, None, None],
        "conv_bias": values["bn1.bias"] - values["bn1.running_mean"] * one,
        "w2": values["conv2.weight"] * two[:, None, None, None],
        "b2": values["bn2.bias"] + (values["conv2.bias"] - values["bn2.running_mean"]) * two,
        "head": values["head"],
    }
    return {name: value.astype(np.float32) for name, value in made.items()}


def unfolded() -> Values:
    rng = np.random.default_rng(2)
    shapes = {"conv.weight": (6, 3, 3, 3), "conv2.weight": (6, 6, 1, 1), "conv2.bias": (6,), "head": (6, 4)}
    shapes |= {f"bn{i}.{name}": (6,) for i in (1, 2) for name in ("weight", "bias", "running_mean", "running_var")}
    return {name: rng.uniform(0.5, 2, shape).astype(np.float32) for name, shape in shapes.items()}


def test_a_folded_normalisation_is_recognised() -> None:
    values = unfolded()
    teacher = of(model_of(FOLDED), folded(values))
    made = widen(teacher, factor=1.5)
    state, report = expand_checkpoint(teacher, made.plan, values)
    student = initializers(made.model)
    assert all(np.allclose(value, student[name], rtol=1e-5) for name, value in folded(state).items())
    assert {c.how for c in report.changes} == {"folded with bn1", "folded with bn2", "by name"}
    assert state["bn1.running_mean"].shape == state["bn2.bias"].shape == (9,)


def test_a_folded_normalisation_that_cannot_be_told_is_refused() -> None:
    values = unfolded()
    for i in (1, 2):
        values |= {f"bn{i}.weight": np.ones(6, np.float32), f"bn{i}.running_var": np.ones(6, np.float32)}
        values |= {f"bn{i}.bias": np.zeros(6, np.float32), f"bn{i}.running_mean": np.zeros(6, np.float32)}
    teacher = of(model_of(FOLDED), folded(values))
    with pytest.raises(RequestError, match=r"export with batch normalisation kept: .*optimize=False"):
        expand_checkpoint(teacher, widen(teacher, factor=1.5).plan, values)


TWINS = """(float[2,3] x) => (float[2,4] y) <float[3,5] a.weight, float[5] shared, float[5,5] b.weight, float[5,4] head>
{ h = MatMul(x, a.weight)  i = Add(h, shared)  r = Relu(i)  k = MatMul(r, b.weight)  l = Add(k, shared)  s = Relu(l)  y = MatMul(s, head) }"""


def test_a_constant_that_an_exporter_shared_is_told_apart_or_refused() -> None:
    teacher = model_of(TWINS)
    made = widen(teacher, widths={"a.weight": 8, "b.weight": 9})
    values = initializers(teacher)
    shared = values.pop("shared")
    state = values | {"a.bias": shared, "b.bias": shared}
    with pytest.raises(
        RequestError, match=r"checkpoint \(a.bias\): it may be any of shared, shared_wide, which the plan"
    ):
        expand_checkpoint(teacher, made.plan, state)
    versions = {c.name: c.uses[0][0] for c in made.plan.constants if c.source == "shared"}
    first, second = sorted(versions, key=lambda name: versions[name])
    grown, _ = expand_checkpoint(teacher, made.plan, state, names={"a.bias": first, "b.bias": second})
    assert (grown["a.bias"].shape, grown["b.bias"].shape) == ((8,), (9,))
    for i, node in ((1, "a"), (4, "b")):
        teacher.graph.node[i].name = f"/{node}/Add"
    made = widen(teacher, widths={"a.weight": 8, "b.weight": 9})
    grown, _ = expand_checkpoint(teacher, made.plan, state)
    assert (grown["a.bias"].shape, grown["b.bias"].shape) == ((8,), (9,))


def swapped(values: Values) -> Values:
    return values | {"head": values["fc.weight"].T.copy()}


REFUSED: dict[str, tuple[Callable[[Values], Values], dict[str, Any], str]] = {
    "a tensor that the model lacks": (
        lambda v: v | {"aux.weight": np.ones((2, 6), np.float32)},
        {},
        r"the model holds no aux.weight \[2, 6\]; give the checkpoint that was exported, or keep=",
    ),
    "a constant that the checkpoint lacks": (
        lambda v: {name: value for name, value in v.items() if name != "head"},
        {},
        r"no tensor of it holds head \[5, 4\], which the plan changes",
    ),
    "zeros that only their value ties to the graph": (
        lambda v: v | {"n.b": v["n.b"] * 0, "gone.bias": v["n.b"] * 0 + 1},
        {},
        r"the model holds no gone.bias \[8\]",
    ),
    "another model's values": (lambda v: renamed(other(v)), {}, r"the model holds no layer0 .* and 5 more"),
    "an unknown name": (as_it_is, {"names": {"head": "feet"}}, r"\(head\): there is no constant feet"),
    "a name for nothing": (as_it_is, {"names": {"feet": "head"}}, r"\(feet\): there is no such tensor"),
    "a reference of another module": (as_it_is, {"reference": {}}, r"checkpoint and reference differ in c1.weight"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_what_would_be_a_guess_is_refused(row: str) -> None:
    change, options, wanted = REFUSED[row]
    teacher = model_of(NET)
    with pytest.raises(RequestError, match=wanted):
        expand_checkpoint(teacher, widen(teacher, factor=1.5).plan, change(initializers(teacher)), **options)


def test_a_square_matrix_that_was_transposed_under_its_name_is_refused() -> None:
    teacher = model_of(TWINS)
    values = initializers(teacher)
    later = other(values) | {"b.weight": values["b.weight"].T + np.float32(0.01)}
    with pytest.raises(
        RequestError, match=r"\(b.weight\): it has the name of an initializer that holds it with its axes"
    ):
        expand_checkpoint(teacher, widen(teacher, factor=1.5).plan, later)


SLICED = """(float[2,3] x, float[2,1] a) => (float[2,4] y) <float[3,2] w, float[2,4] head>
{ h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, head) }"""


def test_a_unit_that_grows_has_no_axis_to_grow_along() -> None:
    teacher = model_of(SLICED)
    values = initializers(teacher)
    head = values.pop("head")
    with pytest.raises(RequestError, match="do not stay together"):
        expand_checkpoint(teacher, widen(teacher, factor=2).plan, {**values, "up": head[0], "down": head[1]})


TORN = "(float[2,3] x) => (float[2,4] y) <float[3,6] w, float[6,4] head> { h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, head) }"


def test_blocks_that_copies_tear_apart_are_refused() -> None:
    """One axis in the graph, two tensors in the module: their copies would come after both."""
    teacher = model_of(TORN)
    values = initializers(teacher)
    head = values.pop("head")
    plan = widen(teacher, factor=2).plan
    with pytest.raises(RequestError, match=r"\(left\): its units 0 to 3 of axis 0 of head do not stay together; skip"):
        expand_checkpoint(teacher, plan, {**values, "left": head[:3], "right": head[3:]})


def test_a_plan_for_another_model_is_refused() -> None:
    with pytest.raises(RequestError, match="made for another model"):
        expand_checkpoint(model_of(NET), widen(model_of(TWINS), factor=2).plan, {})


@pytest.mark.parametrize("later", [False, True], ids=["the exported one", "a later one"])
@pytest.mark.parametrize("steps", [("wide", "wide"), ("wide", "deep", "wide"), ("deep", "wide")], ids="-".join)
def test_every_step_of_a_plan_is_taken(steps: tuple[str, ...], later: bool) -> None:
    asked: dict[str, Any] = {"wide": {"do": "widen", "factor": 1.5}, "deep": {"do": "deepen", "after": "every"}}
    teacher = model_of(NET)
    values = initializers(teacher)
    plan = expand(teacher, {"steps": [asked[step] for step in steps]}).plan
    given = other(values) if later else values
    state, report = expand_checkpoint(teacher, plan.to_json(), given, reference=values if later else None)
    changed = ModelProto()
    changed.CopyFrom(teacher)
    for tensor in changed.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(given[tensor.name], tensor.name))
    student = initializers(expand(changed, plan=plan).model)
    assert {name: value.shape for name, value in state.items()} == {name: v.shape for name, v in student.items()}
    for name, value in student.items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)
    assert {change.tensor: change.after for change in report.changes} == {n: state[n].shape for n in values}
    assert {item.tensor: item.shape for item in report.added} == {n: state[n].shape for n in state if n not in values}


def test_a_baseline_grows_to_what_its_student_holds() -> None:
    teacher = model_of(NET)
    made = widen(teacher, factor=2, init="random-pad")
    state, _ = expand_checkpoint(teacher, made.plan, initializers(teacher))
    for name, value in initializers(made.model).items():
        np.testing.assert_array_equal(state[name], value)


def backward(values: Values, x: np.ndarray) -> Values:
    """Gradients of |y|^2 / 2 by hand, for two layers with a Relu between."""
    before = x @ values["w1"].T + values["b1"]
    hidden = np.maximum(before, 0)
    y = hidden @ values["w2"]
    d = (y @ values["w2"].T) * (before > 0)
    return {"w1": d.T @ x, "b1": d.sum(0), "w2": hidden.T @ y}


PERCEPTRON = """(double[4,3] x) => (double[4,2] y) <double[5,3] w1, double[5] b1, double[5,2] w2>
{ h = Gemm<transB=1>(x, w1, b1)  r = Relu(h)  y = MatMul(r, w2) }"""


@pytest.mark.parametrize("split", ["uneven", "even", "first", "scatter"])
def test_gradients_grow_by_the_fractions_of_carried_axes(split: Any) -> None:
    teacher = fill(parse(PERCEPTRON))
    values = initializers(teacher)
    made = widen(teacher, factor=2, split=split)
    x = np.random.default_rng(0).normal(size=(4, 3))
    growth = Growth(teacher, made.plan, values)
    gradients, wanted = backward(values, x), backward(initializers(made.model), x)
    slots, inexact = growth.optimizer({n: {"exp_avg": g, "exp_avg_sq": g * g, "step": 3} for n, g in gradients.items()})
    assert inexact.keys() == ({"w1", "b1"} if split == "scatter" else set())
    for name, gradient in wanted.items():
        assert slots[name]["step"] == 3
        fits = np.allclose(slots[name]["exp_avg"], gradient) and np.allclose(slots[name]["exp_avg_sq"], gradient**2)
        assert fits != (name in inexact), "what is called inexact differs, and nothing else"


def test_state_without_an_exact_image_is_named() -> None:
    teacher = model_of(
        TWINS.replace("y = MatMul", "m = ReduceMax<axes=[1], keepdims=1>(s)  n = Sub(s, m)  y = MatMul").replace(
            "(s, head)", "(n, head)"
        )
    )
    values = initializers(teacher)
    values["a.bias"] = values["b.bias"] = values.pop("shared")
    plan = widen(teacher, factor=2).plan
    growth = Growth(teacher, plan, values, names={"a.bias": "shared", "b.bias": "shared_wide"})
    slots = {name: {"momentum_buffer": value} for name, value in values.items()}
    _, inexact = growth.optimizer(slots)
    assert inexact.keys() == {"b.weight", "b.bias"}
    assert "copies of b.weight:1 are ties" in inexact["b.weight"]
    tied = growth.optimizer({"a.bias": slots["a.bias"]})[1]
    assert tied == {"a.bias": "the weight is shared, and the student holds it in several versions"}
    with pytest.raises(RequestError, match=r"optimizer \(\w+.*\): its state has no exact image"):
        growth.optimizer(slots, strict=True)
    with pytest.raises(RequestError, match=r"\(head\): it is not known how luck depends on the gradient"):
        growth.optimizer({"head": {"luck": values["head"]}})
    with pytest.raises(RequestError, match=r"\(head\): exp_avg has the shape \[4, 5\], not \[5, 4\]"):
        growth.optimizer({"head": {"exp_avg": values["head"].T}})
    with pytest.raises(RequestError, match=r"\(feet\): the checkpoint has no such parameter"):
        growth.optimizer({"feet": {}})
    assert growth.optimizer({"head": {"luck": values["head"]}}, powers={"luck": 0})[0]["head"]["luck"].shape == (10, 4)


def test_an_index_finds_orders_blocks_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    held = {"a": rng.normal(size=(4, 6, 2)), "b": rng.normal(size=(8, 3))}
    index = Index(held, held.__getitem__)
    (place,) = index.whole(held["a"].transpose(2, 0, 1)[:, None])
    assert (place.constant, place.order) == ("a", (1, 2, 0))
    assert index.whole(held["a"] + 1e-12) == ()
    assert index.find(held["b"][:4]) is None
    index.open(held)
    found = index.find(np.concatenate([held["b"][4:], held["b"][:4]]).T)
    assert found is not None
    assert (found.axis, [p.runs for (p,) in found.places]) == (1, [((0, 4, 8),), ((0, 0, 4),)])


def test_terms_without_their_inner_units() -> None:
    pytest.importorskip("torch", reason="needs the extra torch")
    from onnx_net2net.training.torch_modules import outermost

    a, b, c = Axis("a", 4), Axis("b", 3), Axis("c", 2)
    maps = {"a": np.arange(8) % 4, "b": np.arange(6) % 3}
    assert outermost(Prod((a, b)), 3, maps) == 8
    assert outermost(Prod((c, Prod((a, b)))), 12, maps) == 2
    assert outermost(Sum((Prod((a, b)), Prod((c, b)))), 3, maps) == 10
    assert outermost(a, 2, maps) is None


def test_what_is_only_looked_at_for_its_type_makes_no_ties() -> None:
    teacher = model_of(
        """(float[2,3] x) => (float[2,4] y) <float[3,6] w, float[6,4] v>
        { h = MatMul(x, w)  a = Abs(h)  c = CastLike(a, h)  y = MatMul(c, v) }"""
    )
    growth = Growth(teacher, widen(teacher, factor=2).plan, initializers(teacher))
    assert growth.optimizer({"w": {"exp_avg": np.ones((3, 6), np.float32)}})[1] == {}


NORMED = """(float[2,3] x) => (float[2,4] y) <float[3,8] a, float[8] n.weight, float[8] n.bias, float[8,6] b, float[6,8] c,
 float[8] m.weight, float[8,4] head, float eps = {0.3}, float two = {2.0}>
{ p = MatMul(x, a)  q = LayerNormalization(p, n.weight, n.bias)  r = MatMul(q, b)  s = Tanh(r)  t = MatMul(s, c)  u = Add(p, t)
  m = ReduceMean<axes=[-1]>(u)  k = Sub(u, m)  d = Pow(k, two)  v = ReduceMean<axes=[-1]>(d)  e = Add(v, eps)  f = Sqrt(e)
  g = Div(k, f)  w = Mul(g, m.weight)  y = MatMul(w, head) }"""


def test_a_checkpoint_grows_with_filler() -> None:
    teacher = model_of(NORMED)
    made = widen(teacher, factor=1.5)
    assert {axis.old: axis.filler for axis in made.plan.axes} == {8: 4, 6: 0}
    held = initializers(teacher)
    weights = {name: value for name, value in held.items() if value.ndim}
    state, report = expand_checkpoint(teacher, made.plan, weights)
    alike(state, {name: value for name, value in initializers(made.model).items() if value.ndim})
    assert report.constants == pytest.approx({"LayerNormalization 'q' epsilon": 1e-5 / 1.5, "Add 'e' 1": 0.3 / 1.5})
    growth = Growth(teacher, made.plan, weights)
    moments = {name: {"exp_avg": value, "step": 3} for name, value in weights.items()}
    grown, inexact = growth.optimizer(moments)
    assert inexact.keys() == weights.keys()
    assert grown["head"]["exp_avg"].shape == (12, 4)
    assert "has filler" in inexact["head"]
    with pytest.raises(RequestError, match="has filler"):
        growth.optimizer(moments, strict=True)
