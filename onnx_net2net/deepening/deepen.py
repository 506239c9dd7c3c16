"""Net2DeeperNet: model + request -> Plan, and model + Plan -> student with new layers, or blocks, inside.

Source: arXiv 1511.05641, section 3.3.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, overload

import numpy as np
from onnx import ModelProto, NodeProto, helper

from onnx_net2net.deepening.blocks import Block, Blocks, copy_of, duplicate
from onnx_net2net.deepening.layers import build, roles
from onnx_net2net.deepening.places import Place, Places, choices, why_no_norm
from onnx_net2net.errors import Declined, RequestError, UsageError
from onnx_net2net.inference.axis_map import AxisMap
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import HUGE, label
from onnx_net2net.planning.names import Names
from onnx_net2net.planning.plan import BlockCopy, Layer, Mode, Plan, Statistics, check_teacher, fingerprint
from onnx_net2net.storage.inserting import Built, Weights
from onnx_net2net.storage.model import AnyModel, LazyModel, proto_of

Kernel = tuple[int, ...]
Measure = Callable[[Mapping[str, int]], Mapping[str, Statistics]]
"""From tensors, each with its axis of channels, to their statistics."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of every layer.

    Attributes:
        mode: What makes it exact; None for what each place allows.
        kernels: Kernels of convolutions, a layer for each; None for 3, or 1 where a side has one position.
        count: How many layers of each.
        group: Groups of convolutions, or ``depthwise``.
        batch_norm: Whether identity layers get BatchNormalization.
        measure: Where its statistics come from; None for 0 and 1.
        random: Whether weights are random, as a baseline; nothing is exact then.
    """

    mode: Mode | None = None
    kernels: Sequence[Kernel] | None = None
    count: int = 1
    group: int | str = 1
    batch_norm: bool = False
    measure: Measure | None = None
    random: bool = False


def kernels(given: Any) -> list[Kernel] | None:
    """``3``, ``(1, 7)`` or ``[(1, 7), (7, 1)]`` as a list of kernels.

    Raises:
        UsageError: If a size is not odd and positive: the identity needs a centre.
    """
    if given is None:
        return None
    if isinstance(given, int):
        given = [(given,)]
    if all(isinstance(item, int) for item in given):
        given = [tuple(given)]
    found = [tuple(int(n) for n in kernel) for kernel in given]
    for kernel in found:
        if not kernel or any(n < 1 or n % 2 == 0 for n in kernel):
            shown = "x".join(map(str, kernel))
            raise UsageError(f"{shown} has an even side and so no centre tap", "use odd sides", op="kernel")
    return found


def plan_layers(found: AxisMap, after: str | Sequence[str], ask: Ask, seed: int) -> tuple[Plan, dict[str, str]]:
    """The plan that inserts layers at the places that are named, and why it skips others.

    Raises:
        RequestError: If a name is unknown, or no such layer is exact there.
    """
    planner = _Planner(Places(found), Names(found.graph), ask)
    chosen = planner.every() if after == "every" else planner.named([after] if isinstance(after, str) else after)
    layers = planner.layers(chosen)
    return Plan(fingerprint(found.graph.model), seed, layers=tuple(layers)), planner.skipped


def plan_blocks(
    found: AxisMap, wanted: str | Sequence[str], count: int, span: int, seed: int
) -> tuple[Plan, dict[str, str]]:
    """The plan that copies the residual blocks that are named, ``span`` together, and why it skips others.

    Raises:
        RequestError: If a name is unknown, or no copy of the block is exact.
    """
    finder = Blocks(found)
    skipped: dict[str, str] = {}
    if wanted == "every":
        every = finder.every()
        skipped = {block.tensor: block.refusal for block in every if block.refusal}
        chosen, others = finder.runs([block for block in every if not block.refusal], span)
        skipped |= others
    else:
        firsts = [finder.named(name) for name in ([wanted] if isinstance(wanted, str) else wanted)]
        chosen = [_run(finder, found.graph, first, span) for first in firsts]
    names = Names(found.graph)
    copies = [copy_of(found.graph, block, names) for block in dict.fromkeys(chosen) for _ in range(count)]
    return Plan(fingerprint(found.graph.model), seed, blocks=tuple(copies)), skipped


def _run(finder: Blocks, graph: Graph, first: Block, span: int) -> Block:
    """So many blocks from the first on.

    Raises:
        RequestError: If they cannot be copied together.
    """
    try:
        return finder.run(first, span)
    except Declined as why:
        raise RequestError(
            str(why), "copy fewer together; inspect lists the blocks", op=label(graph.nodes[first.add])
        ) from why


class _Planner:
    """Decides which layer each place gets."""

    def __init__(self, places: Places, names: Names, ask: Ask) -> None:
        self.graph = places.graph
        self.places = places
        self.names = names
        self.ask = ask
        self.skipped: dict[str, str] = {}

    def every(self) -> list[tuple[Place, Mode]]:
        """Each activation with the mode of its layers, but for those where none fits."""
        chosen = []
        for place in self.places.every():
            try:
                chosen.append((place, self._mode(place)))
            except Declined as why:
                self.skipped[place.tensor] = str(why)
        return chosen

    def named(self, names: Sequence[str]) -> list[tuple[Place, Mode]]:
        """The places of these names.

        Raises:
            RequestError: If no layer as asked is exact there.
        """
        places = dict.fromkeys(self.places.named(name) for name in names)
        chosen = []
        for place in places:
            try:
                chosen.append((place, self._mode(place)))
            except Declined as why:
                ways = choices(place.modes) if self.ask.mode in dict(place.refused) else choices(())
                raise _refused(self.graph, place, str(why), ways) from why
        return chosen

    def _mode(self, place: Place) -> Mode:
        """The mode of the layers at a place.

        Raises:
            Declined: If no layer as asked fits.
        """
        if place.refusal:
            raise Declined(place.refusal)
        mode: Mode = self.ask.mode or ("identity" if self.ask.random or "identity" in place.modes else "residual")
        if (why := place.why_not(mode)) and not (self.ask.random and mode == "identity"):
            raise Declined(why)
        if self.ask.batch_norm and mode == "identity" and (why := why_no_norm(self.graph, place)):
            raise Declined(why)
        for kernel in self._kernels(place):
            self._check(place, kernel)
        return mode

    def _check(self, place: Place, kernel: Kernel) -> None:
        """Raises Declined if a kernel or the groups do not fit."""
        shown = "x".join(map(str, kernel))
        if len(kernel) != len(place.sides):
            raise Declined(f"a kernel of {shown} does not fit {len(place.sides)} spatial dimensions")
        if self._group(place) < 1 or place.channels % self._group(place):
            raise Declined(f"its {place.channels} channels do not make {self.ask.group} groups")
        if any(n < 1 or n % 2 == 0 for n in kernel):
            raise Declined(f"a kernel of {shown} has no centre")
        if place.channels**2 * math.prod(kernel) // self._group(place) > HUGE // 2**8:
            raise Declined(f"a weight with a kernel of {shown} is too large")

    def _kernels(self, place: Place) -> list[Kernel]:
        if place.kind != "Conv":
            return [()]
        if self.ask.kernels is None:
            return [tuple(1 if side == 1 else 3 for side in place.sides)]
        return [kernel * len(place.sides) if len(kernel) == 1 else kernel for kernel in self.ask.kernels]

    def _group(self, place: Place) -> int:
        if place.kind != "Conv":
            return 1
        return place.channels if self.ask.group == "depthwise" else int(self.ask.group)

    def layers(self, chosen: Sequence[tuple[Place, Mode]]) -> list[Layer]:
        """The layers at these places.

        Raises:
            RequestError: If statistics are too large for the type of a tensor.
        """
        normed = [place for place, mode in chosen if self.ask.batch_norm and mode == "identity"]
        wanted = {place.tensor: place.axis for place in normed}
        measured = self.ask.measure(wanted) if self.ask.measure and wanted else {}
        layers: list[Layer] = []
        for place, mode in chosen:
            for _ in range(self.ask.count):
                layers += [
                    self._layer(place, mode, kernel, measured.get(place.tensor, ((), ())))
                    for kernel in self._kernels(place)
                ]
        return layers

    def _layer(self, place: Place, mode: Mode, kernel: Kernel, statistics: Statistics) -> Layer:
        layer = Layer(
            place.kind,
            place.node,
            place.tensor,
            place.channels,
            kernel,
            self.graph.dtype(place.tensor),
            (),
            mode,
            self._group(place),
            place.repeats,
            self.ask.batch_norm and mode == "identity",
            place.rank,
            *statistics,
            self.ask.random,
        )
        names = tuple(self.names.new(f"{place.tensor}_deeper_{role}") for role in roles(layer))
        layer = dataclasses.replace(layer, names=names)
        if why := _bad_statistics(layer):
            raise _refused(self.graph, place, why, "give other data")
        return layer


def _refused(graph: Graph, place: Place, why: str, way_out: str) -> RequestError:
    node = graph.nodes[place.node]
    return RequestError(why, way_out, op=node.op_type, node=node.name, tensor=place.tensor)


def _bad_statistics(layer: Layer) -> str:
    """Why the statistics of a layer cannot be used, or an empty string."""
    if {len(layer.mean), len(layer.var)} - {0 if not layer.mean else layer.channels}:
        return "there is not one mean and variance for each channel"
    dtype = helper.tensor_dtype_to_np_dtype(layer.dtype)
    with np.errstate(over="ignore"):
        typed = np.asarray([layer.mean, layer.var]).astype(dtype).astype(np.float64)
    if not np.isfinite(typed).all() or any(v < 0 for v in layer.var):
        return f"its mean or variance is no number that {np.dtype(dtype).name} can hold"
    return ""


def check_layers(found: AxisMap, plan: Plan) -> Plan:
    """The plan, derived again layer by layer, since it may come from a file.

    Raises:
        RequestError: If it does not come out the same, or widens axes as well.
    """
    places, finder, names = Places(found), Blocks(found), Names(found.graph)
    layers: list[Layer] = []
    blocks: list[BlockCopy] = []
    items: list[Layer | BlockCopy] = [*plan.layers, *plan.blocks]
    for item in items:
        try:
            if isinstance(item, Layer):
                layers += _layer_again(item, places, names)
            else:
                blocks.append(copy_of(found.graph, finder.run(finder.at(item.add), item.span), names))
        except (RequestError, Declined) as error:
            raise _does_not_fit(item.tensor) from error
        if item != (layers if isinstance(item, Layer) else blocks)[-1]:
            raise _does_not_fit(item.tensor)
    again = Plan(fingerprint(found.graph.model), plan.seed, layers=tuple(layers), blocks=tuple(blocks))
    if again != plan or type(plan.seed) is not int or plan.seed < 0 or (layers and blocks):
        raise _does_not_fit("")
    return again


def _layer_again(layer: Layer, places: Places, names: Names) -> list[Layer]:
    """What a request for this layer alone gives."""
    ask = Ask(
        layer.mode,
        [layer.kernel] if layer.kernel else None,
        group=layer.group,
        batch_norm=layer.batch_norm,
        measure=lambda axes: dict.fromkeys(axes, (layer.mean, layer.var)),
        random=layer.random,
    )
    planner = _Planner(places, names, ask)
    return planner.layers(planner.named([layer.tensor]))


def _does_not_fit(tensor: str) -> RequestError:
    return RequestError(
        "a layer does not fit the model there", "make the plan again with --plan-out", op="plan", tensor=tensor
    )


@overload
def apply(model: ModelProto, plan: Plan) -> ModelProto: ...
@overload
def apply(model: LazyModel, plan: Plan) -> LazyModel: ...
def apply(model: AnyModel, plan: Plan) -> AnyModel:
    """Inserts the layers and blocks of a plan.

    The last node at a place takes over the name of the teacher's tensor, so that all that reads it, graph outputs and
    subgraphs included, stays as it is.

    Raises:
        RequestError: If the plan was made for another model.
    """
    if not plan.axes:
        check_teacher(plan, model)
    student = _Student(model, plan)
    items: list[Layer | BlockCopy] = [*plan.layers, *plan.blocks]
    at: dict[int, list[tuple[Layer | BlockCopy, int]]] = {}
    for place, item in enumerate(items):
        at.setdefault(item.after, []).append((item, place))
    nodes: list[NodeProto] = []
    for i, node in enumerate(student.proto.graph.node):
        nodes.append(node)
        for tensor in dict.fromkeys(item.tensor for item, _ in at.get(i, ())):
            nodes += student.insert(node, [(item, place) for item, place in at[i] if item.tensor == tensor])
    del student.proto.graph.node[:]
    student.proto.graph.node.extend(nodes)
    return (
        LazyModel(student.proto, {**model.made, **student.weights.made})
        if isinstance(model, LazyModel)
        else student.proto
    )


class _Student:
    """A copy of the teacher that layers and blocks are inserted into."""

    def __init__(self, model: AnyModel, plan: Plan) -> None:
        self.teacher = proto_of(model)
        self.seed = plan.seed
        self.proto = ModelProto()
        self.proto.CopyFrom(self.teacher)
        self.graph = Graph(model) if plan.blocks else None
        self.lazy = isinstance(model, LazyModel)
        self.weights = Weights(self.proto, self.lazy)

    def insert(self, node: NodeProto, items: Sequence[tuple[Layer | BlockCopy, int]]) -> list[NodeProto]:
        """The new nodes after one tensor of a node, whose own output gets a new name."""
        made: list[NodeProto] = []
        final = items[0][0].tensor
        node.output[list(node.output).index(final)] = _input(items[0][0])
        for (item, place), following in zip(items, [*items[1:], None], strict=True):
            after = _input(following[0]) if following else final
            built = self._build(item, place, after)
            made += built.nodes
            self.weights.add(built.weights, partial(self._again, item, place, after))
        return made

    def _build(self, item: Layer | BlockCopy, place: int, after: str) -> Built:
        if isinstance(item, BlockCopy):
            assert self.graph is not None
            return duplicate(self.graph, item, after, lazy=self.lazy)
        repeated = self.teacher.graph.node[item.repeats] if item.repeats >= 0 else None
        return build(item, repeated, after, np.random.default_rng([self.seed, place]))

    def _again(self, item: Layer | BlockCopy, place: int, after: str, name: str) -> Any:
        """A weight, made once more."""
        return self._build(item, place, after).weights[name]


def _input(item: Layer | BlockCopy) -> str:
    """What a layer or a block reads."""
    if isinstance(item, BlockCopy):
        return item.names[0]
    return item.names[roles(item).index("input")]
