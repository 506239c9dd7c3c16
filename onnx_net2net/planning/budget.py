"""How large a student would be, before it is made: parameters, and multiply-accumulates of one run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnx_net2net.algebra.axes import Dim, new_size
from onnx_net2net.errors import UsageError
from onnx_net2net.inference.axis_map import AxisMap
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.infer import infer
from onnx_net2net.inference.proto import STRUCTURE
from onnx_net2net.planning.plan import Plan
from onnx_net2net.storage.model import AnyModel

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
STEPS = 24
LARGEST = 64.0
ONE = np.zeros(1, np.int64)


@dataclass(frozen=True, slots=True)
class Size:
    """Parameters of a model, and multiply-accumulates of one run at size one of each dynamic dimension."""

    parameters: int
    macs: int


def parameters(graph: Graph) -> int:
    """Elements of all constants that a model computes with, whether initializers or made by constant nodes."""
    computing = [(i, node) for i, node in enumerate(graph.nodes) if i not in graph.constant_nodes]
    used = {name for i, node in computing for name in (*node.input, *graph.captured[i])}
    weights = [name for name in used & graph.constants if graph.dtype(name) not in STRUCTURE]
    return sum(math.prod(shape) for shape in map(graph.shape, weights) if shape is not None)


def measure(found: AxisMap, plan: Plan) -> Size:
    """The size of the student that a plan of widened axes makes of a teacher."""
    graph = found.graph
    maps = {info.axis.name: ONE for info in found.axes.values() if info.dynamic}
    maps.update(plan.maps)
    grown = sum(_growth(graph, c.source, c.name, [new_size(dim, maps) for dim in c.dims]) for c in plan.constants)

    def shape(dims: tuple[Dim, ...]) -> tuple[int, ...]:
        return tuple(new_size(dim, maps) for dim in dims)

    macs = 0
    for i, node in enumerate(graph.nodes):
        rule = graph.rule(i)
        if rule is not None and rule.cost is not None and i not in graph.constant_nodes:
            dims = [found.uses.get((i, slot), found.dims.get(name)) for slot, name in enumerate(node.input)]
            made = [found.dims.get(name) for name in node.output]
            if all(d is not None for d in (*dims, *made)[: len(dims) + 1]):
                macs += rule.cost([shape(d or ()) for d in dims], [shape(d or ()) for d in made])
    units = {axis.name: axis.new for axis in plan.axes}
    inserted = sum(units[item.axis] ** 2 if item.axis else 1 for item in plan.inserted)
    return Size(parameters(graph) + grown + inserted, macs + sum(item.macs for item in plan.inserted))


def size_of(model: AnyModel) -> Size:
    """The size of a model as it is."""
    return measure(infer(model), Plan(""))


def _growth(graph: Graph, source: str, name: str, shape: list[int]) -> int:
    """Elements that one constant adds; another version of it leaves the old one in place."""
    if graph.dtype(source) in STRUCTURE:
        return 0
    return math.prod(shape) - (math.prod(graph.shape(source) or ()) if name == source else 0)


def target(text: str | float, before: int, option: str) -> int:
    """What ``"2x"``, ``"30M"`` or a number of parameters or multiply-accumulates means.

    Raises:
        UsageError: If it means nothing, or less than there is.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(x|[KMGBT]?)", str(text).strip())
    if match is None:
        raise UsageError(f"{text!r} is not a budget", "write 2x, 30M or a number", op=option)
    amount = float(match[1])
    wanted = round(amount * (before if match[2] == "x" else UNITS[match[2]]))
    if wanted < before:
        raise UsageError(f"{wanted:,} is less than the teacher's {before:,}", "ask for more", op=option)
    return wanted


def find_factor(size_at: Callable[[float], int], wanted: int) -> float:
    """The factor, to four digits, for which a size comes nearest to what is wanted.

    A size grows with the factor, but for axes under statistics, which only whole multiples widen; so those
    are tried as well.
    """
    tried: dict[float, int] = {1.0: size_at(1.0)}
    low, high = 1.0, 2.0
    while high < LARGEST and _at(tried, size_at, high) < wanted:
        low, high = high, 2 * high
    for _ in range(STEPS):
        middle = round((low + high) / 2, 4)
        if middle in (low, high):
            break
        low, high = (middle, high) if _at(tried, size_at, middle) < wanted else (low, middle)
    for whole in range(2, math.ceil(high) + 1):
        _at(tried, size_at, float(whole))
    return min(tried, key=lambda factor: (abs(math.log(tried[factor] / wanted)), factor))


def _at(tried: dict[float, int], size_at: Callable[[float], int], factor: float) -> int:
    if factor not in tried:
        tried[factor] = size_at(factor)
    return tried[factor]
