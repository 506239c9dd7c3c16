"""The command line. It prints, exits and catches, and leaves everything else to the library."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from onnx_net2net._version import __version__
from onnx_net2net.errors import MissingError, Net2NetError, NotEquivalentError, RequestError, UsageError

if TYPE_CHECKING:
    from onnx_net2net.expansion import Expansion

CODES = {NotEquivalentError: 1, UsageError: 2, MissingError: 4}
"""Exit code by error; 3 for all others."""
INTERRUPTED = 130
Command = Callable[..., None]
SPLITS = ("even", "uneven", "scatter", "first")


class Guarded(click.Group):
    """A group that turns every mistake into a short message and an exit code."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Runs the command line and exits."""
        sys.exit(_guard(lambda: super(Guarded, self).main(*args, **{**extra, "standalone_mode": False})))


def _guard(run: Callable[[], int | None]) -> int:
    """The exit code of ``run``, once its error is printed."""
    try:
        return run() or 0
    except click.ClickException as error:
        return _fail(f"{error.format_message()} (see --help)", 2)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Net2NetError as error:
        return _fail(str(error), next((code for kind, code in CODES.items() if isinstance(error, kind)), 3))
    except MemoryError:
        return _fail("there is not enough memory for this model", 3)
    except OSError as error:
        return _fail(f"file ({error.filename}): {error.strerror}" if error.filename else str(error), 3)
    except SystemExit as error:  # what click and rich make of a closed pipe
        return INTERRUPTED if error.code == 1 else int(error.code or 0)


def _fail(text: str, code: int) -> int:
    prefix = "error:" if os.environ.get("NO_COLOR") else click.style("error:", fg="red")
    click.echo(f"{prefix} {' '.join(text.split())}", err=True)
    return code


@dataclass(frozen=True, slots=True)
class Say:
    """What goes to the terminal: reports and documents on stdout, progress and timings on stderr."""

    quiet: bool
    verbose: bool
    as_json: bool = False

    def report(self, lines: Callable[[], Iterable[object]]) -> None:
        """Prints lines and tables for people, if they are wanted."""
        from onnx_net2net.tables import console

        if not self.quiet and not self.as_json:
            for line in lines():
                console().print(line)

    def document(self, document: Mapping[str, Any]) -> None:
        """Prints the one JSON document, if it is wanted."""
        from onnx_net2net.tables import finite

        if self.as_json:
            click.echo(json.dumps(finite(document), indent=1, allow_nan=False))

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Shows that something is going on, and with -v how long it took."""
        from onnx_net2net.tables import console

        start = time.perf_counter()
        with contextlib.nullcontext() if self.quiet else console(stderr=True).status(name):
            yield
        if self.verbose:
            click.echo(f"{name}: {time.perf_counter() - start:.2f} s", err=True)


@dataclass(frozen=True, slots=True)
class Job:
    """What `widen` and `deepen` have in common."""

    teacher: str
    output: str | None
    plan: str | None
    plan_out: str | None
    dry_run: bool
    no_verify: bool
    no_provenance: bool
    dims: dict[str, int]
    say: Say

    def run(self, how: str, **asked: Any) -> None:
        """Reads the teacher, plans its student with the library's function ``how``, verifies, writes and reports."""
        from onnx_net2net import expansion as library
        from onnx_net2net import tables
        from onnx_net2net.io import load

        if not self.output and not self.dry_run:
            raise UsageError("no student is named", "give -o STUDENT, or --dry-run", op="-o")
        self._check_targets([self.teacher])
        with self.say.stage("reading"):
            teacher = load(self.teacher)
            self._check_targets(_data_files(self.teacher))
            plan = Path(self.plan).read_text("utf-8", "replace") if self.plan else None
        with self.say.stage("planning"):
            expansion: Expansion = getattr(library, how)(teacher, plan=plan, **asked)
            _require(expansion, how)
        with self.say.stage("building"):
            document = tables.expansion_document(expansion)
        failure = self._verify(expansion, document)
        if not failure:
            self._write(expansion, document)
        self.say.document(document)
        self.say.report(lambda: tables.expansion_report(expansion, document, self.say.verbose))
        if failure:
            raise NotEquivalentError(failure, "nothing was written", op="student")

    def _check_targets(self, teacher: list[str]) -> None:
        """Refuses outputs that would replace an input or each other, or that have nowhere to go."""
        student = [self.output, f"{self.output}.data"] if self.output else []  # the latter for large models
        own = [("the plan", path) for path in (self.plan, self.plan_out) if path]
        named = [("the teacher", path) for path in teacher]
        for option, targets, taken in (("-o", student, named + own), ("--plan-out", [self.plan_out], named)):
            for target in filter(None, targets):
                for what, other in taken:
                    if _same(target, other):
                        raise UsageError(f"it would replace {what}", "choose another file", op=option, tensor=target)
                if not Path(target).parent.is_dir():
                    raise UsageError("there is no such folder", "make it first", op=option, tensor=target)

    def _verify(self, expansion: Expansion, document: dict[str, Any]) -> str:
        """Puts verification and drift into the document; returns what is wrong, or an empty string."""
        from onnx_net2net.tables import drift_document

        if self.no_verify or self.dry_run:
            return ""
        with self.say.stage("verifying"):
            verdict = expansion.verify(dims=self.dims)
        document["verification"] = verdict.to_dict()
        if verdict and expansion.plan.noise:
            with self.say.stage("measuring drift"):
                document["drift"] = drift_document(expansion.drift(dims=self.dims))
        return "" if verdict else verdict.reason or "it is not equivalent"

    def _write(self, expansion: Expansion, document: dict[str, Any]) -> None:
        """Writes student and plan, each if it is wanted."""
        from onnx_net2net.io import atomic

        expansion.provenance = not self.no_provenance
        with self.say.stage("writing"):
            if self.output and not self.dry_run:
                document["output"] = str(expansion.save(self.output, verify=False))  # it was, if that was wanted
                document["bytes"]["after"] = max(document["bytes"]["after"], os.path.getsize(self.output))
            if self.plan_out:
                with atomic(Path(self.plan_out)) as stream:
                    stream.write(expansion.plan.to_json().encode())


