"""Terms for dimensions, and what a choice of maps does to them. Pure: knows neither ONNX nor graphs.

A dimension is an `Axis` (n units resized together by one map), a row-major product of dimensions, or a
concatenation of them. A *map* ``g: [q] -> [n]`` says from which unit of the teacher each unit of the
student is copied; a dictionary of maps by axis name is a `Maps`, and an axis without an entry keeps its
units. See docs/algebra.md for the theory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]
Maps = Mapping[str, Index]


@dataclass(frozen=True, slots=True)
class Axis:
    """An atom: ``size`` units of the teacher that are resized together by one map."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Prod:
    """Row-major merge of dimensions; the first factor is the outermost. No factors: one unit."""

    parts: tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """Concatenation of dimensions. No parts: zero units."""

    parts: tuple[Dim, ...]


Dim = Axis | Prod | Sum
UNIT = Prod(())
EMPTY = Sum(())


def size(dim: Dim) -> int:
    """Units of ``dim`` in the teacher."""
    if isinstance(dim, Axis):
        return dim.size
    sizes = [size(part) for part in dim.parts]
    return math.prod(sizes) if isinstance(dim, Prod) else sum(sizes)


def new_size(dim: Dim, maps: Maps) -> int:
    """Units of ``dim`` in the student."""
    if isinstance(dim, Axis):
        return len(maps[dim.name]) if dim.name in maps else dim.size
    sizes = [new_size(part, maps) for part in dim.parts]
    return math.prod(sizes) if isinstance(dim, Prod) else sum(sizes)


def atoms(dim: Dim) -> Iterator[Axis]:
    """The axes in ``dim``, outermost and leftmost first, with repetitions."""
    pending = [dim]
    while pending:
        part = pending.pop()
        if isinstance(part, Axis):
            yield part
        else:
            pending.extend(reversed(part.parts))


def touches(dim: Dim, maps: Maps) -> bool:
    """Whether ``maps`` resizes or reorders any axis of ``dim``."""
    if isinstance(dim, Axis):
        return dim.name in maps
    return any(axis.name in maps for axis in atoms(dim))


def index(dim: Dim, maps: Maps) -> Index:
    """For each unit of the student's dimension, the unit of the teacher's that it copies."""
    if not touches(dim, maps):
        return np.arange(size(dim), dtype=np.int64)
    if isinstance(dim, Axis):
        return np.asarray(maps[dim.name], np.int64)
    if isinstance(dim, Prod):
        result = np.zeros(1, np.int64)
        for part in dim.parts:
            result = np.add.outer(result * size(part), index(part, maps)).ravel()
        return result
    offset, pieces = 0, []
    for part in dim.parts:
        pieces.append(index(part, maps) + offset)
        offset += size(part)
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)


def copies(dim: Dim, maps: Maps) -> Index:
    """For each unit of the student's dimension, how many units copy the same unit of the teacher."""
    source = index(dim, maps)
    return np.bincount(source, minlength=size(dim))[source].astype(np.int64)


def fractions(dim: Dim, maps: Maps, vectors: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """The share that each unit of the student's dimension takes of its source unit.

    ``vectors`` holds the fractions of each axis that was widened, one for each unit of the student; they
    sum to one over the copies of a source unit, and so do the results.
    """
    if isinstance(dim, Axis):
        return vectors[dim.name] if dim.name in vectors else np.ones(new_size(dim, maps))
    if isinstance(dim, Prod):
        result = np.ones(1)
        for part in dim.parts:
            result = np.multiply.outer(result, fractions(part, maps, vectors)).ravel()
        return result
    pieces = [fractions(part, maps, vectors) for part in dim.parts]
    return np.concatenate(pieces) if pieces else np.ones(0)


def substitute(dim: Dim, change: Callable[[Axis], Dim]) -> Dim:
    """``dim`` with every axis replaced by ``change(axis)``."""
    if isinstance(dim, Axis):
        return change(dim)
    return type(dim)(tuple(substitute(part, change) for part in dim.parts))


def show(dim: Dim) -> str:
    """``dim`` as people write it: ``*`` merges, ``+`` concatenates."""
    if isinstance(dim, Axis):
        return dim.name
    if not dim.parts:
        return "1" if isinstance(dim, Prod) else "0"
    if isinstance(dim, Sum):
        return " + ".join(show(part) for part in dim.parts)
    return " * ".join(f"({show(p)})" if isinstance(p, Sum) and len(p.parts) > 1 else show(p) for p in dim.parts)
