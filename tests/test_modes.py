"""Modes of inserted layers: each one in each rank, type and opset, what the table in the docs claims, and mutations."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from docs import make_deepening
from onnx_net2net import (
    Expansion,
    ModelError,
    Net2NetError,
    NotEquivalentError,
    Plan,
    RequestError,
    UsageError,
    deepen,
    inspect,
    verify,
)
from onnx_net2net.deepening.layers import EPSILON, root
from onnx_net2net.planning.plan import MODES
from tests.law import fill, parse, run, weights
from tests.untouched import assert_untouched

SHAPES = {"Gemm": "3,4", "MatMul": "2,3,4", "Conv-1D": "2,4,9", "Conv-2D": "2,4,5,6", "Conv-3D": "1,4,3,4,5"}
KERNELS = {"Conv-1D": (3,), "Conv-2D": (1, 7), "Conv-3D": (3, 1, 5)}
TYPES = {"float": TensorProto.FLOAT, "double": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16}
NEWEST = 22


def net(kind: str, dtype: str = "float", opset: int = 17, op: str = "Relu") -> ModelProto:
    """A linear operator and an activation."""
    shape = SHAPES[kind]
    ones = ",1" * (len(shape.split(",")) - 2) if kind.startswith("Conv") else ""
    first = f"{'Conv' if ones else 'MatMul'}(x, w)"
    return fill(
        parse(
            f"({dtype}[{shape}] x) => ({dtype}[{shape}] y) <{dtype}[4,4{ones}] w> {{ a = {first} y = {op}(a) }}", opset
        )
    )


def runs(model: ModelProto) -> bool:
    """Whether onnxruntime has the kernels: it has none for convolutions of double."""
    ops = {node.op_type for node in model.graph.node}
    return not ("Conv" in ops and model.graph.input[0].type.tensor_type.elem_type == TensorProto.DOUBLE)


def modes(made: Expansion) -> list[str]:
    return [layer.mode for layer in made.plan.layers]


def held_to(made: Expansion) -> Expansion:
    """Verified, applied again from its plan to the same bytes, and untouched beside what is new."""
    onnx.checker.check_model(made.model, full_check=True)
    if not runs(made.teacher):
        feeds = {"x": np.random.default_rng(1).standard_normal(onnx_shape(made.teacher))}
        before, after = (ReferenceEvaluator(model).run(None, feeds)[0] for model in (made.teacher, made.model))
        np.testing.assert_allclose(after, before, rtol=1e-14, atol=1e-15)
    else:
        verdict = made.verify()
        assert verdict, verdict.reason
    again = deepen(made.teacher, plan=made.plan.to_json())
    assert Plan.from_json(made.plan.to_json()) == made.plan == again.plan
    assert again.model.SerializeToString() == made.model.SerializeToString()
    assert_untouched(made.teacher, made.model, made.plan)
    return made


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 14, 17, NEWEST])
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("mode", [*MODES, "normed"])
def test_every_mode_in_every_rank_and_opset(mode: str, kind: str, opset: int) -> None:
    asked: dict[str, Any] = {"mode": "identity", "batch_norm": True} if mode == "normed" else {"mode": mode}
    made = held_to(deepen(net(kind, opset=opset), after="y", kernel=KERNELS.get(kind), count=2, **asked))
    assert [layer.kind for layer in made.plan.layers] == 2 * [
        kind.split("-", maxsplit=1)[0] if opset >= 11 or kind != "Gemm" else "MatMul"
    ]
    x = {"x": np.random.default_rng(3).standard_normal(onnx_shape(made.teacher)).astype(np.float32)}
    np.testing.assert_array_equal(run(made.model, x)["y"], run(made.teacher, x)["y"])


def onnx_shape(model: ModelProto) -> list[int]:
    return [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("mode", [*MODES, "normed"])
def test_every_mode_in_every_type(mode: str, kind: str, dtype: str) -> None:
    asked: dict[str, Any] = {"mode": "identity", "batch_norm": True} if mode == "normed" else {"mode": mode}
    made = held_to(deepen(net(kind, dtype), after="y", **asked))
    assert {t.data_type for t in made.model.graph.initializer} == {TYPES[dtype]}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", SHAPES)
def test_bfloat16(kind: str, mode: str) -> None:
    held_to(deepen(net(kind, "bfloat16", NEWEST), after="y", mode=mode))


ACTIVATIONS = [
    *"LeakyRelu Sigmoid Tanh Elu Selu Celu Softplus Softsign HardSigmoid HardSwish Mish Gelu Shrink".split(),
]


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_a_residual_branch_repeats_the_activation(op: str) -> None:
    made = held_to(deepen(net("Conv-2D", opset=20, op=op), after="every"))
    assert modes(made) == ["residual"]
    assert [node.op_type for node in made.model.graph.node] == ["Conv", op, "Conv", op, "Conv", "Add"]
    values = {t.name: numpy_helper.to_array(t) for t in made.model.graph.initializer}
    names = dict(zip(("weight", "projection", "bias"), (made.plan.layers[0].names[i] for i in (0, 5, 6)), strict=True))
    assert np.ptp(values[names["weight"]]) > 0
    assert not values[names["projection"]].any()
    assert not values[names["bias"]].any()


WRITTEN_OUT = {
    "SiLU": "s = Sigmoid(a) y = Mul(a, s)",
    "SiLU the other way": "s = Sigmoid(a) y = Mul(s, a)",
    "Gelu": "d = Div(a, two) e = Erf(d) p = Add(e, one) m = Mul(a, p) y = Mul(m, half)",
    "Gelu, halved first": "d = Div(a, two) e = Erf(d) p = Add(e, one) h = Mul(a, half) y = Mul(h, p)",
    "Gelu, halved inside": "d = Div(a, two) e = Erf(d) p = Add(e, one) h = Mul(p, half) y = Mul(a, h)",
    "Gelu with Tanh": """q = Mul(a, a) c = Mul(q, a) k = Mul(c, half) i = Add(a, k) s = Mul(i, two) t = Tanh(s)
        p = Add(t, one) h = Mul(a, half) y = Mul(h, p)""",
    "HardSwish": "p = Add(a, one) c = Clip(p, zero, two) m = Mul(a, c) y = Div(m, two)",
    "Mish": "s = Softplus(a) t = Tanh(s) y = Mul(a, t)",
    "QuickGelu": "k = Mul(a, two) s = Sigmoid(k) y = Mul(a, s)",
}


@pytest.mark.parametrize("row", WRITTEN_OUT)
def test_activations_written_out_in_several_nodes(row: str) -> None:
    constants = "float[4,4] w, float one = {1}, float two = {2.5}, float half = {0.5}, float zero = {0}"
    model = fill(parse(f"(float[2,3,4] x) => (float[2,3,4] y) <{constants}> {{ a = MatMul(x, w) {WRITTEN_OUT[row]} }}"))
    assert [(place.tensor, place.modes) for place in inspect(model).deepen] == [("y", ("residual", "prelu", "linear"))]
    made = held_to(deepen(model, after="every"))
    assert [node.op_type for node in made.model.graph.node][-4:] == ["MatMul", "Relu", "MatMul", "Add"]


GATES = {
    "a gate of another tensor": ("b = MatMul(x, v) s = Sigmoid(b) y = Mul(a, s)", ["s"]),
    "a gate of means": ("m = ReduceMean<axes=[1], keepdims=1>(a) s = Sigmoid(m) y = Mul(a, s)", ["s"]),
    "a square": ("r = Relu(a) y = Mul(r, r)", ["r"]),
    "SwiGLU": ("s = Sigmoid(a) g = Mul(a, s) b = MatMul(x, v) y = Mul(g, b)", ["g"]),
}


@pytest.mark.parametrize("row", GATES)
def test_products_that_are_no_activations(row: str) -> None:
    body, places = GATES[row]
    model = fill(
        parse(f"(float[2,3,4] x) => (float[2,3,4] y) <float[4,4] w, float[4,4] v> {{ a = MatMul(x, w) {body} }}")
    )
    assert [place.tensor for place in inspect(model).deepen] == places
    held_to(deepen(model, after="every"))


# What the docs claim


def test_the_table_is_current() -> None:
    written = make_deepening.TARGET.read_text(encoding="utf-8")
    assert written == make_deepening.document(), "run: python docs/make_deepening.py"


def claims() -> list[tuple[str, str]]:
    return [(op, mode) for op in make_deepening.OPERATORS for mode in make_deepening.place(op)[0].modes]


@pytest.mark.parametrize(("op", "mode"), claims())
def test_what_the_table_calls_exact(op: str, mode: str) -> None:
    teacher = make_deepening.teacher(op)
    made = deepen(teacher, after="y", mode=mode, kernel=1)
    assert modes(made) == [mode]
    x = np.random.default_rng(2).uniform(0.1, 0.9, (2, 4, 6, 6)).astype(np.float32)
    feeds = {"x": x + 1 if op == "Acosh" else x - 0.5 if mode == "identity" else x}
    before, after = (compute(model, feeds) for model in (teacher, made.model))
    assert np.isfinite(before).all()
    np.testing.assert_array_equal(before, after)
    if mode == "identity":  # and the table is right where it does not call it exact
        assert make_deepening.place(op)[1]


def compute(model: ModelProto, feeds: dict[str, Any]) -> Any:
    """By onnxruntime, or by ONNX's reference where it has no kernel."""
    try:
        return run(model, feeds)["y"]
    except Exception as error:
        if "NotImplemented" not in type(error).__name__ and "NOT_IMPLEMENTED" not in str(error):
            raise
        return ReferenceEvaluator(model).run(None, feeds)[0]