def _data_files(teacher: str) -> list[str]:
    """The files beside a model that hold its weights."""
    import onnx

    tensors = onnx.load(teacher, load_external_data=False).graph.initializer
    names = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    return [os.path.join(os.path.dirname(teacher), name) for name in names]


def _same(a: str, b: str) -> bool:
    """Whether two paths lead to one file, through whatever links."""
    with contextlib.suppress(OSError):
        return os.path.samefile(a, b)
    return os.path.realpath(a) == os.path.realpath(b)


def _require(expansion: Expansion, how: str) -> None:
    """Refuses a plan that does nothing, with what stands in the way, or one of the other kind."""
    from onnx_net2net.tables import obstacles, refusals

    kind = "widen" if expansion.plan.axes else "deepen" if expansion.plan.layers else ""
    if kind and kind != how:
        raise RequestError("it is of another kind", f"give it to {kind}", op="plan")
    if not kind:
        wrong, why = ("no axis grows as asked", obstacles) if how == "widen" else ("no layer fits", refusals)
        raise RequestError(wrong, why(expansion), op=how)


def _pairs(given: Iterable[str], option: str, size: str) -> dict[str, str]:
    """NAME=SIZE by name; the last ``=`` separates, since names may hold others."""
    found: dict[str, str] = {}
    for text in given:
        match = re.fullmatch(f"(.+)=({size})", text, re.ASCII)
        if not match:
            raise UsageError(f"{text!r} is not NAME=SIZE", "write a name, '=' and a size", op=option)
        if match[1] in found:
            raise UsageError(f"{match[1]!r} comes twice", "give it once", op=option)
        found[match[1]] = match[2]
    return found


def _dims(given: Iterable[str]) -> dict[str, int]:
    """Sizes of dynamic dimensions by name."""
    return {name: int(size) for name, size in _pairs(given, "--dim", "[1-9][0-9]*").items()}


