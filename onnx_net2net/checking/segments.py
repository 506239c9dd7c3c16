"""Block by block: a check of models that are too large to run whole.

The teacher is cut into segments whose weights fit. Each runs on the teacher's own activations, and the student's part
on their images; where every part gives the image of what the teacher's gives, the whole does. Tensors without floats,
such as sizes, are the student's own from segment to segment: a wrong one shows in the floats that it leads to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from onnx_net2net.checking.inputs import Array, Feeds
from onnx_net2net.checking.layers import Column, Image, Layers, judge, nudged
from onnx_net2net.checking.runtime import Runner, run_on
from onnx_net2net.errors import ModelError
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import captured
from onnx_net2net.planning.borders import gathered
from onnx_net2net.storage.tensors import bytes_of

ROOM = 2**28
"""Bytes of weights that a segment of the teacher may have; a node with more is one by itself."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Nodes of the teacher that are run together.

    Attributes:
        nodes: Their numbers.
        makes: What they make of inputs that is read later, or is an output; constants are made wherever they are read.
    """

    nodes: range
    makes: tuple[str, ...]


class Parts:
    """A model that can be run in parts."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.maker = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        known = {*self.weights, *self.maker, *(value.name for value in model.graph.input)}
        read = ([*node.input, *sorted(captured(node))] for node in self.nodes)
        self.reads = [[name for name in dict.fromkeys(names) if name in known] for names in read]
        self.outputs = tuple(value.name for value in model.graph.output)

    @cached_property
    def varying(self) -> set[str]:
        """Tensors that depend on inputs, and outputs."""
        return Graph(self.model).varying | set(self.outputs)

    @cached_property
    def last(self) -> dict[str, int]:
        """The last node that reads each tensor; graph outputs are read after all."""
        found = {name: i for i, names in enumerate(self.reads) for name in names}
        return found | dict.fromkeys(self.outputs, len(self.nodes))

    def cut(self, room: int = ROOM) -> list[Segment]:
        """Segments of weights that fit into ``room``, cut where fewest tensors cross."""
        crossing = self._crossing()
        segments, start = [], 0
        while start < len(self.nodes):
            end = self._reach(start, room)
            if end < len(self.nodes):
                end = min(range(end, start, -1), key=lambda i: crossing[i])  # the last of the best
            made = (name for i in range(start, end) for name in self.nodes[i].output if name in self.varying)
            segments.append(Segment(range(start, end), tuple(n for n in made if self.last.get(n, -1) >= end)))
            start = end
        return segments

    def _crossing(self) -> list[int]:
        """How many tensors that depend on inputs are alive before each node."""
        changes = [0] * (len(self.nodes) + 2)
        for name, i in self.maker.items():
            if name in self.last and name in self.varying:
                changes[i + 1] += 1
                changes[self.last[name] + 1] -= 1
        return np.cumsum(changes).tolist()  # type: ignore[no-any-return]

    def _reach(self, start: int, room: int) -> int:
        """The end of the longest segment from a node on; it holds that node at least."""
        seen: set[str] = set()
        for i in range(start, len(self.nodes)):
            new = {name for name in self.reads[i] if name in self.weights} - seen
            room -= sum(bytes_of(self.weights[name].data_type, tuple(self.weights[name].dims)) for name in new)
            if new and seen and room < 0:
                return i
            seen |= new
        return len(self.nodes)

    def leading_to(self, wanted: Sequence[str], given: Mapping[str, object]) -> tuple[list[int], list[str]]:
        """The nodes that make some tensors of given ones, in order, and which of the given they read.

        Raises:
            ModelError: If something else is needed.
        """
        nodes: set[int] = set()
        read: dict[str, None] = {}
        pending = [name for name in wanted if name not in given]
        while pending:
            name = pending.pop()
            if name in given:
                read[name] = None
            elif name in self.maker:
                if self.maker[name] not in nodes:
                    nodes.add(self.maker[name])
                    pending += self.reads[self.maker[name]]
            elif name not in self.weights:
                raise ModelError("the student has no such tensor", "check it whole", op="segment", tensor=name)
        return sorted(nodes), list(read)

    def node(self, name: str) -> NodeProto:
        """The node that makes a tensor."""
        return self.nodes[self.maker[name]] if name in self.maker else NodeProto(op_type="graph input")

    def extract(self, nodes: Sequence[int], inputs: Mapping[str, Array], outputs: Sequence[str]) -> ModelProto:
        """A model of some of the nodes; weights in files stay there."""
        part = ModelProto(ir_version=max(4, self.model.ir_version))
        part.opset_import.extend(self.model.opset_import)
        part.functions.extend(self.model.functions)
        part.graph.name = "segment"
        part.graph.node.extend(self.nodes[i] for i in nodes)
        read = dict.fromkeys(name for i in nodes for name in self.reads[i])
        part.graph.initializer.extend(self.weights[name] for name in read if name in self.weights)
        for name, value in inputs.items():
            part.graph.input.append(_typed(name, value))
        part.graph.output.extend(ValueInfoProto(name=name) for name in outputs)
        return part


