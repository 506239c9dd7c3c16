"""Verification: what must pass passes, and every injected fault is caught."""

from __future__ import annotations

import sys
from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from onnx_net2net import MissingError, ModelError, UsageError, Verdict, verify, widen
from onnx_net2net.checking.upcast import upcast
from tests.law import fill, parse
from tests.networks import build
from tests.test_random import NAMED
from tests.zoo import light

NETWORK = """
(float[n,3,8,8] x) => (float[n,5] y)
<float[8,3,3,3] w1, float[8] b1, float[8,8,3,3] w2, float[8] b2, int64[2] s = {-1, 512}, float[512,5] w3, float[5] b3> {
    a = Conv<pads=[1,1,1,1]>(x, w1, b1)
    r = Relu(a)
    c = Conv<pads=[1,1,1,1]>(r, w2, b2)
    d = Add(c, r)
    e = Relu(d)
    f = Reshape(e, s)
    y = Gemm(f, w3, b3)
}"""


def network(seed: int = 0) -> ModelProto:
    return fill(parse(NETWORK), seed, -0.5, 0.5)


def student(model: ModelProto) -> ModelProto:
    return widen(model, factor=1.5, seed=3).model


def edit(model: ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
            return copy
    raise AssertionError(name)


def put(place: tuple[object, ...], value: Callable[[np.ndarray], object]) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[place] = value(array)
        return array

    return change


FAULTS = {
    "a wrong map: two incoming units swapped": ("w1", lambda w: w[[1, 0, *range(2, len(w))]]),
    "a wrong map: a copy of another unit": ("w1", put((11,), lambda w: w[0] + w[1])),
    "a wrong fraction: one weight not divided": ("w2", put((slice(None), 0), lambda w: w[:, 0] * 1.5)),
    "a wrong fraction: off by one percent": ("w2", put((slice(None), 0), lambda w: w[:, 0] * 1.01)),
    "a forgotten division": ("w3", lambda w: w * 1.5),
    "a dropped bias": ("b1", lambda b: b * 0),
    "one bias dropped": ("b1", put((3,), lambda b: 0)),
    "a swapped axis": ("w2", lambda w: w.swapaxes(0, 1)),
    "a swapped kernel": ("w2", lambda w: w.swapaxes(2, 3)),
    "the last layer shuffled": ("w3", lambda w: w[::-1].copy()),
}


def test_a_correct_student_passes() -> None:
    verdict = verify(network(), student(network()))
    assert verdict
    assert [o.name for o in verdict.outputs] == ["y"]
    assert 0 <= verdict.outputs[0].max_rel <= verdict.outputs[0].tolerance <= 1e-2


@pytest.mark.parametrize(("name", "change"), FAULTS.values(), ids=FAULTS.keys())
def test_injected_faults_are_caught(name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    wrong = edit(student(network()), name, change)
    verdict = verify(network(), wrong)
    assert not verdict
    assert "differs" in verdict.reason


@pytest.mark.parametrize("name", ["squeezenet", "densenet121", "shufflenet"])
def test_a_few_wrong_units_in_a_real_network_is_caught(name: str) -> None:
    made = widen(light(name), factor=1.5)
    constant = next(c for c in made.plan.constants if c.splits and len(c.dims) == 4)
    wrong = edit(made.model, constant.name, put((slice(None), slice(4)), lambda w: w[:, :4] * 2 + 0.1))
    assert not verify(light(name), wrong, samples=2)


def one(body: str) -> ModelProto:
    return parse(f"(float[2,3] x) => (float[2,3] y) {{ {body} }}")


VACUOUS = {
    "NaN": (one("z = Neg(x) a = Abs(x) b = Neg(a) y = Sqrt(b)"), "NaN or Inf"),
    "constant outputs": (one("z = Sub(x, x) y = Exp(z)"), "same for every input"),
    "constants alone": (
        fill(parse("(float[2,3] x) => (float[3] w) <float[3] w> { y = Neg(x) }")),
        "all outputs are constants",
    ),
    "no outputs": (parse("(float[2,3] x) => () { y = Neg(x) }"), "no outputs"),
}


@pytest.mark.parametrize(("model", "why"), VACUOUS.values(), ids=VACUOUS.keys())
def test_nothing_vacuous_passes(model: ModelProto, why: str) -> None:
    verdict = verify(model, model)
    assert not verdict
    assert why in verdict.reason


def test_other_interfaces_are_not_equivalent() -> None:
    other = parse("(float[2,3] z) => (float[2,3] y) { y = Neg(z) }")
    assert "inputs differ" in verify(one("y = Neg(x)"), other).reason


def test_given_tolerances_replace_the_measured_one() -> None:
    close = edit(network(), "b3", lambda b: b + np.float32(1e-3))
    assert not verify(network(), close)
    assert verify(network(), close, atol=1e-2)
    assert not verify(network(), close, atol=1e-4)
    assert verify(network(), close, rtol=1e-1)


TWO = "(float[2,3] x) => (float[2,3] y, float[2,3] z) <float[1] k = {%s}> { y = Neg(x) a = Exp(x) z = Mul(a, k) }"


def test_tolerances_are_given_by_output() -> None:
    teacher, close = parse(TWO % "1.0"), parse(TWO % "1.001")
    assert "output 'z'" in verify(teacher, close).reason
    assert verify(teacher, close, rtol={"z": 2e-3})
    assert verify(teacher, close, rtol={"*": 2e-3})
    assert not verify(teacher, close, rtol={"y": 2e-3})
    assert not verify(teacher, close, rtol={"z": 5e-4, "*": 2e-3})
    needed = verify(teacher, close).outputs[1].needed
    assert verify(teacher, close, rtol={"z": needed})
    assert not verify(teacher, close, rtol={"z": needed * 0.999})
    assert verify(teacher, close, atol={"z": 1.0})
    with pytest.raises(UsageError, match=r"rtol \(w\): there is no such output"):
        verify(teacher, close, rtol={"w": 1})
    with pytest.raises(UsageError, match="nan is no tolerance"):
        verify(teacher, close, atol=float("nan"))


def test_a_claim_of_growth_is_checked() -> None:
    teacher = network()
    assert "nothing grew" in verify(teacher, teacher, grown=True).reason
    assert verify(teacher, student(teacher), grown=True)
    made = widen(teacher, factor=1.5)
    made.lazy_exact = teacher
    assert "nothing grew" in made.verify().reason
    assert "no outputs" in Verdict().reason


def test_inputs_samples_and_dims_are_taken() -> None:
    feeds = {"x": np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)}
    assert verify(network(), student(network()), inputs=feeds).samples == 1
    assert verify(network(), student(network()), inputs=[feeds, {"x": feeds["x"] * 2}]).samples == 2
    assert verify(network(), student(network()), dims={"n": 7}, samples=2).samples == 2
    with pytest.raises(UsageError, match="no value for"):
        verify(network(), student(network()), inputs={})


def test_a_provider_that_is_missing_is_named() -> None:
    with pytest.raises(MissingError, match=r"NoSuchProvider.*onnx-net2net\[gpu\]"):
        verify(network(), network(), providers=["NoSuchProvider"])


def test_two_packages_of_onnxruntime_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["onnx_net2net.checking.runtime"]
    monkeypatch.setattr(module, "installed", lambda: ["onnxruntime", "onnxruntime-gpu"])
    with pytest.raises(MissingError, match=r"overwrote each other; pip uninstall onnxruntime and onnxruntime-gpu"):
        verify(network(), network(), providers=["cuda"])


def test_a_silent_fall_back_to_the_cpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["CPUExecutionProvider"])
    with pytest.raises(MissingError, match="fell back"):
        verify(network(), network(), providers=["cuda"])