# Channels


MIXED = {
    "learned positions": (
        """(float[2,7,4] x) => (float[2,7,3] y) <float[1,7,4] p, float[4,4] w, float[4,3] v>
        { a = MatMul(x, w) b = Add(a, p) r = Relu(b) y = MatMul(r, v) }""",
        [("r", "MatMul", 4)],
    ),
    "positions and nothing else": (
        "(float[2,7,4] x) => (float[2,7,3] y) <float[7,4] p, float[4,3] v> { a = Add(x, p) r = Relu(a) y = MatMul(r, v) }",
        [("r", "MatMul", 4)],
    ),
    "both axes are mixed": (
        """(float[2,7,4] x) => (float[2,7,4] y) <float[7,6] w, float[6,7] v, float[4,5] u, float[5,4] t>
        { a = Transpose<perm=[0,2,1]>(x) b = MatMul(a, w) r = Relu(b) c = MatMul(r, v) d = Transpose<perm=[0,2,1]>(c)
          e = MatMul(d, u) s = Relu(e) y = MatMul(s, t) }""",
        [("r", "MatMul", 6), ("s", "MatMul", 5)],
    ),
    "a signal": (
        "(float[2,3,9] x) => (float[2,5,9] r) <float[5,3,1] w> { a = Conv(x, w) r = Relu(a) }",
        [("r", "Conv", 5)],
    ),
    "before it is flattened": (
        """(float[2,3,4,4] x) => (float[2,6] y) <float[5,3,1,1] w, float[80,6] v>
        { a = Conv(x, w) r = Relu(a) f = Flatten(r) y = MatMul(f, v) }""",
        [("r", "Conv", 5)],
    ),
}


