"""Ranges of bytes: the one way in which stored weights are read.

Files of this machine are mapped; what a URL names is fetched by `remote`, as far as it is wanted.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from onnx import TensorProto

from onnx_net2net.errors import ModelError
from onnx_net2net.storage.urls import is_url


class Source(Protocol):
    """Something that bytes can be read from; `close` leaves what was read valid."""

    path: str
    """A file of this machine in which what was fetched lies at the same places."""
    size: int
    stamp: str
    """What changes when the content does."""

    def read(self, offset: int, length: int) -> memoryview:
        """The bytes of a range, which lies within the size."""

    def fetch(self, offset: int, length: int) -> None:
        """Gets a range ready to be read in parts."""

    def close(self) -> None:
        """Lets go of it."""


class MappedFile:
    """A file of this machine. Ranges are mapped: they take memory only where they are touched.

    Raises:
        OSError: If it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        found = os.fstat(self.handle)
        self.size = found.st_size
        self.stamp = f"{found.st_dev}.{found.st_ino}.{found.st_size}.{found.st_mtime_ns}"

    def read(self, offset: int, length: int) -> memoryview:
        """The bytes of a range, mapped."""
        if not length:
            return memoryview(b"")
        start = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(self.handle, offset + length - start, access=mmap.ACCESS_READ, offset=start)
        if hasattr(mmap, "MADV_WILLNEED"):
            mapped.madvise(mmap.MADV_WILLNEED)
        return memoryview(mapped)[offset - start :]

    def fetch(self, offset: int, length: int) -> None:
        """Nothing is to be done for it."""

    def close(self) -> None:
        """Closes the file; what is mapped stays."""
        os.close(self.handle)


@contextlib.contextmanager
def source(url: str, stamp: str = "") -> Iterator[Source]:
    """Where the bytes of a name come from; of a URL with that stamp what is fetched already is not fetched again.

    Raises:
        OSError: If it cannot be read.
        ModelError: If it is a URL and cannot be read.
    """
    opened: Source
    if is_url(url):
        from onnx_net2net.storage.remote import remote

        opened = remote(url, stamp)
    else:
        opened = MappedFile(url)
    try:
        yield opened
    finally:
        opened.close()


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes within a file.

    Attributes:
        url: The file, by its absolute path or URL.
        offset: Where they begin.
        length: How many there are.
        stamp: What the file was like when it was opened first.
    """

    url: str
    offset: int
    length: int
    stamp: str = ""

    def read(self) -> memoryview:
        """The bytes.

        Raises:
            ModelError: If the file is gone, or is not what it was.
        """
        return self.part(0, self.length)

    def here(self) -> tuple[Range, object]:
        """The same bytes in a file of this machine, while the second thing is kept. Raises what `read` raises."""
        if not is_url(self.url):
            return self, None
        with self._opened() as opened:
            opened.fetch(self.offset, self.length)
            return Range(opened.path, self.offset, self.length), opened

    def part(self, start: int, length: int) -> memoryview:
        """Some of the bytes. Raises what `read` raises."""
        with self._opened() as opened:
            opened.fetch(self.offset, self.length)
            return opened.read(self.offset + start, length)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Source]:
        try:
            with source(self.url, self.stamp) as opened:
                if self.stamp and opened.stamp != self.stamp:
                    raise ModelError("it has changed since it was read", "read it again", op="file", tensor=self.url)
                yield opened
        except OSError as error:
            wrong = f"it cannot be read ({error.strerror or error})"
            raise ModelError(wrong, "check the path", op="file", tensor=self.url) from error


KEYS = ("location", "offset", "length", "stamp")
"""How a tensor refers to a range: as ONNX says, and with the file's stamp."""


def refer(tensor: TensorProto, place: Range | None, length: int = 0) -> None:
    """Lets a tensor's data lie in a range, or without one be promised."""
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "external_data"):
        tensor.ClearField(field)
    tensor.data_location = TensorProto.EXTERNAL
    values = ("", "", str(length), "") if place is None else (place.url, place.offset, place.length, place.stamp)
    for key, value in zip(KEYS, values, strict=True):
        if value != "":
            tensor.external_data.add(key=key, value=str(value))


def is_external(tensor: TensorProto) -> bool:
    """Whether a tensor's data is not in the message itself."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def place_of(tensor: TensorProto) -> Range | None:
    """The range that `refer` gave a tensor, or None."""
    found = {entry.key: entry.value for entry in tensor.external_data}
    location = found.get("location", "")
    if not (os.path.isabs(location) or is_url(location)):
        return None
    return Range(found["location"], int(found["offset"]), int(found["length"]), found.get("stamp", ""))


def length_of(tensor: TensorProto) -> int:
    """Bytes of the data that `refer` put elsewhere."""
    return next((int(entry.value) for entry in tensor.external_data if entry.key == "length"), 0)
