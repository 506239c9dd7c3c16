"""The group of all commands."""

from __future__ import annotations

import io
import sys
from collections import UserDict
from importlib import import_module
from typing import Any, NoReturn

import click

from onnx_net2net._version import __version__
from onnx_net2net.cli._guard import Guarded

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Commands(UserDict[str, Any]):
    """Commands by name, each in a module of that name, which is imported when the command is asked for."""

    def __getitem__(self, name: str) -> Any:
        return getattr(import_module(self.data[name]), name)


NAMES = ("inspect", "widen", "deepen", "expand", "weights", "check", "demo")
COMMANDS = Commands({name: f"onnx_net2net.cli.{name}" for name in NAMES})


@click.group(cls=Guarded, commands=COMMANDS, no_args_is_help=False, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="onnx-net2net", message="%(prog)s %(version)s")
def cli() -> None:
    """Make wider and deeper ONNX models that compute the same function.

    Exit codes: 0 fine, 1 not equivalent, 2 wrong usage, 3 unreadable model or impossible request, 4 something missing.
    """


def main() -> NoReturn:
    """The console script, which prints any name whatever the terminal's encoding."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    cli.main(prog_name="onnx-net2net")
