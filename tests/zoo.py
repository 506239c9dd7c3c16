"""The nine light models of the onnx wheel, filled with seeded random weights."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, helper, numpy_helper

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LIGHT = sorted(path.stem.removeprefix("light_") for path in FOLDER.glob("light_*.onnx"))
LARGE = {"bvlc_alexnet", "vgg19", "zfnet512"}


def bare(name: str) -> ModelProto:
    """One light model as it is shipped: small, as its weights are made by ConstantOfShape."""
    return onnx.load(FOLDER / f"light_{name}.onnx")


@cache
def light(name: str) -> ModelProto:
    """One light model, filled. Callers must not change it."""
    return filled(bare(name))


def filled(model: ModelProto, seed: int = 0) -> ModelProto:
    """Replaces weights made by ConstantOfShape, all alike, by random ones: a wrong map would go unseen.

    He scaling for weights; scales of normalisations so that residual sums do not saturate the softmax and
    signals do not die out on the way: either would hide mistakes.
    """
    rng = np.random.default_rng(seed)
    copy = ModelProto()
    copy.CopyFrom(model)
    shapes = {t.name: numpy_helper.to_array(t).tolist() for t in model.graph.initializer if t.data_type == 7}
    role: dict[str, tuple[str, int]] = {}
    for node in model.graph.node:
        for slot, name in enumerate(node.input):
            role.setdefault(name, (node.op_type, slot))
    for node in model.graph.node:  # some scale and shift after the normalisation, by unsqueezed vectors
        if node.op_type == "Unsqueeze":
            role[node.input[0]] = role[node.output[0]]
    del copy.graph.node[:]
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape":
            copy.graph.node.append(node)
            continue
        name, shape = node.output[0], shapes[node.input[0]]
        value = _weight(rng, shape, *role[name])
        copy.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        copy.graph.input.append(helper.make_tensor_value_info(name, 1, shape))
    return copy


def _weight(rng: np.random.Generator, shape: list[int], op: str, slot: int) -> np.ndarray:
    if op == "BatchNormalization" and slot in (1, 4):
        return rng.uniform(0.2, 0.6, shape) if slot == 1 else rng.uniform(0.5, 1.5, shape)
    if op == "Mul":
        return rng.uniform(1.5, 3.5, shape)
    if len(shape) >= 2:
        return rng.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape)
    return rng.normal(0, 0.2, shape)


def parameters(model: ModelProto) -> int:
    """Numbers in floating point initializers."""
    return sum(math.prod(t.dims) for t in model.graph.initializer if t.data_type in (1, 10, 11, 16))
