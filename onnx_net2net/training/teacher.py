"""The constants of a teacher, the versions in which a plan holds them, and what a plan does to an array in them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

from onnx_net2net.algebra.axes import Dim, Maps, fractions, index, new_size, touches
from onnx_net2net.errors import RequestError
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import FLOATS, read_tensor
from onnx_net2net.io import Model, load
from onnx_net2net.planning.plan import ConstantPlan, Plan, SplitPlan, check_teacher
from onnx_net2net.training.lookup import Place, core, cut, lay, lift
from onnx_net2net.widening.rewrite import rewrite, student_value

Array = NDArray[Any]
SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a checkpoint tensor: where it lies, and in which version the student holds that constant.

    Attributes:
        place: The block of a constant that holds the piece.
        version: Name of the student's initializer; empty if the plan leaves the constant as it is.
        length: Units of the piece along the axis on which pieces are joined.
    """

    place: Place
    version: str
    length: int


@dataclass(frozen=True, slots=True)
class Match:
    """How one checkpoint tensor lies in the teacher's constants.

    Attributes:
        tensor: Name in the checkpoint.
        shape: Its shape.
        axis: Along which the parts are joined.
        parts: The parts, in order.
        how: How it was found, for people.
    """

    tensor: str
    shape: tuple[int, ...]
    axis: int
    parts: tuple[Part, ...]
    how: str

    @property
    def touched(self) -> bool:
        """Whether the plan changes any part."""
        return any(part.version for part in self.parts)


