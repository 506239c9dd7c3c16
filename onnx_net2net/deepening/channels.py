"""Which axis of a tensor holds its channels: the one that the linear operators around it work on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from functools import cached_property

from onnx_net2net.algebra.axes import Dim, atoms
from onnx_net2net.inference.axis_map import AxisMap

FAR = 64
"""Nodes that are looked at, in each direction, for a linear operator."""


class Channels:
    """Answers for the tensors of one model.

    Args:
        found: What inference found out about it.
    """

    def __init__(self, found: AxisMap) -> None:
        self.found = found
        self.graph = found.graph
        self._known: dict[tuple[int, bool], list[int]] = {}

    def axis(self, name: str) -> int:
        """The axis that the nearest linear operators make and contract over.

        Without any, the first axis that a weight has, and else axis 1.
        """
        dims = self.found.dims[name]
        sides = [self._nearest(name, onward) for onward in (False, True)]
        votes = {place: sum(not side.isdisjoint(_names([dim])) for side in sides) for place, dim in enumerate(dims)}
        best = max(range(1, len(dims)), key=lambda place: (votes[place], -place), default=0)
        return best if votes.get(best) else self._weighted(dims)

    def _weighted(self, dims: tuple[Dim, ...]) -> int:
        for place, dim in enumerate(dims):
            if place and any(self.found.axes[axis.name].initializers for axis in atoms(dim)):
                return place
        return 1

    @cached_property
    def _linear(self) -> Mapping[int, tuple[set[str], set[str]]]:
        """For each node that contracts with a constant: the axes that it makes, and those that it contracts over."""
        result: dict[int, tuple[set[str], set[str]]] = {}
        for scaled in (s for s in self.found.scaled if not s.carried):
            made, contracted = result.setdefault(self._reader(scaled.use[0]), (set(), set()))
            dims = self.found.uses[scaled.use]
            made |= _names(dim for axis, dim in enumerate(dims) if axis != scaled.axis)
            made |= _names([scaled.before, scaled.after])
            contracted |= _names([scaled.over])
        return result

    def _reader(self, i: int) -> int:
        """The node that computes with a constant, behind those that only pass it on."""
        while True:
            rule = self.graph.rule(i)
            following = self.graph.consumers.get(self.graph.makes[i][0], ())
            if rule is None or not rule.passes or not following:
                return i
            i = following[0][0]

    def _nearest(self, name: str, onward: bool) -> set[str]:
        """The axes that the next linear operators contract over, or the previous ones make."""
        axes: set[str] = set()
        seen: set[int] = set()
        pending = deque(self._neighbours(name, onward))
        while pending and len(seen) < FAR:
            i = pending.popleft()
            if i in seen:
                continue
            seen.add(i)
            if i in self._linear:
                axes |= self._linear[i][onward]
            else:
                pending += self._around(i, onward)
        return axes

    def _around(self, i: int, onward: bool) -> list[int]:
        """The nodes that read what a node makes, or make what it reads."""
        found = self._known.get((i, onward))
        if found is None:
            names = self.graph.makes[i] if onward else self.graph.reads[i]
            found = [k for name in names if name for k in self._neighbours(name, onward)]
            self._known[i, onward] = found
        return found

    def _neighbours(self, name: str, onward: bool) -> list[int]:
        if onward:
            return [i for i, _ in self.graph.consumers.get(name, ())]
        return [self.graph.producer[name]] if name in self.graph.producer else []


def _names(dims: Iterable[Dim]) -> set[str]:
    return {axis.name for dim in dims for axis in atoms(dim)}
