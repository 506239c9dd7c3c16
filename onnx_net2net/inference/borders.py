"""Borders: shapes of graph inputs and outputs, which stay unless a request lets some of them change.

Callers know these shapes, so each pins its axes. A *state* is what a caller hands back: a cache of keys and values, the
hidden state of a recurrent layer. It does not look into it, so a state may grow where input and output grow by one map.
Pixels, token ids and scores are no states, for what else the caller gives or reads has their sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from onnx_net2net.algebra.axes import Axis, Dim, atoms
from onnx_net2net.errors import RequestError
from onnx_net2net.inference.axis_map import AxisInfo, AxisMap, Blame
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import FLOATS

Allowed = bool | str | Sequence[str]
"""Which shapes of graph inputs and outputs may change: none, those of states (True), or of what globs name."""
STAYS = "its shape must stay"
HINT = f"{STAYS} unless states may change (--allow-io-change)"
Key = tuple[int, tuple[Dim | None, ...]]
"""What a state's input and output have in common: element type, and the terms of the dimensions that can grow."""


def lift(solved: Sequence[AxisMap], allow: Allowed) -> None:
    """Takes away the pins that the request lifts; says of others that it could.

    Args:
        solved: The analyses at all trial sizes.
        allow: What may change.

    Raises:
        RequestError: If a glob names no graph input or output.
    """
    found = _states(solved)
    lifted = found if allow is True else frozenset[str]() if not allow else _named(solved[0].graph, allow)
    for known in solved:
        known.lifted = lifted
        able = {(name, axis.name) for name in lifted for axis in _fixed_axes(known, name, solved)}
        for info in known.axes.values():
            info.pins = [blame for blame in info.pins if (blame.border, info.axis.name) not in able]
    able = {(name, axis.name) for name in found for axis in _fixed_axes(solved[0], name, solved)}
    for info in solved[0].axes.values():
        if info.initializers and all((blame.border, info.axis.name) in able for blame in info.pins):
            info.pins = [Blame(blame.node, HINT, blame.border) for blame in info.pins]


def _fixed(name: str, solved: Sequence[AxisMap]) -> list[bool]:
    """By dimension of a tensor, whether its size is the same at all trial sizes; empty if it has no shape."""
    shapes = [known.graph.shape(name) for known in solved]
    known = [shape for shape in shapes if shape is not None]
    return [len(set(sizes)) == 1 for sizes in zip(*known, strict=True)] if len(known) == len(shapes) else []


def _fixed_axes(known: AxisMap, name: str, solved: Sequence[AxisMap]) -> set[Axis]:
    """The axes of a tensor that are in no dimension of dynamic size: their units are counted over none."""
    dims = known.dims.get(name, ())
    fixed = _fixed(name, solved) or [False] * len(dims)
    sides = [
        {axis for dim, stays in zip(dims, fixed, strict=True) if stays is way for axis in atoms(dim)}
        for way in (True, False)
    ]
    return sides[0] - sides[1]


def _named(graph: Graph, globs: str | Sequence[str]) -> frozenset[str]:
    """The graph inputs and outputs that globs name."""
    names = [*(value.name for value in graph.inputs), *graph.outputs]
    found: set[str] = set()
    for glob in [globs] if isinstance(globs, str) else globs:
        here = {name for name in names if name == glob or fnmatchcase(name, glob)}
        if not here:
            listed = ", ".join(dict.fromkeys(names))
            wrong = "no graph input or output has this name"
            raise RequestError(wrong, f"there are {listed}", op="allow_io_change", tensor=glob)
        found |= here
    return frozenset(found)


def _states(solved: Sequence[AxisMap]) -> frozenset[str]:
    """The graph inputs and outputs that are states.

    As many inputs as outputs are alike in type and in all dimensions that can grow, no other output has two of the
    other dimensions of these inputs (a batch is one), and there are other inputs and outputs: a network that maps
    pixels to pixels has no state.
    """
    graph = solved[0].graph
    inputs, outputs = [value.name for value in graph.inputs], list(dict.fromkeys(graph.outputs))
    sides = [_by_key(solved, names) for names in (inputs, outputs)]
    alike = [(sides[0][key], sides[1][key]) for key in sides[0] if key in sides[1]]
    pairs = [(given, made) for given, made in alike if len(given) == len(made)]
    others = set(outputs) - {name for _, made in pairs for name in made}
    pairs = [pair for pair in pairs if not any(_is_placed(solved[0], name, others) for name in pair[0])]
    found = {name for pair in pairs for names in pair for name in names}
    return frozenset(found) if set(inputs) - found and set(outputs) - found else frozenset()


def _by_key(solved: Sequence[AxisMap], names: Iterable[str]) -> dict[Key, list[str]]:
    """Tensors of floats that have a dimension which can grow, those that are alike together."""
    first, found = solved[0], dict[Key, list[str]]()
    for name in names:
        dims, fixed = first.dims.get(name, ()), _fixed(name, solved)
        if first.graph.dtype(name) in FLOATS and dims and fixed:
            pairs = zip(dims, fixed, strict=True)
            able = tuple(dim if stays and _can_grow(first.axes, dim) else None for dim, stays in pairs)
            if any(able):
                found.setdefault((first.graph.dtype(name), able), []).append(name)
    return found


def _can_grow(axes: Mapping[str, AxisInfo], dim: Dim) -> bool:
    """Whether a weight has an axis of the dimension, and nothing but borders pins it."""
    infos = [axes[axis.name] for axis in atoms(dim)]
    return any(info.initializers and all(blame.border for blame in info.pins) for info in infos)


def _is_placed(known: AxisMap, name: str, others: Iterable[str]) -> bool:
    """Whether outputs beside the states have two dimensions of an input, as scores have of what they are made for."""
    own = [dim for dim in known.dims[name] if not _can_grow(known.axes, dim) and any(True for _ in atoms(dim))]
    return any(sum(dim in own for dim in known.dims.get(other, ())) > 1 for other in others)
