"""The group of all commands."""

from __future__ import annotations

import io
import sys
from typing import NoReturn

import click

from onnx_net2net._version import __version__
from onnx_net2net.cli._guard import Guarded
from onnx_net2net.cli._options import SETTINGS
from onnx_net2net.cli.check import check
from onnx_net2net.cli.deepen import deepen
from onnx_net2net.cli.demo import demo
from onnx_net2net.cli.expand import expand
from onnx_net2net.cli.inspect import inspect
from onnx_net2net.cli.weights import weights
from onnx_net2net.cli.widen import widen


@click.group(cls=Guarded, no_args_is_help=False, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="onnx-net2net", message="%(prog)s %(version)s")
def cli() -> None:
    """Make wider and deeper ONNX models that compute the same function.

    Exit codes: 0 fine, 1 not equivalent, 2 wrong usage, 3 unreadable model or impossible request, 4 something missing.
    """


for command in (inspect, widen, deepen, expand, weights, check, demo):
    cli.add_command(command)


def main() -> NoReturn:
    """The console script, which prints any name whatever the terminal's encoding."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    cli.main(prog_name="onnx-net2net")
