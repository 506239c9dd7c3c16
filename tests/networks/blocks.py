"""Blocks of random networks: those of images, and those that work on several ranks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tests.networks.net import Net, Tensor

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
def chunk(net: Net, x: Tensor) -> Tensor:
    """Halves whose bounds are computed from the size, as (n + 1) / 2."""
    n = x.shape[channel(x)]
    size = net.op("Gather", net.op("Shape", x, shape=[x.rank]), net.const([channel(x)]), shape=[1])
    half = net.op("Div", net.op("Add", size, net.const([1])), net.const([2]))
    end = net.op("Mul", half, net.const([2])) if net.odds(0.5) else net.const([2**31 - 1])
    bounds = {0: (net.const([0]), half), (n + 1) // 2: (half, end)}

    def cut(sizes: list[int]) -> list[Tensor]:
        shapes = ([*x.shape[: channel(x)], k, *x.shape[channel(x) + 1 :]] for k in sizes)
        given = zip(bounds.values(), shapes, strict=True)
        return [net.op("Slice", x, *pair, net.const([channel(x)]), shape=shape) for pair, shape in given]

    return rejoin(net, x, cut, [(n + 1) // 2, n // 2])


@block(2, 3, 4)
def members(net: Net, x: Tensor) -> Tensor:
    """Parts that go through a sequence."""

    def cut(sizes: list[int]) -> list[Tensor]:
        if net.recipe.dress == "shapes" and sizes[0] != sizes[1]:  # to which ONNX's inference gives one symbol
            return net.split(x, sizes, channel(x))
        given = net.const(sizes[0] if sizes[0] == sizes[1] else sizes)
        sequence = net.op("SplitToSequence", x, given, axis=channel(x))
        shapes = ([*x.shape[: channel(x)], k, *x.shape[channel(x) + 1 :]] for k in sizes)
        return [net.op("SequenceAt", sequence, net.const(i), shape=shape) for i, shape in enumerate(shapes)]

    return rejoin(net, x, cut)


@block(2, 3, 4)
def slices(net: Net, x: Tensor) -> Tensor:
    n = x.shape[channel(x)]
    return rejoin(net, x, lambda sizes: [net.slice(x, a, b, channel(x)) for a, b in ((0, sizes[0]), (sizes[0], n))])


def rejoin(net: Net, x: Tensor, cut: Callable[[list[int]], list[Tensor]], sizes: list[int] | None = None) -> Tensor:
    """Both halves through something or nothing, then joined or, where equal, summed."""
    if x.shape[channel(x)] < 2:
        return x
    sizes = sizes or net.sizes(x.shape[channel(x)])
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