def _typed(name: str, value: Array | list[Array]) -> ValueInfoProto:
    """An input for such values, of any size."""
    if isinstance(value, list):
        kind = helper.np_dtype_to_tensor_dtype(value[0].dtype) if value else TensorProto.FLOAT
        return helper.make_tensor_sequence_value_info(name, kind, None)
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)


Columns = dict[str, Column]
"""Tensors by name, and then by sample."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a check in segments found.

    Attributes:
        layers: The comparison of all tensors that cross from one segment to the next, and of the outputs.
        segments: How many segments there were.
        mine: The teacher's outputs, each made by its segment, by name and then by sample.
        theirs: The student's, likewise.
    """

    layers: Layers
    segments: int
    mine: Columns
    theirs: Columns


def in_segments(
    runner: Runner,
    teacher: ModelProto,
    student: ModelProto,
    feeds: Sequence[Feeds],
    providers: Sequence[str],
    images: Mapping[str, Image] | None = None,
    room: int = ROOM,
) -> Found:
    """Compares all tensors that cross from one segment to the next, and the outputs.

    Args:
        runner: Where onnxruntime runs.
        teacher: The teacher; its weights may lie in files.
        student: The student, likewise.
        feeds: The samples.
        providers: Where it runs.
        images: By tensor, what its dimensions that grew hold; None compares tensors as they are.
        room: Bytes of the teacher's weights that a segment may have.

    Raises:
        ModelError: If a segment cannot be run, or the student cannot be cut where the teacher is.
    """
    first, second = Parts(teacher), Parts(student)
    mine: Columns = {name: [feed[name] for feed in feeds] for name in feeds[0]}
    theirs = {name: [gathered(value, (images or {}).get(name, {})) for value in mine[name]] for name in mine}
    tensors, skipped, segments = [], Counter[str](), first.cut(room)
    for segment in segments:
        made, moved = _teacher(runner, first, segment, mine, providers)
        shared = [name for name in segment.makes if name in second.maker]
        skipped["the student has none of this name"] += len(segment.makes) - len(shared)
        given = _student(runner, second, shared, theirs, providers)
        for name in shared:
            if images is not None and name not in images:  # it may be the teacher's times a factor
                skipped["the plan says nothing of it"] += 1
                theirs[name] = given[name]
                continue
            image = None if images is None else images[name]
            judged = judge(name, second.node(name), (made[name], moved[name], given[name]), image)
            if isinstance(judged, str):
                skipped[judged] += 1
            else:
                tensors.append(judged)
            own = isinstance(judged, str) or name in second.outputs
            pairs = zip(made[name], given[name], strict=True)
            theirs[name] = given[name] if own else [_image(value, kept, image or {}) for value, kept in pairs]
        mine |= made
        kept = {*first.outputs, *feeds[0]}  # inputs too, as a student may have to begin there
        for name in [name for name in mine if first.last.get(name, -1) < segment.nodes.stop and name not in kept]:
            mine.pop(name), theirs.pop(name, None)
    layers = Layers("name" if images is None else "plan", tuple(tensors), {why: n for why, n in skipped.items() if n})
    sides = ({name: side[name] for name in first.outputs} for side in (mine, theirs))
    return Found(layers, len(segments), *sides)


def _image(value: Array, own: Array, image: Image) -> Array:
    """What the student must hold, with its own filler."""
    made = gathered(value, image)
    for axis, units in image.items():
        if units.min(initial=0) < 0 and made.shape == own.shape:
            made = np.where((units < 0).reshape([-1 if i == axis else 1 for i in range(made.ndim)]), own, made)
    return made.astype(value.dtype)


def _teacher(
    runner: Runner, parts: Parts, segment: Segment, known: Columns, providers: Sequence[str]
) -> tuple[Columns, Columns]:
    """What the teacher makes in a segment: as it is, and with its numbers moved as far as rounding does."""
    nodes, read = parts.leading_to(segment.makes, known)
    part = parts.extract(nodes, {name: known[name][0] for name in read}, segment.makes)
    feeds = _feeds({name: known[name] for name in read})
    sides = (run_on(runner, model, samples, providers) for model, samples in ((part, feeds), nudged(part, feeds)))
    mine, moved = (dict(zip(segment.makes, found, strict=True)) for found in sides)
    return mine, moved


def _student(runner: Runner, parts: Parts, wanted: Sequence[str], known: Columns, providers: Sequence[str]) -> Columns:
    """What the student makes of the images of what the teacher's segment reads."""
    nodes, read = parts.leading_to(wanted, known)
    part = parts.extract(nodes, {name: known[name][0] for name in read}, wanted)
    found = run_on(runner, part, _feeds({name: known[name] for name in read}), providers, who="student")
    return dict(zip(wanted, found, strict=True))


def _feeds(columns: Columns) -> list[Feeds]:
    """Tensors by sample; one sample without any, where a segment reads none."""
    count = len(next(iter(columns.values()), [0]))
    return [{name: column[k] for name, column in columns.items()} for k in range(count)]