def _kernels(text: str | None) -> list[tuple[int, ...]] | None:
    """``3`` or ``1x7,7x1`` as kernels."""
    if text is not None and not re.fullmatch(r"\d+(x\d+)*(,\d+(x\d+)*)*", text, re.ASCII):
        raise UsageError(f"{text!r} is not a kernel", "write 3, 1x7 or 1x7,7x1", op="--kernel")
    return [tuple(map(int, part.split("x"))) for part in text.split(",")] if text else None


def _alone(option: str, given: object, others: Mapping[str, object]) -> None:
    """Refuses options that another one would silence."""
    set_too = [name for name, value in others.items() if value not in (None, ()) and value is not False]
    clash = [f"--{name.replace('_', '-')}" for name in set_too]
    if given and clash:
        raise UsageError(f"it excludes {', '.join(clash)}", "give one or the other", op=option)


def _arrays(path: str) -> dict[str, Any]:
    """The arrays of an .npz file by name."""
    import numpy as np

    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise RequestError("it holds no arrays by name", "write it with numpy.savez", op="file", tensor=path) from error


def _say(given: dict[str, Any]) -> Say:
    """Takes the options about output out of ``given``."""
    say = Say(given.pop("quiet"), given.pop("verbose"), given.pop("as_json", False))
    _alone("--quiet", say.quiet, {"verbose": say.verbose})
    return say


