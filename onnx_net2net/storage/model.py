"""A model whose large weights are not in memory: each lies in a file, or is computed when it is wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from onnx import GraphProto, ModelProto, TensorProto

from onnx_net2net.storage.ranges import is_external, place_of, refer
from onnx_net2net.storage.tensors import Array, Made, Stored, Tensor, decode, encode, stays
from onnx_net2net.storage.urls import is_url
from onnx_net2net.storage.wire import copy_fields, pieces


@dataclass(frozen=True, slots=True)
class LazyModel:
    """A model without its large weights.

    Attributes:
        proto: The message. Weights that are not in it are external; they name a range of a file by its absolute path
            or URL, or nothing.
        made: What computes the latter, by name.
        held: What was fetched of URLs stays at hand for as long as this is kept.
    """

    proto: ModelProto
    made: Mapping[str, Tensor] = field(default_factory=dict)
    held: tuple[object, ...] = field(default=(), compare=False, repr=False)

    @property
    def graph(self) -> GraphProto:
        """The graph of the message."""
        return self.proto.graph

    def tensor(self, weight: TensorProto) -> Tensor:
        """What a weight that is not in the message can be read by."""
        return self.made[weight.name] if weight.name in self.made else stored(weight)

    def lazy(self) -> Iterator[tuple[TensorProto, Tensor]]:
        """The weights that are not in the message, in order."""
        for weight in self.proto.graph.initializer:
            if is_external(weight):
                yield weight, self.tensor(weight)

    def files(self) -> set[str]:
        """The files that weights lie in."""
        places = (place_of(weight) for weight in self.proto.graph.initializer if is_external(weight))
        return {place.url for place in places if place is not None}


AnyModel = ModelProto | LazyModel


def proto_of(model: AnyModel) -> ModelProto:
    """The message of a model."""
    return model.proto if isinstance(model, LazyModel) else model


def with_proto(model: AnyModel, proto: ModelProto) -> AnyModel:
    """The same weights behind another message."""
    return LazyModel(proto, model.made, model.held) if isinstance(model, LazyModel) else proto


def stored(weight: TensorProto) -> Tensor:
    """The tensor that a weight refers to."""
    place = place_of(weight)
    if place is None:
        raise LookupError(weight.name)
    return Stored(weight.data_type, tuple(weight.dims), place)


def here(model: AnyModel) -> tuple[ModelProto, list[object]]:
    """The message of a model without computed weights, all in files of this machine while the other things are kept.

    Raises:
        ModelError: If weights are elsewhere and cannot be fetched.
    """
    proto = proto_of(model)
    places = {i: place_of(weight) for i, weight in enumerate(proto.graph.initializer) if is_external(weight)}
    if not any(place is not None and is_url(place.url) for place in places.values()):
        return proto, []
    copy = ModelProto()
    copy.CopyFrom(proto)
    kept: list[object] = []
    for i, place in places.items():
        if place is not None:
            local, holder = place.here()
            refer(copy.graph.initializer[i], local)
            kept.append(holder)
    return copy, kept


def promise(weight: TensorProto, tensor: Tensor) -> None:
    """Gives a weight the type and shape of a tensor whose value is to come; name and documentation stay."""
    weight.data_type = tensor.dtype
    weight.dims[:] = tensor.shape
    refer(weight, None, tensor.length)


def whole(model: AnyModel) -> ModelProto:
    """The model with all its weights in memory."""
    if isinstance(model, ModelProto):
        return model
    copy = ModelProto()
    copy.CopyFrom(model.proto)
    for weight in copy.graph.initializer:
        if is_external(weight):
            fill(weight, model.tensor(weight))
    return copy


def fill(weight: TensorProto, tensor: Tensor) -> None:
    """Puts the data of a weight into the message."""
    raw = tensor.place.read() if isinstance(tensor, Stored) else encode(tensor.read(), tensor.dtype, tensor.shape)
    weight.ClearField("external_data")
    weight.ClearField("data_location")
    weight.raw_data = bytes(raw)


def detached(model: ModelProto) -> LazyModel:
    """A model in memory as a lazy one, whose large weights are still read there."""
    copy = ModelProto()
    copy_fields(model, copy, "graph")
    copy_fields(model.graph, copy.graph, "initializer")
    made: dict[str, Tensor] = {}
    for weight in model.graph.initializer:
        shape = tuple(weight.dims)
        if stays(weight.data_type, shape) or not weight.HasField("raw_data"):
            copy.graph.initializer.append(weight)
            continue
        made[weight.name] = Made(weight.data_type, shape, partial(_value, weight))
        new = copy.graph.initializer.add()
        for name in ("name", "doc_string"):
            if weight.HasField(name):
                setattr(new, name, getattr(weight, name))
        new.metadata_props.extend(weight.metadata_props)
        promise(new, made[weight.name])
    return LazyModel(copy, made)


def _value(weight: TensorProto) -> Array:
    return decode(memoryview(weight.raw_data), weight.data_type, tuple(weight.dims))


class Digest:
    """SHA-256 of a model: of its skeleton and of the hash of each large weight, which can be taken in any order.

    A model gives the same whether its weights are in one file or in many.
    """

    def __init__(self, model: LazyModel) -> None:
        self.model = model
        self._weights: dict[str, bytes] = {}

    def jobs(self) -> dict[str, Callable[[], None]]:
        """What there is to do, by weight."""
        return {weight.name: partial(self._hash, weight.name, tensor) for weight, tensor in self.model.lazy()}

    def _hash(self, name: str, tensor: Tensor) -> None:
        state = hashlib.sha256()
        for part in raw_parts(tensor):
            state.update(part)
        self._weights[name] = state.digest()

    def result(self) -> str:
        """The hash, once all is done."""
        state = hashlib.sha256()
        for piece in pieces(self.model.proto):
            state.update(piece if isinstance(piece, bytes) else self._weights[piece.name])
        return state.hexdigest()


def raw_parts(tensor: Tensor) -> Iterator[memoryview]:
    """The raw data of a tensor, a few MiB at a time if it lies in a file."""
    if not isinstance(tensor, Stored):
        yield encode(tensor.read(), tensor.dtype, tensor.shape)
        return
    for start in range(0, tensor.length, PART):
        yield tensor.place.part(start, min(PART, tensor.length - start))


PART = 1 << 22
"""Bytes of a file that are mapped at a time where no more is needed."""
