"""The nodes and weights of one inserted layer.

    identity   linear, [BatchNormalization], activation      exact since f(f(x)) = f(x)
    residual   x + projection(activation(linear(x)))         the projection is zero
    prelu      linear, PRelu                                 the slope is one
    linear     linear                                        redundant until it is trained

But for the residual branch, which is random, a linear operator passes on what it gets.
Source: arXiv 1511.05641, sections 2.3 and 3.3; He initialisation: arXiv 1502.01852, section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from onnx_net2net.planning.plan import Layer, Mode
from onnx_net2net.storage.inserting import Built

Array = NDArray[Any]
EPSILON = float(np.float32(1e-5))
"""BatchNormalization's own default."""
NEAR = 4
"""Steps of rounding around a variance and its root among which the closest pair is chosen."""

_ROLES: dict[Mode, str] = {
    "identity": "weight layer linear activation input",
    "residual": "weight layer linear activation activated projection bias last branch sum input",
    "prelu": "weight layer linear slope activation input",
    "linear": "weight layer input",
}


_NORM = "norm scale shift mean variance normed"
_TURN = "turn turned back again"


def roles(layer: Layer) -> tuple[str, ...]:
    """What the names of a layer stand for: ``input`` is what the layer reads, and its last node gives the result."""
    norm = f"{_NORM} {_TURN if turned(layer) else ''}" if layer.batch_norm else ""
    return tuple(f"{_ROLES[layer.mode]} {norm}".split())


def turned(layer: Layer) -> bool:
    """Whether channels go to axis 1 for BatchNormalization, and back."""
    return layer.batch_norm and layer.kind == "MatMul" and layer.rank > 2


def build(layer: Layer, activation: NodeProto | None, after: str, rng: np.random.Generator) -> Built:
    """A layer that reads its ``input`` and gives the tensor ``after``.

    Args:
        layer: The layer.
        activation: The node to repeat; None for a Relu.
        after: Name of the result.
        rng: Where random weights come from.
    """
    return _Builder(layer, activation, after, rng).build()