class Teacher:
    """A teacher under a plan.

    Args:
        model: The teacher.
        plan: A plan made for it.

    Raises:
        RequestError: If the plan was made for another model.
    """

    def __init__(self, model: Model, plan: Plan) -> None:
        loaded = load(model)
        self.base = inline_local_functions(loaded) if plan.inlined else loaded
        check_teacher(plan, self.base)
        self.plan = plan
        self.graph = Graph(self.base)
        self.versions: dict[str, ConstantPlan] = {constant.name: constant for constant in plan.constants}
        self.nodes: dict[tuple[str, str], set[int]] = {}
        self._read()

    def _read(self) -> None:
        """Notes which nodes read each version of each constant."""
        version_of = {use: constant.name for constant in self.plan.constants for use in constant.uses}
        graph = self.graph
        tied = {made: name for name in self.plan.kept for made in self._moved(name)}
        for name in graph.constants:
            for use in graph.consumers.get(name, ()):
                if use[0] not in graph.constant_nodes:
                    version = tied[name] if name in tied else version_of.get(use, "")
                    self.nodes.setdefault((tied.get(name, name), version), set()).add(use[0])
            inner = {i for i, names in enumerate(graph.captured) if name in names}
            if inner or name in graph.outputs:
                self.nodes.setdefault((name, ""), set()).update(inner)

    def _moved(self, name: str) -> list[str]:
        """What constant nodes make of a weight that stays one tensor: they only move its elements."""
        made = [self.graph.makes[i][0] for i, _ in self.graph.consumers.get(name, ()) if i in self.graph.constant_nodes]
        return [*made, *(more for inner in made for more in self._moved(inner))]

    @cached_property
    def constants(self) -> list[str]:
        """The constants that something computed reads, by name."""
        return list(dict.fromkeys(name for name, _ in self.nodes))

    def versions_of(self, name: str) -> list[str]:
        """The versions in which the student holds a constant."""
        return [version for constant, version in self.nodes if constant == name]

    def value(self, name: str) -> Array:
        """The value of a constant."""
        return self.graph.value(name)

    def scopes(self, i: int) -> set[str]:
        """The modules that a node belongs to, as far as PyTorch's exporters wrote it down."""
        node = self.graph.nodes[i]
        for entry in node.metadata_props:
            if entry.key == SCOPES:
                try:
                    return set(json.loads(entry.value.replace("'", '"'))[:-1]) - {""}  # the last is the node's own name
                except ValueError:
                    return set()
        path, last, found = "", "", set()
        for step in node.name.strip("/").split("/")[:-1]:
            inner = step.removeprefix(last) if last and step.startswith(f"{last}.") else f".{step}"
            path, last = (path + inner).lstrip("."), step
            found.add(path)
        return found

    @cached_property
    def probed(self) -> Graph:
        """The same graph with random numbers for weights that reach their readers through constant nodes.

        Where they come out shows how constant nodes lay them out, whatever the true values are.
        """
        feeding = {name for i in self.graph.constant_nodes for name in self.graph.nodes[i].input}
        probe = ModelProto()
        probe.CopyFrom(self.base)
        rng = np.random.default_rng(0)
        for tensor in probe.graph.initializer:
            if tensor.name in feeding and tensor.data_type in FLOATS:
                dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
                drawn = numpy_helper.from_array(rng.standard_normal(tuple(tensor.dims)).astype(dtype), tensor.name)
                tensor.CopyFrom(drawn)
        return Graph(probe)

    @cached_property
    def derived(self) -> list[str]:
        """The constants that constant nodes make."""
        return [name for name in self.constants if name not in self.graph.initializers]

    def initializer(self, name: str) -> Array:
        """The value of an initializer."""
        return read_tensor(self.graph.initializers[name])

    def axes(self, match: Match) -> list[int | None]:
        """For each axis of a tensor the axis of its (first) constant; None for axes of one unit."""
        place = match.parts[0].place
        block = cut(np.broadcast_to(np.int8(0), self.graph.shape(place.constant) or ()), place.runs).shape
        theirs = [axis for axis, n in enumerate(block) if n != 1]
        ours = [axis for axis, n in enumerate(match.shape) if n != 1]
        found: list[int | None] = [None] * len(match.shape)
        for axis, of in zip(theirs, place.order, strict=True):
            if of < len(ours):
                found[ours[of]] = axis
        return found

    def reaches(self, name: str) -> set[str]:
        """The constants that something computed reads and that an initializer is, or is a part of."""
        found, pending, seen = set(), [name], {name}
        while pending:
            current = pending.pop()
            found |= {current} if current in self.constants else set()
            for i, _ in self.graph.consumers.get(current, ()):
                made = set(self.graph.nodes[i].output) - seen if i in self.graph.constant_nodes else set()
                seen |= made
                pending += made
        return found

    def image(self, array: Array, match: Match, power: int | None = None) -> Array:
        """What becomes of a checkpoint tensor.

        Args:
            array: Its value, or that of a buffer that belongs to it.
            match: How it lies in the teacher's constants.
            power: None for weights. For statistics of gradients, how often the gradient enters them as a
                factor: along axes that are carried they are scaled by the fractions to this power, since the
                gradient of a copy is its fraction times that of its source.

        Raises:
            RequestError: If the units of a part do not stay together in the student.
        """
        if not match.touched:
            return array
        pieces, start = [], 0
        for part in match.parts:
            piece = array if len(match.parts) == 1 else cut(array, [(match.axis, start, start + part.length)])
            pieces.append(self._piece(piece, part, power, match.tensor))
            start += part.length
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, match.axis)

    def _piece(self, piece: Array, part: Part, power: int | None, tensor: str) -> Array:
        if not part.version:
            return piece
        constant, place = self.versions[part.version], part.place
        if place.runs:
            background = self.value(place.constant)
            whole = np.array(background if background.dtype == piece.dtype else background.astype(piece.dtype))
            teacher = cut(whole, place.runs).shape
            cut(whole, place.runs)[...] = lay(piece, place, teacher)
        else:
            teacher = self._stretched(place, piece.shape)
            whole = lay(piece, place, teacher)
        if power is None:
            grown = student_value(whole, constant, self.plan, self.value)
        else:
            grown = rewrite(whole, dataclasses.replace(constant, splits=()), self.plan)
            for axis in range(grown.ndim):
                share = carried(constant, axis, self.plan) ** power
                if (share == 1).all():
                    continue
                grown = (grown * share.reshape([-1 if i == axis else 1 for i in range(grown.ndim)])).astype(grown.dtype)
        grown = cut(grown, self._runs(constant, place, teacher, tensor))
        return lift(grown, place, teacher, piece.shape)

    def _stretched(self, place: Place, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a constant, as long as an array of this shape along the axes where that is longer."""
        sizes = iter(core(shape)[i] for i in place.order)
        known = self.graph.shape(place.constant) or ()
        lengths = [next(sizes) if n != 1 else 1 for n in known]
        return tuple(lengths)

    def stays(self, place: Place, version: str) -> bool:
        """Whether the plan leaves alone the axes along which an array is longer than its constant."""
        if not version:
            return True
        constant = self.versions[version]
        split = {s.axis for s in constant.splits}
        return not any(axis in split or touches(constant.dims[axis], self.plan.maps) for axis in place.longer)

    def _runs(
        self, constant: ConstantPlan, place: Place, teacher: tuple[int, ...], tensor: str
    ) -> list[tuple[int, int, int]]:
        """What cuts the grown block out of the student's constant."""
        runs = []
        for axis, start, stop in place.runs:
            source = index(constant.dims[axis], self.plan.maps)
            units = np.flatnonzero((source >= start) & (source < stop))
            torn = not units.size or units[-1] - units[0] + 1 != units.size
            if torn or (teacher[axis] == 1 and units.size > 1):  # a tensor has no axis for a single unit to grow along
                raise RequestError(
                    f"its units {start} to {stop} of axis {axis} of {place.constant} do not stay together",
                    "skip that axis, or export each tensor as a constant of its own",
                    op="checkpoint",
                    tensor=tensor,
                )
            runs.append((axis, int(units[0]), int(units[-1]) + 1))
        return runs


def carried(constant: ConstantPlan, axis: int, plan: Plan) -> NDArray[np.float64]:
    """For each unit of a dimension of the student's constant its fraction, as far as the axes are carried."""
    maps: Maps = plan.maps
    result = fractions(constant.dims[axis], maps, plan.fractions)
    for split in constant.splits:
        if split.axis == axis:
            outer, inner = (fractions(dim, maps, plan.fractions) for dim in (split.before, split.after))
            shares = np.multiply.outer(outer, np.ones(new_size(split.over, maps))).ravel()
            block = np.multiply.outer(shares, inner).ravel()
            start = new_size(split.ahead, maps)
            result[start : start + len(block)] = block
    return result


def carries(constant: ConstantPlan, plan: Plan) -> Sequence[str]:
    """The widened axes that a constant carries rather than contracts."""
    found: dict[str, None] = {}
    for axis, dim in enumerate(constant.dims):
        splits = [split for split in constant.splits if split.axis == axis]
        for part in [d for split in splits for d in _carried_parts(split)] if splits else [dim]:
            found.update({name: None for name in plan.maps if touches(part, {name: plan.maps[name]})})
    return list(found)


def _carried_parts(split: SplitPlan) -> tuple[Dim, ...]:
    """The parts of a dimension that are not contracted."""
    return split.ahead, split.before, split.after, split.behind
