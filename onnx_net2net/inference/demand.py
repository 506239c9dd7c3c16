"""What filler has to hold: forwards what it could, and backwards, from the statistics, what is needed of it.

Where a statistic needs the mean and nothing gives it, an inserted node can make it, if that is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from onnx_net2net.algebra.filler import Content, Contents, Fill
from onnx_net2net.errors import Declined
from onnx_net2net.inference.axis_map import Statistic
from onnx_net2net.inference.proto import FLOATS, label
from onnx_net2net.inference.walk import Route, Source, Step, Walk

Able = Mapping[Source, Contents]
"""What the filler of each tensor could hold, if all constants hold what it takes."""


def choose(walk: Walk, step: Step, statistic: Statistic, known: Contents, why: str = "but it does not") -> Fill:
    """The first filler that leaves a statistic right, of those that there can be.

    Raises:
        Declined: If there is none.
    """
    fills = walk.fills(step, statistic)
    for fill in fills:
        if fill.content in known:
            return fill
    raise Declined(f"{statistic.blame.node} needs filler that holds {_shown(fills[0].content)}, {why}")


def wanted(walk: Walk) -> dict[Source, set[Content]]:
    """What the filler of tensors and constants has to hold, from the statistics backwards.

    Raises:
        Declined: If a statistic needs what there cannot be.
    """
    able = possible(walk)
    found: dict[Source, set[Content]] = {}
    for step in reversed(walk.steps):
        asked = (c for name in step.outputs if name not in walk.makers for c in found.get(name, ()))
        for content in sorted(set(asked)):
            best = _best(walk, step, content, able)
            for slot in best.slots:
                found.setdefault(step.sources[slot], set()).add(best.content)
        for statistic in step.statistics:
            source = step.sources[statistic.slot]
            fill = _chosen(walk, step, statistic, able)
            if fill.content != "copy":
                found.setdefault(source, set()).add(fill.content)
    return found


def _chosen(walk: Walk, step: Step, statistic: Statistic, able: Able) -> Fill:
    """The same, of what there could be; with what is to blame if there is none."""
    source, fills = step.sources[statistic.slot], walk.fills(step, statistic)
    held = able.get(source, frozenset())
    met = any(fill.content in held for fill in fills)
    return choose(walk, step, statistic, held, "" if met else _culprit(walk, source, fills[0].content, able))


def possible(walk: Walk) -> dict[Source, Contents]:
    """What the filler of each tensor could hold, if all constants hold what it takes."""
    able: dict[Source, Contents] = {name: walk.possible(name) for name in walk.inputs()}
    walk.means = {}
    for step in walk.steps:
        _go(walk, step, able)
    return able


def _go(walk: Walk, step: Step, able: dict[Source, Contents]) -> None:
    """Adds what the filler of a node's constants and outputs could hold."""
    able.update({use: walk.possible(use) for use in walk.constants(step)})
    for statistic in step.statistics:
        held = able.get(step.sources[statistic.slot], ())
        if any(fill.content == "mean" for fill in statistic.fills) and "mean" in held:
            walk.note_mean(step)
    able.update(walk.outputs(step, walk.given(step, able)))


def _best(walk: Walk, step: Step, content: Content, able: Able) -> Route:
    """The way to ``content`` that goes over constants, if possible, so that nothing else is asked for."""
    given = walk.given(step, able)
    ways = [route for route in walk.routes(step, content) if route.is_open(given)]
    return min(ways, key=lambda route: sum(isinstance(step.sources[slot], str) for slot in route.slots))


def _culprit(walk: Walk, source: Source, content: Content, able: Able) -> str:
    """Where filler with a content gets lost on the way to a tensor."""
    graph = walk.found.graph
    makers = {name: step for step in walk.steps for name in step.outputs}
    while isinstance(source, str) and source in makers:
        step = makers[source]
        given = walk.given(step, able)
        way = next(iter(walk.routes(step, content)), None)
        if way is None:
            return f"which {label(graph.nodes[step.node])} does not give"
        content = way.content
        source = step.sources[next(slot for slot in way.slots if content not in given[slot])]
    name = source if isinstance(source, str) else graph.tensor(source)
    return f"which {name} cannot"


def place_makers(walk: Walk) -> None:
    """Chooses tensors behind which inserted nodes make the mean, as few as there is need for, in graph order.

    Raises:
        Declined: If a statistic needs what no inserted node makes.
    """
    _Places(walk).find()


class _Places:
    """How few inserted nodes let tensors hold the mean, and where they are.

    Of two equally cheap places the earlier one is taken, for more may come of it.
    """

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.able: dict[Source, Contents] = {name: walk.possible(name) for name in walk.inputs()}
        self.made = {name: k for k, step in enumerate(walk.steps) for name in step.outputs}
        self.costs: dict[Source, float] = {}
        self.ways: dict[Source, Route] = {}

    def find(self) -> None:
        """Goes from statistic to statistic; where one lacks the mean, back to the first place that helps it."""
        walk, k = self.walk, 0
        walk.means = {}
        while k < len(walk.steps):
            step = walk.steps[k]
            _go(walk, step, self.able)
            for name in step.outputs:
                self.ways.pop(name, None)
                self.costs[name] = self._cost(name, step)
            missed = next((s for s in step.statistics if not self._is_met(step, s)), None)
            if missed is None:
                k += 1
                continue
            if all(fill.content != "mean" for fill in walk.fills(step, missed)):
                _chosen(walk, step, missed, self.able)  # which declines
            places = self._cut(step.sources[missed.slot])
            walk.makers |= places
            k = min(self.made[name] for name in places)

    def _is_met(self, step: Step, statistic: Statistic) -> bool:
        held = self.able.get(step.sources[statistic.slot], ())
        return any(fill.content in held for fill in self.walk.fills(step, statistic))

    def _cut(self, source: Source) -> set[str]:
        """The tensors that make one hold the mean.

        Raises:
            Declined: If there are none.
        """
        if math.isinf(self._known(source)):
            raise Declined("there is no place to make the mean, as the axis is the last of no tensor on the way")
        found: set[str] = set()
        pending = [source]
        while pending:
            name = pending.pop()
            if not self._known(name):
                continue
            if name in self.ways:
                step = self.walk.steps[self.made[str(name)]]
                pending += [step.sources[slot] for slot in self.ways[name].slots]
            else:
                found.add(str(name))
        return found

    def _known(self, source: Source) -> float:
        """How many nodes it takes that a tensor holds the mean."""
        return 0 if "mean" in self.able.get(source, ()) else self.costs.get(source, math.inf)

    def _cost(self, name: str, step: Step) -> float:
        own = 1 if self._can_follow(name) else math.inf
        for route in self.walk.routes(step, "mean"):
            cost = sum(self._known(step.sources[slot]) for slot in route.slots)
            if cost <= own and not math.isinf(cost):
                self.ways[name], own = route, cost
        return own

    def _can_follow(self, name: str) -> bool:
        """Whether a matrix behind a tensor can take the mean: over its last dimension, of whole units."""
        found, axis = self.walk.found, self.walk.axis
        shares = axis.name in found.shared.get(name, ())
        return found.dims[name][-1] == axis and found.graph.dtype(name) in FLOATS and not shares


def _shown(content: Content) -> str:
    return {"mean": "the mean", "zero": "zeros", "copy": "copies"}[content]