@pytest.mark.parametrize(("graph", "places"), MIXED.values(), ids=MIXED.keys())
def test_layers_work_on_the_axis_of_their_neighbours(graph: str, places: list[tuple[str, str, int]]) -> None:
    model = fill(parse(graph))
    assert [(place.tensor, place.kind, place.channels) for place in inspect(model).deepen] == places
    held_to(deepen(model, after="every"))


def test_every_skips_what_does_not_fit() -> None:
    model = fill(
        parse("""(float[2,4,6,6] x) => (float[2,4] y) <float[4,4,3] w> { r = Relu(x) s = Sigmoid(r)
        m = ReduceMean<axes=[3], keepdims=0>(s) c = Conv<pads=[1,1]>(m, w) t = Relu(c)
        n = ReduceMean<axes=[2], keepdims=0>(t) y = Tanh(n) }""")
    )
    made = held_to(deepen(model, after="every", kernel=[(1, 7), (7, 1)]))
    assert [(x.tensor, x.mode, x.kernel) for x in made.plan.layers] == [
        ("r", "identity", (1, 7)),
        ("r", "identity", (7, 1)),
        ("s", "residual", (1, 7)),
        ("s", "residual", (7, 1)),
        ("y", "residual", ()),
    ]
    assert made.skipped == {"t": "a kernel of 1x7 does not fit 1 spatial dimensions"}


@pytest.mark.parametrize(("group", "shape"), [(1, (4, 4, 3, 3)), (2, (4, 2, 3, 3)), ("depthwise", (4, 1, 3, 3))])
@pytest.mark.parametrize("mode", MODES)
def test_groups(mode: str, group: Any, shape: tuple[int, ...]) -> None:
    made = held_to(deepen(net("Conv-2D"), after="y", mode=mode, group=group))
    assert weights(made.model)[made.plan.layers[0].names[0]] == shape


def test_one_position_needs_no_neighbours() -> None:
    model = fill(parse("(float[2,4,5,5] x) => (float[2,4,1,1] y) { g = GlobalAveragePool(x) y = Sigmoid(g) }"))
    assert [layer.kernel for layer in held_to(deepen(model, after="every")).plan.layers] == [(1, 1)]


