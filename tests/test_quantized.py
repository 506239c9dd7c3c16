"""Quantised networks grow in their stored integers: nothing is requantised, and every split is exact."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from onnx_net2net import widen
from onnx_net2net.planning.plan import SPLITS
from tests.law import fill, parse, run

SCALES = """float k = {0.05}, uint8 z = {128}, float[6] k1, int8[6] z1, float k2 = {0.02}, int8 z2 = {-3}, float[3] k3, int8[3] z3"""
NETWORK = f"""(float[n,2,6,6] x) => (float[n,3] y)
<{SCALES}, int8[6,2,3,3] w1, int32[6] b1, float[6] kb, int8[6,6,1,1] w2, int8[3,6] w3, int64[2] s = {{-1, 6}}> {{
  xq = QuantizeLinear(x, k, z) xd = DequantizeLinear(xq, k, z)
  d1 = DequantizeLinear<axis=0>(w1, k1, z1) c1 = DequantizeLinear<axis=0>(b1, kb)
  a = Conv<pads=[1,1,1,1]>(xd, d1, c1) r = Relu(a)
  rq = QuantizeLinear(r, k, z) rd = DequantizeLinear(rq, k, z)
  d2 = DequantizeLinear(w2, k2, z2) c = Conv(rd, d2) e = Add(c, rd)
  g = GlobalAveragePool(e) f = Reshape(g, s)
  d3 = DequantizeLinear<axis=0>(w3, k3, z3) t = Transpose(d3) y = MatMul(f, t)
}}"""


def network(seed: int = 0) -> ModelProto:
    """A network with every stored weight random over the whole range of its type."""
    model = fill(parse(NETWORK), seed, 0.01, 0.05)
    rng = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        if tensor.name in ("w1", "w2", "w3", "z1", "z3", "b1"):
            span = 2000 if tensor.name == "b1" else 20 if tensor.name.startswith("z") else 127
            before = numpy_helper.to_array(tensor)
            value = rng.integers(-span, span, before.shape).astype(before.dtype)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("factor", [1.5, 2, 2.7])
def test_stored_integers_grow_exactly(split: str, factor: float) -> None:
    teacher = network()
    made = widen(teacher, factor=factor, split=split, seed=3)
    assert [axis.new for axis in made.plan.axes] == [round(6 * factor)]
    verdict = made.verify()
    assert verdict, verdict.reason
    before = {t.name: (t.data_type, len(t.dims)) for t in teacher.graph.initializer if t.name != "s"}
    after = {t.name: (t.data_type, len(t.dims)) for t in made.model.graph.initializer}
    assert before.items() <= after.items()
    assert [n.op_type for n in made.model.graph.node] == [n.op_type for n in teacher.graph.node]


def test_the_sum_of_integers_is_the_same_number() -> None:
    teacher = network()
    made = widen(teacher, factor=1.5, seed=1)
    old, new = ({t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (teacher, made.model))
    (axis,) = made.plan.axes
    gathered = old["w3"].astype(np.int64) - old["z3"].astype(np.int64)[:, None]
    steps = new["w3"].astype(np.int64) - new["z3"].astype(np.int64)[:, None]
    sums = np.zeros_like(gathered)
    np.add.at(sums.T, list(axis.map), steps.T)
    np.testing.assert_array_equal(sums, gathered)


def test_a_split_without_its_zero_point_would_be_caught() -> None:
    teacher = network()
    made = widen(teacher, factor=2, split="first")
    x = {"x": np.random.default_rng(0).standard_normal((2, 2, 6, 6)).astype(np.float32)}
    for tensor in made.model.graph.initializer:
        if tensor.name == "w2":
            value = numpy_helper.to_array(tensor).copy()
            assert (value[:, 6:] == -3).all()  # copies without influence hold the zero point
            value[:, 6:] = 0
            tensor.CopyFrom(numpy_helper.from_array(value, "w2"))
    wanted, got = run(teacher, x)["y"], run(made.model, x)["y"]
    assert np.abs(wanted - got).max() > 1e-3 * np.abs(wanted).max()
