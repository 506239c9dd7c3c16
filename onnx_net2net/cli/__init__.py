"""The command line: one module for each command. It prints, exits and catches; the library does the rest."""

from onnx_net2net.cli._main import cli, main

__all__ = ["cli", "main"]
