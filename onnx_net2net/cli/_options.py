"""Options that several commands share, and what is made of their values."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from onnx_net2net.cli._job import Job
from onnx_net2net.cli._say import Say
from onnx_net2net.errors import RequestError, UsageError

Command = Callable[..., None]


def pairs(given: Iterable[str], option: str, value: str, form: str = "NAME=SIZE") -> dict[str, str]:
    """Values by name; the last ``=`` separates, since names may hold others."""
    found: dict[str, str] = {}
    for text in given:
        match = re.fullmatch(f"(.+)=({value})", text, re.ASCII)
        if not match:
            wanted = form.partition("=")[2].lower()
            raise UsageError(f"{text!r} is not {form}", f"write a name, '=' and a {wanted}", op=option)
        if match[1] in found:
            raise UsageError(f"{match[1]!r} comes twice", "give it once", op=option)
        found[match[1]] = match[2]
    return found


def sizes_of(given: Iterable[str]) -> dict[str, int]:
    """Sizes of dynamic dimensions by name."""
    return {name: int(size) for name, size in pairs(given, "--dim", "[1-9][0-9]*").items()}


UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def bytes_of(text: str | None, option: str) -> int | None:
    """``500M`` or ``2G`` as a number of bytes."""
    if text is None:
        return None
    match = re.fullmatch("([1-9][0-9]*)([KMG]?)B?", text.upper(), re.ASCII)
    if not match:
        raise UsageError(f"{text!r} is not a size", "write 500M or 2G", op=option)
    return int(match[1]) * UNITS[match[2]]


NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def ranges_of(given: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of inputs by name."""
    found = pairs(given, "--range", f"{NUMBER}:{NUMBER}", "NAME=LOW:HIGH")
    return {name: (float(text.partition(":")[0]), float(text.partition(":")[2])) for name, text in found.items()}


def tolerances(given: Iterable[str], option: str) -> float | dict[str, float] | None:
    """``R`` for all outputs, ``NAME=R`` for one, or both."""
    named = pairs((text if "=" in text else f"*={text}" for text in given), option, "[^=]+", "NAME=R")
    found = {name: _amount(text, option) for name, text in named.items()}
    return found["*"] if found.keys() == {"*"} else found or None


def _amount(text: str, option: str) -> float:
    with contextlib.suppress(ValueError):
        if float(text) >= 0:
            return float(text)
    raise UsageError(f"{text!r} is not a number from 0 on", "write R or NAME=R", op=option)


def kernels(text: str | None) -> list[tuple[int, ...]] | None:
    """``3`` or ``1x7,7x1`` as kernels."""
    if text is not None and not re.fullmatch(r"\d+(x\d+)*(,\d+(x\d+)*)*", text, re.ASCII):
        raise UsageError(f"{text!r} is not a kernel", "write 3, 1x7 or 1x7,7x1", op="--kernel")
    return [tuple(map(int, part.split("x"))) for part in text.split(",")] if text else None


def alone(option: str, given: object, others: Mapping[str, object]) -> None:
    """Refuses options that another one would silence."""
    set_too = [name for name, value in others.items() if value not in (None, ()) and value is not False]
    clash = [f"--{name.replace('_', '-')}" for name in set_too]
    if given and clash:
        raise UsageError(f"it excludes {', '.join(clash)}", "give one or the other", op=option)


def arrays(path: str) -> dict[str, Any]:
    """The arrays of an .npz file by name."""
    from zipfile import BadZipFile

    import numpy as np

    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (ValueError, TypeError, EOFError, BadZipFile) as error:
        raise RequestError("it holds no arrays by name", "write it with numpy.savez", op="file", tensor=path) from error


def talker(given: dict[str, Any]) -> Say:
    """Takes the options about output out of ``given``."""
    say = Say(given.pop("quiet"), given.pop("verbose"), given.pop("as_json", False))
    alone("--quiet", say.quiet, {"verbose": say.verbose})
    return say


def job_of(given: dict[str, Any]) -> Job:
    """Takes the options that `widen` and `deepen` share out of ``given``."""
    given["shard_size"] = bytes_of(given["shard_size"], "--shard-size")
    shared = {field.name: given.pop(field.name) for field in fields(Job) if field.name in given}
    job = Job(**shared, dims=sizes_of(given.pop("dim")), say=talker(given))
    alone("--plan", job.plan, given)
    return job


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in their order."""
    return lambda command: functools.reduce(lambda made, option: option(made), reversed(options), command)


IO_CHANGE = "--allow-io-change"


class OptionalValue(click.Command):
    """A command whose `IO_CHANGE` takes its value only behind ``=``, so that it never swallows a TEACHER."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Gives the option an empty value where it has none."""
        return super().parse_args(ctx, [f"{arg}=" if arg == IO_CHANGE else arg for arg in args])


def io_change(given: Sequence[str]) -> bool | list[str]:
    """What the option allows: nothing, states, or what its globs name."""
    if "" in given and len(set(given)) > 1:
        wrong = "alone it means states, with a value what that names"
        raise UsageError(wrong, "give it alone, or name the states too", op=IO_CHANGE)
    return "" in given or list(given)


FILE = click.Path(dir_okay=False)
FOLDER = click.Path(file_okay=False, path_type=Path)
COUNT = click.IntRange(min=1)
AMOUNT = click.FloatRange(min=0)
LIMIT = click.FloatRange(min=0, min_open=True)
TEACHER = click.argument("teacher", type=FILE)
SEED = click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Seed of all random choices (default 0).")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
TALK = together(
    click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors (and the document of --json)."),
    click.option("-v", "--verbose", is_flag=True, help="List every axis, and how long each stage took."),
)
EXPANDING = together(
    TEACHER,
    click.option("-o", "--output", type=FILE, metavar="STUDENT", help="Where the student goes."),
    click.option("--plan", type=FILE, metavar="IN.json", help="Apply a saved plan again; it makes all choices."),
)
ALLOW = click.option(
    IO_CHANGE,
    multiple=True,
    metavar="[=GLOB]",
    help="Let states that callers hand back (caches) change shape, or the inputs and outputs named. Repeatable.",
)
SCOPE = click.option(
    "--verify",
    "scope",
    type=click.Choice(["full", "sample"]),
    help="Run models whole, or segment by segment (default: as memory allows).",
)
WRITING = together(
    SEED,
    click.option("--plan-out", type=FILE, metavar="OUT.json", help="Save the plan."),
    click.option("--dry-run", is_flag=True, help="Plan and report, but write no student."),
    click.option("--dim", multiple=True, metavar="NAME=SIZE", help="Size of a dynamic dimension, to verify with."),
    SCOPE,
    click.option("--no-verify", is_flag=True, help="Write the student without comparing it with the teacher."),
    click.option(
        "--external", is_flag=True, help="Put weights into a file beside the model, as over 2 GiB in any case."
    ),
    click.option("--shard-size", metavar="SIZE", help="The same in several files of at most SIZE, such as 4GB."),
    click.option("--threads", type=COUNT, metavar="N", help="Threads that gather and write (default 1 a processor)."),
    click.option("--no-provenance", is_flag=True, help="Leave the student's metadata as the teacher's."),
    together(JSON, TALK),
)
