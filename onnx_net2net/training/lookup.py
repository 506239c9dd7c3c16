"""Where the numbers of one array lie in others: whole, with their axes in another order, or block by block.

Knows arrays only. An array is looked up by a hash of its numbers that does not depend on their order, and then
compared bit by bit for every order of the axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Run = tuple[int, int, int]
"""(axis, start, stop)"""
Key = tuple[int, str, int]
MOST_BLOCKS = 16
MOST_DIRECTIONS = 4
MOST_OFFSETS = 1 << 14
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """A block of a constant in which an array lies.

    Attributes:
        constant: Name of the constant.
        runs: What cuts the block out of it; axes that are not mentioned are whole.
        order: For each axis of the block that has more than one unit, which such axis of the array it is.
        longer: Axes of the constant along which the array has more units, of which the constant is a part.
    """

    constant: str
    runs: tuple[Run, ...]
    order: tuple[int, ...]
    longer: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """How an array is made of blocks: they are joined along ``axis``; each may lie in several places."""

    axis: int
    lengths: tuple[int, ...]
    places: tuple[tuple[Place, ...], ...]


def cut(value: Array, runs: Iterable[Run]) -> Array:
    """A block of an array; no axis is dropped."""
    chosen = [slice(None)] * value.ndim
    for axis, start, stop in runs:
        chosen[axis] = slice(start, stop)
    return value[tuple(chosen)]


def core(shape: Iterable[int]) -> tuple[int, ...]:
    """The sizes other than one."""
    return tuple(n for n in shape if n != 1)


def lay(array: Array, place: Place, shape: tuple[int, ...]) -> Array:
    """An array in the layout of the block in which it lies; ``shape`` is the block's."""
    return array.reshape(core(array.shape)).transpose(place.order).reshape(shape)


