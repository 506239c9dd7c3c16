"""Rows of hostile files: a small valid model, what is changed in it, and graphs that are very long."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser

TEXT = """<ir_version: 8, opset_import: ["": 17]>
net (float[N,3,8,8] x) => (float[N,4] y) {
  c = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1, b1)  a = Relu(c)  p = MaxPool<kernel_shape=[2,2]>(a)
  d = Conv(p, w2)  r = Relu(d)  g = GlobalAveragePool(r)  f = Flatten(g)  y = Gemm(f, w3)
}"""
WEIGHTS = {"w1": (6, 3, 3, 3), "b1": (6,), "w2": (8, 6, 1, 1), "w3": (8, 4)}
Change = Callable[[ModelProto], object]


@functools.cache
def encoded() -> bytes:
    model = parser.parse_model(TEXT)
    rng = np.random.default_rng(7)
    for name, shape in WEIGHTS.items():
        model.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    return bytes(model.SerializeToString())


def base() -> ModelProto:
    """A small valid model."""
    return ModelProto.FromString(encoded())


def named(model: ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def outside(model: ModelProto, **entries: str) -> None:
    """Says that the data of w1 lies in another file."""
    tensor = named(model, "w1")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def dims(model: ModelProto, name: str, *sizes: int) -> None:
    del named(model, name).dims[:]
    named(model, name).dims.extend(sizes)


def declare(model: ModelProto, *sizes: int) -> None:
    """Gives the graph input another shape."""
    shape = model.graph.input[0].type.tensor_type.shape
    del shape.dim[:]
    for size in sizes:
        shape.dim.add(dim_value=size)


def nested(model: ModelProto, depth: int) -> None:
    """An If in an If in an If, and so on."""
    inner = helper.make_graph([helper.make_node("Identity", ["a"], ["leaf"])], "leaf", [], [info("leaf")])
    for i in range(depth):
        node = helper.make_node("If", ["flag"], [f"n{i}"], then_branch=inner, else_branch=inner if i < 1 else leaf(i))
        inner = helper.make_graph([node], f"level{i}", [], [info(f"n{i}")])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
    model.graph.node.append(helper.make_node("If", ["flag"], ["out"], then_branch=inner, else_branch=inner))


def leaf(i: int) -> onnx.GraphProto:
    return helper.make_graph([helper.make_node("Identity", ["a"], [f"e{i}"])], f"else{i}", [], [info(f"e{i}")])


def info(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def untyped(model: ModelProto) -> None:
    model.graph.input[0].ClearField("type")


def optional(model: ModelProto) -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [2, 3]))
    model.graph.input.append(helper.make_value_info("maybe", kind))
    model.graph.node.append(helper.make_node("OptionalHasElement", ["maybe"], ["there"]))
    model.graph.output.append(helper.make_tensor_value_info("there", TensorProto.BOOL, []))


def sequence(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("SequenceConstruct", ["a", "a"], ["list"]))
    model.graph.node.append(helper.make_node("ConcatFromSequence", ["list"], ["back"], axis=1))
    model.graph.output.append(info("back"))


def sequence_input(model: ModelProto) -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [2, 3]))
    model.graph.input.append(helper.make_value_info("many", kind))
    model.graph.node.append(helper.make_node("SequenceLength", ["many"], ["length"]))
    model.graph.output.append(helper.make_tensor_value_info("length", TensorProto.INT64, []))


def sparse(model: ModelProto) -> None:
    values = numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "w3")
    indices = numpy_helper.from_array(np.array([0, 5], np.int64), "w3_indices")
    model.graph.initializer.remove(named(model, "w3"))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [8, 4]))


def local_function(model: ModelProto) -> None:
    body = [helper.make_node("Relu", ["u"], ["v"])]
    opset = helper.make_opsetid("", 17)
    model.functions.append(helper.make_function("here", "Mine", ["u"], ["v"], body, [opset]))
    model.opset_import.append(helper.make_opsetid("here", 1))
    model.graph.node[1].op_type, model.graph.node[1].domain = "Mine", "here"


def recursive_function(model: ModelProto) -> None:
    local_function(model)
    model.functions[0].node[0].op_type, model.functions[0].node[0].domain = "Mine", "here"
    model.functions[0].opset_import.append(helper.make_opsetid("here", 1))


def strings(model: ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [2], [b"one", b"two"]))
    model.graph.node.append(helper.make_node("Identity", ["words"], ["said"]))
    model.graph.output.append(helper.make_tensor_value_info("said", TensorProto.STRING, [2]))


def attribute(model: ModelProto, node: int, name: str, value: Any) -> None:
    for old in [a for a in model.graph.node[node].attribute if a.name == name]:
        model.graph.node[node].attribute.remove(old)
    model.graph.node[node].attribute.append(helper.make_attribute(name, value))


def cube(model: ModelProto) -> None:
    """A constant made from its shape that would fill the memory."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([8, 6, 2**14, 2**14], np.int64), "size"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["size"], ["w2"]))
    model.graph.initializer.remove(named(model, "w2"))


