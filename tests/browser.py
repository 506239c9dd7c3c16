"""A headless Chromium without a network, spoken to over its debugging pipe: no port, no other package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 60
"""Seconds that one answer may take."""
OPTIONS = """--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --force-color-profile=srgb --hide-scrollbars
--no-first-run --disable-background-networking --proxy-server=127.0.0.1:9 --remote-debugging-pipe""".split()
OPTIONS.append("--host-resolver-rules=MAP * ~NOTFOUND")
Answer = dict[str, Any]


def browser_here() -> str | None:
    """The path of a browser, if one is there."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One browser with one page; everything that the page asks for or complains of is kept in ``events``."""

    def __init__(self, path: str, profile: Path) -> None:
        taken, self._out = os.pipe()
        self._in, given = os.pipe()
        # it reads from descriptor 3 and writes to 4
        line = f'exec "$@" 100<&{taken} 101>&{given} 3<&100 4>&101'
        command = ["bash", "-c", line, "bash", path, *OPTIONS, f"--user-data-dir={profile}"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, pass_fds=(taken, given), start_new_session=True, **quiet)
        os.close(taken)
        os.close(given)
        self._held, self._count, self._session = b"", 0, ""
        self.events: list[Answer] = []
        try:
            page = self._ask("Target.createTarget", url="about:blank")["targetId"]
            self._session = self._ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self._ask(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def open(self, path: Path, width: int = 1000, height: int = 800, *, scheme: str = "light", media: str = "") -> None:
        """Opens a file in a window of a size, and forgets what was before."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self._ask("Emulation.setEmulatedMedia", media=media, features=wanted)
        self.events.clear()
        self._ask("Page.navigate", url=path.resolve().as_uri())
        end = time.monotonic() + PATIENCE
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._read(end)

    def ask(self, expression: str) -> Any:
        """The value of an expression in JavaScript."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def screenshot(self) -> bytes:
        """The window as a PNG."""
        return base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self._ask("Page.printToPDF", printBackground=False)["data"])

    def close(self) -> None:
        """Ends the browser and all that it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def _ask(self, method: str, **parameters: Any) -> Answer:
        self._count += 1
        number = self._count
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while (answer := self._read(end)).get("id") != number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _read(self, end: float) -> Answer:
        """The next message; events are kept."""
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._in], [], [], max(end - time.monotonic(), 0))
            more = os.read(self._in, 1 << 16) if ready else b""
            if not more:
                raise TimeoutError("the browser does not answer")
            self._held += more
        line, _, self._held = self._held.partition(b"\0")
        message: Answer = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message


def pixels(png: bytes) -> tuple[int, int, Counter[tuple[int, ...]]]:
    """Width, height, and how often each colour occurs in a PNG of 8 bits that is not interlaced."""
    chunks, place = [], 8
    while place < len(png):
        (length,) = struct.unpack_from(">I", png, place)
        chunks.append((png[place + 4 : place + 8], png[place + 8 : place + 8 + length]))
        place += length + 12
    width, height, bits, kind, *_, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (bits, interlaced) == (8, 0)
    step = {2: 3, 6: 4}[kind]
    packed = zlib.decompress(b"".join(data for name, data in chunks if name == b"IDAT"))
    above, counts = bytearray(width * step), Counter[tuple[int, ...]]()
    for row in range(height):
        start = row * (width * step + 1)
        line = bytearray(packed[start + 1 : start + 1 + width * step])
        _unfilter(packed[start], line, above, step)
        counts.update(zip(*(line[i::step] for i in range(3)), strict=True))
        above = line
    return width, height, counts


def _unfilter(kind: int, line: bytearray, above: bytearray, step: int) -> None:
    """Adds to each byte what its neighbours foretell: left, above, their mean, or the nearest of three (Paeth)."""
    if kind == 0:
        return
    for i in range(len(line)):
        left, corner = (line[i - step], above[i - step]) if i >= step else (0, 0)
        up = above[i]
        near = left + up - corner
        guess = (left, up, (left + up) // 2, min((left, up, corner), key=lambda value: abs(near - value)))[kind - 1]
        line[i] = (line[i] + guess) & 255
