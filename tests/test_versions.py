"""Every opset and IR version, mixed precision, local functions, and structures that must survive as they are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_net2net import Plan, inspect, widen
from tests.law import fill, parse, run, weights
from tests.untouched import assert_untouched

NEWEST = onnx.defs.onnx_opset_version()
SIMPLE = """(float[2,3,6,6] x) => (float[2,4] y)
<float[8,3,3,3] w1, float[8] b1, float[8] s, float[8] b, float[8] m, float[8] v, float[6,8,1,1] w2, float[4,6] w3, float[4] b3>
{ c = Conv(x, w1, b1) n = BatchNormalization(c, s, b, m, v) r = Relu(n) d = Conv(r, w2) e = Relu(d)
  p = GlobalAveragePool(e) f = Flatten(p) y = Gemm<transB=1>(f, w3, b3) }"""


@pytest.mark.parametrize("opset", range(7, min(NEWEST, 23) + 1))
def test_every_opset(opset: int) -> None:
    made = widen(fill(parse(SIMPLE, opset, 8), low=0.2, high=1.5), factor=1.5)
    assert [axis.new for axis in made.plan.axes] == [12, 9]
    verdict = made.verify()
    assert verdict, verdict.reason
    assert_untouched(made.teacher, made.exact, made.plan)


@pytest.mark.parametrize("ir_version", range(3, 11))
def test_every_ir_version(ir_version: int) -> None:
    model = fill(parse(SIMPLE, 9, ir_version), low=0.2, high=1.5)
    if ir_version == 3:
        for tensor in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    made = widen(model, factor=1.5)
    assert made.model.ir_version == ir_version
    assert made.verify()
    onnx.checker.check_model(made.model, full_check=True)


def typed(model: ModelProto, dtype: int) -> ModelProto:
    """The model in another floating point type."""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            value = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(dtype))
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = dtype
    return model


MLP = "(float[2,6] x) => (float[2,4] y) <float[6,8] u, float[8] b, float[8,4] v> { h = Gemm(x, u, b) r = Relu(h) y = MatMul(r, v) }"
MIXED = """(float[2,6] x) => (float[2,4] y) <float[6,8] u, float16[8,8] v, double[8,4] w>
{ h = MatMul(x, u) r = Relu(h) a = Cast<to=10>(r) g = MatMul(a, v) k = Cast<to=11>(g) y64 = MatMul(k, w) y = Cast<to=1>(y64) }"""


@pytest.mark.parametrize("dtype", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_other_precisions(dtype: int) -> None:
    made = widen(typed(fill(parse(MLP)), dtype), factor=1.5)
    assert made.verify()
    assert {t.data_type for t in made.model.graph.initializer} == {dtype}


def test_mixed_precisions() -> None:
    made = widen(fill(parse(MIXED)), factor=1.5)
    assert len(made.plan.axes) == 2
    assert made.verify(rtol=2e-3)
    assert {t.name: t.data_type for t in made.model.graph.initializer} == {"u": 1, "v": 10, "w": 11}


FUNCTIONS = """<ir_version: 8, opset_import: ["": 17, "mine": 1]>
main (float[2,6] x) => (float[2,4] y) <float[6,8] u, float[8,8] v, float[8,4] w> {
  h = MatMul(x, u) r = mine.twice(h) g = MatMul(r, v) k = Relu(g) y = MatMul(k, w)
}
<domain: "mine", opset_import: ["": 17]>
twice (a) => (b) { c = Relu(a) b = Add(c, c) }"""


def functions() -> ModelProto:
    return fill(onnx.parser.parse_model(FUNCTIONS))


def test_functions_are_inlined_where_an_axis_has_to_pass_through() -> None:
    made = widen(functions(), factor=1.5)
    assert len(made.plan.axes) == 2
    assert made.plan.inlined
    assert not made.model.functions
    assert made.verify()
    again = widen(functions(), plan=Plan.from_json(made.plan.to_json()))
    assert again.model.SerializeToString() == made.model.SerializeToString()


def test_functions_are_left_alone_otherwise() -> None:
    made = widen(functions(), widths={"v": 12})
    assert not made.plan.inlined
    assert made.model.functions == made.teacher.functions
    assert weights(made.model)["w"] == (12, 4)
    assert made.verify()


STRUCTURES = {
    "If": """(float[2,6] x, bool c) => (float[2,4] y) <float[6,8] u, float[8,4] v, float[4,4] w, float[4,4] z>
        { h = MatMul(x, u) r = Relu(h) g = MatMul(r, v)
          k = If (c) <then_branch = t () => (float[2,4] a) { a = Relu(g) }, else_branch = e () => (float[2,4] b) { b = Neg(g) }>
          m = MatMul(k, w) n = Relu(m) y = MatMul(n, z) }""",
    "Loop": """(float[2,6] x, int64 n, bool c) => (float[2,4] y) <float[6,8] u, float[8,4] v>
        { h = MatMul(x, u) r = Relu(h) g = MatMul(r, v)
          y = Loop (n, c, g) <body = l (int64 i, bool go, float[2,4] s) => (bool on, float[2,4] t)
                                 { on = Identity(go) t = Add(s, g) }> }""",
    "sequences": """(float[2,6] x) => (float[2,4] y) <float[6,8] u, float[8,4] v, int64 i = {0}>
        { h = MatMul(x, u) r = Relu(h) g = MatMul(r, v) s = SequenceConstruct(g, g) y = SequenceAt(s, i) }""",
}


@pytest.mark.parametrize("graph", STRUCTURES.values(), ids=STRUCTURES.keys())
def test_axes_end_at_the_border_of_other_structures(graph: str) -> None:
    model = fill(parse(graph))
    made = widen(model, factor=1.5)
    assert "u:1" in {axis.name for axis in made.plan.axes}
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)}
    names = {value.name for value in model.graph.input}
    feeds |= {k: v for k, v in {"c": np.array(True), "n": np.array(3)}.items() if k in names}
    np.testing.assert_allclose(run(made.model, feeds)["y"], run(model, feeds)["y"], rtol=1e-4, atol=1e-4)
    assert_untouched(made.teacher, made.exact, made.plan)
    pinned = {info.axis.name: info.reason for info in inspect(model).axes if info.status == "pinned"}
    assert "v:1" in pinned
