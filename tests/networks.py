"""Random networks: a recipe names blocks, and each block draws its details from a number of its own.

A recipe is a value that prints as it is written, so that a failure can be pasted into a test, and that
hypothesis shrinks by leaving out blocks.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

DRESSES = ("plain", "shapes", "nodes", "old", "nameless")
"""How the same graph may be written: with value_info, weights in Constant nodes, IR version 3, without names."""
STARTS = ("image", "tokens", "matrix", "ids")


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph with its shape at batch size 2."""

    name: str
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(frozen=True)
class Recipe:
    """A network: how it starts, its blocks with their numbers, and how it is written down."""

    start: str
    blocks: tuple[tuple[str, int], ...]
    opset: int = 17
    seed: int = 0
    dynamic: bool = False
    dress: str = "plain"


class Net:
    """A graph in the making."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.opset = recipe.opset
        self.dynamic = recipe.dynamic
        self.choose = random.Random(recipe.seed)
        self.weights = np.random.default_rng(recipe.seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[Tensor] = []
        self.seen: list[Tensor] = []
        self.count = 0

    def name(self, base: str) -> str:
        self.count += 1
        return f"{base.lower()}_{self.count}"

    def odds(self, chance: float) -> bool:
        return self.choose.random() < chance

    def input(self, shape: Sequence[int], dtype: int = TensorProto.FLOAT) -> Tensor:
        name = self.name("x")
        self.inputs.append(self.declare(Tensor(name, tuple(shape)), dtype))
        return Tensor(name, tuple(shape))

    def declare(self, x: Tensor, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(x.name, dtype, ["N" if self.dynamic else x.shape[0], *x.shape[1:]])

    def const(self, value: Any, dtype: Any = np.int64) -> str:
        name = self.name("c")
        self.constants[name] = np.asarray(value, dtype)
        return name

    def weight(self, *shape: int, fan: int = 0, mean: float = 0.0) -> str:
        """Random signed numbers; now and then those of another layer."""
        same = [n for n, v in self.constants.items() if n.startswith("w") and v.shape == shape and v.mean() * mean >= 0]
        if same and self.odds(0.15):
            return self.choose.choice(same)
        spread = math.sqrt(2 / fan) if fan else 0.3
        name = self.name("w")
        self.constants[name] = (mean + spread * self.weights.standard_normal(shape)).astype(np.float32)
        return self.derived(name) if self.odds(0.1) else name

    def derived(self, name: str) -> str:
        """The same weight by way of nodes that compute constants."""
        value = self.constants[name]
        how = self.choose.choice(["Transpose", "Reshape", "Concat", "Mul"])
        if how == "Transpose":
            self.constants[name] = np.ascontiguousarray(value.T)
            return self.op(how, name, shape=value.shape).name
        if how == "Reshape":
            self.constants[name] = value.ravel()
            return self.op(how, name, self.const(value.shape), shape=value.shape).name
        if how == "Mul":
            return self.op(how, name, self.const(1.25, np.float32), shape=value.shape).name
        other = self.name("w")
        self.constants[name], self.constants[other] = value[:1], value[1:]
        return self.many(how, [name, other], [value.shape], axis=0)[0].name

    def positive(self, *shape: int) -> str:
        name = self.name("v")
        self.constants[name] = self.weights.uniform(0.5, 1.5, shape).astype(np.float32)
        return name

    def many(
        self, op: str, inputs: Sequence[Tensor | str], shapes: Sequence[Sequence[int]], **attrs: Any
    ) -> list[Tensor]:
        given = [x.name if isinstance(x, Tensor) else x for x in inputs]
        made = [Tensor(self.name("t"), tuple(shape)) for shape in shapes]
        self.nodes.append(helper.make_node(op, given, [t.name for t in made], name=self.name(op), **attrs))
        return made

    def op(self, op: str, *inputs: Any, shape: Sequence[int] | None = None, **attrs: Any) -> Tensor:
        """One node; the shape is that of its first input unless given."""
        return self.many(op, inputs, [shape if shape is not None else inputs[0].shape], **attrs)[0]

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        target = list(shape)
        if shape[0] == x.shape[0] and (self.dynamic or self.odds(0.5)):
            target[0] = 0
        if self.odds(0.4):
            target[self.choose.randrange(1, len(target))] = -1
        return self.op("Reshape", x, self.const(target), shape=shape)

    def transpose(self, x: Tensor, *perm: int) -> Tensor:
        return self.op("Transpose", x, shape=[x.shape[i] for i in perm], perm=list(perm))

    def concat(self, parts: Sequence[Tensor], axis: int = 1) -> Tensor:
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        given = axis - len(shape) if self.odds(0.3) else axis
        return self.many("Concat", parts, [shape], axis=given)[0]

    def split(self, x: Tensor, sizes: Sequence[int], axis: int) -> list[Tensor]:
        shapes = [[*x.shape[:axis], n, *x.shape[axis + 1 :]] for n in sizes]
        if len(set(sizes)) == 1 and self.odds(0.5):
            attrs = {"num_outputs": len(sizes)} if self.opset >= 18 else {}
            return self.many("Split", [x], shapes, axis=axis, **attrs)
        return self.many("Split", [x, self.const(sizes)], shapes, axis=axis)

    def slice(self, x: Tensor, low: int, high: int, axis: int) -> Tensor:
        n = x.shape[axis]
        shape = [*x.shape[:axis], high - low, *x.shape[axis + 1 :]]
        start = low - n if self.odds(0.3) else low
        end = high if high < n else self.choose.choice([n, 2**31 - 1, 2**63 - 1])
        end = high - n if high < n and self.odds(0.3) else end
        ends = [self.const([v]) for v in (start, end, axis)]
        return self.op("Slice", x, *ends, shape=shape)

    def reduce(self, op: str, x: Tensor, axis: int, keep: bool = True) -> Tensor:
        shape = [1 if i == axis else n for i, n in enumerate(x.shape) if keep or i != axis]
        if self.opset >= 18 or op == "ReduceSum":
            return self.op(op, x, self.const([axis]), shape=shape, keepdims=int(keep))
        return self.op(op, x, shape=shape, axes=[axis], keepdims=int(keep))

    def act(self, x: Tensor) -> Tensor:
        op = self.choose.choice(
            ["Relu", "Relu", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "Softplus", "Abs", "Clip"]
        )
        return self.op("Clip", x, "", self.const(2.0, np.float32)) if op == "Clip" else self.op(op, x)

    def sizes(self, total: int) -> list[int]:
        """Parts of an axis, equal or not."""
        if total % 2 == 0 and self.odds(0.5):
            return [total // 2] * 2
        cut = self.choose.randrange(1, total)
        return [cut, total - cut]

    def conv(self, x: Tensor, out: int, kernel: int = 1, group: int = 1, bias: bool | None = None) -> Tensor:
        per = x.shape[1] // group
        spatial = [kernel] * (x.rank - 2)
        w = self.weight(out, per, *spatial, fan=per * kernel ** (x.rank - 2))
        b = [self.weight(out)] if (self.odds(0.6) if bias is None else bias) else []
        attrs = {"group": group} if group > 1 else {}
        pads = [kernel // 2] * (2 * len(spatial))
        return self.op("Conv", x, w, *b, shape=[x.shape[0], out, *x.shape[2:]], pads=pads, **attrs)

    def dense(self, x: Tensor, out: int) -> Tensor:
        y = self.op("MatMul", x, self.weight(x.shape[-1], out, fan=x.shape[-1]), shape=[*x.shape[:-1], out])
        return self.op("Add", y, self.weight(out)) if self.odds(0.5) else y

    def mate(self, x: Tensor, axis: int | None = None) -> Tensor:
        """An earlier tensor (or ``x``) that agrees with ``x`` in all dimensions, but for ``axis``."""

        def fits(t: Tensor) -> bool:
            return t.rank == x.rank and all(
                a == b or i == axis for i, (a, b) in enumerate(zip(t.shape, x.shape, strict=True))
            )

        return self.choose.choice([t for t in self.seen if fits(t)] or [x])

    def width(self) -> int:
        return self.choose.choice([2, 3, 4, 4, 6, 8])


Block = Callable[[Net, Tensor], Tensor]
BLOCKS: dict[str, tuple[tuple[int, ...], Block]] = {}
"""Blocks by name, with the ranks that they work on."""


def block(*ranks: int) -> Callable[[Block], Block]:
    """Registers a block under the name of its function."""

    def keep(function: Block) -> Block:
        BLOCKS[function.__name__.strip("_")] = (ranks, function)
        return function

    return keep


@block(3, 4)
def conv(net: Net, x: Tensor) -> Tensor:
    return net.act(net.conv(x, net.width(), net.choose.choice([1, 3])))


@block(3, 4)
def grouped(net: Net, x: Tensor) -> Tensor:
    group = net.choose.choice([g for g in (x.shape[1], 2, 3) if x.shape[1] % g == 0])
    return net.conv(x, group * net.choose.choice([1, 2, 3]), 3, group)


@block(4)
def transposed(net: Net, x: Tensor) -> Tensor:
    group = net.choose.choice([1, 2]) if x.shape[1] % 2 == 0 else 1
    per = net.choose.choice([2, 3])
    w, bias = net.weight(x.shape[1], per, 1, 1, fan=x.shape[1] // group), net.weight(group * per)
    return net.op("ConvTranspose", x, w, bias, shape=[x.shape[0], group * per, *x.shape[2:]], group=group)


@block(3, 4)
def shuffle(net: Net, x: Tensor) -> Tensor:
    (n, c), rest = x.shape[:2], x.shape[2:]
    groups = net.choose.choice([g for g in (1, 2, 3, 4) if c % g == 0])
    y = net.transpose(net.reshape(x, n, groups, c // groups, *rest), 0, 2, 1, *range(3, 3 + len(rest)))
    return net.reshape(y, *x.shape)


@block(2, 3, 4)
def residual(net: Net, x: Tensor) -> Tensor:
    y = layer(net, net.act(layer(net, x, net.width())), x.shape[channel(x)])
    op = net.choose.choice(["Add", "Add", "Sub", "Sum", "Max", "Mean", "Mul"])
    return net.op(op, *([x, y] if net.odds(0.5) else [y, x]))


@block(2, 3, 4)
def earlier(net: Net, x: Tensor) -> Tensor:
    return net.op("Add", x, net.mate(x))


@block(2, 3, 4)
def join(net: Net, x: Tensor) -> Tensor:
    parts = [x, net.mate(x, channel(x)), layer(net, x, net.width())][: net.choose.choice([2, 3])]
    net.choose.shuffle(parts)
    return net.concat(parts, channel(x))


@block(2, 3, 4)
def join_twice(net: Net, x: Tensor) -> Tensor:
    return net.concat([x, x], channel(x))


@block(2, 3, 4)
def split(net: Net, x: Tensor) -> Tensor:
    return rejoin(net, x, lambda sizes: net.split(x, sizes, channel(x)))


@block(2, 3, 4)
def slices(net: Net, x: Tensor) -> Tensor:
    n = x.shape[channel(x)]
    return rejoin(net, x, lambda sizes: [net.slice(x, a, b, channel(x)) for a, b in ((0, sizes[0]), (sizes[0], n))])


def rejoin(net: Net, x: Tensor, cut: Callable[[list[int]], list[Tensor]]) -> Tensor:
    """Both halves through something or nothing, then joined or, where equal, summed."""
    if x.shape[channel(x)] < 2:
        return x
    sizes = net.sizes(x.shape[channel(x)])
    parts = [net.act(part) if net.odds(0.5) else part for part in cut(sizes)]
    if sizes[0] == sizes[1] and net.odds(0.4):
        return net.op(net.choose.choice(["Add", "Mul"]), *parts)
    net.choose.shuffle(parts)
    return net.concat(parts, channel(x))


def channel(x: Tensor) -> int:
    return 2 if x.rank == 3 else 1


def layer(net: Net, x: Tensor, out: int) -> Tensor:
    return net.conv(x, out, net.choose.choice([1, 3])) if x.rank == 4 else net.dense(x, out)


@block(4)
def blocks(net: Net, x: Tensor) -> Tensor:
    mode = net.choose.choice(["DCR", "CRD"])
    n, c, h, w = x.shape
    if h % 2 == 0 and w % 2 == 0 and net.odds(0.6):
        y = net.op("SpaceToDepth", x, shape=[n, 4 * c, h // 2, w // 2], blocksize=2)
        return net.conv(y, net.width()) if net.odds(0.5) or h == 2 else depth(net, y, mode)
    return depth(net, net.conv(x, 4 * net.choose.choice([1, 2, 3])), mode) if h <= 4 else x


def depth(net: Net, x: Tensor, mode: str) -> Tensor:
    n, c, h, w = x.shape
    return net.op("DepthToSpace", x, shape=[n, c // 4, 2 * h, 2 * w], blocksize=2, mode=mode)


@block(4)
def batch_norm(net: Net, x: Tensor) -> Tensor:
    c = x.shape[1]
    mean = net.weight(c)
    scale = mean if net.odds(0.2) else net.weight(c, mean=1)
    return net.op("BatchNormalization", x, scale, net.weight(c), mean, net.positive(c))


@block(3, 4)
def instance_norm(net: Net, x: Tensor) -> Tensor:
    return net.op("InstanceNormalization", x, net.weight(x.shape[1], mean=1), net.weight(x.shape[1]), epsilon=0.1)


@block(4)
def group_norm(net: Net, x: Tensor) -> Tensor:
    c = x.shape[1]
    groups = net.choose.choice([g for g in (1, 2, 3) if c % g == 0])
    if net.opset >= 21:  # the checker refuses the one of opset 18
        ends = net.weight(c, mean=1), net.weight(c)
        return net.op("GroupNormalization", x, *ends, num_groups=groups, epsilon=0.1)
    flat = net.reshape(x, x.shape[0], groups, math.prod(x.shape[1:]) // groups)
    y = net.reshape(instance_norm(net, flat), *x.shape)
    return net.op("Mul", y, net.weight(c, 1, 1, mean=1))


@block(2, 3)
def layer_norm(net: Net, x: Tensor) -> Tensor:
    d = x.shape[-1]
    if net.opset >= 17 and net.odds(0.6):
        return net.op("LayerNormalization", x, net.weight(d, mean=1), net.weight(d), axis=-1, epsilon=0.1)
    centred = net.op("Sub", x, net.reduce("ReduceMean", x, x.rank - 1))
    power = net.reduce("ReduceMean", net.op("Mul", centred, centred), x.rank - 1)
    root = net.op("Sqrt", net.op("Add", power, net.const(0.1, np.float32)))
    return net.op("Mul", net.op("Div", centred, root), net.weight(d, mean=1))


@block(4)
def lrn(net: Net, x: Tensor) -> Tensor:
    return net.op("LRN", x, size=3)


@block(4)
def gate(net: Net, x: Tensor) -> Tensor:
    y = net.op("GlobalAveragePool", x, shape=[*x.shape[:2], 1, 1])
    if net.odds(0.5):
        return net.op("Mul", x, net.op("Sigmoid", net.conv(net.act(net.conv(y, 3)), x.shape[1])))
    y = net.dense(net.act(net.dense(net.op("Flatten", y, shape=x.shape[:2]), 3)), x.shape[1])
    axes = net.const([2, 3])
    y = (
        net.op("Unsqueeze", y, axes, shape=[*x.shape[:2], 1, 1])
        if net.odds(0.5)
        else net.reshape(y, *x.shape[:2], 1, 1)
    )
    return net.op("Mul", net.op("HardSigmoid", y), x, shape=x.shape)


@block(2, 3, 4)
def scale(net: Net, x: Tensor) -> Tensor:
    c = x.shape[channel(x)]
    shape = {2: [c], 3: net.choose.choice([[c], [1, c], [1, 1, c]]), 4: net.choose.choice([[c, 1, 1], [1, c, 1, 1]])}
    op = net.choose.choice(["Add", "Mul", "Sub", "Div", "PRelu", "Min", "Where"])
    vector = net.positive(*shape[x.rank]) if op == "Div" else net.weight(*shape[x.rank])
    if op == "Where":
        zero = net.const(0, np.float32)
        return net.op("Where", net.op("Greater", x, zero), x, vector, shape=x.shape)
    return net.op(op, x, vector)


@block(4)
def pool(net: Net, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    op = net.choose.choice(["MaxPool", "AveragePool", "LpPool"])
    return net.op(op, x, shape=[n, c, h // 2, w // 2], kernel_shape=[2, 2], strides=[2, 2]) if min(h, w) > 1 else x


@block(2, 3, 4)
def pad(net: Net, x: Tensor) -> Tensor:
    low, high = net.choose.choice([(0, 1), (1, 0), (2, 1), (0, 2)])
    pads = [0] * (2 * x.rank)
    pads[channel(x)], pads[channel(x) + x.rank] = low, high
    shape = [n + (low + high) * (i == channel(x)) for i, n in enumerate(x.shape)]
    value = [net.const(0.5, np.float32)] if net.odds(0.5) else []
    return net.op("Pad", x, net.const(pads), *value, shape=shape)


@block(2, 3, 4)
def spread(net: Net, x: Tensor) -> Tensor:
    """One channel that is expanded to all, or all that are repeated."""
    at = channel(x)
    if net.odds(0.5):
        times = [2 if i == at else 1 for i in range(x.rank)]
        return net.op("Tile", x, net.const(times), shape=[n * t for n, t in zip(x.shape, times, strict=True)])
    one = net.reduce(net.choose.choice(["ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin"]), x, at)
    shape = [1 if i != at else x.shape[at] for i in range(x.rank)]
    return net.op("Add", x, net.op("Expand", one, net.const(shape), shape=x.shape))


@block(2, 3, 4)
def siamese(net: Net, x: Tensor) -> Tensor:
    c, at = x.shape[channel(x)], channel(x)
    w = net.weight(c, c, 1, 1, fan=c) if x.rank == 4 else net.weight(c, c, fan=c)
    op = "Conv" if x.rank == 4 else "MatMul"
    a = net.op(op, x, w)
    b = net.op(op, net.act(a if net.odds(0.5) else x), w)
    return net.op("Add", a, b) if net.odds(0.5) else net.concat([a, b], at)


@block(4)
def channels_last(net: Net, x: Tensor) -> Tensor:
    y = net.act(net.dense(net.transpose(x, 0, 2, 3, 1), net.width()))
    return net.transpose(net.op("Softmax", y, axis=-1) if net.odds(0.2) else y, 0, 3, 1, 2)


@block(4)
def attend_places(net: Net, x: Tensor) -> Tensor:
    maps = net.concat([net.reduce("ReduceMean", x, 1), net.reduce("ReduceMax", x, 1)])
    return net.op("Mul", x, net.op("Sigmoid", net.conv(maps, 1, 3)))


@block(4)
def resize(net: Net, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    scales = net.const([1, 1, 2, 2], np.float32)
    return net.op("Resize", x, "", scales, shape=[n, c, 2 * h, 2 * w], mode="nearest") if h <= 4 else x


@block(2, 3, 4)
def maxout(net: Net, x: Tensor) -> Tensor:
    at = channel(x)
    y = layer(net, x, 6)
    first = net.odds(0.5)
    y = net.reshape(y, *x.shape[:at], *((2, 3) if first else (3, 2)), *x.shape[at + 1 :])
    return net.reduce(net.choose.choice(["ReduceMax", "ReduceMean", "ReduceSum"]), y, at + int(first), keep=False)


@block(2, 3, 4)
def gated(net: Net, x: Tensor) -> Tensor:
    y = layer(net, x, 2 * net.width())
    a, b = net.split(y, [y.shape[channel(x)] // 2] * 2, channel(x))
    return net.op("Mul", a, net.op("Sigmoid", b))


@block(4)
def rows(net: Net, x: Tensor) -> Tensor:
    """Channels and rows as one axis, and back."""
    n, c, h, w = x.shape
    y = net.act(net.dense(net.reshape(x, n, c * h, w), w))
    return net.reshape(y, n, c, h, w) if net.odds(0.7) else net.reshape(net.transpose(y, 0, 2, 1), n, w, c, h)


@block(3, 4)
def fold(net: Net, x: Tensor) -> Tensor:
    """Channels as part of the batch: one small layer for all of them."""
    if net.dynamic:
        return x
    (n, c), rest, k = x.shape[:2], x.shape[2:], net.choose.choice([1, 2])
    return net.reshape(net.conv(net.reshape(x, n * c, 1, *rest), k, 3), n, c * k, *rest)


@block(4)
def windows(net: Net, x: Tensor) -> Tensor:
    """Windows of 2 x 2 places as tokens, mixed and put back."""
    n, c, h, w = x.shape
    if h % 2 or w % 2:
        return x
    y = net.transpose(net.reshape(x, n, c, h // 2, 2, w // 2, 2), 0, 2, 4, 3, 5, 1)
    y = net.dense(net.reshape(y, n, h * w // 4, 4, c), c)
    y = net.op("Mul", y, net.op("Softmax", y, axis=2 if net.odds(0.5) else 3))
    y = net.transpose(net.reshape(y, n, h // 2, w // 2, 2, 2, c), 0, 5, 1, 3, 2, 4)
    return net.op("Add", net.reshape(y, n, c, h, w), x)


@block(2, 3)
def tied(net: Net, x: Tensor) -> Tensor:
    """One matrix both ways, as in a memory or in an embedding."""
    w = net.weight(5, x.shape[-1], fan=x.shape[-1])
    y = net.op("MatMul", x, net.op("Transpose", w, shape=[x.shape[-1], 5], perm=[1, 0]), shape=[*x.shape[:-1], 5])
    y = net.op("Softmax", y, axis=-1) if net.odds(0.3) else net.act(y)
    return net.op("MatMul", y, w, shape=x.shape)


@block(2, 3, 4)
def overlapping(net: Net, x: Tensor) -> Tensor:
    n, at = x.shape[channel(x)], channel(x)
    if n < 3:
        return x
    a, b = net.slice(x, 0, n - 1, at), net.slice(x, 1, n, at)
    return net.op("Add", a, b) if net.odds(0.5) else net.concat([b, a], at)


@block(3, 4)
def join_places(net: Net, x: Tensor) -> Tensor:
    at = 1 if x.rank == 3 else net.choose.choice([2, 3])
    y = net.concat([x, net.act(x)], at)
    return net.op("MaxPool", y, shape=x.shape, kernel_shape=[2, 1], strides=[2, 1]) if x.rank == 4 and at == 2 else y


@block(2, 3, 4)
def opaque(net: Net, x: Tensor) -> Tensor:
    """Operators that mix, order or count channels."""
    at, n = channel(x), x.shape[channel(x)]
    op = net.choose.choice(["CumSum", "Gather", "Softmax", "LpNormalization"])
    if op == "CumSum":
        return net.op(op, x, net.const(at))
    if op == "Gather":
        return net.op(op, x, net.const(net.choose.sample(range(n), n)), axis=at)
    return net.op(op, x, axis=at)


@block(3)
def attention(net: Net, x: Tensor) -> Tensor:
    (n, t, d), heads, per = x.shape, net.choose.choice([1, 2]), net.choose.choice([2, 3])
    e = heads * per
    q, k, v = net.split(net.dense(x, 3 * e), [e] * 3, 2) if net.odds(0.5) else [net.dense(x, e) for _ in range(3)]
    q, k, v = (net.transpose(net.reshape(y, n, t, heads, per), 0, 2, 1, 3) for y in (q, k, v))
    scores = net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2), shape=[n, heads, t, t])
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), v, shape=[n, heads, t, per])
    back = net.reshape(net.transpose(mixed, 0, 2, 1, 3), n, t, e)
    return net.op("Add", x, net.dense(back, d))


@block(3)
def mix_tokens(net: Net, x: Tensor) -> Tensor:
    y = net.dense(net.act(net.dense(net.transpose(x, 0, 2, 1), net.width())), x.shape[1])
    return net.op("Add", x, net.transpose(y, 0, 2, 1))


@block(3)
def positions(net: Net, x: Tensor) -> Tensor:
    return net.op("Add", x, net.weight(*x.shape[1:]) if net.odds(0.5) else net.weight(1, *x.shape[1:]))


@block(2)
def gemm(net: Net, x: Tensor) -> Tensor:
    (n, d), out, b = x.shape, net.width(), int(net.odds(0.5))
    a = int(net.odds(0.3))
    w = net.weight(*([out, d] if b else [d, out]), fan=d)
    c = [net.weight(*net.choose.choice([(out,), (1, out), (1,)]))] if net.odds(0.7) else []
    given = net.transpose(x, 1, 0) if a else x
    return net.act(net.op("Gemm", given, w, *c, shape=[n, out], transA=a, transB=b, alpha=0.7))


@block(2)
def from_the_left(net: Net, x: Tensor) -> Tensor:
    d, out = x.shape[1], net.width()
    y = net.op("MatMul", net.weight(out, d, fan=d), net.transpose(x, 1, 0), shape=[out, x.shape[0]])
    return net.transpose(y, 1, 0)


@block(2)
def outer(net: Net, x: Tensor) -> Tensor:
    n = x.shape[0]
    a, b = net.dense(x, 3), net.dense(x, 2)
    y = net.op("Mul", net.reshape(a, n, 3, 1), net.reshape(b, n, 1, 2), shape=[n, 3, 2])
    return net.dense(net.op("Flatten", y, shape=[n, 6]), net.width())


@block(2)
def second_input(net: Net, x: Tensor) -> Tensor:
    return net.concat([x, net.act(net.dense(net.input((x.shape[0], 3)), net.width()))])


@block(4)
def flatten(net: Net, x: Tensor) -> Tensor:
    flat = [x.shape[0], math.prod(x.shape[1:])]
    return net.op("Flatten", x, shape=flat) if net.odds(0.6) else net.reshape(x, *flat)


@block(4)
def pooled(net: Net, x: Tensor) -> Tensor:
    y = net.op(net.choose.choice(["GlobalAveragePool", "GlobalMaxPool"]), x, shape=[*x.shape[:2], 1, 1])
    return net.op("Squeeze", y, net.const([2, 3]), shape=x.shape[:2])


@block(4)
def tokens(net: Net, x: Tensor) -> Tensor:
    (n, c), places = x.shape[:2], math.prod(x.shape[2:])
    y = net.reshape(x, n, c, places)
    return net.transpose(y, 0, 2, 1) if net.odds(0.7) else y


@block(3)
def vector(net: Net, x: Tensor) -> Tensor:
    if net.odds(0.3):
        return net.op("Gather", x, net.const(0), shape=[x.shape[0], x.shape[2]], axis=1)
    return net.reduce(net.choose.choice(["ReduceMean", "ReduceMax", "ReduceSum"]), x, 1, keep=False)


@block(2, 3, 4)
def also(net: Net, x: Tensor) -> Tensor:
    """Makes a branch of what is there an output."""
    net.outputs.append(layer(net, x, 2))
    return x


BRIDGES = ("flatten", "pooled", "tokens", "vector")


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
