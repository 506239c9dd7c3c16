"""Objects of file systems that are elsewhere, by URL, through fsspec: read range by range, and written in blocks."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from onnx_net2net.errors import MissingError, ModelError, Net2NetError

BLOCK = 1 << 16
"""Bytes that are fetched at least, since a request costs more than they do."""
MOST, AT_ONCE = 1 << 23, 4
"""Bytes that one request asks for at most, and how many may be under way."""
STAMPS = (
    *("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "checksum", "CRC", "blob_id", "generation"),
    *("mtime", "LastModified", "last_modified", "Last-Modified", "updated", "created", "modified"),
)
"""What file systems call that which changes with the content."""


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
        MissingError: If fsspec is not installed, or what it needs for the protocol.
        ModelError: If there is no such protocol, or it cannot be reached.
    """
    try:
        import fsspec.core
    except ImportError as error:
        way_out = "pip install 'onnx-net2net[remote]'"
        raise MissingError("URLs are read and written by it, and it is not installed", way_out, op="fsspec") from error
    with reaching(url):
        try:
            system, path = fsspec.core.url_to_fs(url)
        except ValueError as error:
            raise ModelError(_first_line(error), "check the URL", op="URL", tensor=url) from error
        return system, path


@contextlib.contextmanager
def reaching(url: str, what: str = "read") -> Iterator[None]:
    """Says of an object that cannot be read or written why that is: libraries raise errors of all kinds."""
    try:
        yield
    except (Net2NetError, MemoryError):
        raise
    except ImportError as error:
        wrong = f"its protocol needs a package that is not installed ({_first_line(error)})"
        raise MissingError(wrong, "install that", op="URL", tensor=url) from error
    except FileNotFoundError as error:
        wrong = "there is no such object" if what == "read" else "there is no such place to write to"
        raise ModelError(wrong, "check the URL", op="URL", tensor=url) from error
    except PermissionError as error:
        wrong = f"it may not be {what} ({_first_line(error)})"
        raise ModelError(wrong, "check your credentials and their rights", op="URL", tensor=url) from error
    except Exception as error:
        wrong = f"it cannot be {what} ({_first_line(error)})"
        raise ModelError(wrong, "check the URL, your credentials and the connection", op="URL", tensor=url) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class Remote:
    """An object elsewhere. What is wanted of it is fetched once, to a temporary file that lasts as long as this does.

    Raises:
        ModelError: If it is not there, or has no size.
        MissingError: If something that its protocol needs is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.system, self.name = filesystem(url)
        self.size, self.stamp = self._look()
        self.have: set[int] = set()
        self.unchecked = False
        self.lock = threading.RLock()
        folder = tempfile.mkdtemp(prefix="onnx_net2net.")
        self.path = os.path.join(folder, "object")
        """Where it is fetched to."""
        self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        os.ftruncate(self.handle, self.size)
        weakref.finalize(self, _forget, self.handle, folder)

    def read(self, offset: int, length: int) -> memoryview:
        """The bytes of a range."""
        self.fetch(offset, length)
        return self._read(offset, length)

    def _read(self, offset: int, length: int) -> memoryview:
        """What was fetched; read, as not every file system shows in a mapped file at once what was written to it."""
        found = memoryview(bytearray(length))
        done = 0
        with self.lock:
            os.lseek(self.handle, offset, os.SEEK_SET)
            while done < length:
                part = os.read(self.handle, min(length - done, MOST))
                if not part:
                    raise ModelError("what was fetched of it is gone", "read it again", op="URL", tensor=self.url)
                found[done : done + len(part)] = part
                done += len(part)
        return found.toreadonly()

    def fetch(self, offset: int, length: int) -> None:
        """Fetches what is missing of a range.

        Raises:
            ModelError: If the object has changed, or cannot be read.
        """
        with self.lock:
            self._fetch(offset, length)
            self.check()

    def check(self) -> None:
        """Refuses what was fetched if the object has changed meanwhile. Raises what `fetch` raises."""
        with self.lock:
            if self.unchecked and self._look() != (self.size, self.stamp):
                raise ModelError("it has changed since it was read", "read it again", op="URL", tensor=self.url)
            self.unchecked = False

    def close(self) -> None:
        """What was fetched stays until nobody holds this."""

    def _look(self) -> tuple[int, str]:
        """The size and stamp that it has now."""
        with reaching(self.url):
            self.system.invalidate_cache(self.name)
            found = self.system.info(self.name)
        if found.get("type") == "directory":
            raise ModelError("it is a folder", "give the URL of a model", op="URL", tensor=self.url)
        if not isinstance(found.get("size"), int):
            wrong = "nobody says how large it is, so that it cannot be read by ranges"
            raise ModelError(wrong, "download it first", op="URL", tensor=self.url)
        known = [f"{key}={found[key]}" for key in ("size", *STAMPS) if found.get(key) is not None]
        return found["size"], " ".join(known)

    def _fetch(self, offset: int, length: int) -> None:
        """Fetches what is missing, without a look at whether the object is what it was."""
        if not length:
            return
        wanted = range(offset // BLOCK, (offset + length - 1) // BLOCK + 1)
        pending: list[tuple[int, int]] = []
        for block in (block for block in wanted if block not in self.have):
            first, stop = pending[-1] if pending else (0, -1)
            if stop == block and (stop - first) * BLOCK < MOST:
                pending[-1] = first, block + 1
            else:
                pending.append((block, block + 1))
        for i in range(0, len(pending), AT_ONCE):
            self._request(pending[i : i + AT_ONCE])

    def _request(self, runs: Sequence[tuple[int, int]]) -> None:
        starts = [first * BLOCK for first, _ in runs]
        ends = [min(stop * BLOCK, self.size) for _, stop in runs]
        with reaching(self.url):
            answers = self.system.cat_ranges([self.name] * len(runs), starts, ends, on_error="raise")
        self.unchecked = True
        for (first, stop), start, end, data in zip(runs, starts, ends, answers, strict=True):
            if len(data) != end - start:
                wrong = f"{len(data)} bytes came where {end - start} were asked for"
                raise ModelError(wrong, "download it first", op="URL", tensor=self.url)
            os.lseek(self.handle, start, os.SEEK_SET)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self.handle, rest) :]
            self.have.update(range(first, stop))

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> memoryview: ...
    def __getitem__(self, place: int | slice) -> int | memoryview:
        """Bytes for who looks through it, and calls `check` at the end."""
        start, stop, _ = place.indices(self.size) if isinstance(place, slice) else (place, place + 1, 1)
        with self.lock:
            self._fetch(start, stop - start)
        found = self._read(start, max(0, stop - start))
        return found if isinstance(place, slice) else found[0]


def _forget(handle: int, folder: str) -> None:
    os.close(handle)
    shutil.rmtree(folder, ignore_errors=True)


_known: weakref.WeakValueDictionary[tuple[str, str], Remote] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def remote(url: str, stamp: str = "") -> Remote:
    """The object of a URL, with what was fetched of it already if somebody still holds it and it has not changed.

    Raises what `Remote` raises.
    """
    with _lock:
        held = _known.get((url, stamp)) if stamp else None
        if held is not None:
            return held
        fresh = Remote(url)
        held = _known.get((url, fresh.stamp))
        if held is not None:
            return held
        _known[url, fresh.stamp] = fresh
        return fresh


def size_of(url: str) -> int:
    """Bytes of an object."""
    return remote(url).size


Content = Callable[[], Iterable[bytes]]
"""Opens what is to be written, block by block."""


def content_of(path: Path | str) -> Iterator[bytes]:
    """A local file, block by block."""
    with open(path, "rb") as stream:
        while block := stream.read(MOST):
            yield block


def put(objects: Sequence[tuple[str, Content]]) -> None:
    """Writes objects of one folder in their order. If that fails, none is left that was not there before.

    In a transaction of fsspec objects appear at its end, in order; where a file system has none, as each is closed.

    Raises:
        ModelError: If they cannot be written.
        MissingError: If something that the protocol needs is not installed.
    """
    url = objects[-1][0]
    system, _ = filesystem(url)
    with reaching(url, "written"):
        # an instance of its own: a transaction would take in what others write through the common one
        system = type(system)(*system.storage_args, **system.storage_options, skip_instance_cache=True)
        names = [filesystem(name)[1] for name, _ in objects]
        fresh = [name for name in names if not system.exists(name)]
    streams: list[Any] = []
    try:
        with reaching(url, "written"), system.transaction:
            for name, (_, content) in zip(names, objects, strict=True):
                stream = system.open(name, "wb")
                streams.append(stream)
                for block in content():
                    stream.write(block)
                stream.close()
    except BaseException:
        for stream in streams:
            _abandon(stream)
        for name in fresh:
            with contextlib.suppress(Exception):
                system.rm_file(name)
        raise


def _abandon(stream: Any) -> None:
    """Gives up what was written to a stream, so that nobody closes it later, which would publish it."""
    with contextlib.suppress(Exception):
        stream.discard()
    with contextlib.suppress(Exception):
        stream.closed = True