def lift(block: Array, place: Place, teacher: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """The reverse of `lay`, for a block that has grown.

    Args:
        block: The grown block.
        place: Where the array lies.
        teacher: Shape of the block before it grew, which says what axes are more than one unit.
        shape: Shape of the array before it grew.
    """
    sizes = [n for n, before in zip(block.shape, teacher, strict=True) if before != 1]
    array = block.reshape(sizes).transpose(np.argsort(place.order))
    grown = iter(array.shape)
    return array.reshape([1 if n == 1 else next(grown) for n in shape])


def bits(value: Array) -> Array:
    """The numbers of an array as unsigned integers, so that equal means equal and NaN equals itself."""
    return np.ascontiguousarray(value).reshape(value.shape).view(f"u{value.dtype.itemsize}")


def key(value: Array) -> Key:
    """Equal for arrays of the same type that hold the same numbers in any order."""
    total = np.uint64(0)
    flat = bits(value).ravel()
    with np.errstate(over="ignore"):
        for start in range(0, flat.size, CHUNK):
            mixed = flat[start : start + CHUNK].astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
                mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
            total += (mixed ^ (mixed >> np.uint64(31))).sum(dtype=np.uint64)
    return (value.size, value.dtype.name, int(total))


def orders(array: Array, block: Array) -> Iterator[tuple[int, ...]]:
    """Every order of the axes in which an array equals a block, axes of one unit aside."""
    left, right = (bits(value).reshape(core(value.shape)) for value in (array, block))
    for order in itertools.permutations(range(left.ndim)):
        if [left.shape[i] for i in order] == list(right.shape) and np.array_equal(left.transpose(order), right):
            yield order


class Index:
    """Finds arrays in constants.

    Args:
        names: The constants.
        value: Gives the value of one.
    """

    def __init__(self, names: Iterable[str], value: Callable[[str], Array]) -> None:
        self.value = value
        self.wholes: dict[Key, list[str]] = {}
        self.blocks: dict[Key, list[tuple[str, tuple[Run, ...]]]] = {}
        self.dtypes: set[np.dtype[Any]] = set()
        for name in names:
            array = value(name)
            self.dtypes.add(array.dtype)
            self.wholes.setdefault(key(array), []).append(name)

    def open(self, names: Iterable[str]) -> None:
        """Lets blocks of these constants be found as well."""
        for name in names:
            array = self.value(name)
            for runs in _cuts(array.shape):
                self.blocks.setdefault(key(cut(array, runs)), []).append((name, runs))

    def whole(self, array: Array) -> tuple[Place, ...]:
        """The constants that an array equals, its axes in any order."""
        found = []
        for cast in self._casts(array):
            for name in self.wholes.get(key(cast), ()):
                found += [Place(name, (), order) for order in orders(cast, self.value(name))]
        return tuple(found)

    def part(self, array: Array) -> tuple[Place, ...]:
        """The blocks of constants that an array equals."""
        found = []
        for cast in self._casts(array):
            for name, runs in self.blocks.get(key(cast), ()):
                found += [Place(name, runs, order) for order in orders(cast, cut(self.value(name), runs))]
        return tuple(found)

    def within(self, array: Array, names: Iterable[str]) -> tuple[Place, ...]:
        """The constants that an array contains as a block: positions up to the length that was exported."""
        found = []
        for name in names:
            value = self.value(name)
            if 1 < value.size < array.size and value.dtype in self.dtypes:
                casts = [cast for cast in self._casts(array) if cast.dtype == value.dtype]
                found += [place for cast in casts for place in _inside(cast, name, value)]
        return tuple(found)

    def find(self, array: Array) -> Found | None:
        """How an array is made of constants or blocks of them, in as few pieces as possible."""
        for places in (self.whole(array), self.part(array) if self.blocks else ()):
            if places:
                return Found(0, (array.shape[0],) if array.ndim else (), (places,))
        for axis, n in enumerate(array.shape):
            for count in _divisors(n):
                lengths = (n // count,) * count
                places_of = self._joined(array, axis, lengths)
                if places_of:
                    return Found(axis, lengths, places_of)
        return self._uneven(array)

    def _joined(self, array: Array, axis: int, lengths: tuple[int, ...]) -> tuple[tuple[Place, ...], ...]:
        start, every = 0, []
        for length in lengths:
            piece = cut(array, [(axis, start, start + length)])
            places = self.whole(piece) or self.part(piece)
            if not places or piece.size < 2:
                return ()
            every.append(places)
            start += length
        return tuple(every)

    def _uneven(self, array: Array) -> Found | None:
        """Whole constants of different lengths, joined: keys and values that are fewer than queries."""
        for axis, n in enumerate(array.shape):
            unit = array.size // n if n else 0
            sizes = sorted({size // unit for size, *_ in self.wholes if unit and size % unit == 0})
            start, lengths, every = 0, [], []
            while start < n:
                for length in sizes:
                    piece = cut(array, [(axis, start, start + length)])
                    places = self.whole(piece) if length <= n - start and piece.size > 1 else ()
                    if places:
                        break
                else:
                    break
                lengths.append(length)
                every.append(places)
                start += length
            if start == n and every:
                return Found(axis, tuple(lengths), tuple(every))
        return None

    def _casts(self, array: Array) -> Iterator[Array]:
        """The array in the types that constants have: a checkpoint may be stored in another."""
        for dtype in self.dtypes:
            if dtype == array.dtype:
                yield array
            elif is_float(dtype) and is_float(array.dtype):
                with np.errstate(over="ignore"):
                    yield array.astype(dtype)


def _inside(array: Array, name: str, value: Array) -> Iterator[Place]:
    """Each order of the axes in which a constant is a block of an array."""
    whole, part = (bits(item).reshape(core(item.shape)) for item in (array, value))
    if whole.ndim != part.ndim:
        return
    axes = [axis for axis, n in enumerate(value.shape) if n != 1]
    for order in itertools.permutations(range(whole.ndim)):
        turned = whole.transpose(order)
        slack = [n - m for n, m in zip(turned.shape, part.shape, strict=True)]
        if min(slack, default=-1) < 0 or math.prod(n + 1 for n in slack) > MOST_OFFSETS:
            continue
        for start in itertools.product(*(range(n + 1) for n in slack)):
            if turned[start] != part[(0,) * part.ndim]:
                continue
            block = turned[tuple(slice(i, i + n) for i, n in zip(start, part.shape, strict=True))]
            if np.array_equal(block, part):
                yield Place(name, (), order, tuple(axis for axis, n in zip(axes, slack, strict=True) if n))
                break


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a type is one of floating point, those of ml_dtypes included."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def _divisors(n: int) -> list[int]:
    return [count for count in range(2, min(n, MOST_BLOCKS) + 1) if n % count == 0]


def _cuts(shape: tuple[int, ...]) -> Iterator[tuple[Run, ...]]:
    """What may be a block: a direction (first axis), equal parts along an axis, or such parts of a direction."""
    leads: list[tuple[Run, ...]] = [()]
    if len(shape) > 1 and shape[0] <= MOST_DIRECTIONS:
        leads += [((0, i, i + 1),) for i in range(shape[0])] if shape[0] > 1 else []
    for lead in leads:
        if lead and math.prod(shape[1:]) > 1:
            yield lead
        for axis, n in enumerate(shape):
            if lead and axis == 0:
                continue
            for count in _divisors(n):
                if math.prod(shape) // (shape[0] if lead else 1) // count > 1:
                    yield from ((*lead, (axis, i * n // count, (i + 1) * n // count)) for i in range(count))
