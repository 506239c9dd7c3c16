"""Reads a model without its large weights, which stay where they are: in the model file, or in files beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from onnx_net2net.errors import ModelError
from onnx_net2net.storage.model import LazyModel, fill, stored
from onnx_net2net.storage.ranges import Range, is_external, refer, source
from onnx_net2net.storage.tensors import INLINE, bytes_of, stays
from onnx_net2net.storage.wire import strip

WHOLE = 1 << 20
"""Bytes up to which a model file is read at once."""


def read(path: Path) -> LazyModel:
    """Reads a model file; of large weights only where they are.

    Raises:
        DecodeError: If it is no model.
        OSError: If it cannot be read.
        ModelError: If weights in other files are not where it says.
    """
    proto, places = _parsed(path)
    files = _Files(path)
    for weight in external_tensors(proto):
        refer(weight, files.place(weight))
    for i, place in places.items():
        weight = proto.graph.initializer[i]
        if not is_external(weight):
            _check_length(weight, place.length)
            refer(weight, place)
    for weight in _inner(proto):
        fill(weight, stored(weight))
    for weight in filter(is_external, proto.graph.initializer):
        if stays(weight.data_type, tuple(weight.dims)):
            fill(weight, stored(weight))
    return LazyModel(proto)


def data_files(path: Path) -> set[str]:
    """The files beside a model that it says hold its weights."""
    proto = _parsed(path)[0]
    names = {
        entry.value for weight in external_tensors(proto) for entry in weight.external_data if entry.key == "location"
    }
    return {os.path.join(os.path.dirname(path), name) for name in names}


def _parsed(path: Path) -> tuple[ModelProto, dict[int, Range]]:
    """A model without the data of large weights in its file, and where that is."""
    kind = onnx.serialization.registry.get_format_from_file_extension(path.suffix) or "protobuf"
    if kind == "protobuf" and path.stat().st_size > WHOLE:
        return _skeleton(path)
    return onnx.load(path, load_external_data=False), {}


def _skeleton(path: Path) -> tuple[ModelProto, dict[int, Range]]:
    """A model without the data of its large weights, and where in the file that is."""
    url = os.path.abspath(path)
    with source(url) as opened:
        found = strip(opened.read(0, opened.size), INLINE + 1)
        stamp = opened.stamp
    proto = ModelProto()
    proto.ParseFromString(found.skeleton)
    return proto, {i: Range(url, *where, stamp) for i, where in found.data.items()}


def external_tensors(proto: ModelProto) -> Iterator[TensorProto]:
    """All tensors of a model whose data is said to lie elsewhere, those in attributes and functions included."""
    yield from filter(is_external, proto.graph.initializer)
    yield from _inner(proto)


def _inner(proto: ModelProto) -> Iterator[TensorProto]:
    """Those of them that are no initializers of the main graph."""
    graphs: list[GraphProto] = []
    nodes: list[NodeProto] = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from filter(is_external, graph.initializer)
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            yield from filter(is_external, (attribute.t, *attribute.tensors))
            graphs += [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs


def _check_length(weight: TensorProto, length: int) -> None:
    """Refuses data that does not fit the shape."""
    shape = tuple(weight.dims)
    if weight.data_type not in TensorProto.DataType.values() or bytes_of(weight.data_type, shape) != length:
        wrong = f"its data does not fit its shape {list(shape)}"
        raise ModelError(wrong, "export the model again", op="initializer", tensor=weight.name)


class _Files:
    """The files beside a model, each looked at once."""

    def __init__(self, model: Path) -> None:
        self.folder = os.path.realpath(model.parent)
        self.seen: dict[str, tuple[str, int, str]] = {}

    def place(self, weight: TensorProto) -> Range:
        """Where the data of a weight is.

        Raises:
            ModelError: If it is not there, or outside the model's folder.
        """
        said = {entry.key: entry.value for entry in weight.external_data}
        url, size, stamp = self._file(weight, said.get("location", ""))
        try:
            offset = int(said.get("offset") or 0)
            length = int(said.get("length") or bytes_of(weight.data_type, tuple(weight.dims)))
        except (ValueError, KeyError, TypeError) as error:
            wrong = "its place in the data file is no number, or its type unknown"
            raise ModelError(wrong, "export the model again", op="initializer", tensor=weight.name) from error
        if offset < 0 or length < 0 or offset + length > size:
            wrong = f"its data ends at byte {offset + length} of {os.path.basename(url)}, which has {size}"
            raise ModelError(wrong, "fetch the whole file again", op="initializer", tensor=weight.name)
        _check_length(weight, length)
        return Range(url, offset, length, stamp)

    def _file(self, weight: TensorProto, location: str) -> tuple[str, int, str]:
        if location in self.seen:
            return self.seen[location]
        path = os.path.realpath(os.path.join(self.folder, location))
        outside = os.path.isabs(location) or os.path.commonpath([self.folder, path]) != self.folder
        if not location or outside:
            wrong = f"its data file {location!r} is not in the model's folder"
            raise ModelError(wrong, "put it there", op="initializer", tensor=weight.name)
        try:
            with source(path) as opened:
                self.seen[location] = path, opened.size, opened.stamp
        except OSError as error:
            wrong = f"its data file {location!r} cannot be read ({error.strerror})"
            raise ModelError(wrong, "put it beside the model", op="initializer", tensor=weight.name) from error
        return self.seen[location]
