"""Sizes that a model computes while it runs, at the student's sizes: do they come out as claimed?

``chunk`` is exported as ``Shape -> Gather -> Add 1 -> Div 2 -> Slice``. No equation between terms says that, so
it is computed anew with the sizes that were chosen, and an axis for which the result is wrong does not grow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from onnx_net2net.algebra.axes import Dim, Maps, new_size, touches
from onnx_net2net.errors import ModelError
from onnx_net2net.inference.axis_map import AxisMap, Claim


def broken(found: AxisMap, sizes: Mapping[str, int], claims: Sequence[Claim] | None = None) -> list[Claim]:
    """The claims, of some or of all, that new sizes of axes break."""
    maps = {name: np.zeros(n, np.int64) for name, n in sizes.items()}  # only their lengths matter
    every = found.claims if claims is None else claims
    asked = [claim for claim in every if any(touches(dim, maps) for dim in claim.dims)]
    values = _values(found, maps, {claim.tensor for claim in asked}) if asked else {}
    return [claim for claim in asked if not _holds(found, claim, values.get(claim.tensor), maps)]


def _holds(found: AxisMap, claim: Claim, value: NDArray[Any] | None, maps: Maps) -> bool:
    before = found.graph.shapes.values[claim.tensor]
    wanted = before.ravel()[claim.place] if claim.dim is None else claim.sign * new_size(claim.dim, maps)
    return value is not None and value.shape == before.shape and bool(value.ravel()[claim.place] == wanted)


def _values(found: AxisMap, maps: Maps, names: set[str]) -> dict[str, NDArray[Any]]:
    """Tensors as the student computes them; those that cannot be computed are left out."""
    graph = found.graph
    values: dict[str, NDArray[Any]] = {}
    for i in sorted(graph.ancestors(names)):
        made = {name: graph.shapes.values[name] for name in graph.nodes[i].output if name}
        if any(len(found.held[name]) < value.size for name, value in made.items()):
            try:
                made = graph.evaluate(*_fed(found, maps, i, values))
            except ModelError:
                continue
        for name, value in made.items():
            values[name] = _with_sizes(value, found.held[name], maps)
    return values


def _fed(
    found: AxisMap, maps: Maps, i: int, values: Mapping[str, NDArray[Any]]
) -> tuple[NodeProto, dict[str, NDArray[Any]]]:
    """A node, each of whose slots has a name of its own, and what it reads.

    Raises:
        ModelError: If it reads what could not be computed.
    """
    graph = found.graph
    node = NodeProto()
    node.CopyFrom(graph.nodes[i])
    feeds: dict[str, NDArray[Any]] = {}
    for slot, name in enumerate(graph.nodes[i].input):
        if not name:
            continue
        node.input[slot] = str(slot)
        if slot in graph.unread(node):
            feeds[str(slot)] = graph.blank(name)
        elif name in values:
            feeds[str(slot)] = values[name]
        elif name in graph.constants:
            feeds[str(slot)] = _with_sizes(graph.value(name), found.held[i, slot], maps)
        else:
            raise ModelError("it cannot be computed", "choose other sizes", op=node.op_type, tensor=name)
    return node, feeds


def _with_sizes(value: NDArray[Any], held: Iterable[tuple[int, Dim]], maps: Maps) -> NDArray[Any]:
    """A copy with the student's sizes at some places, where there are such places."""
    changed = value.copy()
    for place, dim in held:
        if place < changed.size:
            changed.flat[place] = new_size(dim, maps)
    return changed
