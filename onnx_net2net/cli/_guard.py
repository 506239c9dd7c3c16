"""Turns every mistake into a short message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from onnx_net2net.errors import MissingError, Net2NetError, NotEquivalentError, UsageError

CODES = {NotEquivalentError: 1, UsageError: 2, MissingError: 4}
"""Exit code by error; 3 for all others."""
INTERRUPTED = 130


class Guarded(click.Group):
    """A group that turns every mistake into a short message and an exit code."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Runs the command line and exits."""
        sys.exit(guarded(lambda: super(Guarded, self).main(*args, **{**extra, "standalone_mode": False})))


def guarded(run: Callable[[], int | None]) -> int:
    """The exit code of ``run``, once its error is printed."""
    try:
        return run() or 0
    except click.ClickException as error:
        return _fail(f"{error.format_message()} (see --help)", 2)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Net2NetError as error:
        return _fail(str(error), code_of(error))
    except MemoryError:
        return _fail("there is not enough memory for this model", 3)
    except OSError as error:
        return _fail(f"file ({error.filename}): {error.strerror}" if error.filename else str(error), 3)
    except SystemExit as error:  # what click and rich make of a closed pipe
        return INTERRUPTED if error.code == 1 else int(error.code or 0)


def code_of(error: Net2NetError) -> int:
    """The exit code that an error stands for."""
    return next((code for kind, code in CODES.items() if isinstance(error, kind)), 3)


def _fail(text: str, code: int) -> int:
    prefix = "error:" if os.environ.get("NO_COLOR") else click.style("error:", fg="red")
    click.echo(f"{prefix} {' '.join(text.split())}", err=True)
    return code
