"""A graph in the making: what a recipe holds, and helpers that add one operator or a few."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper


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
