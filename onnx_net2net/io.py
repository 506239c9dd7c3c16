"""Loading and saving models. Outputs are written beside the target and renamed, so nothing is half-written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto

from onnx_net2net.errors import ModelError
from onnx_net2net.storage.model import AnyModel, Digest, LazyModel, detached, whole
from onnx_net2net.storage.reader import external_tensors, read
from onnx_net2net.storage.remote import put
from onnx_net2net.storage.sinks import Layout, explained
from onnx_net2net.storage.upload import Upload
from onnx_net2net.storage.urls import Place, is_url, name_of, place
from onnx_net2net.storage.wire import pieces, size_of
from onnx_net2net.storage.writer import Draft, Finish

Model: TypeAlias = str | os.PathLike[str] | ModelProto | gs.Graph
LIMIT = 2**31 - 2**20
"""Bytes that one protobuf message can hold, with some room to spare."""
LARGE = 8 * 2**20
"""Bytes from which on a model's weights stay on disk until they are wanted."""
STANDARD = Layout()


def load(model: Model | LazyModel) -> ModelProto:
    """Reads a model with its weights; a `ModelProto` is returned as it is.

    Raises:
        ModelError: If the file cannot be read, or is not a model.
    """
    return whole(opened(model))


def opened(model: Model | LazyModel) -> AnyModel:
    """Reads a model; of a file of `LARGE` bytes and more without its large weights, which are read when wanted.

    Raises:
        ModelError: If the file or URL cannot be read, or is not a model.
        MissingError: If it is a URL, and fsspec or what it needs is not installed.
    """
    if isinstance(model, LazyModel):
        return model
    if isinstance(model, ModelProto):
        return _readable(_own(model))
    if isinstance(model, gs.Graph):
        exported: ModelProto = gs.export_onnx(model)
        exported.ir_version = max(exported.ir_version, 4)  # its initializers are not listed as inputs
        return exported
    path = place(model)
    try:
        lazy = read(path)
    except FileNotFoundError as error:
        raise ModelError("there is no such file", "check the path", op="file", tensor=str(path)) from error
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it is not an ONNX model"
        raise ModelError(reason, "export the model again", op="file", tensor=str(path)) from error
    if not lazy.graph.node or not lazy.proto.opset_import:
        raise ModelError(
            "it is not an ONNX model, or an empty one", "export the model again", op="file", tensor=str(path)
        )
    _readable(lazy.proto)
    return lazy if weigh(lazy) >= LARGE else whole(lazy)


def _own(model: ModelProto) -> ModelProto:
    """The model, unless a weight names a file anywhere on this machine: only what was read here may."""
    for tensor in external_tensors(model):
        named = (entry.value for entry in tensor.external_data if entry.key == "location")
        if any(os.path.isabs(name) or is_url(name) for name in named):
            raise ModelError(
                "its data lies in another file", "pass the model by path", op="initializer", tensor=tensor.name
            )
    return model


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


def weigh(model: AnyModel) -> int:
    """Bytes that a model takes when it is written, weights included."""
    if isinstance(model, LazyModel):
        return size_of(pieces(model.proto))
    return sum(len(t.raw_data) for t in model.graph.initializer) if is_large(model) else model.ByteSize()


def digest(model: AnyModel) -> str:
    """SHA-256 of a model, weights included: of its bytes, or of a large one of what `Digest` says."""
    if isinstance(model, ModelProto) and weigh(model) < LARGE:
        with contextlib.suppress(EncodeError, ValueError):
            return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    state = Digest(model if isinstance(model, LazyModel) else detached(model))
    for job in state.jobs().values():
        job()
    return state.result()


def save(model: AnyModel, path: str | os.PathLike[str], layout: Layout = STANDARD) -> None:
    """Writes a model; over 2 GiB its weights go to a file beside it.

    Raises:
        ModelError: If the file cannot be written; an existing file is then left as it was.
        MissingError: If it is a URL, and fsspec or what it needs is not installed.
    """
    target = place(path)
    if is_text(path) or (isinstance(model, ModelProto) and not (is_large(model) or layout.is_external)):
        model = whole(model)
        if isinstance(target, str):
            data = _serializer(target).serialize_proto(model)
            put([(target, lambda: [data])])
            return
        with explained(target), atomic(target) as stream:
            stream.write(_serializer(target).serialize_proto(model))
        return
    with draft(model, path, layout) as written:
        written.publish()


def draft(
    model: AnyModel,
    path: str | os.PathLike[str],
    layout: Layout = STANDARD,
    *,
    finish: Finish | None = None,
    digests: Sequence[Digest] = (),
    inputs: set[str] | None = None,
) -> Draft | Upload:
    """A model on disk that is not in place yet; see `Draft`, and for a URL `Upload`.

    Args:
        model: What to write.
        path: Where it goes, a path or a URL.
        layout: How.
        finish: Called once all weights are written; by default the name of a data file carries the model's digest.
        digests: What to take on the way.
        inputs: Files that the model is made from.
    """
    target = place(path)
    lazy = model if isinstance(model, LazyModel) else detached(model)
    if finish is None:
        state = Digest(lazy)
        digests, finish = [*digests, state], lambda proto: state.result()
    jobs: dict[str, Callable[[], None]] = {}
    for one in digests:
        jobs |= one.jobs()
    named = lazy.files() if inputs is None else inputs

    def made(target: Path, inputs: set[str]) -> Draft:
        return Draft(lazy, target, layout, LIMIT, finish, jobs, inputs)

    return Upload(target, named, made) if isinstance(target, str) else made(target, named)


def is_text(path: str | os.PathLike[str]) -> bool:
    """Whether a name stands for a text format, which is not written piece by piece."""
    return onnx.serialization.registry.get_format_from_file_extension(_suffix(place(path))) not in (None, "protobuf")


def _suffix(where: Place) -> str:
    return PurePath(name_of(where)).suffix


def _serializer(target: Place) -> Any:
    """What writes the format that `load` would read from this name: protobuf, or a text format."""
    registry = onnx.serialization.registry
    return registry.get(registry.get_format_from_file_extension(_suffix(target)) or "protobuf")


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
