"""Ranges of bytes: the one way in which stored weights are read.

A place that is no file (an object store, say) needs one more class like `MappedFile`, and a line in `source`.
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


class Source(Protocol):
    """Something that bytes can be read from; `close` leaves what was read valid."""

    size: int
    stamp: str
    """What changes when the content does."""

    def read(self, offset: int, length: int) -> memoryview:
        """The bytes of a range, which lies within the size."""

    def close(self) -> None:
        """Lets go of it."""


class MappedFile:
    """A file of this machine. Ranges are mapped: they take memory only where they are touched.

    Raises:
        OSError: If it cannot be opened.
    """

    def __init__(self, path: str) -> None:
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

    def close(self) -> None:
        """Closes the file; what is mapped stays."""
        os.close(self.handle)


@contextlib.contextmanager
def source(url: str) -> Iterator[Source]:
    """Where the bytes of a name come from.

    Raises:
        OSError: If it cannot be read.
    """
    opened = MappedFile(url)
    try:
        yield opened
    finally:
        opened.close()


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes within a file.

    Attributes:
        url: The file, by its absolute path.
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

    def part(self, start: int, length: int) -> memoryview:
        """Some of the bytes. Raises what `read` raises."""
        with self._opened() as opened:
            return opened.read(self.offset + start, length)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Source]:
        try:
            with source(self.url) as opened:
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
    if not os.path.isabs(found.get("location", "")):
        return None
    return Range(found["location"], int(found["offset"]), int(found["length"]), found.get("stamp", ""))


def length_of(tensor: TensorProto) -> int:
    """Bytes of the data that `refer` put elsewhere."""
    return next((int(entry.value) for entry in tensor.external_data if entry.key == "length"), 0)