def test_any_tensor_can_be_named() -> None:
    model = fill(
        parse(
            "(float[2,4] x) => (float[2,2] y) <float[4,4] w> { a = MatMul(x, w) p, q = Split<axis=1>(a) y = Add(p, q) }",
            11,
        )
    )
    made = held_to(deepen(model, after=["a", "q"], mode="prelu"))
    assert [layer.tensor for layer in made.plan.layers] == ["a", "q"]
    assert modes(held_to(deepen(model, after="p", mode="linear"))) == ["linear"]


def test_old_models_list_all_new_weights_as_inputs() -> None:
    model = net("Conv-2D", opset=8)
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("w", 1, [4, 4, 1, 1]))
    made = held_to(deepen(model, after="y", batch_norm=True))
    assert {v.name for v in made.model.graph.input} == {"x", *weights(made.model)}


# Batch normalisation


def data(shape: tuple[int, ...], seed: int = 5) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * rng.uniform(0.2, 3, (1, *shape[1:])) + 0.7).astype(np.float32)


BATCHES = {"one by one": ("1", 11), "in pairs": ("2", 12), "as many as fit": ("n", 21)}


@pytest.mark.parametrize(("size", "samples"), BATCHES.values(), ids=BATCHES.keys())
def test_statistics_are_those_of_the_tensor(size: str, samples: int) -> None:
    model = fill(
        parse(f"(float[{size},3,5,5] x) => (float[{size},2] y) <float[4,3,3,3] w, float[4,2] v> {{ a = Conv(x, w) r = Relu(a)"
              " g = GlobalAveragePool(r) f = Flatten(g) y = MatMul(f, v) }")
    )  # fmt: skip
    x = data((samples, 3, 5, 5))
    made = held_to(deepen(model, after="r", batch_norm=True, calibrate={"x": x}))
    step = 1 if size == "n" else int(size)
    model.graph.output.append(helper.make_tensor_value_info("r", 1, None))
    seen = np.concatenate([run(model, {"x": x[i : i + step]}, ["r"])["r"] for i in range(0, samples, step)])
    (layer,) = made.plan.layers
    np.testing.assert_allclose(layer.mean, seen.astype(np.float64).mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(layer.var, seen.astype(np.float64).var((0, 2, 3)), rtol=1e-6)
    values = {t.name: numpy_helper.to_array(t) for t in made.model.graph.initializer}
    scale, shift, mean, var = (values[f"r_deeper_{name}"] for name in ("scale", "shift", "mean", "variance"))
    np.testing.assert_allclose(scale, np.sqrt(np.asarray(layer.var) + EPSILON), rtol=1e-6)
    np.testing.assert_allclose(var, layer.var, rtol=1e-6)
    np.testing.assert_array_equal(shift, mean)
    np.testing.assert_allclose(mean, layer.mean, rtol=1e-6)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", SHAPES)
def test_calibrated_layers_are_exact_in_every_rank_and_type(kind: str, dtype: str) -> None:
    model = net(kind, dtype)
    shape = tuple(onnx_shape(model))
    x = data((3, *shape)).astype(helper.tensor_dtype_to_np_dtype(TYPES[dtype]))
    if not runs(model):
        with pytest.raises(ModelError, match="NOT_IMPLEMENTED"):
            deepen(model, after="every", batch_norm=True, calibrate={"x": x})
        return
    made = held_to(deepen(model, after="every", batch_norm=True, calibrate={"x": x}, count=2))
    assert np.ptp(made.plan.layers[0].mean) > 0
    assert made.plan.layers[0].mean == made.plan.layers[1].mean


def test_a_channel_that_never_changes() -> None:
    model = fill(parse("(float[n,4,3,3] x) => (float[n,4,3,3] y) { a = Exp(x) b = Neg(a) r = Relu(b) y = Add(r, x) }"))
    made = held_to(deepen(model, after="r", batch_norm=True, calibrate={"x": data((4, 4, 3, 3))}))
    assert set(made.plan.layers[0].var) == {0.0}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=str)
