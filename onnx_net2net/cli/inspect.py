"""`onnx-net2net inspect`."""

from __future__ import annotations

import click

from onnx_net2net.cli._options import ALLOW, JSON, TALK, TEACHER, OptionalValue, io_change, talker, together


@click.command(cls=OptionalValue)
@together(TEACHER, ALLOW, JSON, TALK)
def inspect(teacher: str, allow_io_change: tuple[str, ...], **talk: bool) -> None:
    """Show which axes of TEACHER can be widened, what pins the others, and where layers can go."""
    from onnx_net2net.cli import _tables as tables
    from onnx_net2net.inspection import inspect as examine

    say = talker(talk)
    with say.stage("inspecting"):
        inspection = examine(teacher, allow_io_change=io_change(allow_io_change))
    say.document(inspection.to_dict())
    say.report(lambda: tables.inspection_report(inspection, say.verbose))
