"""Random networks: a recipe names blocks, and each block draws its details from a number of its own.

A recipe is a value that prints as it is written, so that a failure can be pasted into a test, and that
hypothesis shrinks by leaving out blocks.
"""

from __future__ import annotations

import math
import random

import onnx
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.networks.blocks import BLOCKS, layer
from tests.networks.net import Net, Recipe, Tensor
from tests.networks.sequences import BRIDGES

__all__ = ["BLOCKS", "BRIDGES", "DRESSES", "STARTS", "Recipe", "build", "recipes"]

DRESSES = ("plain", "shapes", "nodes", "old", "nameless")
"""How the same graph may be written: with value_info, weights in Constant nodes, IR version 3, without names."""
STARTS = ("image", "tokens", "matrix", "ids")


def start(net: Net) -> Tensor:
    """The first tensor that can be widened."""
    kind = net.recipe.start
    if kind == "image":
        return net.conv(net.input((2, 3, 4, 4)), net.width(), 3)
    if kind == "matrix":
        return net.dense(net.input((2, 5)), net.width())
    if kind == "tokens":
        return net.dense(net.input((2, 4, 5)), net.width())
    d = net.width()
    ids = net.input((2, 4), TensorProto.INT64)
    return net.op("Gather", net.weight(7, d), ids, shape=[2, 4, d], axis=0)


def build(recipe: Recipe) -> ModelProto:
    """The network of a recipe; blocks that do not fit the rank they meet are passed over."""
    net = Net(recipe)
    x = start(net)
    for name, number in recipe.blocks:
        ranks, function = BLOCKS[name]
        if x.rank in ranks and math.prod(x.shape) <= 1024:
            net.choose = random.Random(number)
            net.seen.append(x)
            x = function(net, x)
    net.outputs.append(layer(net, x, 3))
    return dressed(net)


def dressed(net: Net) -> ModelProto:
    """The graph, written down as the recipe says."""
    dress = net.recipe.dress
    old = dress == "old"
    tensors = [numpy_helper.from_array(value, name) for name, value in net.constants.items()]
    nodes, inputs = net.nodes, net.inputs
    if dress == "nodes":
        nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors] + nodes
        tensors = []
    if old:
        inputs = inputs + [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    for node in nodes if dress == "nameless" else []:
        node.name = ""
    outputs = [net.declare(x) for x in net.outputs]
    graph = helper.make_graph(nodes, "random", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", net.opset)], ir_version=3 if old else 8)
    return onnx.shape_inference.infer_shapes(model) if dress == "shapes" else model


def recipes() -> st.SearchStrategy[Recipe]:
    """Recipes: blocks of images first, perhaps, then a bridge, then what is left of the ranks."""
    number = st.integers(0, 9999)
    pick = st.tuples(st.sampled_from(sorted(BLOCKS.keys() - set(BRIDGES))), number)
    bridge = st.tuples(st.sampled_from(BRIDGES), number)
    blocks = st.tuples(
        st.lists(pick, min_size=2, max_size=6), st.lists(bridge, max_size=2), st.lists(pick, min_size=1, max_size=5)
    )
    return st.builds(
        Recipe,
        st.sampled_from(STARTS),
        blocks.map(lambda parts: tuple(item for part in parts for item in part)),
        st.integers(13, 21),
        st.integers(0, 9999),
        st.booleans(),
        st.sampled_from(DRESSES),
    )
