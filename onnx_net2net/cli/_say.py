"""What the command line prints."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Say:
    """What goes to the terminal: reports and documents on stdout, progress and timings on stderr."""

    quiet: bool
    verbose: bool
    as_json: bool = False

    def report(self, lines: Callable[[], Iterable[object]]) -> None:
        """Prints lines and tables for people, if they are wanted."""
        from onnx_net2net.cli._tables import console

        if not self.quiet and not self.as_json:
            for line in lines():
                console().print(line)

    def document(self, document: Mapping[str, Any]) -> None:
        """Prints the one JSON document, if it is wanted."""
        from onnx_net2net.cli._tables import finite

        if self.as_json:
            click.echo(json.dumps(finite(document), indent=1, allow_nan=False))

    @contextlib.contextmanager
    def moving(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Shows how many bytes of how many are done, and how fast; with -v how long it took."""
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        from onnx_net2net.cli._tables import console

        start, moved = time.perf_counter(), 0
        columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        shown = Progress(*columns, console=console(stderr=True), transient=True, disable=self.quiet)
        task = shown.add_task(name)

        def progress(done: int, total: int) -> None:
            nonlocal moved
            if not moved:
                shown.start()
            moved = done
            shown.update(task, completed=done, total=total)

        try:
            yield progress
        finally:
            if moved:
                shown.stop()
        if self.verbose and moved:
            seconds = time.perf_counter() - start
            click.echo(f"{name} {moved / 1e6:.0f} MB at {moved / 1e6 / seconds:.0f} MB/s: {seconds:.2f} s", err=True)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Shows that something is going on, and with -v how long it took."""
        from onnx_net2net.cli._tables import console

        start = time.perf_counter()
        with contextlib.nullcontext() if self.quiet else console(stderr=True).status(name):
            yield
        if self.verbose:
            click.echo(f"{name}: {time.perf_counter() - start:.2f} s", err=True)
