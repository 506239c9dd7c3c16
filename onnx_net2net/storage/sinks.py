"""Where a model is written to. A place that is no file needs one more class like `LocalFile`."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from onnx_net2net.errors import ModelError

Progress = Callable[[int, int], None]
"""Is told how many bytes of how many are written."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a model is written.

    Attributes:
        external: Whether weights go to files of their own, even if the model file could hold them.
        shard_size: Bytes that such a file may hold; None for one file.
        threads: Threads that make and write blocks; None for one for each processor, up to four.
        progress: Is told how far it is.
    """

    external: bool = False
    shard_size: int | None = None
    threads: int | None = None
    progress: Progress | None = None

    @property
    def is_external(self) -> bool:
        """Whether weights go to files of their own, however few they are."""
        return self.external or self.shard_size is not None

    @property
    def workers(self) -> int:
        """How many threads work."""
        return self.threads or min(4, os.cpu_count() or 1)


class Sink(Protocol):
    """Somewhere that bytes are written to, one block at a time, and that is put in place at the end."""

    name: str

    def write(self, offset: int, data: memoryview) -> None:
        """Writes bytes at a place."""

    def finish(self) -> None:
        """Makes sure that all is written."""

    def publish(self, target: Path) -> None:
        """Puts it in place, in one step."""

    def discard(self) -> None:
        """Removes it, if it is not in place."""


class LocalFile:
    """A new file beside the target.

    Raises:
        OSError: If there can be none.
    """

    def __init__(self, target: Path) -> None:
        self.handle, self.name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        self.open = True

    def write(self, offset: int, data: memoryview) -> None:
        """Writes bytes at a place."""
        os.lseek(self.handle, offset, os.SEEK_SET)
        while data:
            data = data[os.write(self.handle, data) :]

    def finish(self) -> None:
        """Makes sure that all is on the disk, with the rights of a new file."""
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(self.name, 0o666 & ~mask)
        os.fsync(self.handle)
        self._close()

    def publish(self, target: Path) -> None:
        """Renames it."""
        os.replace(self.name, target)

    def discard(self) -> None:
        """Removes it, if it is not in place."""
        self._close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.name)

    def _close(self) -> None:
        if self.open:
            self.open = False
            os.close(self.handle)


@contextlib.contextmanager
def explained(target: Path) -> Iterator[None]:
    """Says of a file that cannot be written which one it is."""
    try:
        yield
    except OSError as error:
        wrong = f"it cannot be written ({error.strerror or error})"
        raise ModelError(wrong, "choose another place", op="file", tensor=str(target)) from error
