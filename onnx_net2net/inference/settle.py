"""What filler holds in the end: forwards, from the constants alone, with the powers of eta that constants take on.

It trusts nothing that other walks found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush

from onnx_net2net.algebra.filler import COPY, Content, Contents, Fill, balance, is_finite
from onnx_net2net.errors import Declined
from onnx_net2net.inference.axis_map import Filling
from onnx_net2net.inference.demand import choose
from onnx_net2net.inference.proto import FLOATS, label
from onnx_net2net.inference.walk import Source, Step, Walk


def settle(
    walk: Walk, wanted: Mapping[Source, Iterable[Content]], powers: Mapping[str, float] | None = None
) -> Filling:
    """What filler holds, and which powers of eta there are, once constants and graph inputs hold what is wanted.

    Args:
        walk: The axis, and where nodes make the mean.
        wanted: What the filler of some constants holds; that of others holds copies.
        powers: Powers of eta of graph inputs.

    Raises:
        Declined: If a statistic is not right then, or no constant takes on a power.
    """
    graph = walk.found.graph
    known: dict[Source, Contents] = {name: frozenset(wanted.get(name, ())) or COPY for name in walk.inputs()}
    made = Filling({}, {}, {}, dict(powers or {}), ())
    numbers: list[tuple[int, str, float, float]] = []
    walk.means = {}
    for step in _reached(walk, made.powers):
        for use in walk.constants(step):
            content = set(wanted.get(use, ())) or {"copy"}
            if len(content) > 1:
                raise Declined(f"the filler of {graph.tensor(use)} would have to hold the mean and zero")
            known[use] = frozenset(content)
            if content != {"copy"}:
                made.fills[use] = (walk.dimension(use), *content)  # type: ignore[assignment]
        shift = 0.0
        for statistic in step.statistics:
            fill = choose(walk, step, statistic, known.get(step.sources[statistic.slot], frozenset()))
            shift += fill.power
            if fill.content == "mean":
                walk.note_mean(step)
            if statistic.epsilon is not None:
                numbers.append(_number(walk, step, statistic.epsilon, fill))
        given = walk.given(step, known)
        _check_finite(walk, step, given)
        known.update(walk.outputs(step, given))
        _scale(walk, step, shift, made)
        made.makers.update({name: -made.powers.pop(name, 0.0) for name in step.outputs if name in walk.makers})
    contents = {name: content for name, content in known.items() if isinstance(name, str)}
    return Filling(contents, made.fills, made.scales, made.powers, tuple(numbers), made.makers)


def _reached(walk: Walk, powers: Mapping[str, float]) -> Iterator[Step]:
    """The nodes that the axis goes through, and those that a power of eta gets to, in graph order."""
    graph = walk.found.graph
    steps = {step.node: step for step in walk.steps}
    pending = [*steps, *(i for name in powers for i, _ in graph.consumers.get(name, ()))]
    heapify(pending)
    last = -1
    while pending:
        i = heappop(pending)
        if i == last:
            continue
        last = i
        yield steps[i] if i in steps else walk.step(i)
        for name in graph.nodes[i].output:
            if powers.get(name):
                for k, _ in graph.consumers.get(name, ()):
                    heappush(pending, k)


def _number(walk: Walk, step: Step, epsilon: tuple[str, float], fill: Fill) -> tuple[int, str, float, float]:
    """What is added to a variance has to shrink as the variance does."""
    node = walk.found.graph.nodes[step.node]
    given = next((a.f for a in node.attribute if a.name == epsilon[0]), epsilon[1])
    return (step.node, epsilon[0], float(given), -2 * fill.power)


def _check_finite(walk: Walk, step: Step, given: Mapping[int, Contents]) -> None:
    """Filler that nothing is known of must not become infinite, since zero times infinity is no number."""
    node = walk.found.graph.nodes[step.node]
    if all("copy" in contents for contents in given.values()) or step.traits.total:
        return
    summed = not step.outputs and not step.statistics and not walk.is_contracted(step)
    fine = is_finite(step.traits.form, given) if step.traits.form is not None else "zero" in walk.out(step, given)
    if not fine or summed:
        raise Declined(f"{label(node)} may do anything to its filler")


def _scale(walk: Walk, step: Step, shift: float, made: Filling) -> None:
    """Lets the powers of the inputs go through a node; constants take on what they can."""
    graph = walk.found.graph
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
        balance(step.traits.form, powers, constants, shift) if step.traits.form and known.issuperset(powers) else None
    )
    if found is None:
        raise Declined(f"{label(node)} does not pass a power of eta on")
    power, taken = found
    made.scales.update({(step.node, slot): taken[slot] for slot in taken})
    made.powers.update({name: power for name in node.output if power and graph.dtype(name) in FLOATS})


def check_borders(walk: Walk, powers: Mapping[str, float]) -> None:
    """What leaves the graph has to be what it was.

    Raises:
        Declined: If a power of eta scales it.
    """
    left = dict.fromkeys(walk.found.graph.outputs, "it is a graph output")
    left.update({name: "a subgraph uses it" for names in walk.found.graph.captured for name in names})
    for name, why in left.items():
        if powers.get(name):
            raise Declined(f"a power of eta scales {name}, and {why}")
