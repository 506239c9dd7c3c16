"""What can be done with a model: its axes, what pins them, and where it can be deepened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnx_net2net.deepening.blocks import Block, Blocks
from onnx_net2net.deepening.places import Place, Places
from onnx_net2net.inference.axis_map import AxisInfo, AxisMap
from onnx_net2net.inference.borders import Allowed
from onnx_net2net.inference.groups import Group, groups
from onnx_net2net.inference.infer import infer
from onnx_net2net.inference.proto import label
from onnx_net2net.io import Model, opened
from onnx_net2net.storage.model import LazyModel


@dataclass(frozen=True, slots=True)
class Inspection:
    """The axes of a model and the places where a layer can go.

    Attributes:
        axes: Every axis, in graph order of its carriers.
        deepen: Activations that a layer can follow, each with the modes that are exact there.
        refused: Other activations, with the reason.
        blocks: Residual blocks, with the reason where a copy would not be exact.
        groups: Axes that play one part in all layers, under names that ``widths`` takes.
    """

    axes: tuple[AxisInfo, ...]
    deepen: tuple[Place, ...]
    refused: tuple[Place, ...]
    found: AxisMap
    blocks: tuple[Block, ...] = ()
    groups: tuple[Group, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The inspection for JSON."""
        return {
            "groups": [
                {
                    "name": group.name,
                    "meaning": group.meaning,
                    "axes": [info.axis.name for info in group.axes],
                    "sizes": [group.size(info) for info in group.axes],
                    "status": [info.status for info in group.axes],
                }
                for group in self.groups
            ],
            "axes": [
                {
                    "name": info.axis.name,
                    "size": None if info.dynamic else info.axis.size,
                    "status": info.status,
                    "reason": info.reason,
                    "pins": [str(blame) for blame in info.pins],
                    "tensors": info.tensors,
                    "initializers": list(dict.fromkeys(info.initializers)),
                    "contracted_by": info.contracted_by,
                }
                for info in self.axes
            ],
            "deepen": [
                {
                    "after": place.tensor,
                    "kind": place.kind,
                    "node": label(self.found.graph.nodes[place.node]),
                    "modes": list(place.modes),
                    "refused": dict(place.refused),
                }
                for place in self.deepen
            ],
            "blocks": [
                {
                    "block": self.found.graph.nodes[block.add].output[0],
                    "from": block.source,
                    "after": block.tensor,
                    "nodes": len(block.nodes),
                    "reason": block.refusal,
                }
                for block in self.blocks
            ],
        }


def inspect(model: Model | LazyModel, *, allow_io_change: Allowed = False) -> Inspection:
    """Finds every axis of a model, whether it can be widened, and every place that can be deepened.

    Args:
        model: A path, a `ModelProto` or a `gs.Graph`.
        allow_io_change: As for `widen`.

    Raises:
        ModelError: If the model cannot be read.
        RequestError: If it has no input or output of a name that may change.
    """
    found = infer(opened(model), allow=allow_io_change)
    every = Places(found).every()
    return Inspection(
        tuple(found.axes.values()),
        tuple(place for place in every if not place.refusal),
        tuple(place for place in every if place.refusal),
        found,
        tuple(Blocks(found).every()),
        tuple(groups(found)),
    )
