"""Graphs of any number of nodes, in the shapes that make an analysis slow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import ModelProto, numpy_helper, parser

HEAD = '<ir_version: 8, opset_import: ["": 17]> g'
Weights = dict[str, tuple[int, ...]]


def model(nodes: list[str], weights: Weights, x: str = "2,3", y: str = "2,3") -> ModelProto:
    """A model from lines of ONNX text, with random signed weights."""
    made = parser.parse_model(f"{HEAD} (float[{x}] x) => (float[{y}] y) {{\n" + "\n".join(nodes) + "\n}")
    rng = np.random.default_rng(0)
    made.graph.initializer.extend(
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name) for name, shape in weights.items()
    )
    return made


def chain(n: int) -> ModelProto:
    """One activation after the other."""
    middle = [f"t{i + 1} = Relu (t{i})" for i in range(n - 2)]
    return model(["t0 = MatMul (x, a)", *middle, f"y = MatMul (t{n - 2}, b)"], {"a": (3, 4), "b": (4, 3)})


def layers(n: int) -> ModelProto:
    """Matrices with a bias and an activation, n nodes in all."""
    last, nodes, weights = n // 3 - 1, [], {}
    for i in range(last + 1):
        before, after = f"r{i - 1}" if i else "x", f"r{i}" if i < last else "y"
        nodes += [f"m{i} = MatMul ({before}, w{i})", f"a{i} = Add (m{i}, b{i})", f"{after} = Relu (a{i})"]
        weights |= {f"w{i}": (4 if i else 3, 4 if i < last else 3), f"b{i}": (4 if i < last else 3,)}
    return model(nodes, weights)


def convolutions(n: int) -> ModelProto:
    """The same with convolutions of two groups, whose channels are products."""
    last, nodes, weights = n // 3 - 1, [], {}
    for i in range(last + 1):
        before, after = f"r{i - 1}" if i else "x", f"r{i}" if i < last else "y"
        nodes += [f"m{i} = Conv <group = 2> ({before}, w{i})", f"a{i} = Add (m{i}, b{i})", f"{after} = Relu (a{i})"]
        weights |= {f"w{i}": (4, 2, 1, 1), f"b{i}": (4, 1, 1)}
    return model(nodes, weights, "1,4,3,3", "1,4,3,3")


def join(n: int) -> ModelProto:
    """One concatenation of n tensors."""
    nodes = [f"t{i} = MatMul (x, w{i})" for i in range(n)]
    joined = ", ".join(f"t{i}" for i in range(n))
    return model(
        [*nodes, f"c = Concat <axis = 1> ({joined})", "y = MatMul (c, v)"],
        {**{f"w{i}": (3, 2) for i in range(n)}, "v": (2 * n, 3)},
    )


def dense(n: int) -> ModelProto:
    """Each of n layers reads what all before it made, so that n * n / 2 tensors are read."""
    nodes, weights = ["t0 = MatMul (x, a)"], {"a": (3, 2)}
    for i in range(1, n + 1):
        joined = ", ".join(f"t{k}" for k in range(i))
        nodes += [f"c{i} = Concat <axis = 1> ({joined})", f"t{i} = MatMul (c{i}, w{i})"]
        weights[f"w{i}"] = (2 * i, 2)
    return model([*nodes, f"y = MatMul (t{n}, b)"], {**weights, "b": (2, 3)})


def shared(n: int) -> ModelProto:
    """One matrix that is used n times."""
    middle = [f"t{i + 1} = MatMul (t{i}, w)" for i in range(n)]
    return model(["t0 = MatMul (x, a)", *middle, f"y = MatMul (t{n}, b)"], {"a": (3, 4), "w": (4, 4), "b": (4, 3)})


def biases(n: int) -> ModelProto:
    """One bias that n layers share, each of which has an axis of its own."""
    last, nodes, weights = n // 2 - 1, [], {"b": (4,), "v": (4, 3)}
    for i in range(last + 1):
        nodes += [f"m{i} = MatMul ({f'a{i - 1}' if i else 'x'}, w{i})", f"a{i} = Add (m{i}, b)"]
        weights[f"w{i}"] = (4 if i else 3, 4)
    return model([*nodes, f"y = MatMul (a{last}, v)"], weights)


def branches(n: int) -> ModelProto:
    """One tensor that n nodes read, and one sum of what they make."""
    made = [f"r{i} = Relu (t)" for i in range(n)]
    joined = ", ".join(f"r{i}" for i in range(n))
    return model(["t = MatMul (x, a)", *made, f"s = Sum ({joined})", "y = MatMul (s, b)"], {"a": (3, 4), "b": (4, 3)})


def reshapes(n: int) -> ModelProto:
    """Reshapes by sizes that the model computes, of a dynamic batch."""
    nodes = [
        "zero = Constant <value = int64[1] {0}> ()",
        "pair = Constant <value = int64[2] {4, 2}> ()",
        "all = Constant <value = int64[1] {8}> ()",
        "t0 = MatMul (x, a)",
    ]
    for i in range(n // 6):
        nodes += [
            f"s{i} = Shape (t{i})",
            f"g{i} = Gather (s{i}, zero)",
            f"k{i} = Concat <axis = 0> (g{i}, pair)",
            f"u{i} = Reshape (t{i}, k{i})",
            f"l{i} = Concat <axis = 0> (g{i}, all)",
            f"t{i + 1} = Reshape (u{i}, l{i})",
        ]
    return model([*nodes, f"y = MatMul (t{n // 6}, b)"], {"a": (3, 8), "b": (8, 3)}, "N,3", "N,3")


def softmaxes(n: int) -> ModelProto:
    """One axis that n nodes pin."""
    middle = [f"t{i + 1} = Softmax (t{i})" for i in range(n)]
    return model(["t0 = MatMul (x, a)", *middle, f"y = MatMul (t{n}, b)"], {"a": (3, 4), "b": (4, 3)})


def norms(n: int) -> ModelProto:
    """Layers with statistics, each over an axis of its own."""
    nodes, weights = [], {}
    for i in range(n // 3):
        nodes += [
            f"m{i} = MatMul ({f't{i - 1}' if i else 'x'}, w{i})",
            f"s{i} = LayerNormalization (m{i}, g{i})",
            f"t{i} = Relu (s{i})",
        ]
        weights |= {f"w{i}": (4 if i else 3, 4), f"g{i}": (4,)}
    return model([*nodes, f"y = MatMul (t{n // 3 - 1}, b)"], {**weights, "b": (4, 3)})


GRAPHS: dict[str, Callable[[int], ModelProto]] = {
    make.__name__: make
    for make in (chain, layers, convolutions, join, shared, biases, branches, reshapes, softmaxes, norms)
}
