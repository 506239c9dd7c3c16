"""The nodes that an axis under statistics goes through, and what of their filler follows from what they read.

Operators say how contents and powers of eta go through them by their form (`algebra/filler.py`); none is known by name
here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from onnx_net2net.algebra.axes import Axis, Dim, Sum, atoms
from onnx_net2net.algebra.filler import CONTENTS, COPY, MEAN, Content, Contents, Fill, is_difference, routes
from onnx_net2net.errors import Declined
from onnx_net2net.inference.axis_map import AxisMap, Slot, Statistic
from onnx_net2net.inference.network import Network, Traits
from onnx_net2net.inference.proto import FLOATS

Source = str | Slot
"""A computed tensor, or a use of a constant."""


@dataclass(frozen=True, slots=True)
class Step:
    """A node that the axis may go through.

    Attributes:
        node: Its position.
        sources: What each input slot reads whose numbers count.
        carried: The slots that carry the axis; where it is summed away it is not carried.
        outputs: The outputs that carry it.
        traits: What it does to numbers.
        statistics: What it takes over the axis.
        alone: Whether it takes statistics over nothing else.
    """

    node: int
    sources: Mapping[int, Source]
    carried: frozenset[int]
    outputs: tuple[str, ...]
    traits: Traits
    statistics: tuple[Statistic, ...]
    alone: bool


@dataclass(frozen=True, slots=True)
class Route:
    """A way for outputs to come to hold something: all of some input slots hold ``content``."""

    content: Content
    slots: tuple[int, ...]

    def is_open(self, given: Mapping[int, Contents]) -> bool:
        """Whether they do."""
        return all(self.content in given[slot] for slot in self.slots)


@dataclass(slots=True)
class Walk:
    """What the walks of one axis go through.

    Args:
        network: What is known of all nodes.
        axis: The axis.
        makers: Tensors behind which an inserted node writes the mean into filler.
        means: What tensors are the mean over the axis of, as far as a walk has seen.
    """

    network: Network
    axis: Axis
    makers: set[str] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)
    means: dict[str, str] = field(default_factory=dict)
    centring: set[int] = field(default_factory=set)

    @property
    def found(self) -> AxisMap:
        """The teacher's axes."""
        return self.network.found

    def start(self) -> None:
        """Looks at the nodes that the axis goes through.

        Raises:
            Declined: If the axis goes where filler cannot be followed.
        """
        near = self.network.nodes.get(self.axis.name, [])
        for i in near:
            for statistic in self.network.statistics.get(i, ()):
                if self._times([statistic.over]):
                    self._check_alone(statistic)
        if any(self._times(dims) for members in self.found.lists.values() for dims in members):
            raise Declined("it goes through a sequence")
        self.steps = [self.step(i) for i in near]
        self.centring = self._centring()

    def _times(self, dims: Iterable[Dim]) -> int:
        return sum(_occurrences(dim, self.axis.name) for dim in dims)

    def step(self, i: int) -> Step:
        """What counts of a node."""
        found, graph = self.found, self.found.graph
        node, traits = graph.nodes[i], self.network.traits_of(i)
        sources: dict[int, Source] = {}
        carried = set()
        for slot, name in enumerate(node.input):
            if name and slot not in traits.unread:
                sources[slot] = (i, slot) if (i, slot) in found.uses else name
                if self._carried(i, slot, name):
                    carried.add(slot)
        outputs = tuple(name for name in node.output if name and self._times(found.dims.get(name, ())))
        if any(self._times(found.dims[name]) > 1 for name in outputs):
            raise Declined(f"{outputs[0]} carries it twice")
        own = self.network.statistics.get(i, [])
        over = tuple(s for s in own if self._times([s.over]))
        alone = sum(any(True for _ in atoms(s.over)) for s in own) == 1
        return Step(i, sources, frozenset(carried), outputs, traits, over, alone)

    def _carried(self, i: int, slot: int, name: str) -> bool:
        """Whether an input carries the axis elsewhere than where it is summed away."""
        found = self.found
        dims = found.uses.get((i, slot), found.dims.get(name, ()))
        summed = [over for _, over in found.contracted.get((i, slot), ())]
        times = self._times(dims) - self._times(summed)
        if times > 1:
            raise Declined(f"{name} carries it twice")
        return times == 1

    def _check_alone(self, statistic: Statistic) -> None:
        """Makes sure that filler can leave a statistic right."""
        if not statistic.fills:
            raise Declined(f"{statistic.blame}, which filler would change")
        if statistic.over != self.axis and statistic.fills[0].content != "copy":
            raise Declined(f"{statistic.blame}, together with other units")

    def inputs(self) -> list[str]:
        """The graph inputs that carry the axis, which only tests of single operators let grow."""
        return [value.name for value in self.found.graph.inputs if self._times(self.found.dims.get(value.name, ()))]

    def constants(self, step: Step) -> list[Slot]:
        """The uses of constants that carry the axis."""
        return [(step.node, slot) for slot in step.carried if not isinstance(step.sources[slot], str)]

    def possible(self, source: Source) -> Contents:
        """What filler of a constant can hold: means, where its dimension is this axis and nothing else."""
        graph = self.found.graph
        if graph.dtype(source if isinstance(source, str) else graph.tensor(source)) not in FLOATS:
            return COPY
        whole = isinstance(source, str) or self.found.uses[source][self.dimension(source)] == self.axis
        return frozenset(CONTENTS) if whole else frozenset({"copy", "zero"})

    def dimension(self, use: Slot) -> int:
        """The dimension of a constant that carries the axis."""
        summed = [place for place, over in self.found.contracted.get(use, ()) if self._times([over])]
        dims = self.found.uses[use]
        places = [k for k, dim in enumerate(dims) if self._times([dim]) - sum(p % len(dims) == k for p in summed)]
        return places[0]

    def given(self, step: Step, known: Mapping[Source, Contents]) -> dict[int, Contents]:
        """What is known of the filler of each carried slot."""
        return {slot: known[step.sources[slot]] for slot in step.carried}

    def outputs(self, step: Step, given: Mapping[int, Contents]) -> dict[Source, Contents]:
        """What is known of the filler of each output; of other than floating point numbers, whether it holds copies."""
        held = self.out(step, given)
        known: dict[Source, Contents] = {
            name: held if self.found.graph.dtype(name) in FLOATS else held & COPY for name in step.outputs
        }
        return {name: MEAN if name in self.makers else contents for name, contents in known.items()}

    def out(self, step: Step, given: Mapping[int, Contents]) -> Contents:
        """What follows for outputs from the filler of inputs."""
        return frozenset(
            content for content in CONTENTS if any(route.is_open(given) for route in self.routes(step, content))
        )

    def routes(self, step: Step, content: Content) -> list[Route]:
        """The ways in which the outputs come to hold ``content``."""
        ways: tuple[Content, ...] = (content,)
        if content == "zero" and self._is_centred(step):  # its mean is zero, so filler that holds it is zero
            ways = ("zero", "mean")
        form, vanishing = step.traits.form, step.traits.vanishing
        return [Route(way, slots) for way in ways for slots in routes(way, form, vanishing, step.carried)]

    def is_contracted(self, step: Step) -> bool:
        """Whether weights that are zero for filler are what a node sums the axis away with."""
        slots = range(len(self.found.graph.nodes[step.node].input))
        return any(self._times([over]) for k in slots for _, over in self.found.contracted.get((step.node, k), ()))

    def fills(self, step: Step, statistic: Statistic) -> tuple[Fill, ...]:
        """What filler may hold under a statistic: where a mean is taken off, nothing else than the mean will do."""
        only = step.node in self.centring
        return tuple(fill for fill in statistic.fills if fill.content == "mean" or not only)

    def note_mean(self, step: Step) -> None:
        """Remembers of what the output of a node is the mean over the axis."""
        if not step.outputs and step.alone:
            node = self.found.graph.nodes[step.node]
            self.means[node.output[0]] = self._root(node.input[0])

    def _centring(self) -> set[int]:
        """The nodes that compute a mean which is then subtracted from what it is the mean of."""
        for step in self.steps:
            if any(fill.content == "mean" for statistic in step.statistics for fill in statistic.fills):
                self.note_mean(step)
        taken = {self._difference(step) for step in self.steps}
        found = {self.found.graph.producer[mean] for mean, value in self.means.items() if (value, mean) in taken}
        self.means = {}
        return found

    def _is_centred(self, step: Step) -> bool:
        """Whether a node subtracts the mean of a tensor from it."""
        difference = self._difference(step)
        return difference is not None and self.means.get(difference[1]) == difference[0]

    def _difference(self, step: Step) -> tuple[str, str] | None:
        """The tensors that a node subtracts from each other, as they are but for their type."""
        slots = is_difference(step.traits.form) if step.traits.form else None
        if slots is None:
            return None
        value, mean = (self._root(str(self.found.graph.nodes[step.node].input[slot])) for slot in slots)
        return value, mean

    def _root(self, name: str) -> str:
        """The tensor whose numbers another one has, but for their type."""
        graph = self.found.graph
        while name in graph.producer and graph.dtype(name) in FLOATS:
            i = graph.producer[name]
            rule = graph.rule(i)
            if rule is None or not rule.keeps or graph.dtype(graph.nodes[i].input[0]) not in FLOATS:
                break
            name = graph.nodes[i].input[0]
        return name


def _occurrences(dim: Dim, name: str) -> int:
    """How many factors of a term are an axis; blocks of a concatenation stand beside each other."""
    if isinstance(dim, Axis):
        return int(dim.name == name)
    counts = [_occurrences(part, name) for part in dim.parts]
    return max(counts, default=0) if isinstance(dim, Sum) else sum(counts)
