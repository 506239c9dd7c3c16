"""Reads a model without its large weights, which stay where they are: in the model file, or in files beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePath

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from onnx_net2net.errors import ModelError
from onnx_net2net.storage.model import LazyModel, fill, stored
from onnx_net2net.storage.ranges import Range, is_external, refer, source
from onnx_net2net.storage.tensors import INLINE, bytes_of, stays
from onnx_net2net.storage.urls import Place, beside, name_of
from onnx_net2net.storage.wire import Bytes, strip

WHOLE = 1 << 20
"""Bytes up to which a model file is read at once."""
FETCHED = 1 << 23
"""The same of an object elsewhere, where many requests take longer than some bytes."""


def read(path: Place) -> LazyModel:
    """Reads a model file, or that of a URL; of large weights only where they are.

    Raises:
        DecodeError: If it is no model.
        OSError: If it cannot be read.
        ModelError: If weights in other files are not where it says, or a URL cannot be read.
    """
    proto, places, held = _parsed(path)
    files = _Files(path) if isinstance(path, Path) else _Objects(path)
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
    return LazyModel(proto, held=(*held, *files.held))


def data_files(path: Place) -> set[str]:
    """The files beside a model that it says hold its weights."""
    proto = _parsed(path)[0]
    names = {
        entry.value for weight in external_tensors(proto) for entry in weight.external_data if entry.key == "location"
    }
    if isinstance(path, Path):
        return {os.path.join(os.path.dirname(path), name) for name in names}
    return {beside(path, name) for name in names}


Parsed = tuple[ModelProto, dict[int, Range], tuple[object, ...]]
"""A model without the data of large weights in its file, where that is, and what keeps what was fetched."""


def _parsed(path: Place) -> Parsed:
    kind = onnx.serialization.registry.get_format_from_file_extension(PurePath(name_of(path)).suffix) or "protobuf"
    if not isinstance(path, Path):
        return _fetched(path, kind)
    if kind == "protobuf" and path.stat().st_size > WHOLE:
        url = os.path.abspath(path)
        with source(url) as opened:
            return _skeleton(url, opened.read(0, opened.size), opened.stamp)
    return onnx.load(path, load_external_data=False), {}, ()


def _fetched(url: str, kind: str) -> Parsed:
    from onnx_net2net.storage.remote import remote

    found = remote(url)
    if kind != "protobuf" or found.size <= FETCHED:
        return onnx.load_model_from_string(bytes(found.read(0, found.size)), kind), {}, ()
    parsed = _skeleton(url, found, found.stamp)
    found.check()
    return *parsed[:2], (found,)


def _skeleton(url: str, data: Bytes, stamp: str) -> Parsed:
    found = strip(data, INLINE + 1)
    proto = ModelProto()
    proto.ParseFromString(found.skeleton)
    return proto, {i: Range(url, *where, stamp) for i, where in found.data.items()}, ()


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
        self.held: list[object] = []

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


class _Objects(_Files):
    """The objects beside a model that a URL names."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.seen = {}
        self.held = []

    def _file(self, weight: TensorProto, location: str) -> tuple[str, int, str]:
        from onnx_net2net.storage.remote import remote

        if location not in self.seen:
            try:
                url = beside(self.model, location)
            except ValueError as error:
                wrong = f"its data file {location!r} is not in the model's folder"
                raise ModelError(wrong, "put it there", op="initializer", tensor=weight.name) from error
            try:
                found = remote(url)
            except ModelError as error:
                wrong = f"its data file {location!r} cannot be read ({error})"
                raise ModelError(wrong, op="initializer", tensor=weight.name) from error
            self.held.append(found)
            self.seen[location] = url, found.size, found.stamp
        return self.seen[location]
