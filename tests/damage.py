"""Kinds of damage that a wrong expansion, or a wrong edit, does to a student: what a check has to catch.

A kind is a function of a student and a random generator that damages the copy it is given, at a place of its own
choice, and raises `NoPlace` if there is none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from onnx_net2net import Expansion
from onnx_net2net.algebra.axes import index, touches
from onnx_net2net.inference.proto import read_tensor
from onnx_net2net.io import digest
from onnx_net2net.planning.plan import ConstantPlan

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
NORMS = ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization")


class NoPlace(Exception):
    """The student has no place for this kind of damage."""


@dataclass
class Patient:
    """A copy of a student that is to be damaged.

    Attributes:
        model: The copy.
        made: The expansion that made the student.
        rng: What chooses the place.
    """

    model: ModelProto
    made: Expansion
    rng: random.Random

    def pick(self, places: Any) -> Any:
        found = list(places)
        if not found:
            raise NoPlace
        return self.rng.choice(found)

    def nodes(self, *ops: str) -> Iterator[NodeProto]:
        return (node for node in self.model.graph.node if node.op_type in ops)

    def tensors(self) -> dict[str, TensorProto]:
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    def floats(self, rank: int) -> list[TensorProto]:
        """Float weights of at least so many dimensions, with more than one element, that a node reads."""
        read = {name for node in self.model.graph.node for name in node.input}
        tensors = (t for t in self.model.graph.initializer if t.name in read and t.data_type in FLOATS)
        return [t for t in tensors if len(t.dims) >= rank and read_tensor(t).size > 1]

    def computed(self) -> set[str]:
        return {name for node in self.model.graph.node for name in node.output}


Damage = Callable[[Patient], None]
KINDS: dict[str, Damage] = {}


def kind(name: str) -> Callable[[Damage], Damage]:
    def register(damage: Damage) -> Damage:
        KINDS[name] = damage
        return damage

    return register


def damaged(made: Expansion, name: str, seed: int) -> ModelProto | None:
    """The student with one damage of a kind; None if it has no place for it, or it changes nothing."""
    copy = ModelProto()
    copy.CopyFrom(made.exact)
    try:
        KINDS[name](Patient(copy, made, random.Random(seed)))
    except NoPlace:
        return None
    return copy if digest(copy) != digest(made.exact) else None


def write(tensor: TensorProto, value: np.ndarray) -> None:
    """Gives a tensor other values of its own type and shape."""
    array = np.ascontiguousarray(value).astype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    if list(array.shape) != list(tensor.dims):
        raise NoPlace
    name, kind = tensor.name, tensor.data_type
    tensor.Clear()
    tensor.name, tensor.data_type, tensor.raw_data = name, kind, array.tobytes()
    tensor.dims.extend(array.shape)


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def put(node: NodeProto, name: str, value: Any) -> None:
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def become(node: NodeProto, op: str, inputs: list[str] | None = None, **attributes: Any) -> None:
    """Makes it another node with the same outputs."""
    given = list(node.input) if inputs is None else inputs
    node.CopyFrom(helper.make_node(op, given, list(node.output)[:1], name=node.name, **attributes))


# What a wrong expansion does


def _mapped(patient: Patient, rank: int = 1) -> tuple[ConstantPlan, int, np.ndarray]:
    """A constant of the student, one of its widened dimensions, and the units of the teacher along it."""
    made = patient.made
    stored = patient.tensors()
    places = [
        (constant, axis, np.asarray(index(dim, step.maps)))
        for step in made.plan.steps
        for constant in step.constants
        for axis, dim in enumerate(constant.dims)
        if touches(dim, step.maps) and constant.name in stored and len(constant.dims) >= rank
    ]
    return patient.pick(p for p in places if stored[p[0].name].dims[p[1]] == len(p[2]))  # type: ignore[no-any-return]


@kind("two entries of a map swapped")
def _(patient: Patient) -> None:
    constant, axis, units = _mapped(patient, rank=2)
    tensor = patient.tensors()[constant.name]
    i = patient.rng.randrange(len(units))
    j = patient.pick(k for k in range(len(units)) if units[k] != units[i])
    order = np.arange(len(units))
    order[[i, j]] = order[[j, i]]
    write(tensor, np.take(read_tensor(tensor), order, axis))


@kind("a copy of the wrong unit")
def _(patient: Patient) -> None:
    constant, axis, units = _mapped(patient, rank=2)
    tensor = patient.tensors()[constant.name]
    order = np.arange(len(units))
    i = patient.rng.randrange(len(units))
    order[i] = patient.pick(k for k in range(len(units)) if units[k] != units[i])
    write(tensor, np.take(read_tensor(tensor), order, axis))


def _split(patient: Patient) -> tuple[TensorProto, int]:
    """A constant that is divided among copies, and the dimension."""
    stored = patient.tensors()
    constants = (c for step in patient.made.plan.steps for c in step.constants)
    name, axis = patient.pick((c.name, s.axis) for c in constants for s in c.splits if c.name in stored)
    if stored[name].data_type not in FLOATS:
        raise NoPlace
    return stored[name], axis


def _scaled_unit(patient: Patient, factor: float) -> None:
    tensor, axis = _split(patient)
    value = read_tensor(tensor).copy()
    unit = [slice(None)] * value.ndim
    unit[axis] = slice(i := patient.rng.randrange(value.shape[axis]), i + 1)
    value[tuple(unit)] *= factor
    write(tensor, value)


@kind("one fraction off by 1%")
def _(patient: Patient) -> None:
    _scaled_unit(patient, 1.01)


@kind("one unit not divided")
def _(patient: Patient) -> None:
    _scaled_unit(patient, 2.0)


def _inserted(patient: Patient, rank: int) -> TensorProto:
    """The weight of an inserted layer that computes the identity."""
    stored = patient.tensors()
    layers = [layer for step in patient.made.plan.steps for layer in step.layers if layer.mode == "identity"]
    names = [name for layer in layers for name in layer.names if name in stored]
    return patient.pick(stored[n] for n in names if len(stored[n].dims) >= rank)  # type: ignore[no-any-return]


@kind("identity tap off its centre")
def _(patient: Patient) -> None:
    tensor = _inserted(patient, 3)
    value = read_tensor(tensor)
    axis = patient.pick(axis for axis in range(2, value.ndim) if value.shape[axis] > 1)
    write(tensor, np.roll(value, 1, axis))


@kind("identity tap off by 1%")
def _(patient: Patient) -> None:
    tensor = _inserted(patient, 2)
    value = read_tensor(tensor).copy()
    at = patient.pick(zip(*np.nonzero(value), strict=True))
    value[at] *= 1.01
    write(tensor, value)


# Weights


def _weight(patient: Patient, rank: int = 2) -> tuple[TensorProto, np.ndarray]:
    tensor = patient.pick(patient.floats(rank))
    return tensor, read_tensor(tensor).copy()


def _entry(patient: Patient, change: Callable[[Any], Any], rank: int = 2) -> None:
    tensor, value = _weight(patient, rank)
    at = patient.pick(list(zip(*np.nonzero(value), strict=True))[:4096])
    value[at] = change(value[at])
    write(tensor, value)


@kind("one weight off by 1%")
def _(patient: Patient) -> None:
    _entry(patient, lambda w: w * 1.01)


@kind("one weight's sign flipped")
def _(patient: Patient) -> None:
    _entry(patient, lambda w: -w)


@kind("one weight dropped")
def _(patient: Patient) -> None:
    _entry(patient, lambda w: w * 0)


@kind("a row zeroed")
def _(patient: Patient) -> None:
    tensor, value = _weight(patient)
    value[patient.rng.randrange(len(value))] = 0
    write(tensor, value)


@kind("a square weight transposed")
def _(patient: Patient) -> None:
    squares = [t for t in patient.floats(2) if t.dims[0] == t.dims[1] > 1]
    tensor = patient.pick(squares)
    write(tensor, read_tensor(tensor).swapaxes(0, 1))


@kind("a weight through float16")
def _(patient: Patient) -> None:
    tensor, value = _weight(patient)
    write(tensor, value.astype(np.float16))


@kind("a weight through bfloat16")
def _(patient: Patient) -> None:
    tensor, value = _weight(patient)
    write(tensor, value.astype(ml_dtypes.bfloat16).astype(np.float32))


@kind("a kernel mirrored")
def _(patient: Patient) -> None:
    kernels = {node.input[1] for node in patient.nodes("Conv", "ConvTranspose")}
    tensor = patient.pick(t for t in patient.floats(3) if t.name in kernels and t.dims[-1] > 1)
    write(tensor, read_tensor(tensor)[..., ::-1])


@kind("groups in the wrong order")
def _(patient: Patient) -> None:
    groups = {n.input[1]: attribute(n, "group", 1) for n in patient.nodes("Conv") if attribute(n, "group", 1) > 1}
    tensor = patient.pick(t for t in patient.floats(3) if t.name in groups)
    write(tensor, np.roll(read_tensor(tensor), tensor.dims[0] // groups[tensor.name], 0))


@kind("outputs of a ConvTranspose swapped")
def _(patient: Patient) -> None:
    read = {node.input[1] for node in patient.nodes("ConvTranspose")}
    tensor = patient.pick(t for t in patient.floats(3) if t.name in read and t.dims[1] > 1)
    write(tensor, np.roll(read_tensor(tensor), 1, 1))


@kind("gates of a recurrent layer swapped")
def _(patient: Patient) -> None:
    gates = {"LSTM": 4, "GRU": 3}
    read = {name: gates[n.op_type] for n in patient.nodes(*gates) for name in n.input[1:3]}
    tensor = patient.pick(t for t in patient.floats(3) if t.name in read)
    write(tensor, np.roll(read_tensor(tensor), tensor.dims[1] // read[tensor.name], 1))


@kind("a scale of one channel off by 1%")
def _(patient: Patient) -> None:
    read = {node.input[1] for node in patient.nodes(*NORMS)}
    tensor = patient.pick(t for t in patient.floats(1) if t.name in read)
    value = read_tensor(tensor).copy()
    value[patient.rng.randrange(len(value))] *= 1.01
    write(tensor, value)


@kind("a zero point off by one")
def _(patient: Patient) -> None:
    read = {n.input[2] for n in patient.nodes("DequantizeLinear", "QuantizeLinear") if len(n.input) > 2}
    tensor = patient.pick(t for t in patient.model.graph.initializer if t.name in read)
    value = read_tensor(tensor).copy()
    value[...] = np.where(value < 100, value + 1, value - 1)
    write(tensor, value)


# Biases and normalisations


@kind("a bias dropped")
def _(patient: Patient) -> None:
    node = patient.pick(n for n in patient.nodes("Conv", "ConvTranspose", "Gemm") if len(n.input) > 2 and n.input[2])
    del node.input[2]


@kind("one entry of a bias dropped")
def _(patient: Patient) -> None:
    read = {n.input[2] for n in patient.nodes("Conv", "ConvTranspose", "Gemm", *NORMS) if len(n.input) > 2}
    tensor = patient.pick(t for t in patient.floats(1) if t.name in read and len(t.dims) == 1)
    value = read_tensor(tensor).copy()
    value[patient.rng.randrange(len(value))] = 0
    write(tensor, value)


def _epsilon(patient: Patient, *ops: str) -> None:
    node = patient.pick(patient.nodes(*ops))
    put(node, "epsilon", 10 * attribute(node, "epsilon", 1e-5))


@kind("epsilon of a batch normalisation times ten")
def _(patient: Patient) -> None:
    _epsilon(patient, "BatchNormalization")


@kind("epsilon of another normalisation times ten")
def _(patient: Patient) -> None:
    _epsilon(patient, *NORMS[1:])


@kind("mean and variance exchanged")
def _(patient: Patient) -> None:
    node = patient.pick(patient.nodes("BatchNormalization"))
    node.input[3], node.input[4] = node.input[4], node.input[3]


# Nodes


@kind("pads moved to one side")
def _(patient: Patient) -> None:
    ops = ("Conv", "MaxPool", "AveragePool", "ConvTranspose")
    node = patient.pick(node for node in patient.nodes(*ops) if any(attribute(node, "pads", [])))
    pads = list(attribute(node, "pads"))
    rank = len(pads) // 2
    axis = patient.pick(axis for axis in range(rank) if pads[axis + rank])
    pads[axis], pads[axis + rank] = pads[axis] + 1, pads[axis + rank] - 1
    put(node, "pads", pads)


@kind("dilated, at the same shape")
def _(patient: Patient) -> None:
    def fits(node: NodeProto) -> bool:
        kernel, pads = attribute(node, "kernel_shape", []), attribute(node, "pads", [])
        plain = set(attribute(node, "dilations", [1])) == {1}
        return plain and max(kernel, default=1) > 1 and list(pads) == [k // 2 for k in kernel] * 2

    node = patient.pick(node for node in patient.nodes("Conv") if fits(node))
    kernel = attribute(node, "kernel_shape")
    put(node, "dilations", [2] * len(kernel))
    put(node, "pads", [k // 2 * 2 for k in kernel] * 2)


@kind("inputs of a Concat swapped")
def _(patient: Patient) -> None:
    made = patient.computed()
    node = patient.pick(n for n in patient.nodes("Concat") if len(set(n.input)) > 1 and set(n.input) <= made)
    node.input[0], node.input[-1] = node.input[-1], node.input[0]


@kind("outputs of a Split swapped")
def _(patient: Patient) -> None:
    node = patient.pick(n for n in patient.nodes("Split") if len(n.output) > 1)
    node.output[0], node.output[-1] = node.output[-1], node.output[0]


@kind("a Relu removed")
def _(patient: Patient) -> None:
    become(patient.pick(patient.nodes("Relu")), "Identity")


@kind("a Relu made a LeakyRelu")
def _(patient: Patient) -> None:
    become(patient.pick(patient.nodes("Relu")), "LeakyRelu", alpha=0.01)


ALIKE = {"Sigmoid": "HardSigmoid", "Tanh": "Softsign", "HardSwish": "Relu", "Elu": "Selu", "Softplus": "Relu"}


@kind("an activation made one like it")
def _(patient: Patient) -> None:
    node = patient.pick([*patient.nodes(*ALIKE), *patient.nodes("Gelu")])
    if node.op_type in ALIKE:
        become(node, ALIKE[node.op_type])
    else:
        put(node, "approximate", "none" if attribute(node, "approximate", b"none") == b"tanh" else "tanh")


@kind("mean made maximum")
def _(patient: Patient) -> None:
    swaps = {"GlobalAveragePool": "GlobalMaxPool", "AveragePool": "MaxPool", "ReduceMean": "ReduceMax"}
    node = patient.pick(patient.nodes(*swaps))
    kept = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name != "count_include_pad"}
    become(node, swaps[node.op_type], **kept)


@kind("softmax along another axis")
def _(patient: Patient) -> None:
    node = patient.pick(patient.nodes("Softmax"))
    put(node, "axis", 1 if attribute(node, "axis", -1) != 1 else 0)


@kind("an Add reduced to one side")
def _(patient: Patient) -> None:
    made = patient.computed()
    node = patient.pick(n for n in patient.nodes("Add") if set(n.input) <= made)
    become(node, "Identity", [patient.rng.choice(list(node.input))])


@kind("a shortcut's side counted twice")
def _(patient: Patient) -> None:
    made = patient.computed()
    node = patient.pick(n for n in patient.nodes("Add") if set(n.input) <= made and len(set(n.input)) > 1)
    node.input[0] = node.input[1]


@kind("a constant factor off by 1%")
def _(patient: Patient) -> None:
    stored = patient.tensors()
    nodes = patient.nodes("Mul", "Div")
    tensors = [stored[name] for node in nodes for name in node.input if name in stored]
    tensor = patient.pick(t for t in tensors if t.data_type in FLOATS)
    write(tensor, read_tensor(tensor) * 1.01)


@kind("axes of a Transpose swapped")
def _(patient: Patient) -> None:
    node = patient.pick(n for n in patient.nodes("Transpose") if len(attribute(n, "perm", [])) > 2)
    perm = list(attribute(node, "perm"))
    perm[-1], perm[-2] = perm[-2], perm[-1]
    put(node, "perm", perm)


@kind("coordinates of a Resize")
def _(patient: Patient) -> None:
    node = patient.pick(patient.nodes("Resize"))
    now = attribute(node, "coordinate_transformation_mode", b"half_pixel")
    put(node, "coordinate_transformation_mode", "half_pixel" if now == b"asymmetric" else "asymmetric")


from tests import damage_attention  # noqa: E402, F401  # more kinds, which need what is above