def _job(given: dict[str, Any]) -> Job:
    """Takes the options that `widen` and `deepen` share out of ``given``."""
    shared = {field.name: given.pop(field.name) for field in fields(Job) if field.name in given}
    job = Job(**shared, dims=_dims(given.pop("dim")), say=_say(given))
    _alone("--plan", job.plan, given)
    return job


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in their order."""
    return lambda command: functools.reduce(lambda made, option: option(made), reversed(options), command)


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
FILE = click.Path(dir_okay=False)
FOLDER = click.Path(file_okay=False, path_type=Path)
COUNT = click.IntRange(min=1)
AMOUNT = click.FloatRange(min=0)
TEACHER = click.argument("teacher", type=FILE)
SEED = click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Seed of all random choices (default 0).")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
TALK = _options(
    click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors (and the document of --json)."),
    click.option("-v", "--verbose", is_flag=True, help="List every axis, and how long each stage took."),
)
EXPANDING = _options(
    TEACHER,
    click.option("-o", "--output", type=FILE, metavar="STUDENT", help="Where the student goes."),
    click.option("--plan", type=FILE, metavar="IN.json", help="Apply a saved plan again; it makes all choices."),
)
WRITING = _options(
    SEED,
    click.option("--plan-out", type=FILE, metavar="OUT.json", help="Save the plan."),
    click.option("--dry-run", is_flag=True, help="Plan and report, but write no student."),
    click.option("--dim", multiple=True, metavar="NAME=SIZE", help="Size of a dynamic dimension, to verify with."),
    click.option("--no-verify", is_flag=True, help="Write the student without comparing it with the teacher."),
    click.option("--no-provenance", is_flag=True, help="Leave the student's metadata as the teacher's."),
    _options(JSON, TALK),
)


@click.group(cls=Guarded, no_args_is_help=False, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="onnx-net2net", message="%(prog)s %(version)s")
def cli() -> None:
    """Make wider and deeper ONNX models that compute the same function.

    Exit codes: 0 fine, 1 not equivalent, 2 wrong usage, 3 unreadable model or impossible request, 4 something missing.
    """


@cli.command()
@_options(TEACHER, JSON, TALK)
def inspect(teacher: str, **talk: bool) -> None:
    """Show which axes of TEACHER can be widened, what pins the others, and where layers can go."""
    from onnx_net2net import tables
    from onnx_net2net.inspection import inspect as examine

    say = _say(talk)
    with say.stage("inspecting"):
        inspection = examine(teacher)
    say.document(inspection.to_dict())
    say.report(lambda: tables.inspection_report(inspection, say.verbose))


@cli.command()
@EXPANDING
@click.option("--factor", type=float, metavar="F", help="Widen every channel axis that can grow by this factor.")
@click.option("--width", multiple=True, metavar="NAME=SIZE", help="Size of an axis: 512, x1.5 or +64. Repeatable.")
@click.option("--only", multiple=True, metavar="GLOB", help="What --factor takes. Repeatable.")
@click.option("--skip", multiple=True, metavar="GLOB", help="What --factor leaves out. Repeatable.")
@click.option("--split", type=click.Choice(SPLITS), help="How copies share outgoing weights (default uneven).")
@click.option("--noise", type=AMOUNT, metavar="SIGMA", help="Noise on copies, relative to the weights; not exact.")
@click.option("--round-to", type=COUNT, metavar="N", help="Round sizes from factors up to a multiple of this.")
@WRITING
def widen(**given: Any) -> None:
    """Write a STUDENT with wider layers that computes the same function as TEACHER (Net2WiderNet)."""
    job = _job(given)
    if given["factor"] is None:
        _alone("--width without --factor", given["width"], {name: given[name] for name in ("only", "skip")})
    widths = _pairs(given.pop("width"), "--width", "[^=]+")
    job.run("widen", widths=widths, **{name: value for name, value in given.items() if value is not None})


@cli.command()
@EXPANDING
@click.option("--after", multiple=True, metavar="NAME", help="Insert after this activation or tensor. Repeatable.")
@click.option("--every", is_flag=True, help="Insert after every activation where it is exact.")
@click.option("--kernel", metavar="K", help="Kernel of convolutions (default 3); 1x7,7x1 inserts two layers.")
@WRITING
def deepen(**given: Any) -> None:
    """Write a STUDENT with identity layers that computes the same function as TEACHER (Net2DeeperNet)."""
    job = _job(given)
    _alone("--every", given["every"], {"after": given["after"]})
    after = "every" if given["every"] else given["after"]
    job.run("deepen", after=after, kernel=_kernels(given["kernel"]), seed=given["seed"] or 0)


@cli.command()
@TEACHER
@click.argument("student", type=FILE)
@click.option("--provider", multiple=True, metavar="cpu|cuda", help="Where to run (default cpu). Repeatable.")
@click.option("--inputs", type=FILE, metavar="X.npz", help="Arrays by input name, in place of random ones.")
@click.option("--samples", type=COUNT, metavar="N", help="How many random samples to compare (default 3).")
@SEED
@click.option("--rtol", type=AMOUNT, metavar="R", help="Relative tolerance, in place of the measured one.")
@click.option("--atol", type=AMOUNT, metavar="A", help="Absolute tolerance, in place of the measured one.")
@click.option("--dim", multiple=True, metavar="NAME=SIZE", help="Size of a dynamic dimension. Repeatable.")
@_options(JSON, TALK)
def check(teacher: str, student: str, inputs: str | None, dim: tuple[str, ...], **given: Any) -> None:
    """Compare TEACHER and STUDENT on the same inputs; exit with 1 if they differ."""
    from onnx_net2net import tables
    from onnx_net2net.verify import verify

    say = _say(given)
    _alone("--inputs", inputs, {"samples": given["samples"], "seed": given["seed"], "dim": dim})
    chosen = {name: value for name, value in given.items() if value not in (None, ())}
    chosen["providers"] = chosen.pop("provider", ("cpu",))
    chosen["dims"] = _dims(dim)
    with say.stage("verifying"):
        verdict = verify(teacher, student, inputs=_arrays(inputs) if inputs else None, **chosen)
    document = verdict.to_dict()
    say.document(document)
    say.report(lambda: tables.verdict_report(document))
    if not verdict:
        raise NotEquivalentError(f"it is not equivalent, {verdict.reason}", op="student", tensor=student)


@cli.command()
@click.option("-o", "--output", type=FOLDER, metavar="DIR", help="Keep the models here.")
@TALK
def demo(output: Path | None, **talk: bool) -> None:
    """Widen and deepen a small trained model and compare what the students compute."""
    from onnx_net2net.demo import run

    say = _say(talk)
    if not run(output, lambda line: say.report(lambda: [line])):
        raise NotEquivalentError("a student is not equivalent to its teacher", op="demo")


def main() -> NoReturn:
    """The console script, which prints any name whatever the terminal's encoding."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    cli.main(prog_name="onnx-net2net")
