"""Widening a weight: our rewrite beside numpy's plain gather, and beside two ways that published code goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnx import ModelProto

from benchmarks.speed.measure import Row, least
from onnx_net2net.growing import widen
from tests.law import fill, parse

BEFORE, AFTER = 256, 384
TEACHER = f"""(float[1,{BEFORE},4,4] x) => (y) <float[{BEFORE},{BEFORE},3,3] v, float[{BEFORE},{BEFORE},3,3] w> {{
    a = Conv<pads=[1,1,1,1]>(x, v) b = Relu(a) y = Conv<pads=[1,1,1,1]>(b, w) }}"""


def baselines(_folder: Path, runs: int) -> Iterator[Row]:
    """Two convolutions of 256 channels whose common axis becomes 384 wide."""
    teacher: ModelProto = fill(parse(TEACHER))
    v, w = (np.random.default_rng(0).standard_normal((BEFORE, BEFORE, 3, 3), np.float32) for _ in range(2))
    copied = np.random.default_rng(1).integers(0, BEFORE, AFTER - BEFORE)
    index = np.concatenate([np.arange(BEFORE), copied])
    made = widen(teacher, widths={"v": AFTER})

    def ours() -> ModelProto:
        for name in ("exact", "lazy_exact"):
            made.__dict__.pop(name, None)
        return made.exact

    assert made.exact
    plain = least(runs, lambda: (np.take(v, index, 0), np.take(w, index, 1)))
    for name, call in {
        "ours, exact fractions, model and all": ours,
        "gather and divide by counts": lambda: _divided(v, w, index),
        "a concatenation for each new unit": lambda: _concatenated(v, w, copied),
        "a loop over all pairs of units": lambda: _looped(v, w, index),
    }.items():
        took = least(runs, call)
        yield Row("baselines", name, took * 1e3, "ms", ratio=took / plain, beside=f"np.take ({plain * 1e3:.2f} ms)")


def _divided(v: np.ndarray, w: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts = np.bincount(index)[index].astype(np.float32)
    return v[index], w[:, index] / counts[:, None, None]


def _concatenated(v: np.ndarray, w: np.ndarray, copied: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grows both weights by one unit at a time, each time into a new array."""
    counts = np.bincount(copied, minlength=BEFORE) + 1
    for unit in copied:
        v = np.concatenate([v, v[unit : unit + 1]], 0)
        w = np.concatenate([w, w[:, unit : unit + 1]], 1)
        w[:, [unit, -1]] = (w[:, unit] / counts[unit])[:, None]
    return v, w


def _looped(v: np.ndarray, w: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fills new arrays unit by unit and pair by pair."""
    counts = np.bincount(index)
    wide_v, wide_w = np.zeros((AFTER, BEFORE, 3, 3), np.float32), np.zeros((BEFORE, AFTER, 3, 3), np.float32)
    for i, unit in enumerate(index):
        wide_v[i] = v[unit]
        for j in range(BEFORE):
            wide_w[j, i] = w[j, unit] / counts[unit]
    return wide_v, wide_w
