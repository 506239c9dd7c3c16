"""The wire format of protobuf, as far as weights need it: found in a file, and put back into one.

A model is GraphProto in field 7 of ModelProto, a weight TensorProto in field 5 of that, its data bytes in field 9. All
else is left to protobuf: a *skeleton* is the model's own bytes without the data of large weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, overload

from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto

from onnx_net2net.storage.ranges import is_external, length_of

GRAPH, INITIALIZER, RAW = 7, 5, 9
BYTES = 2
"""The wire type of what has a length in front."""
MOST = 10
"""Bytes of the longest number."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field: where its tag, its content and the next field begin."""

    number: int
    kind: int
    start: int
    content: int
    end: int


class Bytes(Protocol):
    """Bytes that may not be in memory."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, place: int, /) -> int: ...
    @overload
    def __getitem__(self, place: slice, /) -> memoryview: ...


def fields(data: Bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of a message, in order.

    Raises:
        DecodeError: If they do not fill it.
    """
    while start < end:
        tag, place = _number(data, start, end)
        kind = tag & 7
        if kind == BYTES:
            length, place = _number(data, place, end)
            after = place + length
        elif kind == 0:
            after = _number(data, place, end)[1]
        elif kind in (1, 5):
            after = place + (8 if kind == 1 else 4)
        else:
            raise DecodeError(f"Error parsing message: wire type {kind}")
        if after > end or not tag >> 3:
            raise DecodeError("Error parsing message: it is truncated")
        yield Field(tag >> 3, kind, start, place, after)
        start = after


def _number(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for i in range(MOST):
        if start + i >= end:
            break
        byte = data[start + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, start + i + 1
    raise DecodeError("Error parsing message: it is truncated")


def number(value: int) -> bytes:
    """A number as it is written."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def tagged(which: int, length: int) -> bytes:
    """What stands before a field's content."""
    return number(which << 3 | BYTES) + number(length)


@dataclass(slots=True)
class Found:
    """What `strip` finds.

    Attributes:
        skeleton: The model's bytes without large data.
        data: Offset and length of the data that was left out, by the place of the weight in the graph.
    """

    skeleton: bytes
    data: dict[int, tuple[int, int]] = field(default_factory=dict)


def strip(data: Bytes, least: int) -> Found:
    """Takes the data of ``least`` bytes and more out of a serialised model.

    Raises:
        DecodeError: If it is no protobuf message.
    """
    found: dict[int, tuple[int, int]] = {}
    pieces: list[bytes] = []
    count = 0
    for part in fields(data, 0, len(data)):
        if part.number != GRAPH or part.kind != BYTES:
            pieces.append(bytes(data[part.start : part.end]))
            continue
        inner: list[bytes] = []
        for item in fields(data, part.content, part.end):
            if item.number != INITIALIZER or item.kind != BYTES:
                inner.append(bytes(data[item.start : item.end]))
                continue
            raw = [f for f in fields(data, item.content, item.end) if f.number == RAW and f.kind == BYTES]
            if raw and raw[-1].end - raw[-1].content >= least:  # of several the last one counts
                found[count] = raw[-1].content, raw[-1].end - raw[-1].content
                inner.append(_without(data, item, raw))
            else:
                inner.append(bytes(data[item.start : item.end]))
            count += 1
        pieces += [tagged(GRAPH, sum(map(len, inner))), *inner]
    return Found(b"".join(pieces), found)


def _without(data: Bytes, item: Field, left_out: list[Field]) -> bytes:
    """A weight without some of its fields."""
    starts = [item.content, *(f.end for f in left_out)]
    ends = [*(f.start for f in left_out), item.end]
    kept = b"".join(bytes(data[start:end]) for start, end in zip(starts, ends, strict=True))
    return tagged(INITIALIZER, len(kept)) + kept


Piece = bytes | TensorProto
"""Bytes of a model file, or the weight whose data stands there."""


def pieces(model: ModelProto) -> list[Piece]:
    """What a model file consists of when the data of promised and stored weights is in it.

    Joined, it is what protobuf writes of the whole model.
    """
    head, tail = _around(_bare_model(model), GRAPH)
    before, after = _around(_bare_graph(model.graph), INITIALIZER)
    weights: list[Piece] = []
    length = len(before) + len(after)
    for tensor in model.graph.initializer:
        if not is_external(tensor):
            whole = tensor.SerializeToString()
            parts: list[Piece] = [tagged(INITIALIZER, len(whole)) + whole]
            length += len(parts[0]) if isinstance(parts[0], bytes) else 0
        else:
            size = length_of(tensor)
            first, last = _around(bare(tensor).SerializeToString(), RAW)
            first += tagged(RAW, size)
            opening = tagged(INITIALIZER, len(first) + size + len(last)) + first
            parts = [opening, tensor, last]
            length += len(opening) + size + len(last)
        weights += parts
    return _joined([head + tagged(GRAPH, length) + before, *weights, after + tail])


def bare(tensor: TensorProto) -> TensorProto:
    """A weight without any reference to its data."""
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.ClearField("external_data")
    copy.ClearField("data_location")
    return copy


def size_of(parts: list[Piece]) -> int:
    """Bytes of a file of these pieces."""
    return sum(len(part) if isinstance(part, bytes) else length_of(part) for part in parts)


def _joined(parts: list[Piece]) -> list[Piece]:
    """The same with as few pieces as possible."""
    out: list[Piece] = []
    held: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes):
            held.append(part)
        else:
            out += [b"".join(held), part]
            held = []
    return [*out, b"".join(held)]


def _around(message: bytes, which: int) -> tuple[bytes, bytes]:
    """What stands before and behind a field that is not there."""
    view = memoryview(message)
    cut = next((f.start for f in fields(view, 0, len(view)) if f.number > which), len(message))
    return message[:cut], message[cut:]


def _bare_model(model: ModelProto) -> bytes:
    copy = ModelProto()
    copy_fields(model, copy, "graph")
    whole: bytes = copy.SerializeToString()
    return whole


def _bare_graph(graph: GraphProto) -> bytes:
    copy = GraphProto()
    copy_fields(graph, copy, "initializer")
    whole: bytes = copy.SerializeToString()
    return whole


def copy_fields(message: Any, target: Any, *left_out: str) -> None:
    """Copies the fields of a message, but for some that may be large."""
    for descriptor, value in message.ListFields():
        if descriptor.name in left_out:
            continue
        if isinstance(value, (str, bytes, int)):
            setattr(target, descriptor.name, value)
        elif hasattr(value, "CopyFrom"):
            getattr(target, descriptor.name).CopyFrom(value)
        else:
            getattr(target, descriptor.name).extend(value)
