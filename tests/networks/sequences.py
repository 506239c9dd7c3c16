"""Blocks of random networks: those of tokens and of vectors, and the bridges that lead to them."""

from __future__ import annotations

import math

from tests.networks.blocks import block, layer
from tests.networks.net import Net, Tensor


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
