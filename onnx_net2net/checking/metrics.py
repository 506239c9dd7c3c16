"""Numbers about two outputs: differences, units in the last place, angles, classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_net2net.checking.inputs import Array


@dataclass(frozen=True, slots=True)
class Metrics:
    """How far two outputs are apart, over all samples.

    Attributes:
        mean_abs: Mean absolute difference.
        ulps: Most numbers of the output's own type between a value and its counterpart; around zero those are many.
        cosine: Smallest cosine of the angle between the two, each sample being one vector.
        top1: Share of rows with the same largest entry, for float outputs [N, C] with C > 1; None for others.
    """

    mean_abs: float = 0.0
    ulps: int = 0
    cosine: float = 1.0
    top1: float | None = None


def measure(dtype: np.dtype[Any], mine: Sequence[Array], theirs: Sequence[Array]) -> Metrics:
    """The metrics of finite outputs of equal shapes.

    Args:
        dtype: The type that the model declares, in which ULPs are counted.
        mine: What the teacher gives, by sample.
        theirs: What the student gives.
    """
    pairs = [(a, b) for a, b in zip(mine, theirs, strict=True) if a.size]
    wide = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    total = sum(a.size for a, _ in wide)
    return Metrics(
        sum(float(np.abs(a - b).sum()) for a, b in wide) / total if total else 0.0,
        max((_ulps(dtype, a, b) for a, b in pairs), default=0),
        min((_cosine(a.ravel(), b.ravel()) for a, b in wide), default=1.0),
        _top1(wide) if dtype.kind not in "iub" else None,
    )


def error(a: Array, b: Array) -> tuple[float, float]:
    """(max|a - b|, max|a - b| / max|a|)."""
    worst = float(np.abs(a - b).max(initial=0.0))
    return worst, worst / scale(a) if scale(a) else (float("inf") if worst else 0.0)


def scale(value: Array) -> float:
    """The largest value, without its sign."""
    return float(np.abs(value).max(initial=0.0))


def _ulps(dtype: np.dtype[Any], a: Array, b: Array) -> int:
    first, second = _ordered(a.astype(dtype)), _ordered(b.astype(dtype))
    high, low = np.maximum(first, second), np.minimum(first, second)
    return int((high.astype(np.uint64) - low.astype(np.uint64)).max())  # wraps around to the right distance


def _ordered(value: Array) -> Array:
    """Integers in the order of the values, one for each number of the type."""
    if value.dtype.kind in "iub":
        return value.astype(np.uint64 if value.dtype == np.uint64 else np.int64)
    bits = value.view(f"i{value.dtype.itemsize}").astype(np.int64)
    lowest = -(2 ** (8 * value.dtype.itemsize - 1))
    return np.where(bits < 0, lowest - bits, bits)


def _cosine(a: Array, b: Array) -> float:
    a, b = a / (scale(a) or 1.0), b / (scale(b) or 1.0)  # squares neither overflow nor vanish
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def _top1(pairs: Sequence[tuple[Array, Array]]) -> float | None:
    rows = [(a.argmax(1), b.argmax(1)) for a, b in pairs if a.ndim == 2 and a.shape[1] > 1]
    if not rows or len(rows) < len(pairs):
        return None
    return float(np.mean(np.concatenate([a == b for a, b in rows])))
