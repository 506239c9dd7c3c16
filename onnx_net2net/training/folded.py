"""Batch normalisation that an exporter folded into the layer before it: recognised by its arithmetic.

The folded weight is w * s and the folded bias is beta + (b - mean) * s, with s = gamma / sqrt(var + eps) for each
output channel. Both are carried along the output channels like the statistics themselves, so a checkpoint that
still holds w, b and the statistics grows by the same maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_net2net.training.lookup import Place
from onnx_net2net.training.teacher import Match, Part, Teacher

Array = NDArray[Any]
TOLERANCE = 1e-4
EPSILONS = (1e-5, 1e-3, 1e-4, 1e-6, 1e-7, 1e-8, 0.0, 1e-2, 2e-5)
SUFFIXES = {
    "weight": "gamma",
    "scale": "gamma",
    "gamma": "gamma",
    "bias": "beta",
    "beta": "beta",
    "running_mean": "mean",
    "moving_mean": "mean",
    "mean": "mean",
    "running_var": "var",
    "moving_variance": "var",
    "var": "var",
}


def find_folded(
    teacher: Teacher, state: Mapping[str, Array], unknown: Sequence[str], matches: Mapping[str, Match]
) -> Iterator[list[Match]]:
    """Matches for each layer and its batch normalisation, where exactly one fits.

    Args:
        teacher: The teacher under its plan.
        state: The checkpoint.
        unknown: Tensors that no constant holds as they are.
        matches: Tensors that were found; those found by name alone may have been folded as well.
    """
    norms = _norms(state, unknown)
    if not norms:
        return
    moved = [name for name, m in matches.items() if "moved on" in m.how]
    weights = [name for name in (*unknown, *moved) if state[name].ndim > 1]
    claims: dict[str, list[list[Match]]] = {}
    for weight, bias, version in _layers(teacher, matches):
        for name in weights:
            for norm, parts in norms.items():
                found = _fits(teacher, state, name, parts, weight, bias, version)
                if found:
                    claims.setdefault(norm, []).append(found)
    for norm, found_for in claims.items():
        rivals = [other for key, others in claims.items() if key != norm for other in others]
        taken = {m.tensor for found in rivals for m in found}
        if len(found_for) == 1 and not taken & {m.tensor for m in found_for[0]}:
            yield found_for[0]


def _norms(state: Mapping[str, Array], unknown: Sequence[str]) -> dict[str, dict[str, str]]:
    """Modules that hold statistics -> role -> name of the tensor."""
    modules: dict[str, dict[str, str]] = {}
    for name in unknown:
        parts = name.replace("/", ".").rsplit(".", 1)
        role = SUFFIXES.get(parts[-1])
        if role and state[name].ndim == 1:
            modules.setdefault(parts[0], {})[role] = name
    return {module: roles for module, roles in modules.items() if {"mean", "var"} <= roles.keys()}


def _layers(teacher: Teacher, matches: Mapping[str, Match]) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """(weight, bias, their versions) for each node that reads a weight and a vector that are constants."""
    held = {p.place.constant for m in matches.values() if "moved on" not in m.how for p in m.parts}
    by_node: dict[int, list[tuple[str, str]]] = {}
    for (name, version), nodes in teacher.nodes.items():
        if name not in held:
            for node in nodes:
                by_node.setdefault(node, []).append((name, version))
    seen = set()
    for found in by_node.values():
        ranks = [(len(teacher.graph.shape(name) or ()), name, version) for name, version in found]
        weights = [item for item in ranks if item[0] > 1]
        biases = [item for item in ranks if item[0] == 1]
        if len(weights) == len(biases) == 1:
            (_, weight, first), (_, bias, second) = weights[0], biases[0]
            if (weight, bias, first, second) not in seen:
                seen.add((weight, bias, first, second))
                yield weight, bias, (first, second)


def _fits(
    teacher: Teacher,
    state: Mapping[str, Array],
    name: str,
    norm: Mapping[str, str],
    weight: str,
    bias: str,
    versions: tuple[str, str],
) -> list[Match]:
    """The matches of a layer and a norm, if the folded constants are what they make together."""
    channels = state[norm["var"]].size
    if (teacher.graph.shape(bias) or ()) != (channels,) or channels < 2:
        return []
    raw = state[name].astype(np.float64)
    shape = teacher.graph.shape(weight) or ()
    if sorted(raw.shape) != sorted(shape):
        return []
    folded, shift = teacher.value(weight).astype(np.float64), teacher.value(bias).astype(np.float64)
    roles = {role: state[tensor].astype(np.float64) for role, tensor in norm.items()}
    own = f"{name.rpartition('.')[0]}.bias"
    before = state[own].astype(np.float64) if own in state and state[own].shape == (channels,) else np.zeros(channels)
    for epsilon in EPSILONS:
        scale = roles.get("gamma", 1.0) / np.sqrt(roles["var"] + epsilon)
        if not _close(roles.get("beta", 0.0) + (before - roles["mean"]) * scale, shift):
            continue
        for order, axis in _layouts(raw.shape, shape, channels):
            along = scale.reshape([-1 if i == axis else 1 for i in range(raw.ndim)])
            if _close(raw.transpose(order) * along, folded):
                how = f"folded with {norm['var'].rpartition('.')[0]}"
                core = tuple(i for i in order if raw.shape[i] != 1)
                ranks = tuple(sorted(core).index(i) for i in core)
                vectors = [*norm.values(), *([own] if own in state else [])]
                parts = Part(Place(weight, (), ranks), versions[0], raw.shape[0])
                shared = Part(Place(bias, (), (0,)), versions[1], channels)
                return [
                    Match(name, raw.shape, 0, (parts,), how),
                    *(Match(vector, (channels,), 0, (shared,), how) for vector in vectors),
                ]
    return []


def _layouts(raw: tuple[int, ...], shape: tuple[int, ...], channels: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """(order of the axes, axis of the channels): as it is, or a matrix transposed."""
    same = tuple(range(len(raw)))
    for order in (same, same[::-1]) if len(raw) == 2 else (same,):
        if tuple(raw[i] for i in order) == shape:
            yield from ((order, axis) for axis in range(min(2, len(raw))) if shape[axis] == channels)


def _close(left: Array, right: Array) -> bool:
    """Whether two arrays differ by rounding alone."""
    largest = float(np.abs(right).max(initial=0.0))
    return largest > 0 and bool((np.abs(left - right) <= TOLERANCE * largest).all())
