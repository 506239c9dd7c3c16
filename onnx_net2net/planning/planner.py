"""From new sizes to a Plan: draws maps and fractions, and proves them against every equation."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ValueInfoProto

from onnx_net2net.algebra.axes import Axis, Dim, Index, Maps, index, new_size, size, touches
from onnx_net2net.errors import ModelError, RequestError
from onnx_net2net.inference.axis_map import AxisMap, Written
from onnx_net2net.inference.filler import allow_nodes
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.recompute import broken
from onnx_net2net.inference.tied import keep_tied
from onnx_net2net.planning.borders import BorderPlan
from onnx_net2net.planning.constants import Constants, fillings, insertions
from onnx_net2net.planning.names import Names
from onnx_net2net.planning.plan import (
    DIFFERS,
    KEPT,
    AxisPlan,
    Init,
    NumberPlan,
    Plan,
    SizePlan,
    Split,
    fingerprint,
)


def plan_widening(
    found: AxisMap,
    sizes: Mapping[str, int],
    *,
    seed: int = 0,
    split: Split = "uneven",
    noise: float = 0.0,
    init: Init = "exact",
) -> Plan:
    """Draws a map and fractions for each axis, and works out what follows for the model.

    Args:
        found: The teacher's axes.
        sizes: New size of each axis that grows.
        seed: Seed of the draws; each axis draws by itself, so its map does not depend on the others.
        split: How fractions are drawn.
        noise: Recorded in the plan.
        init: Recorded in the plan.

    Raises:
        RequestError: If the maps break an equation (the certificate), which would be a bug.
    """
    axes = []
    for name, info in found.axes.items():
        if name in sizes:
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            old, new = info.axis.size, sizes[name]
            filler = new % old if info.filling is not None else 0
            chosen = draw_map(old, new, rng, uniform=bool(info.uniform))
            shares = draw_fractions(chosen, old, split, rng, filler)
            axes.append(AxisPlan(name, old, new, tuple(chosen.tolist()), tuple(shares.tolist()), filler))
    return complete(found, tuple(axes), seed=seed, split=split, noise=noise, init=init)


def complete(
    found: AxisMap,
    axes: tuple[AxisPlan, ...],
    *,
    seed: int = 0,
    split: Split = "uneven",
    noise: float = 0.0,
    init: Init = "exact",
) -> Plan:
    """The plan that follows from given maps and fractions.

    Raises:
        RequestError: If the maps break an equation, or give units under statistics unequal copies.
    """
    _check_axes(found, axes)
    maps = {axis.name: np.asarray(axis.map, np.int64) for axis in axes}
    filled = [axis for axis in axes if axis.filler]
    certify(found, maps, {axis.name: axis.filler for axis in filled})
    versions = Constants(found, maps, filled)
    constants, cloned = versions.plan()
    names = Names(found.graph, {name for c in constants for name in (c.name, c.source)})
    sizes = tuple(_named(found.graph, _sizes(found, maps), names))
    return Plan(
        fingerprint(found.graph.model),
        seed,
        split,
        noise,
        axes,
        constants,
        sizes,
        tuple(_shapes(found, maps)),
        (),
        tuple(dict.fromkeys([*cloned, *found.ties])) if axes else (),
        init=init,
        numbers=_numbers(found, filled),
        borders=tuple(_borders(found, maps)),
        inserted=tuple(insertions(found, versions, filled, names)),
        kept=tuple(dict.fromkeys(tied.name for tied, _, _ in versions.scales())),
    )


def as_planned(found: AxisMap, plan: Plan) -> AxisMap:
    """What inference found, with what a plan was allowed: inserted nodes, and tied weights that stay one tensor."""
    if plan.kept:
        keep_tied(found)
    allow_nodes(found)
    return found


def _check_axes(found: AxisMap, axes: tuple[AxisPlan, ...]) -> None:
    """Makes sure that what axes say of themselves is consistent, as a plan from a file may not be."""
    if len({axis.name for axis in axes}) < len(axes):
        raise RequestError("it names an axis twice", "make it again with --plan-out", op="plan")
    for axis in axes:
        info = found.axes.get(axis.name)
        shares = axis.fractions[axis.new - axis.filler :] if 0 <= axis.filler < axis.new else (1.0,)
        consistent = axis.new == len(axis.map) == len(axis.fractions) and not any(shares)
        if not consistent or (info is not None and info.axis.size != axis.old):
            wrong = "its sizes contradict its map, its fractions or the model"
            raise RequestError(wrong, "make the plan again with --plan-out", op="plan", tensor=axis.name)


def draw_map(n: int, q: int, rng: np.random.Generator, *, uniform: bool) -> Index:
    """``g: [q] -> [n]``: the identity on the first n; the rest sampled, or repeated in order if ``uniform``.

    Source: arXiv 1511.05641, section 3.2.
    """
    rest = np.arange(n, q, dtype=np.int64) % n if uniform else rng.integers(0, n, q - n)
    return np.concatenate([np.arange(n, dtype=np.int64), rest])


def draw_fractions(
    chosen: Index, n: int, split: Split, rng: np.random.Generator, filler: int = 0
) -> NDArray[np.float64]:
    """Shares that sum to one over the copies of each unit; the last ``filler`` units get none.

    ``even``: all alike, as in the paper. ``first``: the original keeps all. ``uneven`` and ``scatter``:
    random and positive; copies that share a unit get between a third and three times each other's share.
    """
    if split == "even":
        weights = np.ones(len(chosen))
    elif split == "first":
        weights = (np.arange(len(chosen)) < n).astype(np.float64)
    else:
        weights = rng.uniform(0.5, 1.5, len(chosen))
    weights[len(chosen) - filler :] = 0
    return np.asarray(weights / np.bincount(chosen, weights, minlength=n)[chosen])


def certify(found: AxisMap, maps: Maps, filler: Mapping[str, int] | None = None) -> int:
    """Checks ``index(left) == index(right)`` for every equation, and every role, under the chosen maps.

    Args:
        found: The teacher's axes.
        maps: The maps.
        filler: How many of the last units of an axis are filler.

    Returns:
        How many equations a map touched.

    Raises:
        RequestError: If one does not hold; nothing may be written then.
    """
    proved = 0
    for name, chosen in maps.items():
        info = found.axes.get(name)
        if info is None:
            raise RequestError("the model has no such axis", "make a plan for this model", op="plan", tensor=name)
        if info.pins:
            raise RequestError(f"it cannot grow, {info.reason}", "leave it out", op="axis", tensor=name)
        if chosen.min(initial=0) < 0 or chosen.max(initial=0) >= info.axis.size:
            raise RequestError("its map leaves the axis", "map to units of the teacher", op="axis", tensor=name)
        if len(chosen) < info.axis.size or np.any(np.bincount(chosen, minlength=info.axis.size) < 1):
            raise RequestError("its map loses units", "map to every unit at least once", op="axis", tensor=name)
    for left, right, node in found.equations:
        a, b = _trim(left, right)
        if touches(a, maps) or touches(b, maps):
            proved += 1
            if a is not b and not _equal(a, b, maps):
                raise RequestError(f"the maps break an equation of {node}", "report this as a bug", op="certificate")
    _certify_statistics(found, maps, filler or {})
    for claim in broken(found, {name: len(chosen) for name, chosen in maps.items()}):
        wrong = f"{claim.node}: a size that the model computes does not follow"
        raise RequestError(wrong, "choose other sizes", op="certificate", tensor=claim.tensor)
    return proved


def _equal(left: Dim, right: Dim, maps: Maps) -> bool:
    """Whether two terms gather alike."""
    return new_size(left, maps) == new_size(right, maps) and np.array_equal(index(left, maps), index(right, maps))


def _certify_statistics(found: AxisMap, maps: Maps, filler: Mapping[str, int]) -> None:
    """Checks that units under statistics get equally many copies, filler left out where it is understood."""
    for name in filler:
        if found.axes[name].filling is None:
            raise RequestError("it cannot have filler", "use a whole multiple", op="axis", tensor=name)
    copied = {name: chosen[: len(chosen) - filler.get(name, 0)] for name, chosen in maps.items()}
    for s in found.uniform:
        if touches(s.over, maps) and len(set(np.bincount(index(s.over, copied), minlength=size(s.over)).tolist())) > 1:
            raise RequestError(
                f"units get unequally many copies under {s.blame}", "use a whole multiple", op="certificate"
            )


def _trim(left: Dim, right: Dim) -> tuple[Dim, Dim]:
    """Leaves out the outer and inner factors that both sides share to the letter, which keeps indices small."""
    if isinstance(left, Axis) or isinstance(right, Axis) or type(left) is not type(right):
        return left, right
    a, b = list(left.parts), list(right.parts)
    while a and b and a[0] == b[0]:
        del a[0], b[0]
    while a and b and a[-1] == b[-1]:
        del a[-1], b[-1]
    kind = type(left)
    return kind(tuple(a)), kind(tuple(b))


def _numbers(found: AxisMap, filled: Iterable[AxisPlan]) -> tuple[NumberPlan, ...]:
    """Numbers in attributes that take on a power of eta."""
    values: dict[tuple[int, str], float] = {}
    for axis, filling in fillings(found, filled):
        for node, where, value, power in filling.numbers:
            values[node, where] = values.get((node, where), value) * axis.eta**power
    return tuple(NumberPlan(node, where, value) for (node, where), value in sorted(values.items()))


def _sizes(found: AxisMap, maps: Maps) -> list[SizePlan]:
    """New values of the sizes that are written down; several facts about one place are merged."""
    merged: dict[tuple[int, str | int], tuple[Written, list[int], list[int]]] = {}
    for written in found.written:
        key = (written.node, written.where)
        if key not in merged:
            before = _current(found.graph, written)
            merged[key] = (written, before, list(before))
        for place, dim, sign in written.entries:
            if touches(dim, maps):
                merged[key][2][place] = sign * new_size(dim, maps)
    plans = []
    for (node, where), (written, before, after) in merged.items():
        given = isinstance(written.where, int) and any(found.graph.nodes[node].input[written.where : written.where + 1])
        if before == after or (written.fill and len(set(after)) == 1 and not written.instead_of and not given):
            continue
        value = dict(_attributes(found.graph, node)).get(where) if isinstance(where, str) else None
        scalar = isinstance(where, str) and not isinstance(value, (list, tuple)) and not written.fill
        plans.append(SizePlan(node, where, tuple(after), scalar, "", written.instead_of))
    kept = [(node, where, value) for node, where, value, over in found.defaults if touches(over, maps)]
    return plans + [SizePlan(node, where, (value,), True) for node, where, value in kept]


def _attributes(graph: Graph, node: int) -> Iterable[tuple[str, object]]:
    return ((a.name, list(a.ints) if a.ints else a.i) for a in graph.nodes[node].attribute)


def _current(graph: Graph, written: Written) -> list[int]:
    """The values as the teacher has them."""
    if written.fill:
        return list(written.fill)
    if isinstance(written.where, str):
        value = dict(_attributes(graph, written.node)).get(written.where, 1)
        return list(value) if isinstance(value, (list, tuple)) else [int(str(value))]
    value = graph.small_value(graph.nodes[written.node].input[written.where])
    if value is None:
        raise ModelError("its sizes are not constant", "fold constants first", op=graph.nodes[written.node].op_type)
    return [int(v) for v in value.ravel()]


def _named(graph: Graph, sizes: Iterable[SizePlan], names: Names) -> Iterable[SizePlan]:
    """Gives sizes in slots the name of the initializer that will hold them; equal ones share it."""
    shared: dict[tuple[str, tuple[float, ...]], str] = {}
    for plan in sizes:
        if isinstance(plan.where, str):
            yield plan
            continue
        node = graph.nodes[plan.node]
        slots = list(node.input)
        base = slots[plan.where] if plan.where < len(slots) and slots[plan.where] else f"{node.output[0]}_sizes"
        key = (base, plan.values)
        if key not in shared:
            shared[key] = names.new(f"{base}_wide")
        yield SizePlan(plan.node, plan.where, plan.values, name=shared[key], instead_of=plan.instead_of)


def _shapes(found: AxisMap, maps: Maps) -> Iterable[tuple[str, tuple[int, ...]]]:
    """New sizes of computed tensors that the file mentions in value_info; -1 keeps what is written."""
    mentioned = {value.name for value in found.graph.proto.value_info}
    for name, dims in found.dims.items():
        if name in mentioned and any(touches(dim, maps) for dim in dims):
            yield name, tuple(new_size(dim, maps) if touches(dim, maps) else KEPT for dim in dims)
    for tied in found.tied:
        for name, order in tied.moved.items():
            use = next(iter(tied.uses))
            dims = found.uses[use]
            turned = tuple(dims[tied.uses[use].index(k)] for k in order)
            if name in mentioned and not tied.refusal and any(touches(dim, maps) for dim in turned):
                yield name, tuple(new_size(dim, maps) if touches(dim, maps) else KEPT for dim in turned)
    for name, members in found.lists.items():
        if name in mentioned and any(touches(dim, maps) for dims in members for dim in dims):
            yield name, tuple(_common(dims, maps) for dims in zip(*members, strict=False))


def _borders(found: AxisMap, maps: Maps) -> Iterator[BorderPlan]:
    """The graph inputs and outputs that an axis runs through."""
    graph = found.graph
    sides: dict[Literal["input", "output"], Iterable[ValueInfoProto]]
    sides = {"input": graph.inputs, "output": graph.proto.output}
    for kind, values in sides.items():
        for value in values:
            dims = found.dims.get(value.name, ())
            grown = [axis for axis, dim in enumerate(dims) if touches(dim, maps)]
            if grown:
                declared = [d.dim_value if d.HasField("dim_value") else KEPT for d in value.type.tensor_type.shape.dim]
                old = declared if len(declared) == len(dims) else [KEPT] * len(dims)
                new = list(old)
                for axis in grown:
                    old[axis], new[axis] = size(dims[axis]), new_size(dims[axis], maps)
                units = tuple((axis, tuple(index(dims[axis], maps).tolist())) for axis in grown)
                yield BorderPlan(value.name, kind, tuple(old), tuple(new), units)


def _common(dims: Sequence[Dim], maps: Maps) -> int:
    """The one size of a dimension of all members of a sequence."""
    if not any(touches(dim, maps) for dim in dims):
        return KEPT
    sizes = {new_size(dim, maps) for dim in dims}
    return sizes.pop() if len(sizes) == 1 else DIFFERS
