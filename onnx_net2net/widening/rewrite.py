"""The student's value of a constant: gathered along its terms, and divided exactly among copies."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_net2net.algebra.axes import Axis, Dim, Maps, Sum, fractions, index, new_size, size, touches
from onnx_net2net.planning.plan import ConstantPlan, FillPlan, Plan, SplitPlan

Array = NDArray[Any]
Rows = Callable[[NDArray[np.int64]], Array]


def student_value(
    value: Array,
    constant: ConstantPlan,
    plan: Plan,
    teacher: Callable[[str], Array] | None = None,
    *,
    noise: bool = True,
) -> Array:
    """The student's value of one constant, with noise or random units if the plan asks for them.

    Args:
        value: The teacher's value.
        constant: What to do with it.
        plan: The plan that says so.
        teacher: Gives the value of another constant of the teacher: the zero point of a quantised weight.
        noise: Whether to add the plan's noise.
    """
    value = rewrite(value, constant, plan, teacher)
    if noise and plan.noise:
        value = add_noise(value, constant, plan)
    return pad_randomly(value, constant, plan) if plan.init == "random-pad" else value


def rewrite(value: Array, constant: ConstantPlan, plan: Plan, teacher: Callable[[str], Array] | None = None) -> Array:
    """The student's value of one constant: gathered along its terms, then split over copies.

    Args:
        value: The teacher's value.
        constant: What to do with it.
        plan: The plan that says so.
        teacher: Gives the value of another constant of the teacher: the zero point of a quantised weight.
    """
    maps = plan.maps
    value = scaled(value, constant.scale)
    for axis, dim in enumerate(constant.dims):
        if touches(dim, maps):
            wide = np.take(value, index(dim, maps), axis=axis)
            for fill in constant.fills:
                if fill.axis == axis:
                    _fill(wide, value, fill, dim, plan)
            value = wide
    for split in constant.splits:
        if is_float(value.dtype):
            value = _split(value, split, constant, plan)
            continue
        zero = zero_point(split, constant, maps, teacher)
        steps = value.astype(np.int64) - zero
        value = (_split(steps, split, constant, plan) + zero).astype(value.dtype)
    return value


def scaled(value: Array, factor: float) -> Array:
    """A weight times a power of eta, in its own type."""
    return value if factor == 1 else (value.astype(np.float64) * factor).astype(value.dtype)


def _fill(wide: Array, value: Array, fill: FillPlan, dim: Dim, plan: Plan) -> None:
    """Writes the filler of one axis into a dimension that was gathered, in place."""
    content = np.zeros((), value.dtype)
    if fill.content == "mean":
        content = mean(value, fill.axis)
    np.moveaxis(wide, fill.axis, 0)[is_filler(dim, plan, fill.over)] = content


def mean(value: Array, axis: int) -> Array:
    """The mean over one dimension: of rows, where all dimensions before it are one, else within each row."""
    if any(n > 1 for n in value.shape[:axis]):
        return mean_within(value, axis)
    rows = value.reshape(value.shape[axis], -1)
    found = mean_of_rows(lambda wanted: rows[wanted], rows.shape, value.dtype)
    return found.reshape((*value.shape[:axis], *value.shape[axis + 1 :]))


def mean_within(value: Array, axis: int) -> Array:
    """The mean over a dimension that is not that of rows: the same for each row, whatever other rows there are."""
    blocks = value.reshape(-1, value.shape[axis], max(1, math.prod(value.shape[axis + 1 :])))
    result = np.empty((len(blocks), blocks.shape[2]), value.dtype)
    step = max(1, BLOCK // max(1, blocks[:1].size))
    for start in range(0, len(blocks), step):
        block = blocks[start : start + step].astype(np.float64)
        result[start : start + step] = (block.sum(1) / block.shape[1]).astype(value.dtype)
    return result.reshape((*value.shape[:axis], *value.shape[axis + 1 :]))


def mean_of_rows(rows: Rows, shape: tuple[int, ...], dtype: Any) -> Array:
    """The mean over all rows, so many at a time.

    Args:
        rows: Gives some of them.
        shape: How many there are, and how long they are.
        dtype: The type of the mean.
    """
    count, width = shape
    total = np.zeros(width)
    step = max(1, BLOCK // max(1, width))
    for start in range(0, count, step):
        total += rows(np.arange(start, min(start + step, count))).reshape(-1, width).astype(np.float64).sum(0)
    return (total / count).astype(dtype)


def is_filler(dim: Dim, plan: Plan, over: str = "") -> NDArray[np.bool_]:
    """Which units of the student's dimension are filler of an axis, or of any."""
    marks = {}
    for axis in plan.axes:
        marked = np.zeros(axis.new, np.int64)
        if axis.filler and over in ("", axis.name):
            marked[axis.new - axis.filler :] = 1
        marks[axis.name] = marked
    return _marked(dim, marks)


