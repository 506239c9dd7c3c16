"""Boxes: elements of a tensor that are chosen dimension by dimension. Pure: no ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Units = NDArray[np.bool_]
"""Of the units of a teacher's dimension, those that are chosen."""
Box = Mapping[int, Units]
"""By dimension, the chosen units; a dimension that is not named is whole."""


def meet(a: Box, b: Box) -> Box | None:
    """What is in both boxes; None if nothing is."""
    both = {dim: _of(a, b, dim) & _of(b, a, dim) for dim in {*a, *b}}
    return tidy(both) if all(units.any() for units in both.values()) else None


def join(boxes: Sequence[Box]) -> Box | None:
    """The box of all that is in some of the boxes; None if that is no box."""
    first, *rest = boxes
    for box in rest:
        differing = [d for d in {*first, *box} if not np.array_equal(_of(first, box, d), _of(box, first, d))]
        if len(differing) > 1:
            return None
        first = tidy({**first, **{dim: _of(first, box, dim) | _of(box, first, dim) for dim in differing}})
    return first


def alike(a: Box | None, b: Box | None) -> bool:
    """Whether two boxes hold the same elements; None holds none."""
    if a is None or b is None:
        return a is b
    return all(np.array_equal(_of(a, b, dim), _of(b, a, dim)) for dim in {*a, *b})


def tidy(box: Box) -> Box:
    """The same box without the dimensions that are whole."""
    return {dim: units for dim, units in box.items() if not units.all()}


def _of(box: Box, other: Box, dim: int) -> Units:
    """The units of a dimension that one of two boxes names."""
    return box[dim] if dim in box else np.ones_like(other[dim])
