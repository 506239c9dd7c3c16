"""Inputs to verify with: given by the user, or seeded random ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from onnx_net2net.errors import ModelError, UsageError

Array = NDArray[Any]
Feeds = dict[str, Array]


def graph_inputs(model: ModelProto) -> list[ValueInfoProto]:
    """The inputs that a caller has to give: initializers among them are left out."""
    constant = {t.name for t in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in constant]


def samples_for(
    model: ModelProto,
    inputs: Mapping[str, Array] | Sequence[Mapping[str, Array]] | None,
    samples: int,
    seed: int,
    dims: Mapping[str, int],
    *,
    vary: bool = True,
) -> list[Feeds]:
    """The samples to run a model on: those that are given, or as many random ones as asked for.

    Args:
        model: The model.
        inputs: Inputs by name, or a list of such samples; None draws them.
        samples: How many to draw.
        seed: Seed of the draws.
        dims: Sizes of dynamic dimensions, by symbol or by ``input:dim``.
        vary: Whether dynamic dimensions without a given size differ between samples.

    Raises:
        UsageError: If an input is missing or cannot be drawn.
    """
    if inputs is None:
        if samples < 1:
            raise UsageError("at least one sample is needed", "ask for more", op="samples")
        rng = np.random.default_rng(seed)
        values = graph_inputs(model)
        sizes = [SIZES[k % len(SIZES)] if vary else SIZES[0] for k in range(samples)]
        return [{v.name: draw(v, rng, dims, size) for v in values} for size in sizes]
    given = [inputs] if isinstance(inputs, Mapping) else list(inputs)
    needed = {v.name for v in graph_inputs(model)}
    for feed in given:
        if missing := needed - set(feed):
            raise UsageError(f"no value for {sorted(missing)}", "give every input", op="inputs")
    return [{name: np.asarray(feed[name]) for name in needed} for feed in given]


MOST = 2**31
"""Elements of an input that are drawn at most."""
SIZES = (2, 2, 3, 5)
"""Sizes of dynamic dimensions, sample by sample, where none are given."""


def draw(value: ValueInfoProto, rng: np.random.Generator, dims: Mapping[str, int], size: int = SIZES[0]) -> Array:
    """A random value for a graph input: normal numbers, small integers or booleans; ``size`` for dynamic dimensions."""
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise UsageError("it is not a tensor", "give its value with inputs", op="input", tensor=value.name)
    shape = tuple(_dim(value.name, i, d, dims, size) for i, d in enumerate(tensor.shape.dim))
    if math.prod(shape) > MOST:
        raise UsageError(
            f"its shape {list(shape)} is too large to draw", "give its value", op="input", tensor=value.name
        )
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    except KeyError as error:
        wrong = f"its element type {tensor.elem_type} is unknown"
        raise ModelError(wrong, "repair the model", op="input", tensor=value.name) from error
    if tensor.elem_type == TensorProto.BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0, 2, shape).astype(dtype)
    return rng.standard_normal(shape).astype(np.float32).astype(dtype)


def _dim(name: str, i: int, dim: Any, dims: Mapping[str, int], size: int) -> int:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return dims.get(dim.dim_param, dims.get(f"{name}:{i}", size))
