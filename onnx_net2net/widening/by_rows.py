"""The student's value of a large constant, some rows at a time: the same numbers as `rewrite`, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from onnx_net2net.algebra.axes import Index, Maps, index, new_size, touches
from onnx_net2net.planning.plan import ConstantPlan, FillPlan, Plan, SplitPlan
from onnx_net2net.storage.tensors import PACKED, Buffers, Rows, Tensor
from onnx_net2net.widening.rewrite import (
    exact_parts,
    groups_of,
    is_filler,
    is_float,
    kind_of,
    left_of,
    mean_of_rows,
    mean_within,
    part_of,
    ranks_of,
    scaled,
    shares_of,
    student_value,
    zero_point,
)

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Choices:
    """A plan with its maps and fractions as arrays, which takes a while for long ones.

    Attributes:
        plan: The plan.
        maps: Its maps.
        fractions: Its fractions.
        value: Gives the value of another constant of the teacher: the zero point of a quantised weight.
        noise: Whether to add the plan's noise.
    """

    plan: Plan
    maps: Maps
    fractions: Mapping[str, NDArray[np.float64]]
    value: Callable[[str], Array]
    noise: bool = True


class Rewritten(Tensor):
    """One constant of the student, made from one of the teacher."""

    def __init__(self, source: Tensor, constant: ConstantPlan, choices: Choices) -> None:
        super().__init__(source.dtype, tuple(new_size(dim, choices.maps) for dim in constant.dims))
        self.source = source
        self.constant = constant
        self.choices = choices
        plan = choices.plan
        drawn = (plan.split == "scatter" and constant.splits) or (choices.noise and plan.noise) or plan.init != "exact"
        self.by_rows = bool(self.shape) and not drawn and self.dtype not in PACKED  # draws are made for the whole

    def read(self) -> Array:
        """The whole value."""
        choices = self.choices
        return student_value(self.source.read(), self.constant, choices.plan, choices.value, noise=choices.noise)

    def open(self) -> Rows:
        """What gives its rows."""
        if not self.by_rows:
            return super().open()
        maps, axis = self.choices.maps, self.axis
        units = [index(dim, maps) if touches(dim, maps) else None for dim in self.constant.dims]
        source, factor = self.source.open(), self.constant.scale

        def rows_of(wanted: Index) -> Array:
            return scaled(source(wanted), factor)

        fillers = [self._filler(fill, rows_of) for fill in self.constant.fills]
        first_fillers = [filler for filler in fillers if filler.axis == axis]
        splits = [self._split(split) for split in self.constant.splits]
        narrow = self._is_float() and len(first_fillers) == len(fillers)  # later means are over whole weights
        early = [splits.pop(0)] if narrow and splits and self.constant.splits[0].axis == axis else []
        gathers = [_Gather(i, found) for i, found in enumerate(units) if found is not None and i != axis]

        def rows(wanted: Index) -> Array:
            first = units[axis]
            value = rows_of(wanted if first is None else first[wanted])
            for filler in first_fillers:
                filler.write(value, wanted)
            for split in early:  # on rows that are still narrow
                value = split(value, wanted)
            for gather in gathers:
                wide = gather(value)
                for filler in fillers:
                    if filler.axis == gather.axis:
                        filler.take(wide, value)
                value = wide
            for split in splits:
                value = split(value, wanted)
            return value

        return rows

    def _filler(self, fill: FillPlan, rows_of: Rows) -> _Filler:
        """What filler of one axis holds; a mean over rows needs all of them once."""
        marked = is_filler(self.constant.dims[fill.axis], self.choices.plan, fill.over)
        content: Array | None = None
        if fill.axis == self.axis and fill.content == "mean":
            shape = self.source.shape
            width = math.prod(shape) // shape[fill.axis]
            dtype = helper.tensor_dtype_to_np_dtype(self.dtype)
            content = mean_of_rows(rows_of, (shape[fill.axis], width), dtype)
            content = content.reshape((*shape[: fill.axis], *shape[fill.axis + 1 :]))
        return _Filler(fill.axis, marked, fill.content, content)

    def _split(self, split: SplitPlan) -> Callable[[Array, Index], Array]:
        """What divides some gathered rows among copies."""
        maps = self.choices.maps
        group, shares = groups_of(split, maps), shares_of(split, maps, self.choices.fractions)
        along = [1] * len(self.shape)
        along[split.axis] = -1
        wide = shares.reshape(along)
        parts = _RowParts(group, shares) if split.axis == self.axis else None

        def divide(value: Array, wanted: Index) -> Array:
            return parts(value, wanted) if parts else exact_parts(value, wide, group, split.axis, inplace=True)

        if self._is_float():
            return divide
        zero = zero_point(split, self.constant, maps, self.choices.value)

        def divide_steps(value: Array, wanted: Index) -> Array:
            here = np.take(zero, wanted, self.axis) if zero.ndim and zero.shape[self.axis] > 1 else zero
            return (divide(value.astype(np.int64) - here, wanted) + here).astype(value.dtype)

        return divide_steps

    def _is_float(self) -> bool:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(self.dtype))
        return is_float(dtype)


@dataclass(frozen=True, slots=True)
class _Filler:
    """Filler along one dimension.

    Attributes:
        axis: The dimension.
        marked: Which of its units are filler.
        content: ``mean`` or ``zero``.
        mean: The mean, where it is over rows.
    """

    axis: int
    marked: NDArray[np.bool_]
    content: str
    mean: Array | None

    def write(self, rows: Array, wanted: Index) -> None:
        """Writes filler that is rows, among some rows."""
        np.moveaxis(rows, self.axis, 0)[self.marked[wanted]] = 0 if self.mean is None else self.mean

    def take(self, wide: Array, rows: Array) -> None:
        """Writes filler along another dimension of some rows, which is gathered already."""
        content = mean_within(rows, self.axis) if self.content == "mean" else np.zeros((), rows.dtype)
        np.moveaxis(wide, self.axis, 0)[self.marked] = content


class _Gather:
    """Takes units along one dimension, those that copy themselves all at once."""

    def __init__(self, axis: int, units: Index) -> None:
        self.axis = axis
        self.units = units
        own = units == np.arange(len(units))
        self.own = len(units) if own.all() else int(np.argmin(own))
        self.buffers = Buffers()

    def __call__(self, value: Array) -> Array:
        if 2 * self.own < len(self.units):
            return self.buffers.take("all", value, self.units, self.axis)
        shape = (*value.shape[: self.axis], len(self.units), *value.shape[self.axis + 1 :])
        out = self.buffers.get("all", shape, value.dtype)
        before = (slice(None),) * self.axis
        out[(*before, slice(self.own))] = value[(*before, slice(self.own))]
        out[(*before, slice(self.own, None))] = self.buffers.take("rest", value, self.units[self.own :], self.axis)
        return out


class _RowParts:
    """What `exact_parts` makes of rows, from these rows alone: the units of a group hold equal numbers."""

    def __init__(self, group: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
        self.first, self.rank = ranks_of(group)
        self.most = int(self.rank.max(initial=0))
        self.shares = shares
        self.copies = np.full((len(group), self.most + 1), -1)
        self.copies[self.first, self.rank] = np.arange(len(group))
        self.buffers = Buffers()

    def __call__(self, value: Array, wanted: Index) -> Array:
        """Divides rows in place."""
        flat = value.reshape(len(wanted), -1)
        rank, copies = self.rank[wanted], self.copies[self.first[wanted]]
        last = np.where(rank == 0, self.most, rank)
        active = np.flatnonzero(copies[:, 1] >= 0) if self.most else np.zeros(0, np.int64)
        take = self.buffers.take
        whole = rest = take("whole 0", flat, active)
        for turn in range(1, self.most + 1):
            share = self.shares[copies[active, turn], None].astype(kind_of(value.dtype))
            left = left_of(rest, whole, share, self.buffers.get(f"left {turn % 2}", whole.shape, whole.dtype))
            done = np.flatnonzero(rank[active] == turn)
            flat[active[done]] = part_of(take("before", rest, done), take("after", left, done))
            goes_on = np.zeros(len(active), bool)
            if turn < self.most:
                goes_on = (copies[active, turn + 1] >= 0) & (last[active] > turn)
            ends = np.flatnonzero(~goes_on & (rank[active] != turn))
            flat[active[ends]] = take("after", left, ends)
            further = np.flatnonzero(goes_on)
            active, whole = active[further], take(f"whole {turn % 2}", whole, further)
            rest = take(f"rest {turn % 2}", left, further)
        return value
