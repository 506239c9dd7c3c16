"""Loading and saving models. Outputs are written beside the target and renamed, so nothing is half-written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto, TensorProto

from onnx_net2net.errors import ModelError

Model: TypeAlias = str | os.PathLike[str] | ModelProto | gs.Graph
LIMIT = 2**31 - 2**20
"""Bytes that one protobuf message can hold, with some room to spare."""
INLINE = 1024
"""Tensors up to this many bytes stay in the model file when data goes to a file of its own."""


def load(model: Model) -> ModelProto:
    """Reads a model with its weights; a `ModelProto` is returned as it is.

    Raises:
        ModelError: If the file cannot be read, or is not a model.
    """
    if isinstance(model, ModelProto):
        return _readable(model)
    if isinstance(model, gs.Graph):
        exported: ModelProto = gs.export_onnx(model)
        exported.ir_version = max(exported.ir_version, 4)  # its initializers are not listed as inputs
        return exported
    path = Path(model)
    try:
        loaded = onnx.load(path)
    except FileNotFoundError as error:
        missing = Path(error.filename) if error.filename else path
        raise ModelError("there is no such file", "check the path", op="file", tensor=str(missing)) from error
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it is not an ONNX model"
        raise ModelError(reason, "export the model again", op="file", tensor=str(path)) from error
    if not loaded.graph.node or not loaded.opset_import:
        raise ModelError(
            "it is not an ONNX model, or an empty one", "export the model again", op="file", tensor=str(path)
        )
    return _readable(loaded)


def _readable(model: ModelProto) -> ModelProto:
    """The model, if its names are text: protobuf hands out bytes for what is not UTF-8.

    Raises:
        ModelError: If one is not.
    """
    graph = model.graph
    names = [value.name for value in (*graph.initializer, *graph.input, *graph.output, *graph.value_info)]
    names += [text for o in model.opset_import for text in (o.domain,)]
    for node in graph.node:
        names += (node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute))
    for name in names:
        if isinstance(name, bytes):
            raise ModelError("a name is not valid text", "export the model again", op="file", tensor=repr(name))
    return model


def is_large(model: ModelProto) -> bool:
    """Whether the model is too large for one protobuf message."""
    return sum(len(t.raw_data) for t in model.graph.initializer) > LIMIT


def weigh(model: ModelProto) -> int:
    """Bytes that a model takes when it is written, weights included."""
    return sum(len(t.raw_data) for t in model.graph.initializer) if is_large(model) else model.ByteSize()


def digest(model: ModelProto) -> str:
    """SHA-256 of a model, weights included."""
    state = hashlib.sha256()
    if not is_large(model):
        with contextlib.suppress(EncodeError, ValueError):
            state.update(model.SerializeToString(deterministic=True))
            return state.hexdigest()
    skeleton, data = _detach(model)
    state.update(skeleton.SerializeToString(deterministic=True))
    for _, raw in data:
        state.update(raw)
    return state.hexdigest()


def save(model: ModelProto, path: str | os.PathLike[str]) -> None:
    """Writes a model; over 2 GiB its weights go to ``NAME.data`` beside it.

    Raises:
        ModelError: If the file cannot be written; an existing file is then left as it was.
    """
    target = Path(path)
    try:
        if is_large(model):
            skeleton, data = _detach(model)
            location = f"{target.name}.data"
            _place(skeleton, data, location)
            with atomic(target.with_name(location)) as stream:
                for tensor, raw in data:
                    stream.seek(_offset(tensor))
                    stream.write(raw)
            model = skeleton
        with atomic(target) as stream:
            stream.write(_serializer(target).serialize_proto(model))
    except OSError as error:
        raise ModelError(
            f"it cannot be written ({error.strerror or error})", "choose another place", op="file", tensor=str(target)
        ) from error


def _serializer(target: Path) -> Any:
    """What writes the format that `load` would read from this name: protobuf, or a text format."""
    registry = onnx.serialization.registry
    return registry.get(registry.get_format_from_file_extension(target.suffix) or "protobuf")


@contextlib.contextmanager
def atomic(target: Path) -> Iterator[Any]:
    """A file beside ``target`` that takes its place when the block ends well, and vanishes otherwise."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _detach(model: ModelProto) -> tuple[ModelProto, list[tuple[TensorProto, bytes]]]:
    """A copy of the model without large data, and the data by tensor of the copy."""
    bare = ModelProto()
    bare.CopyFrom(model)
    data = []
    for tensor in bare.graph.initializer:
        if len(tensor.raw_data) > INLINE:
            data.append((tensor, tensor.raw_data))
            tensor.ClearField("raw_data")
    return bare, data


def _place(model: ModelProto, data: list[tuple[TensorProto, bytes]], location: str) -> None:
    """Gives each detached tensor its place in the data file, aligned to 4 KiB."""
    offset = 0
    for tensor, raw in data:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(len(raw)))):
            tensor.external_data.add(key=key, value=value)
        offset += -(-len(raw) // 4096) * 4096


def _offset(tensor: TensorProto) -> int:
    return int(next(entry.value for entry in tensor.external_data if entry.key == "offset"))
