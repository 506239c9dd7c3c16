"""`onnx-net2net expand`."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnx_net2net.cli._job import Job, same_file
from onnx_net2net.cli._options import FILE, WRITING, alone, job_of
from onnx_net2net.errors import NotEquivalentError, UsageError

if TYPE_CHECKING:
    from onnx_net2net.recipe import Result


@click.command()
@click.argument("teacher", type=FILE)
@click.argument("recipe", type=FILE, required=False)
@click.option("-o", "--output", type=FILE, metavar="STUDENT", help="Where the student goes.")
@click.option("--plan", type=FILE, metavar="IN.json", help="Apply a saved plan again; it makes all choices.")
@click.option("--target-params", metavar="P", help="Find the factor for so many parameters: 2x, 30M or a number.")
@click.option("--target-macs", metavar="M", help="The same for multiply-accumulates of one run.")
@click.option("--set", "choices", multiple=True, metavar="KEY=V,V", help="Values to try: steps.0.factor=1.25,1.5,2.")
@click.option("--table", type=FILE, metavar="T.csv", help="Write what --set came to as CSV.")
@WRITING
def expand(**given: Any) -> None:
    """Take the steps of RECIPE, a TOML file: write one STUDENT, or with --set compare a family of them."""
    table, choices, recipe = given.pop("table"), given.pop("choices"), given.pop("recipe")
    job = job_of({**given, "recipe": recipe})
    if recipe is None and not job.plan:
        raise UsageError("no recipe is named", "give a TOML file, or --plan", op="expand")
    if not choices:
        alone("--table without --set", table, {"table": table})
        asked = {name: given[name] for name in ("target_params", "target_macs") if given[name] is not None}
        seed = {} if given["seed"] is None else {"seed": given["seed"]}
        job.run("expand", **({"recipe": _with(recipe, seed)} if recipe else {}), **asked)
        return
    for name in ("output", "plan_out", "target_params", "target_macs", "seed"):
        alone("--set", True, {name: given[name]})
    _compare(job, recipe, _choices(choices), table)


def _with(recipe: str, changes: dict[str, Any]) -> Any:
    """A recipe with another seed."""
    from onnx_net2net.recipe import read

    found = read(recipe)
    return type(found)(changes.get("seed", found.seed), found.steps)


def _compare(job: Job, recipe: str, choices: dict[str, list[Any]], table: str | None) -> None:
    """Makes every member of a family and shows, and writes, one table."""
    from onnx_net2net.cli import _tables as tables
    from onnx_net2net.io import atomic
    from onnx_net2net.recipe import explore

    if table and any(same_file(table, path) for path in (job.teacher, recipe)):
        raise UsageError("it would replace an input", "choose another file", op="--table", tensor=table)
    results: list[Result] = []
    with job.say.stage("expanding"):
        verify = not (job.no_verify or job.dry_run)
        made = explore(job.teacher, recipe, choices, dims=job.dims, verify=verify, isolate=True)
        results += made
    document = tables.family_document(job.teacher, results)
    if table:
        with atomic(Path(table)) as stream:
            stream.write(tables.family_csv(document).encode())
    job.say.document(document)
    job.say.report(lambda: tables.family_report(document))
    if any(result.verdict is not None and not result.verdict for result in results):
        raise NotEquivalentError("a student is not equivalent to its teacher", op="expand")


def _choices(given: Iterable[str]) -> dict[str, list[Any]]:
    """``steps.0.factor=1.25,1.5`` by key, its values as numbers where they are numbers."""
    found: dict[str, list[Any]] = {}
    for text in given:
        key, sign, values = text.partition("=")
        if not (key and sign and values):
            raise UsageError(f"{text!r} is not KEY=VALUE,VALUE", "write steps.0.factor=1.25,1.5", op="--set")
        if key in found:
            raise UsageError(f"{key!r} comes twice", "give it once", op="--set")
        found[key] = [_value(value) for value in values.split(",")]
    return found


def _value(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text, text)
    return value if isinstance(value, (int, float)) else text
