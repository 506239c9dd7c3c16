"""Filler: what constants have to hold so that an axis under statistics can grow to any size, or why it cannot.

Three walks over the nodes that the axis, or a power of eta, goes through: forwards, what the filler of each tensor
could hold; backwards, what statistics need of it; and forwards again, what it then holds, and which powers of eta
constants have to take on. The last one trusts nothing that the others found. Operators say how contents and powers go
through them by their form (`algebra/filler.py`); none is known by name here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from onnx_net2net.algebra.axes import Axis, Dim, Sum, atoms
from onnx_net2net.algebra.filler import (
    CONTENTS,
    COPY,
    Content,
    Contents,
    Fill,
    balance,
    is_difference,
    is_finite,
    routes,
)
from onnx_net2net.errors import Declined
from onnx_net2net.inference.axis_map import AxisMap, Filling, Slot, Statistic
from onnx_net2net.inference.network import Network, Traits
from onnx_net2net.inference.proto import FLOATS, label

Source = str | Slot
"""A computed tensor, or a use of a constant."""


def fill_up(found: AxisMap) -> None:
    """Finds out for axes under statistics whether filler lets them grow to any size; notes how, or why not."""
    network = Network(found)
    known = (
        (axis.name, name) for name in sorted(found.lifted) for dim in found.dims.get(name, ()) for axis in atoms(dim)
    )
    seen = dict(known)
    for info in found.axes.values():
        if info.axis.name in seen:
            info.unfilled = f"callers would see filler in {seen[info.axis.name]}"
        elif info.uniform and not info.pins:
            try:
                info.filling = Walk(network, info.axis).filling()
            except Declined as why:
                info.unfilled = str(why)


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
    """The walks for one axis.

    Args:
        network: What is known of all nodes.
        axis: The axis.
    """

    network: Network
    axis: Axis
    steps: list[Step] = field(default_factory=list)
    means: dict[str, str] = field(default_factory=dict)

    @property
    def found(self) -> AxisMap:
        """The teacher's axes."""
        return self.network.found

    def filling(self) -> Filling:
        """How the axis grows to any size.

        Raises:
            Declined: If it cannot.
        """
        self.start()
        filling = self.settle(self._demand(self._explore()))
        self._check_borders(filling.powers)
        return filling

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
        self.steps = [self._step(i) for i in near]

    def _times(self, dims: Iterable[Dim]) -> int:
        return sum(_occurrences(dim, self.axis.name) for dim in dims)

    def _step(self, i: int) -> Step:
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

    def _explore(self) -> dict[Source, Contents]:
        """What the filler of each tensor could hold, if all constants hold what it takes."""
        able: dict[Source, Contents] = {name: self.possible(name) for name in self.inputs()}
        self.means = {}
        for step in self.steps:
            able.update({use: self.possible(use) for use in self.constants(step)})
            given = self._given(step, able)
            for statistic in step.statistics:
                if any(fill.content == "mean" for fill in statistic.fills) and "mean" in able.get(step.sources[0], ()):
                    self._note_mean(step)
            able.update(self._outputs(step, given))
        return able

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
        whole = isinstance(source, str) or self.found.uses[source][self._dimension(source)] == self.axis
        return frozenset(CONTENTS) if whole else frozenset({"copy", "zero"})

    def _dimension(self, use: Slot) -> int:
        """The dimension of a constant that carries the axis."""
        summed = [place for place, over in self.found.contracted.get(use, ()) if self._times([over])]
        dims = self.found.uses[use]
        places = [k for k, dim in enumerate(dims) if self._times([dim]) - sum(p % len(dims) == k for p in summed)]
        return places[0]

    def _given(self, step: Step, known: Mapping[Source, Contents]) -> dict[int, Contents]:
        """What is known of the filler of each carried slot."""
        return {slot: known[step.sources[slot]] for slot in step.carried}

    def _outputs(self, step: Step, given: Mapping[int, Contents]) -> dict[Source, Contents]:
        """What is known of the filler of each output; of other than floating point numbers, whether it holds copies."""
        held = self._out(step, given)
        return {name: held if self.found.graph.dtype(name) in FLOATS else held & COPY for name in step.outputs}

    def _out(self, step: Step, given: Mapping[int, Contents]) -> Contents:
        """What follows for outputs from the filler of inputs."""
        return frozenset(
            content for content in CONTENTS if any(route.is_open(given) for route in self._routes(step, content))
        )

    def _routes(self, step: Step, content: Content) -> list[Route]:
        """The ways in which the outputs come to hold ``content``."""
        ways: tuple[Content, ...] = (content,)
        if content == "zero" and self._is_centred(step):  # its mean is zero, so filler that holds it is zero
            ways = ("zero", "mean")
        form, vanishing = step.traits.form, step.traits.vanishing
        return [Route(way, slots) for way in ways for slots in routes(way, form, vanishing, step.carried)]

    def _note_mean(self, step: Step) -> None:
        """Remembers of what the output of a node is the mean over the axis."""
        if not step.outputs and step.alone:
            node = self.found.graph.nodes[step.node]
            self.means[node.output[0]] = self._root(node.input[0])

    def _is_centred(self, step: Step) -> bool:
        """Whether a node subtracts the mean of a tensor from it."""
        difference = is_difference(step.traits.form) if step.traits.form else None
        if difference is None:
            return False
        value, mean = (self._root(str(self.found.graph.nodes[step.node].input[slot])) for slot in difference)
        return self.means.get(mean) == value

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

    def _demand(self, able: Mapping[Source, Contents]) -> dict[Source, set[Content]]:
        """What the filler of tensors and constants has to hold, from the statistics backwards."""
        wanted: dict[Source, set[Content]] = {}
        for step in reversed(self.steps):
            for content in sorted({c for name in step.outputs for c in wanted.get(name, ())}):
                best = self._best(step, content, able)
                for slot in best.slots:
                    wanted.setdefault(step.sources[slot], set()).add(best.content)
            for statistic in step.statistics:
                source = step.sources[0]
                fill = self._choose(statistic, able.get(source, frozenset()), source, able)
                if fill.content != "copy":
                    wanted.setdefault(source, set()).add(fill.content)
        return wanted

    def _best(self, step: Step, content: Content, able: Mapping[Source, Contents]) -> Route:
        """The way to ``content`` that goes over constants, if possible, so that nothing else is asked for."""
        given = self._given(step, able)
        ways = [route for route in self._routes(step, content) if route.is_open(given)]
        return min(ways, key=lambda route: sum(isinstance(step.sources[slot], str) for slot in route.slots))

    def _choose(
        self, statistic: Statistic, known: Contents, source: Source, able: Mapping[Source, Contents] | None = None
    ) -> Fill:
        """The first filler that leaves a statistic right, of those that there can be.

        Raises:
            Declined: If there is none.
        """
        for fill in statistic.fills:
            if fill.content in known:
                return fill
        needed = statistic.fills[0].content
        culprit = self._culprit(source, needed, able) if able is not None else ""
        raise Declined(
            f"{statistic.blame.node} needs filler that holds {_shown(needed)}, {culprit or 'but it does not'}"
        )

    def _check_alone(self, statistic: Statistic) -> None:
        """Makes sure that filler can leave a statistic right."""
        if not statistic.fills:
            raise Declined(f"{statistic.blame}, which filler would change")
        if statistic.over != self.axis and statistic.fills[0].content != "copy":
            raise Declined(f"{statistic.blame}, together with other units")

    def _culprit(self, source: Source, content: Content, able: Mapping[Source, Contents]) -> str:
        """Where filler with a content gets lost on the way to a tensor."""
        graph = self.found.graph
        makers = {name: step for step in self.steps for name in step.outputs}
        while isinstance(source, str) and source in makers:
            step = makers[source]
            given = self._given(step, able)
            way = next(iter(self._routes(step, content)), None)
            if way is None:
                return f"which {label(graph.nodes[step.node])} does not give"
            content = way.content
            source = step.sources[next(slot for slot in way.slots if content not in given[slot])]
        name = source if isinstance(source, str) else graph.tensor(source)
        return f"which {name} cannot"

    def settle(self, wanted: Mapping[Source, Iterable[Content]], powers: Mapping[str, float] | None = None) -> Filling:
        """What filler holds, and which powers of eta there are, once constants and graph inputs hold what is wanted.

        Args:
            wanted: What the filler of some constants holds; that of others holds copies.
            powers: Powers of eta of graph inputs.

        Raises:
            Declined: If a statistic is not right then, or no constant takes on a power.
        """
        graph = self.found.graph
        known: dict[Source, Contents] = {name: frozenset(wanted.get(name, ())) or COPY for name in self.inputs()}
        made = Filling({}, {}, {}, dict(powers or {}), ())
        numbers: list[tuple[int, str, float, float]] = []
        self.means = {}
        for step in self._reached(made.powers):
            for use in self.constants(step):
                content = set(wanted.get(use, ())) or {"copy"}
                if len(content) > 1:
                    raise Declined(f"the filler of {graph.tensor(use)} would have to hold the mean and zero")
                known[use] = frozenset(content)
                if content != {"copy"}:
                    made.fills[use] = (self._dimension(use), *content)  # type: ignore[assignment]
            shift = 0.0
            for statistic in step.statistics:
                fill = self._choose(statistic, known.get(step.sources[0], frozenset()), step.sources[0])
                shift += fill.power
                if fill.content == "mean":
                    self._note_mean(step)
                if statistic.epsilon is not None:
                    numbers.append(self._number(step, statistic.epsilon, fill))
            given = self._given(step, known)
            self._check_finite(step, given)
            known.update(self._outputs(step, given))
            self._scale(step, shift, made)
        contents = {name: content for name, content in known.items() if isinstance(name, str)}
        return Filling(contents, made.fills, made.scales, made.powers, tuple(numbers))

    def _reached(self, powers: Mapping[str, float]) -> Iterator[Step]:
        """The nodes that the axis goes through, and those that a power of eta gets to, in graph order."""
        graph = self.found.graph
        steps = {step.node: step for step in self.steps}
        pending = [*steps, *(i for name in powers for i, _ in graph.consumers.get(name, ()))]
        heapify(pending)
        last = -1
        while pending:
            i = heappop(pending)
            if i == last:
                continue
            last = i
            yield steps[i] if i in steps else self._step(i)
            for name in graph.nodes[i].output:
                if powers.get(name):
                    for k, _ in graph.consumers.get(name, ()):
                        heappush(pending, k)

    def _number(self, step: Step, epsilon: tuple[str, float], fill: Fill) -> tuple[int, str, float, float]:
        """What is added to a variance has to shrink as the variance does."""
        node = self.found.graph.nodes[step.node]
        given = next((a.f for a in node.attribute if a.name == epsilon[0]), epsilon[1])
        return (step.node, epsilon[0], float(given), -2 * fill.power)

    def _check_finite(self, step: Step, given: Mapping[int, Contents]) -> None:
        """Filler that nothing is known of must not become infinite, since zero times infinity is no number."""
        node = self.found.graph.nodes[step.node]
        if all("copy" in contents for contents in given.values()) or step.traits.total:
            return
        summed = not step.outputs and not step.statistics
        fine = is_finite(step.traits.form, given) if step.traits.form is not None else "zero" in self._out(step, given)
        if not fine or summed:
            raise Declined(f"{label(node)} may do anything to its filler")

    def _scale(self, step: Step, shift: float, made: Filling) -> None:
        """Lets the powers of the inputs go through a node; constants take on what they can."""
        graph = self.found.graph
        node = graph.nodes[step.node]
        powers = {
            slot: made.powers[source]
            for slot, source in step.sources.items()
            if isinstance(source, str) and made.powers.get(source)
        }
        if not powers and not shift:
            return
        known = {slot for monomial in step.traits.form or () for slot, _ in monomial.degrees}
        constants = [
            slot
            for slot, source in step.sources.items()
            if not isinstance(source, str) and graph.dtype(graph.tensor(source)) in FLOATS
        ]
        found = (
            balance(step.traits.form, powers, constants, shift)
            if step.traits.form and known.issuperset(powers)
            else None
        )
        if found is None:
            raise Declined(f"{label(node)} does not pass a power of eta on")
        power, taken = found
        made.scales.update({(step.node, slot): taken[slot] for slot in taken})
        made.powers.update({name: power for name in node.output if power and graph.dtype(name) in FLOATS})

    def _check_borders(self, powers: Mapping[str, float]) -> None:
        """What leaves the graph has to be what it was."""
        left = dict.fromkeys(self.found.graph.outputs, "it is a graph output")
        left.update({name: "a subgraph uses it" for names in self.found.graph.captured for name in names})
        for name, why in left.items():
            if powers.get(name):
                raise Declined(f"a power of eta scales {name}, and {why}")


def _occurrences(dim: Dim, name: str) -> int:
    """How many factors of a term are an axis; blocks of a concatenation stand beside each other."""
    if isinstance(dim, Axis):
        return int(dim.name == name)
    counts = [_occurrences(part, name) for part in dim.parts]
    return max(counts, default=0) if isinstance(dim, Sum) else sum(counts)


def _shown(content: Content) -> str:
    return {"mean": "the mean", "zero": "zeros", "copy": "copies"}[content]
