"""`onnx-net2net weights`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnx_net2net.cli._options import FILE, JSON, TALK, TEACHER, alone, pairs, talker, together
from onnx_net2net.errors import UsageError

if TYPE_CHECKING:
    from onnx_net2net.training.course import Course


@click.command()
@TEACHER
@click.option("--plan", type=FILE, required=True, metavar="IN.json", help="The plan that made the student.")
@click.option(
    "--checkpoint", type=FILE, required=True, metavar="FILE", help=".safetensors, .npz or .pt of the teacher."
)
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Where the student's checkpoint goes.")
@click.option("--under", metavar="KEY", default="", help="Key that holds the weights in a nested .pt file.")
@click.option(
    "--reference", type=FILE, metavar="FILE", help="The checkpoint that was exported, if this is a later one."
)
@click.option("--name", multiple=True, metavar="TENSOR=INITIALIZER", help="What a tensor is, where a choice is needed.")
@click.option("--keep", multiple=True, metavar="GLOB", help="Tensors that pass through as they are. Repeatable.")
@click.option("--optimizer", type=FILE, metavar="OPT.pt", help="An optimizer's state_dict, to grow as well.")
@click.option("--optimizer-out", type=FILE, metavar="FILE.pt", help="Where the grown state_dict goes.")
@click.option("--strict", is_flag=True, help="Refuse optimizer state that has no exact image.")
@click.option("--dry-run", is_flag=True, help="Match and report, but write nothing.")
@together(JSON, TALK)
def weights(teacher: str, **given: Any) -> None:
    """Grow a checkpoint of TEACHER, under the framework's own names, into one of its student."""
    say = talker(given)
    _check_files(teacher, given)
    names = pairs(given["name"], "--name", "[^=]+")
    from onnx_net2net.cli import _tables as tables
    from onnx_net2net.training.checkpoint import read_state, write_state
    from onnx_net2net.training.course import Course

    with say.stage("matching"):
        state = read_state(given["checkpoint"], under=given["under"])
        earlier = read_state(given["reference"], under=given["under"]) if given["reference"] else None
        plan = Path(given["plan"]).read_text(encoding="utf-8", errors="replace")
        growth = Course(teacher, plan, state, reference=earlier, names=names, keep=given["keep"])
    inexact, buffers = _optimizer(growth, given["optimizer"], given["strict"])
    if given["output"] and not given["dry_run"]:
        with say.stage("writing"):
            if buffers is not None:
                _write(buffers, given["optimizer_out"])
            write_state(growth.state, given["output"])
    document = tables.growth_document(growth, inexact, None if given["dry_run"] else given["output"])
    say.document(document)
    say.report(lambda: tables.growth_report(document, say.verbose))


def _check_files(teacher: str, given: dict[str, Any]) -> None:
    """Refuses contradictions, and outputs that would replace what is read."""
    if not given["output"] and not given["dry_run"]:
        raise UsageError("no checkpoint is named", "give -o FILE, or --dry-run", op="-o")
    if bool(given["optimizer"]) != bool(given["optimizer_out"]) and not given["dry_run"]:
        raise UsageError("it goes with --optimizer", "give both or neither", op="--optimizer-out")
    if not given["optimizer"]:
        alone("no --optimizer", True, {"strict": given["strict"]})
    read = [given[name] for name in ("plan", "checkpoint", "reference", "optimizer") if given[name]]
    taken = {Path(name).resolve() for name in (teacher, *read)}
    for option in ("output", "optimizer_out"):
        if given[option] and Path(given[option]).resolve() in taken:
            wrong = "it would replace a file that is read, or the other output"
            raise UsageError(wrong, "choose another name", op=f"--{option.replace('_', '-')}", tensor=given[option])
        taken |= {Path(given[option]).resolve()} if given[option] else set()


def _optimizer(growth: Course, path: str | None, strict: bool) -> tuple[dict[str, str], Any]:
    """What has no exact image, and the grown state_dict."""
    if path is None:
        return {}, None
    from onnx_net2net.torch import expand_optimizer_state
    from onnx_net2net.training.checkpoint import load_torch

    state, inexact = expand_optimizer_state(growth, load_torch(Path(path)), strict=strict)
    return inexact, state


def _write(buffers: Any, path: str) -> None:
    from onnx_net2net.training.checkpoint import torch_bytes, write_bytes

    write_bytes(torch_bytes(buffers), Path(path))