def _marked(dim: Dim, marks: Maps) -> NDArray[np.bool_]:
    if isinstance(dim, Axis):
        return np.asarray(marks[dim.name] > 0) if dim.name in marks else np.zeros(dim.size, bool)
    parts = [_marked(part, marks) for part in dim.parts]
    if isinstance(dim, Sum):
        return np.concatenate([np.zeros(0, bool), *parts])
    result = np.zeros(1, bool)
    for part in parts:
        result = np.logical_or.outer(result, part).ravel()
    return result


def zero_point(
    split: SplitPlan, constant: ConstantPlan, maps: Maps, teacher: Callable[[str], Array] | None
) -> NDArray[np.int64]:
    """The zero point of a quantised weight, in the shape that broadcasts to the student's."""
    if not split.zero or teacher is None:
        return np.zeros((), np.int64)
    zero = teacher(split.zero).astype(np.int64)
    if zero.size == 1:
        return zero.reshape(())
    place = split.channel % len(constant.dims)
    zero = np.take(zero, index(constant.dims[place], maps))
    return zero.reshape([-1 if i == place else 1 for i in range(len(constant.dims))])


def _split(value: Array, split: SplitPlan, constant: ConstantPlan, plan: Plan) -> Array:
    """Divides each weight among the copies of the unit that it reads, so that the parts sum to it exactly."""
    maps = plan.maps
    group = groups_of(split, maps)
    shares = shares_of(split, maps, plan.fractions)
    along = [1] * value.ndim
    along[split.axis] = -1
    if plan.split == "scatter":
        rng = np.random.default_rng([plan.seed, zlib.crc32(constant.name.encode()), split.axis])
        drawn = rng.uniform(0.5, 1.5, value.shape) * (shares > 0).reshape(along)
        total = np.zeros((*value.shape[: split.axis], int(group.max()) + 1, *value.shape[split.axis + 1 :]))
        np.add.at(np.moveaxis(total, split.axis, 0), group, np.moveaxis(drawn, split.axis, 0))
        return exact_parts(value, drawn / np.take(total, group, split.axis), group, split.axis)
    return exact_parts(value, shares.reshape(along), group, split.axis)


