"""Writes a model whose weights are computed on the way: in pieces, by several threads, and all or nothing.

All is written to new files beside the target. Files of data then get names that carry a digest of what they are made
of and how, and last of all the model file takes its place, in one step. So whenever the program ends before, what was
there is whole, and no model file ever meets data that it was not written with.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto

from onnx_net2net.errors import ModelError
from onnx_net2net.storage.model import LazyModel
from onnx_net2net.storage.ranges import Range, is_external, length_of, refer
from onnx_net2net.storage.sinks import Layout, LocalFile, Sink, explained
from onnx_net2net.storage.tensors import Rows, Stored, Tensor, encode
from onnx_net2net.storage.wire import Piece, pieces, size_of

BLOCK = 1 << 21
"""Bytes that are made and written at a time, so that they stay in the processor's cache."""
ALIGNED = 4096
AHEAD = 3
"""Blocks that wait for each thread."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the data of a weight goes: which file, and where in it."""

    weight: str
    file: int
    offset: int


Job = Callable[[], int]
"""Does something, and says how many bytes it wrote."""
Finish = Callable[[ModelProto], str]
"""Writes what is known only now into the metadata, without changing its length; gives a digest of all that went in."""
TAG = 12
"""Letters of that digest in the name of a data file."""


class Draft:
    """A model on disk that is not in its place yet; it vanishes with the block unless it is published.

    Args:
        model: What to write.
        target: Where it goes.
        layout: How.
        limit: Bytes that a model file can hold.
        finish: Called once all weights are written.
        beside: What to do on the way, by the weight before which it is done; the rest comes last.
        inputs: Files that the model is made from, which are never touched.

    Raises:
        ModelError: If there is no room for it, or it cannot be written.
    """

    def __init__(
        self,
        model: LazyModel,
        target: Path,
        layout: Layout,
        limit: int,
        finish: Finish,
        beside: Mapping[str, Callable[[], None]],
        inputs: set[str],
    ) -> None:
        self.source = model
        self.target = target
        self.layout = layout
        self.finish = finish
        self.beside = dict(beside)
        self.inputs = inputs
        self.proto = ModelProto()
        self.proto.CopyFrom(model.proto)
        parts = pieces(self.proto)
        self.external = layout.is_external or size_of(parts) > limit
        self.slots, self.sizes = self._shards() if self.external else _inside(parts)
        self.sinks: list[LocalFile] = []
        self.names: list[str] = []

    def __enter__(self) -> Draft:
        try:
            with explained(self.target):
                self._write()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for sink in self.sinks:
            sink.discard()

    @property
    def model(self) -> LazyModel:
        """What was written, as it is read back."""
        copy = ModelProto()
        copy.CopyFrom(self.proto)
        for weight, slot in zip(filter(is_external, copy.graph.initializer), self.slots, strict=True):
            name = self.sinks[slot.file].name
            refer(weight, Range(os.path.abspath(name), slot.offset, length_of(weight)))
        return LazyModel(copy)

    def publish(self) -> None:
        """Puts all files in their places, the model last, and removes data that only an older one of its name had.

        Raises:
            ModelError: If that is not possible.
        """
        *data, model = [self.target.with_name(name) for name in self.names]
        placed = []
        with explained(self.target):
            try:
                for sink, target in zip(self.sinks, data, strict=False):
                    fresh = not target.exists()
                    sink.publish(target)
                    placed += [target] if fresh else []
                self.sinks[-1].publish(model)
            except BaseException:
                for target in placed:
                    target.unlink(missing_ok=True)
                raise
            self._clean(data)

    def _clean(self, kept: list[Path]) -> None:
        names = re.compile(re.escape(self.target.name) + rf"\.[0-9a-f]{{{TAG}}}(-\d{{5}}-of-\d{{5}})?\.data")
        for path in self.target.parent.iterdir():
            if names.fullmatch(path.name) and path not in kept and os.path.realpath(path) not in self.inputs:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _shards(self) -> tuple[list[Slot], list[int]]:
        """A place for each weight, at multiples of 4 KiB, in as many files as that takes; and the files' sizes."""
        slots: list[Slot] = []
        sizes = [0]
        for weight in filter(is_external, self.proto.graph.initializer):
            start = -(-sizes[-1] // ALIGNED) * ALIGNED
            if self.layout.shard_size is not None and start and start + length_of(weight) > self.layout.shard_size:
                sizes.append(0)
                start = 0
            slots.append(Slot(weight.name, len(sizes) - 1, start))
            sizes[-1] = start + length_of(weight)
        return slots, sizes if slots else []

    def _write(self) -> None:
        self._name("0" * TAG)
        needed = sum(self.sizes) + (len(self._literal()) if self.external else 0)
        free = shutil.disk_usage(self.target.parent).free
        if needed > free:
            wrong = f"it needs {needed / 1e9:.3g} GB, and there is room for {free / 1e9:.3g} GB"
            raise ModelError(wrong, "make room, or choose another place", op="file", tensor=str(self.target))
        for name in self.names:
            self.sinks.append(LocalFile(self.target.with_name(name)))
        _run(self._jobs, self.layout, sum(tensor.length for _, tensor in self.source.lazy()))
        made_of = f"{self.finish(self.proto)} {[(slot.file, slot.offset) for slot in self.slots]}"
        self._name_freely(hashlib.sha256(made_of.encode()).hexdigest())
        if self.external:
            self.sinks[-1].write(0, memoryview(self._literal()))
        else:
            offset = 0
            for piece in pieces(self.proto):
                if isinstance(piece, bytes):
                    self.sinks[-1].write(offset, memoryview(piece))
                offset += len(piece) if isinstance(piece, bytes) else length_of(piece)
        for sink in self.sinks:
            sink.finish()

    def _name(self, tag: str) -> None:
        """Names the files; a data file's name says what is in it."""
        if not self.external:
            self.names = [self.target.name]
            return
        count = len(self.sizes)
        shards = [f"-{i + 1:05d}-of-{count:05d}" for i in range(count)] if count > 1 else [""]
        self.names = [f"{self.target.name}.{tag[:TAG]}{shard}.data" for shard in shards[:count]] + [self.target.name]

    def _name_freely(self, digest: str) -> None:
        """Names the files so that none of the teacher's has that name."""
        self._name(digest)
        while {os.path.realpath(self.target.with_name(name)) for name in self.names[:-1]} & self.inputs:
            digest = hashlib.sha256(digest.encode()).hexdigest()
            self._name(digest)

    def _literal(self) -> bytes:
        """The model file, of which the weights are in other files."""
        copy = ModelProto()
        copy.CopyFrom(self.proto)
        for weight, slot in zip(filter(is_external, copy.graph.initializer), self.slots, strict=True):
            length = length_of(weight)
            weight.ClearField("external_data")
            for key, value in (("location", self.names[slot.file]), ("offset", slot.offset), ("length", length)):
                weight.external_data.add(key=key, value=str(value))
        whole: bytes = copy.SerializeToString()
        return whole

    def _jobs(self, turns: _Turns) -> Iterator[Job]:
        """All that is to be written, in order, and what is to be done beside it."""
        count = 0
        for slot, (weight, tensor) in zip(self.slots, self.source.lazy(), strict=True):
            if weight.name in self.beside:
                yield partial(_quietly, self.beside.pop(weight.name))
            offset = slot.offset
            for length, make in _blocks(tensor):
                yield partial(turns.write, count, make, self.sinks[slot.file], offset)
                count, offset = count + 1, offset + length
        yield from (partial(_quietly, job) for job in self.beside.values())


def _inside(parts: list[Piece]) -> tuple[list[Slot], list[int]]:
    """Where weights are within the model file, and its size."""
    slots, offset = [], 0
    for part in parts:
        if isinstance(part, TensorProto):
            slots.append(Slot(part.name, 0, offset))
        offset += len(part) if isinstance(part, bytes) else length_of(part)
    return slots, [offset]


def _quietly(job: Callable[[], None]) -> int:
    job()
    return 0


class _Turns:
    """Lets threads make blocks side by side, but write them one after another.

    A file in order is what disks are best at, and places that are no disks take nothing else.
    """

    def __init__(self) -> None:
        self.next = 0
        self.broken = False
        self.changed = threading.Condition()

    def write(self, turn: int, make: Callable[[], memoryview], sink: Sink, offset: int) -> int:
        """Makes a block, and writes it when its turn has come."""
        try:
            data = make()
            with self.changed:
                self.changed.wait_for(lambda: self.broken or self.next == turn)
            if not self.broken:
                sink.write(offset, data)
        except BaseException:
            self.stop()
            raise
        with self.changed:
            self.next = turn + 1
            self.changed.notify_all()
        return len(data)

    def stop(self) -> None:
        """Lets nobody wait, or write, any longer."""
        with self.changed:
            self.broken = True
            self.changed.notify_all()


def _blocks(tensor: Tensor) -> Iterator[tuple[int, Callable[[], memoryview]]]:
    """The blocks of a tensor in order: how many bytes, and what makes them."""
    if isinstance(tensor, Stored):
        for start in range(0, tensor.length, BLOCK):
            length = min(BLOCK, tensor.length - start)
            yield length, partial(tensor.place.part, start, length)
    elif not tensor.by_rows:
        yield tensor.length, partial(_whole, tensor)
    else:
        count = tensor.shape[tensor.axis]
        size = tensor.length // count
        step = max(1, BLOCK // size)
        opened = _Opened(tensor)
        for start in range(0, count, step):
            stop = min(start + step, count)
            yield (stop - start) * size, partial(opened.get, start, stop)


def _whole(tensor: Tensor) -> memoryview:
    return encode(tensor.read(), tensor.dtype, tensor.shape)


class _Opened:
    """The rows of a tensor, opened by the first that wants some and shared by all threads."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.lock = threading.Lock()
        self.rows: Rows | None = None

    def get(self, start: int, stop: int) -> memoryview:
        """The raw data of some rows."""
        with self.lock:
            if self.rows is None:
                self.rows = self.tensor.open()
        value = self.rows(np.arange(start, stop))
        shape = list(self.tensor.shape)
        shape[self.tensor.axis] = stop - start
        return encode(value, self.tensor.dtype, tuple(shape))


def _run(jobs: Callable[[_Turns], Iterator[Job]], layout: Layout, total: int) -> None:
    """Does all jobs, a few at a time and in order, and says how far it is."""
    done = 0
    progress = layout.progress or (lambda done, total: None)
    waiting: deque[Future[int]] = deque()
    turns = _Turns()
    pool = ThreadPoolExecutor(layout.workers)
    try:
        for job in jobs(turns):
            waiting.append(pool.submit(job))
            if len(waiting) > AHEAD * layout.workers:
                done += waiting.popleft().result()
                progress(done, total)
        while waiting:
            done += waiting.popleft().result()
            progress(done, total)
    finally:
        turns.stop()
        pool.shutdown(wait=True, cancel_futures=True)
