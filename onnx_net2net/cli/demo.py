"""`onnx-net2net demo`."""

from __future__ import annotations

from pathlib import Path

import click

from onnx_net2net.cli._options import FOLDER, TALK, talker
from onnx_net2net.errors import NotEquivalentError


@click.command()
@click.option("-o", "--output", type=FOLDER, metavar="DIR", help="Keep the models here.")
@TALK
def demo(output: Path | None, **talk: bool) -> None:
    """Widen and deepen a small trained model and compare what the students compute."""
    from onnx_net2net.demo import run

    say = talker(talk)
    if not run(output, lambda line: say.report(lambda: [line])):
        raise NotEquivalentError("a student is not equivalent to its teacher", op="demo")
