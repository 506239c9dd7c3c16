"""Inputs to verify with: given by the user, or seeded random ones beside probes that random ones would miss."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from onnx_net2net.checking.ranges import Range, by_type, indexing
from onnx_net2net.errors import ModelError, UsageError
from onnx_net2net.inference.symbols import compute
from onnx_net2net.inference.symbols import sums as every_sum

Array = NDArray[Any]
Feeds = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Samples:
    """What models are run on.

    Attributes:
        plain: Samples that have to prove something: the outputs must react to them.
        probes: Extreme samples by name, which a teacher may fail on and which then are left out.
    """

    plain: list[Feeds]
    probes: dict[str, Feeds] = field(default_factory=dict)

    @property
    def feeds(self) -> list[Feeds]:
        """All samples, the probes last."""
        return [*self.plain, *self.probes.values()]


Inputs: TypeAlias = Mapping[str, Array] | Iterable[Mapping[str, Array]] | Samples | str | os.PathLike[str] | None
Bounds: TypeAlias = Mapping[str, tuple[float, float]]


def graph_inputs(model: ModelProto) -> list[ValueInfoProto]:
    """The inputs that a caller has to give: initializers among them are left out."""
    constant = {t.name for t in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in constant]


def samples_for(
    model: ModelProto,
    inputs: Inputs,
    samples: int,
    seed: int,
    dims: Mapping[str, int],
    *,
    vary: bool = True,
    ranges: Bounds | None = None,
    probes: bool = True,
    sums: Mapping[str, str] | None = None,
) -> Samples:
    """The samples to run a model on: those that are given, or as many random ones as asked for, and probes.

    Args:
        model: The model.
        inputs: Inputs by name, several such samples, or where to read them; None draws them.
        samples: How many to draw.
        seed: Seed of the draws.
        dims: Sizes of dynamic dimensions, by symbol or by ``input:dim``.
        vary: Whether dynamic dimensions without a given size differ between samples.
        ranges: Smallest and largest value by input, in place of what suits the nodes that read it.
        probes: Whether to add samples of zeros, of large and of one-hot values.
        sums: Expressions in place of symbols: ``past + tokens``.

    Raises:
        UsageError: If an input is missing or cannot be drawn.
    """
    if inputs is None:
        return _drawn(model, samples, seed, dims, vary, ranges or {}, probes, sums or {})
    if isinstance(inputs, (str, os.PathLike)):
        from onnx_net2net.checking.sources import read  # noqa: PLC0415  # it builds on this module

        inputs = read(os.fspath(inputs), model)
    if isinstance(inputs, Samples):
        kept = {name: fit(model, feed) for name, feed in inputs.probes.items()}
        return Samples([fit(model, feed) for feed in inputs.plain], kept)
    return Samples([fit(model, feed) for feed in ([inputs] if isinstance(inputs, Mapping) else inputs)])


def _drawn(
    model: ModelProto,
    samples: int,
    seed: int,
    dims: Mapping[str, int],
    vary: bool,
    ranges: Bounds,
    probes: bool,
    sums: Mapping[str, str],
) -> Samples:
    if samples < 1:
        raise UsageError("at least one sample is needed", "ask for more", op="samples")
    rng = np.random.default_rng(seed)
    values = graph_inputs(model)
    given = {name: _range(values, name, low, high) for name, (low, high) in ranges.items()}
    known: dict[int, dict[str, Range]] = {}

    def sample(kind: str, size: int) -> Feeds:
        fixed = _fitting(values, dims, size, sums)
        if size not in known:
            sizes = {key: n for v in values for key, n in _sizes(v, fixed, size)}
            known[size] = {**indexing(model, sizes), **given}
        return {v.name: draw(v, rng, fixed, size, known[size].get(v.name), kind) for v in values}

    plain = [sample(ORDINARY[k % len(ORDINARY)], SIZES[k % len(SIZES)] if vary else SIZES[0]) for k in range(samples)]
    last = SIZES[(samples - 1) % len(SIZES)] if vary else SIZES[0]
    return Samples(plain, {kind: sample(kind, last) for kind in (PROBES if probes else ())})


def _fitting(
    values: Iterable[ValueInfoProto], dims: Mapping[str, int], size: int, sums: Mapping[str, str]
) -> Mapping[str, int]:
    """The sizes that are given, and those of dimensions that are expressions of others: ``past + tokens``."""
    places = [(key, f"{v.name}:{i}") for v in values for i, key in _symbols(v)]
    sizes = {key: dims.get(key, dims.get(place, size)) for key, place in places}
    free = [key for key, place in places if key not in dims and place not in dims]
    whole = {key: compute(sums.get(key, key), sizes) for key in free}
    return {**dims, **{key: n for key, n in whole.items() if n is not None}}


def open_sums(model: ModelProto, dims: Mapping[str, int]) -> list[dict[str, str]]:
    """Ways in which one of the dynamic dimensions, of those without a size, may be the sum of two others."""
    places = [(key, f"{v.name}:{i}") for v in graph_inputs(model) for i, key in _symbols(v) if key.isidentifier()]
    given = {key for key, place in places if key in dims or place in dims}
    keys = list(dict.fromkeys(key for key, _ in places))
    return [{whole: f"{a} + {b}"} for whole, a, b in every_sum(keys) if whole not in given]


def _symbols(value: ValueInfoProto) -> Iterable[tuple[int, str]]:
    """(dimension, symbol) of the dynamic dimensions that have one."""
    return ((i, dim.dim_param) for i, dim in enumerate(value.type.tensor_type.shape.dim) if dim.dim_param)


def _range(values: Iterable[ValueInfoProto], name: str, low: float, high: float) -> Range:
    """The range that the user gives for an input."""
    value = next((v for v in values if v.name == name), None)
    if value is None:
        known = ", ".join(v.name for v in values)
        raise UsageError("there is no such input", f"the inputs are {known}", op="range", tensor=name)
    if not low <= high or not math.isfinite(low) or not math.isfinite(high):
        raise UsageError(f"{low:g}:{high:g} is no range", "give the smaller number first", op="range", tensor=name)
    return replace(by_type(value) or Range(low, high), low=low, high=high)


MOST = 2**31
"""Elements of an input that are drawn at most."""
SIZES = (2, 2, 3, 5)
"""Sizes of dynamic dimensions, sample by sample, where none are given."""
ORDINARY = ("normal", "positive", "normal", "shifted")
"""Kinds of samples, by turns: some units are only active on inputs from 0 to 1, or where whole channels are shifted."""
PROBES = ("zeros", "large", "one-hot")
"""The probes."""
LARGE = 100
"""How much larger than normal numbers large ones are."""


def draw(
    value: ValueInfoProto,
    rng: np.random.Generator,
    dims: Mapping[str, int],
    size: int = SIZES[0],
    bounds: Range | None = None,
    kind: str = "normal",
) -> Array:
    """A random value for a graph input.

    Args:
        value: The input.
        rng: Where random numbers come from.
        dims: Sizes of dynamic dimensions, by symbol or by ``input:dim``.
        size: The size of all others.
        bounds: The values that it may have; by default those of its element type, or any.
        kind: One of ``ORDINARY``, or the name of a probe.
    """
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or tensor.elem_type == TensorProto.STRING:
        wrong = "it holds text" if value.type.HasField("tensor_type") else "it is not a tensor"
        raise UsageError(wrong, "give its value with inputs", op="input", tensor=value.name)
    shape = tuple(_dim(value.name, i, d, dims, size) for i, d in enumerate(tensor.shape.dim))
    if math.prod(shape) > MOST:
        raise UsageError(
            f"its shape {list(shape)} is too large to draw", "give its value", op="input", tensor=value.name
        )
    dtype = element_type(value)
    within = bounds or by_type(value)
    if within is None:
        return np.asarray(_FREE[kind](rng, shape), np.float32).astype(dtype)
    return np.asarray(_bounded(kind, rng, shape, within)).astype(dtype)


def element_type(value: ValueInfoProto) -> np.dtype[Any]:
    """Numpy's element type of a tensor.

    Raises:
        ModelError: If there is none.
    """
    kind = value.type.tensor_type.elem_type
    try:
        return helper.tensor_dtype_to_np_dtype(kind)
    except KeyError as error:
        wrong = f"its element type {kind} is unknown"
        raise ModelError(wrong, "repair the model", op="input", tensor=value.name) from error


def _shifted(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Normal values about a mean of its own for each index of the first two axes."""
    means = 2 * rng.standard_normal(shape[:2])
    return rng.standard_normal(shape) + means.reshape(means.shape + (1,) * (len(shape) - means.ndim))


