"""Kinds of damage that a wrong expansion does to attention in one node; see `damage.py`."""

from __future__ import annotations

import dataclasses

import numpy as np
from onnx import NodeProto

from onnx_net2net.inference.proto import read_tensor
from onnx_net2net.widening.rewrite import rewrite
from tests.damage import FLOATS, NoPlace, Patient, attribute, kind, write

ATTENTION = ("Attention", "GroupQueryAttention", "MultiHeadAttention")


@kind("an attention without its scale")
def _(patient: Patient) -> None:
    node = patient.pick(node for node in patient.nodes(*ATTENTION) if attribute(node, "scale"))
    kept = [a for a in node.attribute if a.name != "scale"]
    del node.attribute[:]
    node.attribute.extend(kept)


@kind("heads of queries tiled over heads of keys")
def _(patient: Patient) -> None:
    stored = patient.tensors()

    def shared(node: NodeProto) -> int:
        every, keys = attribute(node, "num_heads", 1), attribute(node, "kv_num_heads", 1)
        return every // keys if keys > 1 else 1

    made = {node.output[0]: node for node in patient.model.graph.node}
    places = []
    for node in patient.nodes("GroupQueryAttention"):
        above = made.get(node.input[0])
        while above is not None and above.op_type == "Add":
            above = made.get(above.input[0])
        if shared(node) > 1 and above is not None and above.input[1] in stored:
            places.append((node, above.input[1]))
    node, name = patient.pick(places)
    tensor = stored[name]
    value, heads, keys = read_tensor(tensor), attribute(node, "num_heads"), attribute(node, "kv_num_heads")
    wide = value.shape[1] // (heads if node.input[1] else heads + 2 * keys)
    queries, rest = value[:, : heads * wide], value[:, heads * wide :]
    tiled = queries.reshape(len(value), keys, heads // keys, wide).swapaxes(1, 2).reshape(len(value), -1)
    write(tensor, np.concatenate([tiled, rest], 1))


@kind("a vector of shares that is whole")
def _(patient: Patient) -> None:
    made, stored = patient.made, patient.tensors()
    plans = [(step, c) for step in made.plan.steps for c in step.constants if c.splits and len(c.dims) == 1]
    teacher = {tensor.name: tensor for tensor in made.teacher.graph.initializer}
    step, constant = patient.pick((s, c) for s, c in plans if c.name in stored and c.source in teacher)
    if stored[constant.name].data_type not in FLOATS:
        raise NoPlace
    whole = dataclasses.replace(constant, splits=())
    write(stored[constant.name], rewrite(read_tensor(teacher[constant.source]), whole, step))


@kind("angles of a rotation in another order")
def _(patient: Patient) -> None:
    places = {"GroupQueryAttention": slice(7, 9), "RotaryEmbedding": slice(2, 4)}
    named = {name for node in patient.nodes(*places) for name in node.input[places[node.op_type]]}
    tensor = patient.pick(t for t in patient.floats(2) if t.name in named and t.dims[1] > 1)
    write(tensor, np.roll(read_tensor(tensor), 1, 1))