class _Builder:
    def __init__(self, layer: Layer, activation: NodeProto | None, after: str, rng: np.random.Generator) -> None:
        self.layer = layer
        self.activation = activation
        self.after = after
        self.rng = rng
        self.names: Mapping[str, str] = dict(zip(roles(layer), layer.names, strict=True))
        self.dtype = helper.tensor_dtype_to_np_dtype(layer.dtype)
        self.made = Built()

    def build(self) -> Built:
        mode, names = self.layer.mode, self.names
        weight = (
            he_weight(self.layer, self.rng) if self.layer.random or mode == "residual" else identity_weight(self.layer)
        )
        current = names["linear"] if mode != "linear" else self.after
        self._linear(names["layer"], names["input"], {names["weight"]: weight}, current)
        if self.layer.batch_norm:
            current = self._norm(current)
        if mode == "identity":
            self._activate(current, self.after)
        elif mode == "prelu":
            slope = np.ones((self.layer.channels, *(1 for _ in self.layer.kernel)), self.dtype)
            self._add("PRelu", names["activation"], [current], {names["slope"]: slope}, self.after)
        elif mode == "residual":
            self._activate(current, names["activated"])
            self._project()
        return self.made

    def _project(self) -> None:
        """The last linear operator of a residual branch, without influence so far, and the sum."""
        names, layer = self.names, self.layer
        shape = weight_shape(layer, (1,) * len(layer.kernel))
        weights = {names["projection"]: np.zeros(shape, self.dtype)}
        if layer.random:
            weights[names["projection"]] = _he(shape, self.rng).astype(self.dtype)
        if layer.kind != "MatMul":
            weights[names["bias"]] = np.zeros(layer.channels, self.dtype)
        self._linear(names["last"], names["activated"], weights, names["branch"])
        self._add("Add", names["sum"], [names["input"], names["branch"]], {}, self.after)

    def _linear(self, name: str, before: str, weights: Mapping[str, Array], after: str) -> None:
        attributes: dict[str, Any] = {}
        if self.layer.kind == "Conv":
            sides = next(iter(weights.values())).shape[2:]
            attributes = {"kernel_shape": list(sides), "pads": [n // 2 for n in sides] * 2}
            attributes |= {"group": self.layer.group} if self.layer.group > 1 else {}
        self._add(self.layer.kind, name, [before], weights, after, **attributes)

    def _norm(self, before: str) -> str:
        names, layer = self.names, self.layer
        mean, var = (
            np.asarray(given or [blank] * layer.channels) for given, blank in ((layer.mean, 0), (layer.var, 1))
        )
        scale, spread = root(var, self.dtype) if not layer.random else (np.ones_like(var), var)
        shift = mean if not layer.random else np.zeros_like(mean)
        values = dict(zip(("scale", "shift", "mean", "variance"), (scale, shift, mean, spread), strict=True))
        weights = {names[role]: value.astype(self.dtype) for role, value in values.items()}
        if not turned(layer):
            self._add("BatchNormalization", names["norm"], [before], weights, names["normed"], epsilon=EPSILON)
            return names["normed"]
        last = layer.rank - 1
        self._add("Transpose", names["turn"], [before], {}, names["turned"], perm=[0, last, *range(1, last)])
        self._add("BatchNormalization", names["norm"], [names["turned"]], weights, names["normed"], epsilon=EPSILON)
        self._add("Transpose", names["back"], [names["normed"]], {}, names["again"], perm=[0, *range(2, last + 1), 1])
        return names["again"]

    def _activate(self, before: str, after: str) -> None:
        name = self.names["activation"]
        if self.activation is None:
            self._add("Relu", name, [before], {}, after)
            return
        node = NodeProto()
        node.CopyFrom(self.activation)
        node.name, node.input[0], node.output[0] = name, before, after
        self.made.nodes.append(node)

    def _add(
        self, op: str, name: str, reads: list[str], weights: Mapping[str, Array], gives: str, **attributes: Any
    ) -> None:
        self.made.nodes.append(helper.make_node(op, [*reads, *weights], [gives], name, **attributes))
        self.made.weights.update(weights)


def weight_shape(layer: Layer, kernel: tuple[int, ...]) -> tuple[int, ...]:
    """[C, C / group, *kernel] for a Conv, else [C, C]."""
    return (layer.channels, layer.channels // layer.group, *kernel)


def identity_weight(layer: Layer) -> Array:
    """The weight of a linear operator that passes its input on: a centre tap of one for each channel."""
    weight = np.zeros(weight_shape(layer, layer.kernel), helper.tensor_dtype_to_np_dtype(layer.dtype))
    every = np.arange(layer.channels)
    centre = [np.full_like(every, n // 2) for n in layer.kernel]
    weight[(every, every % weight.shape[1], *centre)] = 1
    return weight


def he_weight(layer: Layer, rng: np.random.Generator) -> Array:
    """A random weight that keeps the size of signals behind a Relu."""
    return _he(weight_shape(layer, layer.kernel), rng).astype(helper.tensor_dtype_to_np_dtype(layer.dtype))


def _he(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Normal numbers with variance two over the fan-in."""
    return rng.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / math.prod(shape[1:])))


def root(var: Array, dtype: Any) -> tuple[Array, Array]:
    """sqrt(var + eps) and var, both in a type and so that their quotient comes as close to one as it can.

    Of the numbers within a few steps of rounding, that pair is taken with which scale / sqrt(var + eps) is closest to
    one, whether a runtime divides, or multiplies by the reciprocal. It computes with float32 for the half types.
    """
    work: Any = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    eps = work(EPSILON)
    spread = np.maximum(_near(var.astype(np.float64) + EPSILON, dtype).astype(work) - eps, 0).astype(dtype)
    scales = _near(np.sqrt(var.astype(np.float64) + EPSILON), dtype)
    deviation = np.sqrt(spread.astype(work) + eps)[:, :, None]
    wide = scales.astype(work)[:, None, :]
    off = np.abs(wide / deviation - 1) + np.abs(wide * (1 / deviation) - 1)
    drift = np.abs(np.arange(-NEAR, NEAR + 1))  # of equally good pairs that which is nearest to what was measured
    off = off.astype(np.float64) + float(np.finfo(work).eps) / 1000 * (drift[:, None] + drift)
    first, second = np.unravel_index(off.reshape(len(var), -1).argmin(1), off.shape[1:])
    every = np.arange(len(var))
    return scales[every, second], spread[every, first]


def _near(value: Array, dtype: Any) -> Array:
    """[n, steps]: each positive number in a type, and those next to it."""
    rounded = value.astype(dtype)
    bits = rounded.view(f"u{rounded.itemsize}").astype(np.int64)[:, None] + np.arange(-NEAR, NEAR + 1)
    near: Array = np.maximum(bits, 0).astype(f"u{rounded.itemsize}").view(rounded.dtype)
    return near
