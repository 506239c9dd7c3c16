"""onnxruntime in a child process: where it crashes, hangs or asks for all memory there is, the parent says so.

The child runs `session.py` alone, which costs what importing onnxruntime costs, beside the parent's own work.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from onnx_net2net.checking import session
from onnx_net2net.checking.runtime import Here, Runner, Stopped, missing
from onnx_net2net.checking.session import Job, Reply
from onnx_net2net.errors import MissingError, UsageError

POLL = 0.02
"""Seconds between two looks at the child's memory."""
GRACE = 5
"""Seconds that a child may take to end once it no longer speaks."""
QUOTED = 200
"""Characters of the child's last words that a message quotes."""


@contextlib.contextmanager
def runner(
    isolate: bool, timeout: float | None, max_memory: int | None, threads: int | None = None
) -> Iterator[Runner]:
    """Where onnxruntime is to run: here, or in a child process if that is wanted or a limit is set.

    Raises:
        MissingError: If onnxruntime is not installed, or memory cannot be limited on this system.
        UsageError: If a limit is not positive.
    """
    for name, limit in (("timeout", timeout), ("max_memory", max_memory), ("threads", threads)):
        if limit is not None and not limit > 0:
            raise UsageError(f"{limit} is no limit", "give a positive number", op=name)
    if not (isolate or timeout is not None or max_memory is not None):
        yield Here(threads)
        return
    with Child(timeout, max_memory, threads) as child:
        yield child


class Child:
    """A process that runs onnxruntime; it ends with the block, however that ends.

    Args:
        timeout: Seconds that it may take in all, from question to answer.
        max_memory: Bytes that it may hold in memory.
        threads: Threads that work on one node; None for as many as there are cores.
    """

    def __init__(self, timeout: float | None = None, max_memory: int | None = None, threads: int | None = None) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise missing(ImportError("no module named onnxruntime"))
        if max_memory is not None and resident(os.getpid()) is None:
            raise MissingError("memory cannot be limited on this system", "go without, or use Linux", op="max_memory")
        self.timeout = timeout
        self.max_memory = max_memory
        self.threads = threads
        self._killed = ""
        self._spent = 0.0
        self._since: float | None = None
        self._available: list[str] | None = None

    def __enter__(self) -> Child:
        self._words = tempfile.TemporaryFile()
        command = [sys.executable, "-P", session.__file__]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words, bufsize=-1
        )
        self._done = threading.Event()
        if self.timeout is not None or self.max_memory is not None:
            threading.Thread(target=self._watch, daemon=True).start()
        self._say([str(path) for path in sys.path])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._words):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()

    def available(self) -> list[str]:
        """The providers that onnxruntime has.

        Raises:
            MissingError: If it cannot be imported.
        """
        if self._available is None:
            reply = self._timed(lambda: self._hear("verification"))
            if "missing" in reply:
                raise missing(ImportError(reply["missing"]))
            self._available = reply["available"]
        return self._available

    def ask(self, job: Job, who: str) -> Reply:
        """Runs a job in the child.

        Raises:
            Stopped: If the child ends over it.
        """
        self.available()

        def talk() -> Reply:
            self._say({"threads": self.threads, **job})
            return self._hear(who)

        reply = self._timed(talk)
        if reply.get("error", ("", ""))[0] == "memory":
            raise Stopped("onnxruntime ran out of memory", "run it on fewer or smaller samples", op=who)
        return reply

    def _timed(self, talk: Callable[[], Reply]) -> Reply:
        """Counts the time that the child takes, and none of the parent's."""
        self._since = time.monotonic()
        try:
            return talk()
        finally:
            self._spent, self._since = self._spent + time.monotonic() - self._since, None

    def _taken(self) -> float:
        since = self._since
        return self._spent + (time.monotonic() - since if since is not None else 0.0)

    def _say(self, what: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `_hear` finds out why
            pickle.dump(what, self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()

    def _hear(self, who: str) -> Reply:
        assert self._process.stdout is not None
        try:
            reply: Reply = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise self._stopped(who) from None
        return reply

    def _stopped(self, who: str) -> Stopped:
        """Why the child is no more."""
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:  # it closed its side, and lives on
            self._process.kill()
            code = self._process.wait()
        if self._killed == "timeout":
            return Stopped(f"onnxruntime took more than {self.timeout:g} s", "give it more with --timeout", op=who)
        if self._killed == "memory":
            assert self.max_memory is not None
            wrong = f"onnxruntime took more than {self.max_memory / 2**20:.0f} MiB of memory"
            return Stopped(wrong, "give it more with --max-memory", op=who)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._words.seek(0)
        words = self._words.read().decode("utf-8", "replace").strip().splitlines()
        said = f": {words[-1][:QUOTED]}" if words else ""
        return Stopped(f"onnxruntime crashed ({how}{said})", "check the model with onnx.checker", op=who)

    def _watch(self) -> None:
        """Ends the child when it goes over a limit."""
        while not self._done.wait(POLL):
            if self.timeout is not None and self._taken() > self.timeout:
                self._killed = "timeout"
            elif self.max_memory is not None and (resident(self._process.pid) or 0) > self.max_memory:
                self._killed = "memory"
            if self._killed:
                self._process.kill()
                return


def resident(pid: int) -> int | None:
    """Bytes that a process holds in memory; None where the system does not say so in /proc."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
