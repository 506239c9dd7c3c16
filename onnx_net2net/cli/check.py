"""`onnx-net2net check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnx_net2net.cli._options import (
    AMOUNT,
    COUNT,
    FILE,
    JSON,
    LIMIT,
    SEED,
    TALK,
    TEACHER,
    alone,
    arrays,
    bytes_of,
    sizes_of,
    talker,
    together,
)
from onnx_net2net.errors import NotEquivalentError


@click.command()
@TEACHER
@click.argument("student", type=FILE)
@click.option("--provider", multiple=True, metavar="cpu|cuda", help="Where to run (default cpu). Repeatable.")
@click.option("--inputs", type=FILE, metavar="X.npz", help="Arrays by input name, in place of random ones.")
@click.option("--samples", type=COUNT, metavar="N", help="How many random samples to compare (default 3).")
@SEED
@click.option("--rtol", type=AMOUNT, metavar="R", help="Relative tolerance, in place of the measured one.")
@click.option("--atol", type=AMOUNT, metavar="A", help="Absolute tolerance, in place of the measured one.")
@click.option("--dim", multiple=True, metavar="NAME=SIZE", help="Size of a dynamic dimension. Repeatable.")
@click.option("--per-layer", is_flag=True, help="Compare every tensor on the way, and draw how the error grows.")
@click.option("--plan", type=FILE, metavar="IN.json", help="The student's plan, to match tensors by.")
@click.option("--strict", is_flag=True, help="Fail if a node that computes does not run on the first provider.")
@click.option("--timeout", type=LIMIT, metavar="SECONDS", help="End onnxruntime if it takes longer.")
@click.option("--max-memory", metavar="SIZE", help="End onnxruntime if it takes more memory, such as 500M or 2G.")
@together(JSON, TALK)
def check(
    teacher: str,
    student: str,
    inputs: str | None,
    dim: tuple[str, ...],
    per_layer: bool,
    plan: str | None,
    max_memory: str | None,
    **given: Any,
) -> None:
    """Compare TEACHER and STUDENT on the same inputs; exit with 1 if they differ."""
    from onnx_net2net.checking.verify import verify
    from onnx_net2net.cli import _layers as layers
    from onnx_net2net.cli import _tables as tables

    say = talker(given)
    alone("--inputs", inputs, {"samples": given["samples"], "seed": given["seed"], "dim": dim})
    chosen = {name: value for name, value in given.items() if value not in (None, ())}
    chosen["providers"] = chosen.pop("provider", ("cpu",))
    chosen["dims"] = sizes_of(dim)
    chosen["per_layer"] = per_layer or None
    chosen["plan"] = Path(plan).read_text("utf-8", "replace") if plan else None
    chosen["max_memory"] = bytes_of(max_memory, "--max-memory")
    chosen["isolate"] = True
    with say.stage("verifying"):
        verdict = verify(teacher, student, inputs=arrays(inputs) if inputs else None, **chosen)
    document = verdict.to_dict()
    say.document(document)
    if per_layer and verdict.layers:
        say.report(lambda: layers.layers_report(document["layers"], say.verbose))
    if verdict.device:
        say.report(lambda: layers.device_report(document["device"]))
    say.report(lambda: tables.verdict_report(document))
    if not verdict:
        raise NotEquivalentError(
            f"it is not equivalent, {verdict.reason}{layers.place(verdict)}", op="student", tensor=student
        )
