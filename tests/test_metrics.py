"""The numbers of a verdict: differences, units in the last place, angles, classes, and the bar."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

from onnx_net2net.checking.compare import compare
from onnx_net2net.checking.metrics import measure
from onnx_net2net.checking.tolerance import Bars, bar, working_type
from tests.law import fill, parse

ONE = np.float32(1)
ULPS = {
    "none": (np.float32, 1, 1, 0),
    "the next": (np.float32, 1, np.nextafter(ONE, 2 * ONE), 1),
    "the two zeros": (np.float32, 0.0, -0.0, 0),
    "across zero": (np.float32, 1e-45, -1e-45, 2),
    "far": (np.float32, -np.finfo(np.float32).max, np.finfo(np.float32).max, 2 * 0x7F7FFFFF),
    "float64": (np.float64, 1, np.nextafter(1.0, 2), 1),
    "farther": (np.float64, -(2.0**1000), 2.0**1000, 2 * ((1000 + 1023) << 52)),
    "float16": (np.float16, 1, 1 + 2**-10, 1),
    "bfloat16": (ml_dtypes.bfloat16, 1, 1 + 2**-7, 1),
    "integers": (np.int64, 2**60, 2**60 + 3, 3),
    "unsigned": (np.uint64, 2**64 - 1, 0, 2**64 - 1),
    "booleans": (np.bool_, True, False, 1),
}


@pytest.mark.parametrize(("dtype", "a", "b", "ulps"), ULPS.values(), ids=ULPS.keys())
def test_ulps_are_counted_in_the_type_of_the_output(dtype: type, a: float, b: float, ulps: int) -> None:
    mine, theirs = np.array([a, a], dtype), np.array([a, b], dtype)
    assert measure(mine.dtype, [mine], [theirs]).ulps == ulps
    assert measure(mine.dtype, [theirs], [mine]).ulps == ulps


def test_means_angles_and_classes() -> None:
    mine = [np.array([[1, 2], [3, 0]], np.float32), np.array([[5, 1]], np.float32)]
    theirs = [np.array([[2, 1], [3, 0]], np.float32), np.array([[5, 1]], np.float32)]
    found = measure(mine[0].dtype, mine, theirs)
    assert found.mean_abs == pytest.approx(2 / 6)
    assert found.cosine == pytest.approx(13 / 14)
    assert found.top1 == pytest.approx(2 / 3)
    assert measure(mine[0].dtype, [x[:, :1] for x in mine], [x[:, :1] for x in theirs]).top1 is None
    assert measure(np.dtype(np.int64), mine, theirs).top1 is None


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_cosines_neither_overflow_nor_vanish(size: float) -> None:
    a, b = (np.array(x, np.float32) * np.float32(size) for x in ([3, 4], [4, 3]))
    assert measure(a.dtype, [a], [b]).cosine == pytest.approx(24 / 25)
    assert measure(a.dtype, [a], [a * 0]).cosine == 0
    assert measure(a.dtype, [a * 0], [a * 0]).cosine == 1


BARS = {
    "the floor": (TensorProto.FLOAT, {"x": 1e-7}, 2e-6, "x"),
    "no noise": (TensorProto.FLOAT, {"x": 0.0}, 2e-6, ""),
    "ten times the larger": (TensorProto.FLOAT, {"x": 1e-6, "y": 3e-6}, 3e-5, "y"),
    "the ceiling": (TensorProto.FLOAT, {"x": 1.0}, 1e-3, "x"),
    "noise that is none": (TensorProto.FLOAT, {"x": float("nan"), "y": 1e-6}, 1e-5, "y"),
    "float64": (TensorProto.DOUBLE, {}, 1e-12, ""),
    "float16": (TensorProto.FLOAT16, {"x": 1e-3}, 1e-2, "x"),
    "integers": (TensorProto.INT64, {}, 0.0, ""),
    "the ceiling of integers": (TensorProto.UINT8, {"x": 0.1}, 1e-2, "x"),
}


@pytest.mark.parametrize(("kind", "noises", "allowed", "yardstick"), BARS.values(), ids=BARS.keys())
def test_bars(kind: int, noises: dict[str, float], allowed: float, yardstick: str) -> None:
    found = bar(kind, noises)
    assert (found.allowed, found.yardstick) == (pytest.approx(allowed), yardstick)


def test_float64_that_was_computed_coarsely_is_held_to_the_coarser_type() -> None:
    fine = fill(parse("(double[2] x) => (double[2] y) <double[2] w> { y = Mul(x, w) }"))
    coarse = fill(parse("(float[2] x) => (double[2] y) <float[2] w> { a = Mul(x, w) y = Cast<to=11>(a) }"))
    within = parse("(double[2] x) => (double[2] y) { a = Cast<to=1>(x) b = Exp(a) y = Cast<to=11>(b) }")
    kinds = [working_type(TensorProto.DOUBLE, model) for model in (fine, coarse, within)]
    assert kinds == [TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.FLOAT]


def test_integers_beyond_float64_are_told_apart() -> None:
    mine, theirs = ([np.array([k, 5], np.int64), np.array([3, 4], np.int64)] for k in (2**60, 2**60 + 1))
    bars = Bars({"y": TensorProto.INT64}, {"y": TensorProto.INT64})
    assert "differs" in compare("y", mine, theirs, {}, bars).failure
    assert not compare("y", mine, mine, {}, bars).failure


def test_complex_outputs_are_not_compared_by_halves() -> None:
    value = [np.array([1 + 2j, 3], np.complex64)]
    bars = Bars({"y": TensorProto.COMPLEX64}, {"y": TensorProto.COMPLEX64})
    assert "complex64" in compare("y", value, value, {}, bars).failure