def test_a_model_that_does_not_run_is_an_error() -> None:
    broken = parse("(float[2,3] x) => (float[2,3] y) { y = NoSuchOperator(x) }")
    with pytest.raises(ModelError, match="onnxruntime cannot run it"):
        verify(broken, broken)


def bfloat16(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    copy.opset_import[0].version = 22  # the first in which every operator here takes bfloat16
    copy.ir_version = 10

    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            value = numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    return copy


def test_types_without_a_kernel_are_verified_after_an_exact_upcast() -> None:
    teacher = bfloat16(network())
    made = widen(teacher, factor=1.5)
    verdict = made.verify()
    assert verdict
    assert verdict.upcast
    wide = {t.name: numpy_helper.to_array(t) for t in upcast(made.model).graph.initializer}
    assert {t.data_type for t in made.model.graph.initializer} == {TensorProto.BFLOAT16, TensorProto.INT64}
    assert all(
        np.array_equal(wide[t.name], numpy_helper.to_array(t).astype(wide[t.name].dtype))
        for t in made.model.graph.initializer
    )


def test_float16_is_widened_and_verified() -> None:
    teacher = ModelProto()
    teacher.CopyFrom(network())
    for tensor in teacher.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            value = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    for value in (*teacher.graph.input, *teacher.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    verdict = widen(teacher, factor=1.5).verify()
    assert verdict, verdict.reason
    assert verdict.outputs[0].tolerance >= 2e-3


def test_integer_inputs_are_drawn_in_a_small_range() -> None:
    model = parse("(int64[2,3] i) => (float[2,3,4] y) <float[5,4] w> { y = Gather(w, i) }")
    assert verify(fill(model), fill(model))


def test_rounding_is_no_failure_and_damage_of_its_size_is() -> None:
    """Another order of the teacher's units shows more rounding than graph optimisations do."""
    recipe, ask = NAMED["rounding that graph optimisations do not show"]
    teacher = build(recipe)
    student = widen(teacher, factor=ask.factor, split=ask.split, seed=ask.seed).exact
    verdict = verify(teacher, student)
    assert verdict
    assert 1e-5 < verdict.outputs[0].max_rel < verdict.outputs[0].tolerance < 1e-3
    for tensor in student.graph.initializer:
        damaged = ModelProto()
        damaged.CopyFrom(student)
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.ndim > 1:
            index = next(i for i, t in enumerate(student.graph.initializer) if t.name == tensor.name)
            worse = value * np.float32(1.01)
            damaged.graph.initializer[index].CopyFrom(numpy_helper.from_array(worse, tensor.name))
            assert not verify(teacher, damaged), tensor.name
