"""`onnx-net2net expand`."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

import click

from onnx_net2net.cli._family import Family
from onnx_net2net.cli._options import COUNT, FILE, WRITING, alone, job_of
from onnx_net2net.errors import UsageError

MANY = ("output_dir", "table", "engine", "jobs")
"""Options that are for several students."""


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="TEACHER... RECIPE")
@click.option("-o", "--output", type=FILE, metavar="STUDENT", help="Where the student goes.")
@click.option("--plan", type=FILE, metavar="IN.json", help="Apply a saved plan again; it makes all choices.")
@click.option("--target-params", metavar="P", help="Find the factor for so many parameters: 2x, 30M or a number.")
@click.option("--target-macs", metavar="M", help="The same for multiply-accumulates of one run.")
@click.option("--set", "choices", multiple=True, metavar="KEY=V,V", help="Values to try: steps.0.factor=1.25,1.5,2.")
@click.option("--output-dir", type=click.Path(file_okay=False), metavar="DIR", help="Where several students go.")
@click.option("--table", type=FILE, metavar="T.csv", help="Write what became of several students as CSV.")
@click.option("--engine", metavar="E[=ADDRESS]", help="What makes them: serial (default), joblib, dask or ray.")
@click.option("--jobs", type=COUNT, metavar="N", help="Workers that the engine starts (default: one for each core).")
@WRITING
def expand(files: tuple[str, ...], **given: Any) -> None:
    """Take the steps of RECIPE, a TOML file, and write one STUDENT of a TEACHER.

    With several teachers, or --set, make a family of students and compare them in one table.
    """
    teachers, recipe = (files[:-1], files[-1]) if len(files) > 1 else (files, None)
    choices, many = given.pop("choices"), {name: given.pop(name) for name in MANY}
    job = job_of({**given, "teacher": teachers[0], "recipe": recipe})
    if recipe is None and not job.plan:
        raise UsageError("no recipe is named", "give a TOML file, or --plan", op="expand")
    asked = {name: given[name] for name in ("target_params", "target_macs") if given[name] is not None}
    seed = {} if given["seed"] is None else {"seed": given["seed"]}
    if not choices and len(teachers) == 1 and many["output_dir"] is None:
        for name in (name for name in MANY if many[name] is not None):
            raise UsageError("it is for several students", "add --set, or --output-dir", op=f"--{name}")
        job.run("expand", **({"recipe": _with(recipe, seed)} if recipe else {}), **asked)
        return
    alone("--plan", job.plan, {"set": choices, **many})
    one = {name: given[name] for name in ("output", "plan_out")}
    alone("--set", choices, {**one, **asked, **seed})
    alone("--output-dir", many["output_dir"], one)
    alone("one of several teachers", True, one)
    if not (choices or job.dry_run or many["output_dir"]):
        raise UsageError("no folder for students is named", "give --output-dir DIR, or --dry-run", op="expand")
    Family(job, teachers, str(recipe), **many).run(_with(str(recipe), seed), _choices(choices), **asked)


def _with(recipe: str, changes: dict[str, Any]) -> Any:
    """A recipe with another seed."""
    from onnx_net2net.recipe import read

    found = read(recipe)
    return type(found)(changes.get("seed", found.seed), found.steps)


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