def shares_of(split: SplitPlan, maps: Maps, vectors: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """For each unit of the dimension its share of the weight that it was copied from."""
    shares = np.ones(new_size(split.before, maps))
    for share in (fractions(split.over, maps, vectors), np.ones(new_size(split.after, maps))):
        shares = np.multiply.outer(shares, share).ravel()
    ahead, behind = (np.ones(new_size(dim, maps)) for dim in (split.ahead, split.behind))
    return np.concatenate([ahead, shares, behind])


def groups_of(split: SplitPlan, maps: Maps) -> NDArray[np.int64]:
    """For each unit of the dimension, a number shared by the copies that share one weight."""
    result = np.zeros(1, np.int64)
    for dim, copied in ((split.before, False), (split.over, True), (split.after, False)):
        units = index(dim, maps) if copied else np.arange(new_size(dim, maps), dtype=np.int64)
        span = size(dim) if copied else new_size(dim, maps)
        result = np.add.outer(result * span, units).ravel()
    ahead, behind = (np.arange(new_size(dim, maps), dtype=np.int64) for dim in (split.ahead, split.behind))
    return np.concatenate([ahead, result + len(ahead), behind + len(ahead) + int(result.max(initial=-1)) + 1])


def exact_parts(
    value: Array, shares: NDArray[np.float64], group: NDArray[np.int64], axis: int, *, inplace: bool = False
) -> Array:
    """Parts of ``value`` along ``axis`` that sum to it exactly over each group, in the weight's own type.

    Integers are split in whole steps. A float part p is cut off the rest r as ``s = r - p; p = r - s``. For
    0 <= p <= r both differences of the pair that is kept are exact (Sterbenz: if p >= r/2 the first is, else
    the second), so p + s = r holds in the reals, and so does the sum over a group.

    Args:
        value: The gathered weight: the units of a group hold equal numbers.
        shares: Broadcasts to ``value``; sums to one over each group.
        group: For each unit along ``axis``, the number of its group.
        axis: The contracted dimension.
        inplace: Whether ``value`` may be changed.
    """
    if not value.size:
        return value
    first, rank = ranks_of(group)
    turns = [np.flatnonzero(rank == turn) for turn in range(1, int(rank.max(initial=0)) + 1)]
    parts = np.ascontiguousarray(value)
    parts = parts.copy() if not inplace and np.shares_memory(parts, value) else parts
    blocks = parts.reshape(-1, len(group), max(1, int(np.prod(value.shape[axis + 1 :]))))
    every = shares.reshape(blocks.shape if shares.size == value.size else (1, -1, 1))
    kind = kind_of(value.dtype)
    step = max(1, BLOCK // max(1, blocks[0].size))
    for start in range(0, len(blocks), step):
        block = blocks[start : start + step]
        chosen = (every[start : start + step] if len(every) > 1 else every).astype(kind)
        for places in turns:
            _cut(block, chosen, places, first[places])
    return parts


BLOCK = 1 << 18
"""Elements that are worked on at a time, so that they stay in the processor's cache."""


def _cut(block: Array, shares: Array, places: NDArray[np.int64], first: NDArray[np.int64]) -> None:
    """Moves the share of one copy of each unit from its original to the copy, in place."""
    whole, copy = np.take(block, first, axis=1), np.take(block, places, axis=1)
    block[:, first], block[:, places] = cut_off(whole, copy, np.take(shares, places, axis=1))


def cut_off(rest: Array, weight: Array, share: Array) -> tuple[Array, Array]:
    """What stays of ``rest`` without a share of ``weight``, and that share."""
    left = left_of(rest, weight, share)
    return left, part_of(rest, left)


def left_of(rest: Array, weight: Array, share: Array, out: Array | None = None) -> Array:
    """What stays of ``rest`` without a share of ``weight``, in ``out`` if given; an infinite weight stays whole."""
    with np.errstate(invalid="ignore"):
        if is_float(rest.dtype):
            left = np.multiply(weight, share, out=out)
        else:
            left = (weight * share).astype(rest.dtype)  # in whole steps, towards zero
        np.subtract(rest, left, out=left)
        if not _is_finite(left):
            np.copyto(left, rest, where=~np.isfinite(left))
    return left


def part_of(rest: Array, left: Array) -> Array:
    """What was taken off ``rest``, in its place."""
    with np.errstate(invalid="ignore"):
        np.subtract(rest, left, out=rest)
        if not _is_finite(rest):
            rest[~np.isfinite(rest)] = 0
    return rest


def _is_finite(value: Array) -> bool:
    """Whether all numbers are finite, as a sum tells in no memory; False where it may only have overflowed."""
    return bool(np.isfinite(value.sum(dtype=np.float64 if value.dtype.kind == "f" else None)))


def is_float(dtype: Any) -> bool:
    """Whether a type is one of floating point numbers, those of ml_dtypes included."""
    return bool(dtype.kind == "f" or dtype.name.startswith(("bfloat", "float")))


def kind_of(dtype: Any) -> Any:
    """The type that shares are computed in."""
    return np.float64 if dtype.kind == "i" else dtype


def ranks_of(group: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each unit: the first unit of its group, and how many of the group come before it."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(group)])
    first, rank = np.empty_like(group), np.empty_like(group)
    first[order] = np.repeat(order[starts], lengths)
    rank[order] = np.arange(len(group)) - np.repeat(starts, lengths)
    return first, rank


def pad_randomly(value: Array, constant: ConstantPlan, plan: Plan) -> Array:
    """Random numbers in place of all that new units have: the baseline RandomPad of arXiv 1511.05641, section 4.

    They are normal, with the deviation of the weight's own numbers. Vectors and stored integers keep their copies,
    so that new units have biases and statistics of the right size.
    """
    if value.dtype.kind in "iub" or value.ndim < 2 or not value.size:
        return value
    new = _copied(value, constant, plan, range(value.ndim))
    rng = np.random.default_rng([plan.seed, zlib.crc32(constant.name.encode()), 2])
    drawn = rng.standard_normal(value.shape) * float(np.std(value[~new].astype(np.float64)))
    return np.where(new, drawn.astype(value.dtype), value).astype(value.dtype)


def _copied(value: Array, constant: ConstantPlan, plan: Plan, axes: Iterable[int]) -> NDArray[np.bool_]:
    """Where a weight belongs to a copy, along some of its dimensions, rather than to an original or to filler."""
    copied = np.zeros(value.shape, bool)
    for axis in axes:
        if touches(constant.dims[axis], plan.maps):
            first = ranks_of(index(constant.dims[axis], plan.maps))[1] == 0
            first |= is_filler(constant.dims[axis], plan)
            copied |= ~first.reshape([-1 if i == axis else 1 for i in range(value.ndim)])
    return copied


def add_noise(value: Array, constant: ConstantPlan, plan: Plan) -> Array:
    """Adds normal noise to the copies (not the originals) of incoming weights, to tell them apart."""
    scaled = {split.axis for split in constant.splits}
    rng = np.random.default_rng([plan.seed, zlib.crc32(constant.name.encode()), 1])
    if value.dtype.kind in "iub" or value.ndim < 2 or not value.size:
        return value
    copied = _copied(value, constant, plan, (axis for axis in range(value.ndim) if axis not in scaled))
    drawn = rng.standard_normal(value.shape) * plan.noise * float(np.std(value.astype(np.float64)))
    return np.where(copied, value + drawn.astype(value.dtype), value).astype(value.dtype)
