"""`onnx-net2net inspect`."""

from __future__ import annotations

import click

from onnx_net2net.cli._options import JSON, TALK, TEACHER, talker, together


@click.command()
@together(TEACHER, JSON, TALK)
def inspect(teacher: str, **talk: bool) -> None:
    """Show which axes of TEACHER can be widened, what pins the others, and where layers can go."""
    from onnx_net2net.cli import _tables as tables
    from onnx_net2net.inspection import inspect as examine

    say = talker(talk)
    with say.stage("inspecting"):
        inspection = examine(teacher)
    say.document(inspection.to_dict())
    say.report(lambda: tables.inspection_report(inspection, say.verbose))