def test_scale_and_deviation_are_as_close_as_rounding_allows(dtype: Any) -> None:
    var = np.concatenate([np.random.default_rng(0).lognormal(0, 3, 500), [0, 1, 1e-5]])
    scale, spread = root(var, dtype)
    wide = np.float64 if dtype == np.float64 else np.float32
    deviation = np.sqrt(spread.astype(wide) + wide(EPSILON))
    steps = np.abs(scale.astype(wide) * (1 / deviation) - 1) / np.finfo(dtype).eps
    rounded = np.sqrt(var.astype(dtype).astype(wide) + wide(EPSILON))
    plain = np.abs(np.sqrt(var + EPSILON).astype(dtype).astype(wide) * (1 / rounded) - 1) / np.finfo(dtype).eps
    assert steps.max() <= 0.5
    assert steps.mean() < plain.mean() / 2
    np.testing.assert_allclose(
        spread.astype(np.float64),
        var,
        rtol=8 * np.finfo(dtype).eps,
        atol=1e-3 * EPSILON + 8 * np.finfo(dtype).eps * EPSILON,
    )


BAD_DATA = {
    "another input": ({"z": np.zeros((2, 4, 5, 6), np.float32)}, "no value for"),
    "no samples": ({"x": np.zeros((0, 4, 5, 6), np.float32)}, "or none"),
    "too few": ({"x": np.zeros((3, 4, 5, 6), np.float32)}, "3 samples do not fill batches of 2"),
    "another rank": ({"x": np.zeros((2, 4), np.float32)}, "have rank 1"),
    "no numbers": ({"x": np.full((2, 4, 5, 6), np.nan, np.float32)}, "not finite"),
    "another shape": ({"x": np.zeros((2, 9, 5, 6), np.float32)}, "cannot run the teacher"),
}


@pytest.mark.parametrize(("given", "why"), BAD_DATA.values(), ids=BAD_DATA.keys())
def test_data_that_does_not_fit(given: dict[str, Any], why: str) -> None:
    with pytest.raises(Net2NetError, match=why):
        deepen(net("Conv-2D"), after="y", batch_norm=True, calibrate=given)


# Mutations: what verification must see


def edited(made: Expansion, role: str, change: Callable[[Any], Any]) -> ModelProto:
    """The student with one of its new weights changed."""
    model = ModelProto()
    model.CopyFrom(made.model)
    (tensor,) = (t for t in model.graph.initializer if t.name == f"y_deeper_{role}")
    value = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(value.astype(numpy_helper.to_array(tensor).dtype), tensor.name))
    return model


def bumped(value: Any) -> Any:
    value.flat[1] += 0.01
    return value


CALIBRATED = {"batch_norm": True, "calibrate": {"x": data((6, 4, 5, 6))}}
SMALL = {"batch_norm": True, "calibrate": {"x": data((6, 4, 5, 6)) / 20}}  # so that epsilon counts
MUTATIONS: dict[str, tuple[dict[str, Any], str, Callable[[Any], Any]]] = {
    "an off-centre tap": ({}, "weight", lambda w: np.roll(w, 1, -1)),
    "another channel": ({}, "weight", lambda w: np.roll(w, 1, 0)),
    "an off-centre tap of a group": ({"group": 2}, "weight", lambda w: np.roll(w, 1, -1)),
    "an off-centre tap alone": ({"mode": "linear"}, "weight", lambda w: np.roll(w, 1, -2)),
    "a projection that is not zero": ({"mode": "residual"}, "projection", bumped),
    "a bias that is not zero": ({"mode": "residual"}, "bias", bumped),
    "a slope below one": ({"mode": "prelu", "op": "Tanh"}, "slope", lambda s: s * 0.99),
    "a scale without epsilon": (SMALL, "scale", lambda s: np.sqrt(s**2 - EPSILON)),
    "a shift of zero": (CALIBRATED, "shift", np.zeros_like),
    "a scale of one": (CALIBRATED, "scale", np.ones_like),
}


@pytest.mark.parametrize("row", MUTATIONS)
def test_verification_catches(row: str) -> None:
    asked, role, change = MUTATIONS[row]
    asked = dict(asked)
    teacher = net("Conv-2D", op=asked.pop("op", "Relu"))
    made = deepen(teacher, after="y", **asked)
    assert made.verify()
    assert not verify(teacher, edited(made, role, change))


# Seeds, plans, and the baseline


def test_the_seed_decides_what_is_random() -> None:
    teacher = net("Conv-2D", op="Tanh")
    first, same, other = (deepen(teacher, after="y", count=2, seed=seed).model for seed in (1, 1, 2))
    assert first.SerializeToString() == same.SerializeToString() != other.SerializeToString()
    drawn = [numpy_helper.to_array(t) for t in first.graph.initializer if t.name.startswith("y_deeper_weight")]
    assert np.abs(drawn[0] - drawn[1]).max() > 0.1  # and no two layers are alike
    assert len(deepen(teacher, after="y").plan.to_json()) < 2000