def tiled(model: ModelProto) -> None:
    """A constant that constant nodes repeat until it would fill the memory."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**20, 2**12, 1, 1], np.int64), "times"))
    model.graph.node.insert(0, helper.make_node("Tile", ["w2", "times"], ["wide"]))
    model.graph.node[4].input[1] = "wide"


BIG = 2**62
CHANGES: dict[str, Change] = {
    "its own input": lambda m: m.graph.node[1].input.__setitem__(0, "a"),
    "a later output": lambda m: m.graph.node[1].input.__setitem__(0, "r"),
    "two nodes in a circle": lambda m: m.graph.node[0].input.__setitem__(0, "a"),
    "a missing initializer": lambda m: m.graph.initializer.remove(named(m, "w2")),
    "one initializer twice": lambda m: m.graph.initializer.append(named(m, "w2")),
    "an initializer that a node makes": lambda m: m.graph.initializer.add(name="a", data_type=1, dims=[1]),
    "two inputs of one name": lambda m: m.graph.input.append(m.graph.input[0]),
    "an input that a node makes": lambda m: m.graph.input.append(info("a")),
    "two nodes of one name": lambda m: [n.__setattr__("name", "same") for n in m.graph.node],
    "two outputs of one name": lambda m: m.graph.output.append(m.graph.output[0]),
    "initializer without name": lambda m: named(m, "w2").__setattr__("name", ""),
    "input without name": lambda m: m.graph.input[0].__setattr__("name", ""),
    "output without name": lambda m: m.graph.output[0].__setattr__("name", ""),
    "huge dims": lambda m: dims(m, "w1", BIG, BIG, 3, 3),
    "a dim of 2**62": lambda m: dims(m, "w1", BIG),
    "negative dims": lambda m: dims(m, "w1", -6, 3, 3, 3),
    "two negative dims": lambda m: dims(m, "w1", -6, -3, 3, 3),
    "dims whose product overflows to zero": lambda m: dims(m, "w1", 2**32, 2**32, 1, 1),
    "no dims": lambda m: dims(m, "w1"),
    "too many dims": lambda m: dims(m, "w1", *[1] * 100),
    "a zero dim": lambda m: dims(m, "w1", 0, 3, 3, 3),
    "huge input": lambda m: declare(m, 1, 3, BIG, BIG),
    "negative input": lambda m: declare(m, 1, 3, -8, -8),
    "empty input": lambda m: declare(m, 0, 3, 8, 8),
    "input without channels": lambda m: declare(m, 1, 0, 8, 8),
    "input of no rank": lambda m: declare(m),
    "input of another rank": lambda m: declare(m, 1, 3),
    "wrong length of data": lambda m: named(m, "w2").__setattr__("raw_data", b"123"),
    "more data than dims": lambda m: named(m, "w2").__setattr__("raw_data", b"1234" * 1000),
    "no data": lambda m: named(m, "w2").ClearField("raw_data"),
    "data twice": lambda m: named(m, "w2").float_data.extend([1.0] * 5),
    "data of another type": lambda m: named(m, "w2").__setattr__("data_type", TensorProto.INT64),
    "unknown type": lambda m: named(m, "w2").__setattr__("data_type", 99),
    "negative type": lambda m: named(m, "w2").__setattr__("data_type", -1),
    "no type": lambda m: named(m, "w2").__setattr__("data_type", 0),
    "string weights": lambda m: named(m, "w2").__setattr__("data_type", TensorProto.STRING),
    "complex weights": lambda m: named(m, "w2").__setattr__("data_type", TensorProto.COMPLEX64),
    "4-bit weights": lambda m: named(m, "w2").__setattr__("data_type", TensorProto.INT4),
    "input of unknown type": lambda m: m.graph.input[0].type.tensor_type.__setattr__("elem_type", 99),
    "strings": strings,
    "string input": lambda m: m.graph.input[0].type.tensor_type.__setattr__("elem_type", TensorProto.STRING),
    "untyped input": untyped,
    "optional": optional,
    "sequence": sequence,
    "sequence input": sequence_input,
    "sparse": sparse,
    "local function": local_function,
    "recursive function": recursive_function,
    "no nodes": lambda m: m.graph.ClearField("node"),
    "no outputs": lambda m: m.graph.ClearField("output"),
    "no inputs": lambda m: m.graph.ClearField("input"),
    "no graph": lambda m: m.ClearField("graph"),
    "no opset": lambda m: m.ClearField("opset_import"),
    "opset 0": lambda m: m.opset_import[0].__setattr__("version", 0),
    "opset without kernels": lambda m: m.opset_import[0].__setattr__("version", 3),
    "opset of the future": lambda m: m.opset_import[0].__setattr__("version", 2**40),
    "opset twice": lambda m: m.opset_import.append(helper.make_opsetid("", 9)),
    "opset of another domain only": lambda m: m.opset_import[0].__setattr__("domain", "elsewhere"),
    "IR version of the future": lambda m: m.__setattr__("ir_version", 2**40),
    "no IR version": lambda m: m.ClearField("ir_version"),
    "nodes without inputs": lambda m: [n.ClearField("input") for n in m.graph.node],
    "nodes without outputs": lambda m: m.graph.node[0].ClearField("output"),
    "a node without type": lambda m: m.graph.node[1].ClearField("op_type"),
    "unknown operator": lambda m: m.graph.node[1].__setattr__("op_type", "Frobnicate"),
    "unknown domain": lambda m: m.graph.node[1].__setattr__("domain", "elsewhere"),
    "too many inputs": lambda m: m.graph.node[1].input.extend(["a0", "a1"]),
    "too many known inputs": lambda m: m.graph.node[1].input.extend(["x"] * 100),
    "too many outputs": lambda m: m.graph.node[1].output.extend([f"o{i}" for i in range(100)]),
    "groups of zero": lambda m: attribute(m, 0, "group", 0),
    "negative groups": lambda m: attribute(m, 0, "group", -3),
    "too many groups": lambda m: attribute(m, 0, "group", BIG),
    "attribute of another type": lambda m: attribute(m, 0, "group", "three"),
    "attribute of no type": lambda m: m.graph.node[0].attribute[0].ClearField("type"),
    "attribute twice": lambda m: m.graph.node[0].attribute.append(m.graph.node[0].attribute[0]),
    "huge kernel": lambda m: attribute(m, 0, "kernel_shape", [BIG, BIG]),
    "axis out of range": lambda m: attribute(m, 6, "axis", 99),
    "NaN weights": lambda m: named(m, "w2").__setattr__("raw_data", b"\xff" * 192),
    "names of bytes that are no text": lambda m: m.graph.node[0].attribute.add(name="s", type=3, s=b"\xff\xfe"),
    "long names": lambda m: m.graph.node[1].__setattr__("name", "n" * 100_000),
    "names with newlines": lambda m: (m.graph.node[1].__setattr__("name", "a\nb\r\x1b[31m"), dims(m, "w1", 6)),
    "nested subgraphs": lambda m: nested(m, 12),
    "outside: no such file": lambda m: outside(m, location="absent.bin"),
    "outside: above the folder": lambda m: outside(m, location="../../../../../../etc/passwd"),
    "outside: absolute": lambda m: outside(m, location="/etc/passwd"),
    "outside: a folder": lambda m: outside(m, location="."),
    "outside: no location": lambda m: outside(m),
    "outside: empty location": lambda m: outside(m, location=""),
    "outside: device": lambda m: outside(m, location="/dev/zero", length=str(BIG)),
    "outside: zero byte": lambda m: outside(m, location="a\0b"),
    "outside: too short": lambda m: outside(m, location="data.bin"),
    "outside: link": lambda m: outside(m, location="link.bin"),
    "outside: bad offset": lambda m: outside(m, location="data.bin", offset="many"),
    "outside: negative offset": lambda m: outside(m, location="data.bin", offset="-5"),
    "outside: huge offset": lambda m: outside(m, location="data.bin", offset=str(2**70)),
    "outside: huge length": lambda m: outside(m, location="data.bin", length=str(BIG)),
    "outside: bad checksum": lambda m: outside(m, location="data.bin", checksum="zz"),
    "outside: unknown key": lambda m: outside(m, location="data.bin", colour="red"),
}
GIGANTIC: dict[str, Change] = {
    "weights of 16 GiB without data": lambda m: dims(m, "w2", 65536, 65536, 1, 1),
    "an input of 48 GiB": lambda m: declare(m, 1, 3, 65536, 65536),
    "a batch of 2**40": lambda m: declare(m, 2**40, 3, 8, 8),
    "16 GiB outside": lambda m: (outside(m, location="data.bin"), dims(m, "w1", 65536, 65536, 1, 1)),
    "a constant shape": cube,
    "a tiled constant": tiled,
    "a million groups": lambda m: attribute(m, 0, "group", 10**6),
    "a kernel of 2**31": lambda m: attribute(m, 0, "kernel_shape", [2**31 - 1, 2**31 - 1]),
    "pads of 2**40": lambda m: attribute(m, 0, "pads", [2**40] * 4),
}
FINE = {"negative input", "data twice", "sequence", "sparse", "local function", "long names", "nested subgraphs"}
"""Rows that every command accepts; all others fail somewhere."""

NO_TEXT = {
    "an operator": (b"Relu", b"Re\xfcu"),
    "a tensor": (b"w2", b"w\xfc"),
    "the input": (b"\x01x", b"\x01\xfc"),
    "the output": (b"\x01y", b"\x01\xfc"),
    "an attribute": (b"pads", b"p\xfcds"),
}


def chain(op: str, length: int) -> ModelProto:
    """A long row of nodes between two layers."""
    nodes = [helper.make_node("MatMul", ["x", "w1"], ["t0"])]
    for i in range(length):
        nodes.append(helper.make_node(op, [f"t{i}"] if op == "Relu" else [f"t{i}", "t0"], [f"t{i + 1}"]))
    return between(nodes, f"t{length}", 4)


def fan(width: int) -> ModelProto:
    """A Concat of very many parts."""
    nodes = [helper.make_node("MatMul", ["x", "w1"], ["t"])]
    nodes += [helper.make_node("Relu", ["t"], [f"r{i}"]) for i in range(width)]
    nodes.append(helper.make_node("Concat", [f"r{i}" for i in range(width)], ["c"], axis=1))
    return between(nodes, "c", 4 * width)


def between(nodes: list[onnx.NodeProto], last: str, width: int) -> ModelProto:
    nodes.append(helper.make_node("MatMul", [last, "w2"], ["y"]))
    weights = [numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in (("w1", (3, 4)), ("w2", (width, 3)))]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])] for name in "xy"]
    graph = helper.make_graph(nodes, "long", *ends, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


LONG: dict[str, Callable[[], ModelProto]] = {
    "100,000 additions": lambda: chain("Add", 100_000),
    "20,000 activations": lambda: chain("Relu", 20_000),
    "a concatenation of 10,000": lambda: fan(10_000),
}