def _one_hot(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Zeros, but for one element of random place and sign in each unit of the first axis."""
    value = np.zeros(shape)
    if value.size:
        rows = value.reshape(shape[0] if len(shape) > 1 else 1, -1)
        places = rng.integers(0, rows.shape[1], len(rows))
        rows[np.arange(len(rows)), places] = rng.choice([-1.0, 1.0], len(rows))
    return value


_FREE: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: rng.random(shape),
    "shifted": _shifted,
    "zeros": lambda rng, shape: np.zeros(shape),
    "large": lambda rng, shape: LARGE * rng.standard_normal(shape),
    "one-hot": _one_hot,
}


def _bounded(kind: str, rng: np.random.Generator, shape: tuple[int, ...], within: Range) -> Array:
    """The same within a range: random values of it, what is nearest to zero, its ends, and one end in one place."""
    if kind in ORDINARY and within.whole:
        return rng.integers(math.ceil(within.low), math.floor(within.high) + 1, shape)
    if kind in ORDINARY:
        return rng.uniform(within.low, within.high, shape)
    if kind == "large":
        return rng.choice([within.low, within.high], shape)
    nearest = min(max(0, within.low), within.high)
    hot = _one_hot(rng, shape) != 0 if kind == "one-hot" else np.zeros(shape, bool)
    return np.where(hot, within.high if within.high > nearest else within.low, nearest)


def fit(model: ModelProto, feed: Mapping[str, Any]) -> Feeds:
    """The values of a model's inputs, in the types that it wants where they can be had without loss of kind.

    Raises:
        UsageError: If an input is missing, or of another kind.
    """
    if not isinstance(feed, Mapping):
        raise UsageError(f"a sample is a {type(feed).__name__}", "give arrays by input name", op="inputs")
    values = graph_inputs(model)
    if missing := sorted({v.name for v in values} - set(feed)):
        raise UsageError(f"no value for {missing}", "give every input", op="inputs")
    return {v.name: _typed(v, np.asarray(feed[v.name])) for v in values}


def _typed(value: ValueInfoProto, array: Array) -> Array:
    if not value.type.HasField("tensor_type") or value.type.tensor_type.elem_type == TensorProto.STRING:
        return array
    wanted = element_type(value)
    if array.dtype.kind == "V" and array.dtype.itemsize == wanted.itemsize:  # numpy's files do not know bfloat16
        return array.view(wanted)
    if array.dtype == wanted or wanted.kind == "V":
        return array.astype(wanted, copy=False)
    whole = np.issubdtype(wanted, np.integer)
    if np.can_cast(array.dtype, wanted, "same_kind") and not (whole and (array.astype(wanted) != array).any()):
        return array.astype(wanted)
    wrong = f"it is {array.dtype} in place of {wanted}"
    raise UsageError(wrong, "convert it, so that no value changes unseen", op="input", tensor=value.name)


def _sizes(value: ValueInfoProto, dims: Mapping[str, int], size: int) -> Iterable[tuple[str, int]]:
    """(key, size) of the dynamic dimensions of an input."""
    for i, dim in enumerate(value.type.tensor_type.shape.dim):
        if not dim.HasField("dim_value") or dim.dim_value < 0:
            yield dim.dim_param or f"{value.name}:{i}", _dim(value.name, i, dim, dims, size)


def _dim(name: str, i: int, dim: Any, dims: Mapping[str, int], size: int) -> int:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return dims.get(dim.dim_param, dims.get(f"{name}:{i}", size))