def test_random_layers_are_a_baseline(tmp_path: Any) -> None:
    made = deepen(net("Conv-2D"), after="y", init="random", batch_norm=True)
    assert not made.verify()
    with pytest.raises(UsageError, match="save without verification"):
        made.save(tmp_path / "s.onnx")
    written = onnx.load(made.save(tmp_path / "s.onnx", verify=False))
    assert {p.key: p.value for p in written.metadata_props}["onnx_net2net.init"] == "random"
    (layer,) = made.plan.layers
    weight = next(numpy_helper.to_array(t) for t in made.model.graph.initializer if t.name == layer.names[0])
    assert 0.5 < weight.std() / np.sqrt(2 / 36) < 1.5
    exact = deepen(net("Conv-2D"), after="y")
    exact.save(tmp_path / "e.onnx")
    assert "onnx_net2net.init" not in {p.key for p in onnx.load(tmp_path / "e.onnx").metadata_props}
    with pytest.raises(UsageError, match="ask for both"):
        deepen(net("Conv-2D"), after="y", init="random", batch_norm=True, calibrate={})


@pytest.mark.parametrize("mode", [None, *MODES])
def test_a_baseline_of_every_mode(mode: Any) -> None:
    made = deepen(net("Conv-2D", op="Tanh"), after="every", mode=mode, init="random")
    assert modes(made) == [mode or "identity"] if mode != "prelu" else ["prelu"]
    assert not made.verify()


EDITS: dict[str, dict[str, Any]] = {
    "a mode that is not exact": {"mode": "identity"},
    "no mode": {"mode": "x"},
    "a list of modes": {"mode": ["linear"]},
    "groups": {"group": 3},
    "no groups": {"group": 0},
    "groups as text": {"group": "depthwise"},
    "a kernel without centre": {"kernel": [2, 2]},
    "a kernel of halves": {"kernel": [1.5, 1.5]},
    "a gigantic kernel": {"kernel": [99999, 99999]},
    "statistics": {"mean": [1.0] * 4},
    "another activation": {"repeats": 0},
    "no activation": {"repeats": 99},
    "another rank": {"rank": 3},
    "another type": {"dtype": 10},
    "names": {"names": ["y"] * 11},
    "few names": {"names": []},
    "a flag that is a number": {"random": 1},
    "an unknown field": {"colour": "red"},
}


@pytest.mark.parametrize("row", EDITS)
def test_edited_plans_are_refused(row: str) -> None:
    teacher = net("Conv-2D", op="Tanh")
    body = json.loads(deepen(teacher, after="y").plan.to_json())
    body["layers"][0] |= EDITS[row]
    with pytest.raises(RequestError, match="plan"):
        deepen(teacher, plan=json.dumps(body))


BAD_STATISTICS = {
    "negative": ([0.0] * 4, [-1.0] * 4),
    "too few": ([0.0] * 3, [1.0] * 3),
    "one of two": ([0.0] * 4, []),
    "no numbers": ([float("nan")] * 4, [1.0] * 4),
    "too large": ([1e39] * 4, [1.0] * 4),
}


@pytest.mark.parametrize(("mean", "var"), BAD_STATISTICS.values(), ids=BAD_STATISTICS.keys())
def test_plans_with_impossible_statistics_are_refused(mean: list[float], var: list[float]) -> None:
    teacher = net("Conv-2D")
    plan = deepen(teacher, after="y", batch_norm=True).plan
    layer = dataclasses.replace(plan.layers[0], mean=tuple(mean), var=tuple(var))
    with pytest.raises(RequestError, match="plan"):
        deepen(teacher, plan=dataclasses.replace(plan, layers=(layer,)).to_json())


def test_a_seed_that_is_none_is_refused() -> None:
    teacher = net("Conv-2D")
    plan = deepen(teacher, after="y").plan
    for seed in (-1, 1.5, "x"):
        with pytest.raises(RequestError, match="plan"):
            deepen(teacher, plan=dataclasses.replace(plan, seed=seed).to_json())


def test_a_broken_student_is_not_saved(tmp_path: Any) -> None:
    made = deepen(net("Conv-2D", op="Tanh"), after="y")
    made.__dict__["lazy_exact"] = edited(made, "bias", bumped)
    with pytest.raises(NotEquivalentError):
        made.save(tmp_path / "s.onnx")
    assert not list(tmp_path.iterdir())
