"""Graphs of real exporters, stored without weights under models/exports and filled with seeded ones here."""

from __future__ import annotations

import json
import math
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from onnx_net2net.inference.axis_map import AxisInfo, AxisMap
from onnx_net2net.inference.infer import infer

FOLDER = Path(__file__).parents[1] / "models" / "exports"
TABLE = FOLDER / "axes.json"
EXPORTS = sorted(path.stem for path in FOLDER.glob("*.onnx"))
DIMS = {
    "batch": 3,
    "tokens": 7,
    "past": 4,
    "past + tokens": 11,
    "s64": 11,
    "batch_size": 3,
    "sequence_length": 7,
    "past_sequence_length": 4,
    "past_sequence_length + sequence_length": 11,
}
"""Sizes of dynamic dimensions; other names get 2. PyTorch calls the sum of past and tokens s64."""
CACHES = [name for name in EXPORTS if "_cache" in name]
"""Decoders that take a cache and give it back."""
SCALES = {"BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization"}
GAIN = 1.2
"""Variance of weights times their fan-in: larger ones saturate sigmoids and round more before a Clip."""
HOPS = {"Transpose", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Cast", "Expand"}
"""Operators that a weight may go through on its way to the node that computes with it."""


@cache
def export(name: str) -> ModelProto:
    """One export, filled. Callers must not change it."""
    return filled(onnx.load(FOLDER / f"{name}.onnx"))


def filled(model: ModelProto, seed: int = 0, gain: float = GAIN) -> ModelProto:
    """Gives data to the initializers that have none; those that kept theirs stay."""
    roles = _roles(model)
    rng = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        if _is_empty(tensor):
            dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            value = _weight(rng, gain, list(tensor.dims), *roles.get(tensor.name, (NodeProto(), 0, ())))
            tensor.CopyFrom(numpy_helper.from_array(value.astype(dtype), tensor.name))
    return model


def _is_empty(tensor: Any) -> bool:
    stored = tensor.raw_data or tensor.float_data or tensor.double_data or tensor.int32_data or tensor.int64_data
    return math.prod(tensor.dims) > 0 and not stored


Role = tuple[NodeProto, int, tuple[int, ...]]


def _roles(model: ModelProto) -> dict[str, Role]:
    """The node that computes with each tensor, its slot, and how the tensor was transposed for it.

    Nodes that only change the layout are looked through; so is the epsilon that is added to a variance.
    """
    roles: dict[str, Role] = {}
    for node in reversed(model.graph.node):
        if node.op_type in ("Shape", "Size", "CastLike"):
            continue
        after = roles.get(node.output[0]) if node.output else None
        for slot, name in enumerate(node.input):
            roles[name] = (node, slot, ())
            if after and node.op_type in HOPS and slot == 0:
                given = {a.name: tuple(a.ints) for a in node.attribute}
                roles[name] = (*after[:2], after[2] or given.get("perm", ()))
            elif after and node.op_type == "Add" and after[0].op_type == "Sqrt":
                roles[name] = after
    return roles


def _weight(
    rng: np.random.Generator, gain: float, shape: list[int], node: NodeProto, slot: int, perm: tuple[int, ...]
) -> np.ndarray:
    """Norms around one, variances positive, weights scaled by their fan-in, embeddings normal."""
    if node.op_type == "Sqrt" or (node.op_type in SCALES and slot in (1, 4)):
        return rng.uniform(0.5, 1.5, shape)
    if node.op_type == "Mul" and sum(size > 1 for size in shape) < 2:
        return rng.uniform(0.5, 1.5, shape)
    if node.op_type in ("Gather", "Where", "Add", "Concat") and len(shape) > 1:
        return rng.normal(0, 0.7, shape)
    if len(shape) < 2:
        return rng.normal(0, 0.2, shape)
    seen = [shape[axis] for axis in perm] if len(perm) == len(shape) else shape
    return rng.normal(0, math.sqrt(gain / _fan_in(seen, node)), shape)


def _fan_in(shape: list[int], node: NodeProto) -> int:
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Conv":  # Keras reshapes depthwise kernels afterwards
        return math.prod(shape[2:] if shape[1] == given.get("group", 1) else shape[1:])
    if node.op_type == "ConvTranspose":
        steps = math.prod(given.get("strides", [1]))
        return max(1, shape[0] * math.prod(shape[2:]) // steps)
    if node.op_type == "Gemm":
        return shape[1] if given.get("transB") else shape[0]
    return shape[-1] if node.op_type in ("LSTM", "GRU", "RNN") else shape[-2]


def is_channels(info: AxisInfo) -> bool:
    """Whether a weight carries the axis, and it is more than positions of a kernel or the scales of a Resize."""
    return bool(info.initializers and info.tensors) and not any(pin.reason.startswith("positions") for pin in info.pins)


def row(found: AxisMap) -> dict[str, Any]:
    """What is known of the axes of an export: how many of each status, and what operators pin them."""
    infos = [info for info in found.axes.values() if is_channels(info)]
    pins = Counter(_operator(info) for info in infos if info.pins)
    statuses = Counter(info.status for info in infos)
    return {
        "nodes": len(found.graph.nodes),
        **{status: statuses[status] for status in ("free", "filled", "uniform", "pinned")},
        "pins": dict(sorted(pins.items())),
    }


def _operator(info: AxisInfo) -> str:
    """The operator, or border of the graph, that is first to blame."""
    blame = info.pins[0]
    return blame.node.split(" '")[0] or blame.reason


def table() -> dict[str, dict[str, Any]]:
    """The committed rows by export."""
    return dict(json.loads(TABLE.read_text())) if TABLE.exists() else {}


def rows() -> dict[str, dict[str, Any]]:
    """The rows as they are now."""
    return {name: row(infer(export(name))) for name in EXPORTS}
