"""Deepening: every idempotent operator of the registry, every kind of layer, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from onnx_net2net import Plan, RequestError, UsageError, deepen, inspect, verify, widen
from onnx_net2net.rules import all_rules
from onnx_net2net.rules._registry import never
from tests.law import fill, parse, run, weights
from tests.untouched import assert_untouched

IDEMPOTENT = sorted({rule.op for rule in all_rules() if rule.idempotent is not never})
ARGUMENTS = {"Clip": "(a, lo, hi)"}
SHAPES = {
    "Gemm": ("float[3,4] x", "float[3,4] y", ()),
    "MatMul": ("float[2,3,4] x", "float[2,3,4] y", ()),
    "Conv 1-D": ("float[2,4,9] x", "float[2,4,9] y", (3,)),
    "Conv 2-D": ("float[2,4,9,8] x", "float[2,4,9,8] y", (1, 7)),
    "Conv 3-D": ("float[1,4,5,6,7] x", "float[1,4,5,6,7] y", (3, 1, 5)),
}


def activation(op: str, source: str = "float[2,4,6,6]", attributes: str = "") -> ModelProto:
    bounds = "<float lo = {-0.5}, float hi = {0.8}>" if op == "Clip" else ""
    node = f"{op}{attributes}{ARGUMENTS.get(op, '(a)')}"
    return fill(parse(f"({source} x) => ({source} y) {bounds} {{ a = Neg(x) y = {node} }}"))


@pytest.mark.parametrize("op", IDEMPOTENT)
def test_identity_layers_after_every_idempotent_operator(op: str) -> None:
    teacher = activation(op)
    made = deepen(teacher, after="every")
    assert [(layer.tensor, layer.kind) for layer in made.plan.layers] == [("y", "Conv")]
    assert made.verify()
    x = np.random.default_rng(1).standard_normal((2, 4, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(teacher, {"x": x})["y"], run(made.model, {"x": x})["y"])


NOT = ["LeakyRelu", "Sigmoid", "Tanh", "Gelu", "HardSwish", "Elu", "HardSigmoid", "Softplus", "Selu", "Neg"]


@pytest.mark.parametrize("op", NOT)
def test_an_identity_is_refused_with_the_choices(op: str) -> None:
    model = fill(parse(f"(float[2,4,6,6] x) => (float[2,4,6,6] y) {{ y = {op}(x) }}", 20))
    with pytest.raises(RequestError, match=r"needs f\(f\(x\)\) = f\(x\); choose mode residual or prelu or linear"):
        deepen(model, after="y", mode="identity")
    assert not deepen(model, after="every", mode="identity").plan.layers
    made = deepen(model, after="y")
    assert [layer.mode for layer in made.plan.layers] == ["residual"]
    assert made.verify()


def test_a_clip_with_computed_bounds_is_idempotent() -> None:
    model = parse("(float[2,4] x, float hi) => (float[2,4] y) { a = Abs(hi) lo = Neg(a) y = Clip(x, lo, a) }")
    made = deepen(model, after="y")
    assert [layer.mode for layer in made.plan.layers] == ["identity"]
    assert made.verify()


@pytest.mark.parametrize(("source", "target", "kernel"), SHAPES.values(), ids=SHAPES.keys())
def test_kinds_of_layers(source: str, target: str, kernel: tuple[int, ...], request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.id
    weight = "float[4,4] w" if kind in ("Gemm", "MatMul") else f"float[4,4{',1' * len(kernel)}] w"
    first = "MatMul(x, w)" if kind in ("Gemm", "MatMul") else "Conv(x, w)"
    model = fill(parse(f"({source}) => ({target}) <{weight}> {{ a = {first} y = Relu(a) }}"))
    made = deepen(model, after=["y"], kernel=kernel or None)
    (layer,) = made.plan.layers
    assert layer.kind == kind.split()[0]
    assert weights(made.model)[layer.names[0]] == (4, 4, *kernel)
    assert made.verify()
    assert_untouched(model, made.model, made.plan)


def test_pairs_of_kernels() -> None:
    made = deepen(activation("Relu"), after="y", kernel=[(1, 7), (7, 1)])
    assert [layer.kernel for layer in made.plan.layers] == [(1, 7), (7, 1)]
    assert [n.op_type for n in made.model.graph.node] == ["Neg", "Relu", "Conv", "Relu", "Conv", "Relu"]
    assert made.verify()


WRONG = {
    "an even kernel": ({"after": "y", "kernel": 4}, UsageError, "no centre tap"),
    "a kernel of another rank": ({"after": "y", "kernel": (3, 3, 3)}, RequestError, "does not fit 2 spatial"),
    "an unknown place": ({"after": "nowhere"}, RequestError, "no node or tensor"),
    "nothing asked": ({}, UsageError, "nothing is asked for"),
    "an input": ({"after": "x"}, RequestError, "it is an input of the model"),
    "an unknown mode": ({"after": "y", "mode": "x"}, UsageError, "choose one of identity, residual"),
    "an unknown init": ({"after": "y", "init": "x"}, UsageError, "choose one of exact, random"),
    "no layers": ({"after": "y", "count": 0}, UsageError, "0 is no whole number from 1 on"),
    "a negative seed": ({"after": "y", "seed": -1}, UsageError, "-1 is no whole number from 0 on"),
    "groups that do not divide": ({"after": "y", "group": 3}, RequestError, "its 4 channels do not make 3 groups"),
    "no groups": ({"after": "y", "group": 0}, UsageError, "0 is no number of groups"),
    "a gigantic kernel": ({"after": "y", "kernel": 99999}, RequestError, "too large"),
    "normalised branches": (
        {"after": "y", "mode": "residual", "batch_norm": True},
        UsageError,
        "mode residual has none",
    ),
    "statistics for nothing": ({"after": "y", "calibrate": {}}, UsageError, "ask for both"),
    "a block with a kernel": ({"block": "y", "kernel": 3}, UsageError, "brings its own layers"),
    "no block": ({"block": "y"}, RequestError, "it is not the sum"),
    "an unknown block": ({"block": "z"}, RequestError, "no node or tensor"),
    "a plan and a mode": ({"plan": "{}", "mode": "linear"}, UsageError, "a plan already says"),
    "a plan and groups": ({"plan": "{}", "group": 2}, UsageError, "a plan already says"),
}


@pytest.mark.parametrize(("options", "error", "why"), WRONG.values(), ids=WRONG.keys())
def test_wrong_requests(options, error, why) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=why):
        deepen(activation("Relu"), **options)


def test_an_off_centre_tap_is_caught() -> None:
    teacher = activation("Relu")
    student = deepen(teacher, after="y").model
    tensor = student.graph.initializer[0]
    shifted = np.roll(np.frombuffer(tensor.raw_data, np.float32), 1)
    tensor.raw_data = shifted.tobytes()
    assert not verify(teacher, student)


def test_deepening_a_wider_student_and_a_saved_plan() -> None:
    teacher = fill(
        parse("""(float[n,3,6,6] x) => (float[n,2,6,6] y) <float[4,3,3,3] w1, float[2,4,1,1] w2>
        { a = Conv<pads=[1,1,1,1]>(x, w1) r = Relu(a) y = Conv(r, w2) }""")
    )
    wider = widen(teacher, factor=2).model
    made = deepen(wider, after="every")
    assert made.plan.layers[0].channels == 8
    assert verify(teacher, made.model)
    again = deepen(wider, plan=made.plan.to_json())
    assert Plan.from_json(made.plan.to_json()) == made.plan
    assert again.model.SerializeToString() == made.model.SerializeToString()


def test_old_models_list_the_new_weights_as_inputs() -> None:
    old = activation("Relu")
    old.ir_version = 3
    made = deepen(old, after="y")
    assert {v.name for v in made.model.graph.input} == {"x", made.plan.layers[0].names[0]}
    assert made.verify()


def test_a_sequence_keeps_its_last_axis_as_channels() -> None:
    model = fill(parse("(float[2,7,4] x) => (float[2,7,5] y) <float[4,5] w> { a = MatMul(x, w) y = Relu(a) }"))
    assert [(p.kind, p.channels) for p in inspect(model).deepen] == [("MatMul", 5)]
