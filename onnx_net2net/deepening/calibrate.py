"""Mean and variance of tensors, channel by channel, over samples that are streamed through onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto, helper

from onnx_net2net.checking.inputs import Feeds, graph_inputs
from onnx_net2net.checking.runtime import Rooted, as_source, import_runtime, settled
from onnx_net2net.checking.session import root
from onnx_net2net.checking.upcast import HALF, upcast
from onnx_net2net.errors import ModelError, UsageError
from onnx_net2net.planning.plan import Statistics
from onnx_net2net.storage.model import AnyModel

BATCH = 8
"""Samples that run together where the model leaves the choice."""
DIGITS = 9
"""Significant digits that are kept: all that a float32 has."""


def calibrate(model: AnyModel, axes: Mapping[str, int], data: Mapping[str, NDArray[Any]]) -> dict[str, Statistics]:
    """Statistics of tensors, accumulated in float64.

    Args:
        model: The model.
        axes: The tensors, each with its axis of channels.
        data: Arrays by input name; their first axis counts samples.

    Raises:
        UsageError: If an input is missing, or the samples do not fit the model's inputs.
        MissingError: If onnxruntime is not there.
        ModelError: If the model does not run on the data, or a tensor is not finite on it.
    """
    moments = {name: _Moments() for name in axes}
    with settled(model) as proto:
        for values in _run(_exposed(proto, list(axes)), list(axes), _feeds(proto, data)):
            for name, value in values.items():
                channels = np.moveaxis(np.asarray(value).astype(np.float64), axes[name], 0)
                moments[name].add(channels.reshape(len(channels), -1))
    for name, moment in moments.items():
        if not (np.isfinite(moment.mean).all() and np.isfinite(moment.squares).all()):
            raise ModelError("it is not finite on this data", "give other data", op="calibrate", tensor=name)
    return {name: moment.statistics() for name, moment in moments.items()}


class _Moments:
    """Mean and sum of squared deviations, merged batch by batch (Chan, Golub and LeVeque 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        """Takes in [channels, elements]."""
        if not values.shape[1]:
            return
        count = self.count + values.shape[1]
        mean = values.mean(1)
        step = mean - self.mean
        self.squares = self.squares + ((values - mean[:, None]) ** 2).sum(1)
        self.squares = self.squares + step**2 * (self.count * values.shape[1] / count)
        self.mean = self.mean + step * (values.shape[1] / count)
        self.count = count

    def statistics(self) -> Statistics:
        """Mean and variance, rounded to what is worth keeping in a plan."""
        kept = [[float(f"{v:.{DIGITS}g}") for v in row] for row in (self.mean, self.squares / self.count)]
        return tuple(kept[0]), tuple(kept[1])


def _exposed(model: ModelProto, names: list[str]) -> ModelProto:
    """The model with some tensors in place of its outputs."""
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(ValueInfoProto(name=name) for name in names)
    return copy


def _feeds(model: ModelProto, data: Mapping[str, NDArray[Any]]) -> Iterator[Feeds]:
    """Batches as the model's inputs take them.

    Raises:
        UsageError: If there are none, or they do not fit.
    """
    values = {value.name: value for value in graph_inputs(model)}
    if missing := sorted(values.keys() - data.keys()):
        raise UsageError(f"no value for {missing}", "give every input", op="calibrate")
    arrays = {name: np.asarray(data[name]) for name in values}
    counts = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(counts) != 1 or 0 in counts:
        raise UsageError(
            "the arrays hold different numbers of samples, or none", "give as many of each", op="calibrate"
        )
    sizes = {_batch(value, arrays[name]) for name, value in values.items()} - {None}
    step = next(iter(sizes)) if len(sizes) == 1 else 1 if sizes else BATCH
    (count,) = counts
    if step and count % step and sizes:
        raise UsageError(f"{count} samples do not fill batches of {step}", "give a multiple", op="calibrate")
    for start in range(0, count, step or 1):
        yield {name: _slice(value, arrays[name], start, step or 0) for name, value in values.items()}


def _batch(value: ValueInfoProto, array: NDArray[Any]) -> int | None:
    """How many samples an input takes at once: 0 for one without an axis of its own, None for any number."""
    dims = value.type.tensor_type.shape.dim
    if array.ndim == len(dims) + 1:
        return 0
    if array.ndim != len(dims) or not dims:
        wrong = f"its samples have rank {array.ndim - 1}, the model takes {len(dims)} with batches"
        raise UsageError(wrong, "the first axis counts samples", op="calibrate", tensor=value.name)
    return int(dims[0].dim_value) if dims[0].HasField("dim_value") and dims[0].dim_value > 0 else None


def _slice(value: ValueInfoProto, array: NDArray[Any], start: int, step: int) -> NDArray[Any]:
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    taken = array[start] if array.ndim > len(value.type.tensor_type.shape.dim) else array[start : start + max(step, 1)]
    return np.asarray(taken, dtype)


def _run(model: ModelProto, names: list[str], feeds: Iterator[Feeds]) -> Iterator[Feeds]:
    """The tensors, batch by batch."""
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        try:
            session = _session(runtime, options, model)
        except Exception as error:
            if type(error).__name__ != "NotImplemented":
                raise
            session = _session(runtime, options, upcast(model))  # a half type without a kernel
            feeds = ({name: _raised(value) for name, value in feed.items()} for feed in feeds)
        for feed in feeds:
            yield dict(zip(names, session.run(names, feed), strict=True))
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"onnxruntime cannot run the teacher ({reason})",
            "check the data, and the model with onnx-net2net check",
            op="calibrate",
        ) from error


def _raised(value: NDArray[Any]) -> NDArray[Any]:
    half = [helper.tensor_dtype_to_np_dtype(dtype) for dtype in HALF]
    return value.astype(np.float32) if value.dtype in half else value


def _session(runtime: Any, options: Any, model: ModelProto) -> Any:
    with as_source(model) as source:
        if isinstance(source, Rooted):
            root(options)
        return runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
