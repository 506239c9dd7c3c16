"""`onnx-net2net check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnx_net2net.cli import _reports
from onnx_net2net.cli._options import (
    COUNT,
    FILE,
    JSON,
    LIMIT,
    SCOPE,
    SEED,
    TALK,
    TEACHER,
    alone,
    bytes_of,
    ranges_of,
    sizes_of,
    talker,
    together,
    tolerances,
)
from onnx_net2net.errors import MissingError, ModelError, NotEquivalentError, RequestError

INPUTS = together(
    click.option(
        "--inputs", metavar="SOURCE", help="Inputs in place of random ones: X.npz, a folder, module:function."
    ),
    click.option("--samples", type=COUNT, metavar="N", help="Random samples (default 24, for large models fewer)."),
    SEED,
    click.option("--range", "range_", multiple=True, metavar="NAME=LOW:HIGH", help="What to draw an input from."),
    click.option("--dim", multiple=True, metavar="NAME=SIZE", help="Size of a dynamic dimension. Repeatable."),
    click.option("--no-probes", is_flag=True, help="Leave out the samples of zeros, large and one-hot values."),
    click.option("--save-inputs", type=FILE, metavar="X.npz", help="Write the samples that were used."),
)


@click.command()
@TEACHER
@click.argument("student", type=FILE)
@click.option("--provider", multiple=True, metavar="cpu|cuda", help="Where to run (default cpu). Repeatable.")
@INPUTS
@click.option("--rtol", multiple=True, metavar="[NAME=]R", help="Relative tolerance [of an output]. Repeatable.")
@click.option("--atol", multiple=True, metavar="[NAME=]A", help="Absolute tolerance [of an output]. Repeatable.")
@click.option("--grown", is_flag=True, help="Fail if STUDENT is no larger than TEACHER.")
@click.option("--per-layer", is_flag=True, help="Compare every tensor on the way, and draw how the error grows.")
@click.option("--plan", type=FILE, metavar="IN.json", help="The student's plan, to match tensors by.")
@SCOPE
@click.option("--strict", is_flag=True, help="Fail if a node that computes does not run on the first provider.")
@click.option("--timeout", type=LIMIT, metavar="SECONDS", help="End onnxruntime if it takes longer.")
@click.option("--threads", type=COUNT, metavar="N", help="Threads of onnxruntime (default: one for each core).")
@click.option("--max-memory", metavar="SIZE", help="End onnxruntime if it takes more memory, such as 500M or 2G.")
@_reports.REPORTS
@together(JSON, TALK)
def check(
    teacher: str,
    student: str,
    inputs: str | None,
    dim: tuple[str, ...],
    range_: tuple[str, ...],
    per_layer: bool,
    plan: str | None,
    max_memory: str | None,
    **given: Any,
) -> None:
    """Compare TEACHER and STUDENT on the same inputs; exit with 1 if they differ."""
    say, reports = talker(given), _reports.take(given)
    no_probes = given.pop("no_probes")
    drawing = {"samples": given["samples"], "seed": given["seed"], "dim": dim, "range": range_, "no_probes": no_probes}
    alone("--inputs", inputs, drawing)
    chosen = {name: value for name, value in given.items() if value not in (None, ())}
    chosen["providers"] = chosen.pop("provider", ("cpu",))
    chosen |= {"dims": sizes_of(dim), "ranges": ranges_of(range_), "probes": not no_probes}
    chosen["per_layer"] = per_layer or None
    chosen["plan"] = Path(plan).read_text("utf-8", "replace") if plan else None
    chosen["max_memory"] = bytes_of(max_memory, "--max-memory")
    chosen["isolate"] = True
    for option in {"rtol", "atol"} & chosen.keys():
        chosen[option] = tolerances(chosen[option], f"--{option}")
    from onnx_net2net.checking.verify import verify
    from onnx_net2net.cli import _layers as layers
    from onnx_net2net.cli import _tables as tables
    from onnx_net2net.io import opened
    from onnx_net2net.reporting import check_document, failed_document

    _reports.check_targets({**reports, "--save-inputs": given["save_inputs"]}, [teacher, student], inputs)
    try:
        with say.stage("reading"):
            models = opened(teacher), opened(student)
        with say.stage("verifying"):
            verdict = verify(*models, inputs=inputs, **chosen)
    except (MissingError, ModelError, RequestError) as error:
        _reports.write(reports, failed_document(teacher, student, error))
        raise
    document = check_document(teacher, student, verdict, models)
    _reports.write(reports, document)
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
