"""Where a layer can go, which modes are exact there, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from onnx import helper

from onnx_net2net.algebra.axes import atoms
from onnx_net2net.deepening.activations import Activation, activations, single
from onnx_net2net.deepening.channels import Channels
from onnx_net2net.errors import RequestError
from onnx_net2net.inference.axis_map import AxisMap
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import FLOATS
from onnx_net2net.planning.plan import MODES, Mode

GEMM_WITHOUT_C = 11
"""First opset in which Gemm does without its third input."""
MODERN = 7
"""First opset in which BatchNormalization and PRelu have the form that they are written in."""


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor that a layer can follow, or why none can.

    Attributes:
        node: Position of the node that makes it; its last one, for an activation in several nodes.
        tensor: The tensor.
        kind: ``Conv``, ``Gemm`` or ``MatMul``; empty if no layer fits.
        axis: The axis that the layer works on.
        channels: Units of that axis.
        rank: Dimensions of the tensor.
        sides: Sizes of the dimensions that a Conv slides over, at trial sizes where they are dynamic.
        repeats: Position of the node that is repeated after a new linear operator; -1 for a Relu instead.
        refusal: Why no layer fits at all.
        refused: (mode, why it is not exact here).
    """

    node: int
    tensor: str
    kind: str
    channels: int
    rank: int
    refusal: str = ""
    axis: int = 0
    sides: tuple[int, ...] = ()
    repeats: int = -1
    refused: tuple[tuple[Mode, str], ...] = ()

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that are exact here, the one that is taken by default first."""
        return () if self.refusal else tuple(mode for mode in MODES if mode not in dict(self.refused))

    def why_not(self, mode: Mode) -> str:
        """Why a mode is refused, or an empty string."""
        return self.refusal or dict(self.refused).get(mode, "")


class Places:
    """The places of one model.

    Args:
        found: What inference found out about it.
    """

    def __init__(self, found: AxisMap) -> None:
        self.found = found
        self.graph = found.graph
        self.channels = Channels(found)

    def every(self) -> list[Place]:
        """A place after each activation (or other idempotent function), in graph order."""
        return [self._place(item, self.graph.nodes[item.node].output[0]) for item in self._activations.values()]

    def named(self, name: str) -> Place:
        """The place after a tensor or node.

        Raises:
            RequestError: If there is none of this name.
        """
        makers = [i for i, node in enumerate(self.graph.nodes) if name and name in node.output]
        named = [i for i, node in enumerate(self.graph.nodes) if name and name == node.name and any(node.output[:1])]
        for i in (*makers, *named):
            if i not in self.graph.constant_nodes:
                return self._place(self._whole(i), name if i in makers else self.graph.nodes[i].output[0])
        if name in (value.name for value in self.graph.inputs):
            raise RequestError("it is an input of the model", "choose a tensor inside", op="after", tensor=name)
        raise RequestError("no node or tensor has this name", "inspect lists the places", op="after", tensor=name)

    @cached_property
    def _activations(self) -> dict[int, Activation]:
        return {item.node: item for item in activations(self.graph)}

    def _whole(self, i: int) -> Activation:
        """The activation that ends at a node, or the node itself as a function of its input."""
        return self._activations.get(i) or single(self.graph, i)

    def _place(self, item: Activation, name: str) -> Place:
        shape = self.graph.shape(name)
        if shape is None or name not in self.found.dims:
            return Place(item.node, name, "", 0, 0, "its shape is not known")
        rank = len(shape)
        if self.graph.dtype(name) not in FLOATS:
            return Place(item.node, name, "", 0, rank, "it is not of a floating point type")
        if rank < 2:
            return Place(item.node, name, "", 0, rank, f"a tensor of rank {rank} has no axis of channels")
        axis = self.channels.axis(name)
        if any(self.found.axes[part.name].dynamic for part in atoms(self.found.dims[name][axis])):
            return Place(item.node, name, "", 0, rank, f"the size of its axis {axis} is dynamic")
        kind = self._kind(axis, rank)
        if not kind:
            return Place(item.node, name, "", 0, rank, f"no layer works on axis {axis} of a tensor of rank {rank}")
        dtype = self.graph.dtype(name)
        if not takes(self.graph, kind, dtype):
            return Place(item.node, name, "", 0, rank, _no_type(self.graph, kind))
        sides = shape[2:] if kind == "Conv" else ()
        refused = tuple((mode, why) for mode in MODES if (why := self._why_not(mode, item, dtype)))
        repeats = item.node if item.repeatable else -1
        return Place(item.node, name, kind, shape[axis], rank, "", axis, sides, repeats, refused)

    def _kind(self, axis: int, rank: int) -> str:
        if axis == rank - 1:
            return "Gemm" if rank == 2 and self.graph.opset("") >= GEMM_WITHOUT_C else "MatMul"
        return "Conv" if axis == 1 and 3 <= rank <= 5 else ""

    def _why_not(self, mode: Mode, item: Activation, dtype: int) -> str:
        """Why a mode is not exact after an activation, or an empty string."""
        if mode == "identity" and not item.idempotent:
            return "an identity layer after it needs f(f(x)) = f(x)"
        if mode == "prelu" and self.graph.opset("") < MODERN:
            return "PRelu does not broadcast its slope in this opset"
        added = {"residual": ["Add"] if item.repeatable else ["Add", "Relu"], "prelu": ["PRelu"]}.get(mode, [])
        return next((_no_type(self.graph, op) for op in added if not takes(self.graph, op, dtype)), "")


def takes(graph: Graph, op: str, dtype: int) -> bool:
    """Whether an operator is defined for an element type in the model's opset."""
    name = helper.tensor_dtype_to_string(dtype).removeprefix("TensorProto.").lower()
    return f"tensor({name})" in graph.operator(op).types


def _no_type(graph: Graph, op: str) -> str:
    return f"{op} does not take its type in opset {graph.opset('')}"


def why_no_norm(graph: Graph, place: Place) -> str:
    """Why no BatchNormalization goes into a layer at a place, or an empty string."""
    if graph.opset("") < MODERN or not takes(graph, "BatchNormalization", graph.dtype(place.tensor)):
        return _no_type(graph, "BatchNormalization")
    return ""


def choices(modes: Iterable[str]) -> str:
    """The modes to choose from, in words."""
    return f"choose mode {' or '.join(modes)}" if modes else "choose another place; inspect lists them"
