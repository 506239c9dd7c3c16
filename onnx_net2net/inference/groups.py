"""Names for axes that play the same part in every layer: hidden, ffn, heads and the widths of heads.

A part is read off the roles of an axis, never off operators or names:

- *projected* axes are those that matrices make: a constant carries them and is contracted over another axis;
- two computed operands contracted over a projected axis make scores, and what is contracted over the positions of the
  scores is values: heads are the projected axes of the scores;
- an axis along which computed tensors are added, and that several matrices write and several read, is the residual
  stream, ``hidden``; if statistics are taken over some of these, only they are;
- an axis between a matrix that reads a residual stream and one that writes one is ``ffn``.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from onnx_net2net import rules
from onnx_net2net.algebra.axes import Axis, Dim, Prod, atoms, size
from onnx_net2net.inference.axis_map import AxisInfo, AxisMap, Meeting, Scaled

MEANINGS = {
    "hidden": "residual stream",
    "heads": "attention heads",
    "kv_heads": "heads of keys and values",
    "queries": "query heads for each head of keys",
    "head_qk": "head dim, queries and keys",
    "head_v": "head dim, values",
    "head": "head dim, queries, keys and values",
    "ffn": "inside feed-forward layers",
}
"""Every name that a group may have, in the order of tables."""


@dataclass(frozen=True, slots=True)
class Group:
    """Axes of one part in all layers.

    Attributes:
        name: What ``--width`` takes.
        axes: The axes.
        times: By axis, with what its size is multiplied to get the number that people speak of: of query heads, how
            many heads of keys share them out; of a width of heads, two where a rotation pairs its halves.
    """

    name: str
    axes: tuple[AxisInfo, ...]
    times: Mapping[str, int] = field(default_factory=dict)

    @property
    def meaning(self) -> str:
        """What it is, in words."""
        return MEANINGS[self.name]

    def size(self, info: AxisInfo) -> int:
        """The number that people speak of."""
        return info.axis.size * self.times.get(info.axis.name, 1)


def groups(found: AxisMap) -> list[Group]:
    """The groups of a model, in the order of `MEANINGS`; axes of several parts are in none but the first."""
    return _Parts(found).groups()


class _Parts:
    """Reads the parts off the roles."""

    def __init__(self, found: AxisMap) -> None:
        self.found = found
        self.matrices = [(s, set(self._made(s))) for s in found.scaled if not s.carried and not self._is_table(s)]
        self.makers: dict[str, list[Scaled]] = {}
        self.readers: dict[str, list[set[str]]] = {}
        for scaled, made in self.matrices:
            for name in made:
                self.makers.setdefault(name, []).append(scaled)
            for name in {axis.name for axis in atoms(scaled.over)}:
                self.readers.setdefault(name, []).append(made)
        self.projected = set(self.makers)
        self.parts: dict[str, dict[str, None]] = {name: {} for name in MEANINGS}
        self.times: dict[str, int] = {}
        self.halves: Counter[str] = Counter()
        self.widths: set[str] = set()

    @cached_property
    def added(self) -> set[str]:
        """The axes along which computed tensors are added."""
        graph, found = self.found.graph, set[str]()
        for node in graph.nodes:
            rule = rules.find(node.op_type, node.domain, graph.opset(node.domain))
            if rule is not None and (rule.sums or rule.adds):
                carried = Counter(
                    dim.name
                    for slot, tensor in enumerate(node.input)
                    if rule.sums or slot in rule.adds
                    for dim in set(self.found.dims.get(tensor, ()))
                    if isinstance(dim, Axis)
                )
                found |= {name for name, count in carried.items() if count > 1}
        return found

    @cached_property
    def blocks(self) -> dict[str, list[list[str]]]:
        """By axis, the blocks of weights' terms that hold it, each as the names of its axes."""
        found: dict[str, list[list[str]]] = {}
        for use, dims in self.found.uses.items():
            for part in (part for dim in dims for part in _products(dim)) if self._is_weight(use) else ():
                names = [axis.name for axis in atoms(part)]
                for name in set(names):
                    found.setdefault(name, []).append(names)
        return found

    def groups(self) -> list[Group]:
        """All groups that have axes."""
        for meeting in self.found.meetings:
            if self._projected([meeting.over]):
                self._attention(meeting)
        self.parts["head"] = {name: None for name in self.parts["head_qk"] if name in self.parts["head_v"]}
        inside = self.widths.union(*self.parts.values())
        streams = {name for name in self.projected - inside if self._is_stream(name)}
        streams = {name for name in streams if self.found.axes[name].uniform} or streams
        for name in self.found.axes:
            if name in streams:
                self.parts["hidden"][name] = None
            elif name in self.projected - inside and self._is_between(name, streams):
                self.parts["ffn"][name] = None
        for name in [name for name in self.parts["ffn"] if self._is_beside(name)]:
            del self.parts["ffn"][name]
        taken: set[str] = set()
        made = []
        for name in ("hidden", "queries", "kv_heads", "heads", "head", "head_qk", "head_v", "ffn"):
            axes = [axis for axis in self.parts[name] if axis not in taken]
            taken.update(axes)
            if axes:
                made.append(Group(name, tuple(self.found.axes[axis] for axis in axes), self._times(name, axes)))
        return sorted(made + self._all_heads(made), key=lambda group: list(MEANINGS).index(group.name))

    def _times(self, name: str, axes: Iterable[str]) -> dict[str, int]:
        return {axis: self.halves[axis] for axis in axes if name.startswith("head_") or name == "head"}

    def _all_heads(self, made: Iterable[Group]) -> list[Group]:
        """Query heads by their whole number, where several share a head of keys."""
        queries = next((group for group in made if group.name == "queries"), None)
        if queries is None or any(group.name == "heads" for group in made):
            return []
        return [Group("heads", queries.axes, self.times)]

    def _made(self, scaled: Scaled) -> Iterator[str]:
        """The axes that a matrix makes."""
        dims = [dim for axis, dim in enumerate(self.found.uses[scaled.use]) if axis != scaled.axis]
        for dim in (*dims, scaled.before, scaled.after):
            yield from (axis.name for axis in atoms(dim))

    def _is_table(self, scaled: Scaled) -> bool:
        return len([dim for dim in self.found.uses[scaled.use] if any(True for _ in atoms(dim))]) < 2

    def _projected(self, dims: Iterable[Dim]) -> list[str]:
        return [axis.name for dim in dims for axis in atoms(dim) if axis.name in self.projected]

    def _attention(self, scores: Meeting) -> None:
        """The parts of one attention, if values are summed by its scores."""
        found, node = self.found, self.found.graph.nodes[scores.node]
        wide, over = self._units(scores.over), {axis.name for axis in atoms(scores.over)}
        made = found.dims.get(node.output[0], ())
        beside = {name for dims in scores.operands for name in self._projected(dims)}
        alone = [name for name in self._projected(made) if name not in beside | over]
        if alone or not over.isdisjoint(self._projected(made)):  # one node does all, with values from a third operand
            heads, values = [name for name in self._projected(made) if name in beside], alone or list(wide)
        else:
            summed = self._summed(scores, made)
            if summed is None:
                return
            heads = self._projected(made)
            values = [name for name in self._projected(found.dims[summed]) if name not in heads]
        heads = [name for name in dict.fromkeys(heads) if name not in over]
        self.parts["head_qk"].update(dict.fromkeys(wide))
        self.widths |= over
        self.halves |= wide | Counter({name: wide[name] or 1 for name in values})
        self.parts["head_v"].update(dict.fromkeys(values))
        self._heads(heads, {*wide, *values})

    def _units(self, dim: Dim) -> Counter[str]:
        """By axis, how many units of a term go with each of its own; factors that stay are left out."""
        if isinstance(dim, Axis):
            return Counter({dim.name: 1})
        if not isinstance(dim, Prod):
            return sum(map(self._units, dim.parts), Counter[str]())
        growing = [part for part in dim.parts if any(not self.found.axes[axis.name].pins for axis in atoms(part))]
        result = Counter[str]()
        for part in growing or dim.parts[:1]:
            stay = math.prod(size(other) for other in dim.parts if other is not part and other not in growing)
            result.update({name: count * stay for name, count in self._units(part).items()})
        return result

    def _summed(self, scores: Meeting, made: tuple[Dim, ...]) -> str | None:
        """The sums of values that scores weigh: the next contraction over positions of theirs."""
        positions = {axis.name for dim in made for axis in atoms(dim)} - self.projected
        meetings = self.found.meetings
        for later in meetings[bisect_right(meetings, scores.node, key=lambda meeting: meeting.node) :]:
            if {axis.name for axis in atoms(later.over)} <= positions:
                return str(self.found.graph.nodes[later.node].output[0])
        return None

    def _heads(self, heads: list[str], widths: set[str]) -> None:
        """Heads of keys are in every weight that has heads; those that only some have are repeated for queries."""
        blocks = (block for width in sorted(widths) for block in self.blocks.get(width, ()))
        with_heads = [block for block in blocks if not set(heads).isdisjoint(block)]
        everywhere = [name for name in heads if all(name in term for term in with_heads)]
        repeated = [name for name in heads if name not in everywhere]
        tied = any(term.count(name) > 1 for term in with_heads for name in everywhere)
        self.parts["kv_heads" if repeated or tied else "heads"].update(dict.fromkeys(everywhere))
        self.parts["queries"].update(dict.fromkeys(repeated))
        for name in repeated:
            self.times[name] = math.prod(self.found.axes[other].axis.size for other in everywhere)

    def _is_weight(self, use: tuple[int, int]) -> bool:
        return self.found.graph.is_weight(self.found.graph.tensor(use))

    def _is_stream(self, name: str) -> bool:
        written, read = len(self.makers.get(name, ())), len(self.readers.get(name, ()))
        return written > 1 and read > 1 and name in self.added

    def _is_beside(self, name: str) -> bool:
        """Whether it cannot grow, while another axis between the same matrices can: experts beside their units."""
        summed = [{axis.name for axis in atoms(s.over)} for s, _ in self.matrices]
        uses = [
            {s.use for (s, _), names in zip(self.matrices, summed, strict=True) if other in names}
            for other in self.parts["ffn"]
        ]
        free = [not self.found.axes[other].pins for other in self.parts["ffn"]]
        mine = uses[list(self.parts["ffn"]).index(name)]
        return bool(self.found.axes[name].pins) and any(
            g and not mine.isdisjoint(u) for u, g in zip(uses, free, strict=True)
        )

    def _is_between(self, name: str, streams: set[str]) -> bool:
        reads, writes = self.makers.get(name, ()), self.readers.get(name, ())
        from_stream = any(not streams.isdisjoint({axis.name for axis in atoms(s.over)}) for s in reads)
        return from_stream and any(not streams.isdisjoint(made) for made in writes)


def _products(dim: Dim) -> Iterator[Dim]:
    """The blocks of a term."""
    if isinstance(dim, (Axis, Prod)):
        yield dim
    else:
        for part in dim.parts:
            yield from _products(part)
