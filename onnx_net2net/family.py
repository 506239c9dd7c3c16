"""Families of students: every choice of a recipe's values, for one teacher or many, as tasks for an engine."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, TypedDict

from onnx_net2net.checking.verdict import Verdict
from onnx_net2net.engines import SERIAL, Engine, is_here, run_each
from onnx_net2net.errors import ModelError, Net2NetError, UsageError
from onnx_net2net.expansion import RANDOM, Expansion
from onnx_net2net.io import Model
from onnx_net2net.planning.budget import Size, size_of
from onnx_net2net.recipe import Recipe, expand, read, variants
from onnx_net2net.storage.urls import is_url, name_of, place


@dataclass(frozen=True, slots=True)
class Member:
    """What one student of a family came to.

    Attributes:
        teacher: The path of its teacher; empty if that was given as a model.
        chosen: The values of the keys that vary.
        size: Its parameters and multiply-accumulates; None if it could not be made.
        verdict: How it compares with its teacher; None if it was not verified.
        output: Where it was written; None if it was not.
        error: Why it could not be made, verified or written; None if it could.
    """

    teacher: str
    chosen: Mapping[str, Any]
    size: Size | None = None
    verdict: Verdict | None = None
    output: Path | None = None
    error: Net2NetError | None = None


class Targets(TypedDict):
    """Targets for the size of a student."""

    target_params: float | str | None
    target_macs: float | str | None


@dataclass(frozen=True, slots=True)
class Task:
    """One student to make, as plain values: a worker reads and writes the models itself.

    Attributes:
        model: Its teacher: a path, or in this process a model.
        recipe: The recipe.
        targets: Targets for its size, as for `expand`.
        member: What is known of it.
        output: Where it goes, and a folder beside that to write it in first; None for nowhere.
        verify: Whether to compare it with its teacher.
        options: Further options of the comparison.
        provenance: Whether to record where it comes from.
    """

    model: Model
    recipe: Recipe
    targets: Targets
    member: Member
    output: tuple[Path, Path] | None
    verify: bool
    options: Mapping[str, Any]
    provenance: bool


def explore(
    model: Model,
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe,
    choices: Mapping[str, Sequence[Any]],
    **options: Any,
) -> Iterator[Member]:
    """Makes every student that a recipe describes with the given choices: `expand_all` with one teacher."""
    return expand_all([model], recipe, choices, **options)


def expand_all(
    models: Sequence[Model],
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe,
    choices: Mapping[str, Sequence[Any]] | None = None,
    *,
    output_dir: str | os.PathLike[str] | None = None,
    target_params: float | str | None = None,
    target_macs: float | str | None = None,
    dims: Mapping[str, int] | None = None,
    verify: bool = True,
    isolate: bool = False,
    provenance: bool = True,
    engine: Engine = SERIAL,
    jobs: int | None = None,
) -> Iterator[Member]:
    """Makes the students that a recipe describes of many teachers, and says how large and how exact each is.

    An engine's workers read teachers and write students themselves, so that both have to be on a disk that all of them
    see. A student appears at its place once it is whole and equivalent.

    Args:
        models: The teachers. Paths, if an engine works or students are written.
        recipe: The recipe.
        choices: Values to try by key, such as ``{"steps.0.factor": [1.25, 1.5]}``, in every combination.
        output_dir: Where students go, called like their teachers, with a number if choices make several of one. By
            default none is written.
        target_params: As for `expand`.
        target_macs: As for `expand`.
        dims: Sizes of dynamic dimensions to verify with.
        verify: Whether to compare each student with its teacher.
        isolate: Whether onnxruntime runs in a child process for that.
        provenance: Whether students record where they come from.
        engine: ``serial``, ``joblib``, ``dask`` or ``ray``, with ``=ADDRESS`` for a cluster, or an Executor.
        jobs: Workers that ``joblib``, ``dask`` or ``ray`` start here; by default one for each core.

    Returns:
        The students in order, teacher by teacher. One that fails says so in its ``error``.

    Raises:
        MissingError: If the engine is not installed, or there is no cluster at its address.
        UsageError: If it is not a recipe, it has not what should vary, or a student would replace something.
    """
    chosen = list(variants(read(recipe), choices or {}))
    if output_dir is not None or not is_here(engine):
        models = [_path(model) for model in models]
    outputs = places(models, len(chosen), output_dir) if output_dir is not None else None
    targets: Targets = {"target_params": target_params, "target_macs": target_macs}
    options = {"dims": dims, "isolate": isolate}
    with _drafts(output_dir) as drafts:
        tasks = []
        for number, (model, (values, one)) in enumerate(itertools.product(models, chosen)):
            is_path = isinstance(model, str | os.PathLike)
            member = Member(os.fspath(model) if is_path else "", values)
            output = (outputs[number], drafts / str(number)) if outputs and drafts else None
            teacher = _absolute(model) if isinstance(model, str | os.PathLike) else model
            tasks.append(Task(teacher, one, targets, member, output, verify, options, provenance))
        for task, found in zip(tasks, run_each(make, tasks, engine, jobs), strict=True):
            if isinstance(found, ModelError):
                yield replace(task.member, error=found)
            elif found.output and output_dir is not None:
                yield replace(found, output=Path(output_dir) / found.output.name)
            else:
                yield found


def make(task: Task, threads: int | None) -> Member:
    """Makes, compares and writes one student; what goes wrong is in the member that comes back."""
    found = task.member
    try:
        made = expand(task.model, task.recipe, **task.targets)
        made.provenance = task.provenance
        found = replace(found, size=size_of(made.lazy_exact))
        if task.verify and task.output and made.plan.random:
            raise UsageError(RANDOM, "save without verification (--no-verify)", op="init")
        with _written(made, task.output):
            if task.verify and not made.plan.random:
                found = replace(found, verdict=made.verify(threads=threads, **task.options))
            if task.output and (found.verdict or not task.verify):
                return replace(found, output=_write(made, *task.output))
    except Net2NetError as error:
        return replace(found, error=type(error)(str(error)))  # without the models that a traceback holds
    except MemoryError:
        return replace(found, error=ModelError("there is not enough memory for this model", op="student"))
    except OSError as error:
        return replace(found, error=ModelError(str(error), op="file"))
    return found


@contextlib.contextmanager
def _written(made: Expansion, places: tuple[Path, Path] | None) -> Iterator[None]:
    """A large student is written once, to its draft, and verified there."""
    if places is None:
        yield
        return
    output, draft = places
    draft.mkdir(exist_ok=True)
    with made.writing(draft / output.name):
        yield


def _write(made: Expansion, output: Path, draft: Path) -> Path:
    """Writes a student beside its place, and moves it there unless that was cancelled: the draft is then gone."""
    written = draft / output.name
    made.save(written, verify=False)
    for file in sorted(draft.iterdir(), key=lambda file: file == written):  # the model after its data
        os.replace(file, output.parent / file.name)
    return output


@contextlib.contextmanager
def _drafts(folder: str | os.PathLike[str] | None) -> Iterator[Path | None]:
    """A folder for students that are not whole yet, among the others; what is left in it vanishes with the block."""
    if folder is None:
        yield None
        return
    made = Path(tempfile.mkdtemp(dir=os.path.abspath(folder), prefix=".onnx_net2net."))
    try:
        made.chmod(os.stat(folder).st_mode & 0o777)  # workers may be other users
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def places(models: Sequence[Model], count: int, folder: str | os.PathLike[str]) -> list[Path]:
    """Where the students go, ``count`` of each teacher.

    Raises:
        UsageError: If there is no such folder, two would have one place, or one would replace a teacher.
    """
    if is_url(folder):
        raise UsageError("a family is written to a folder", "upload that", op="output_dir", tensor=str(folder))
    into, teachers = Path(os.path.abspath(folder)), [place(_path(model)) for model in models]
    if not into.is_dir():
        raise UsageError("there is no such folder", "make it first", op="output_dir", tensor=str(folder))
    found = [
        into / f"{teacher.stem}{f'-{number}' * (count > 1)}{teacher.suffix}"
        for teacher in (PurePath(name_of(teacher)) for teacher in teachers)
        for number in range(1, count + 1)
    ]
    taken = {teacher.resolve() for teacher in teachers if isinstance(teacher, Path)}
    for path, times in Counter(found).items():
        if times > 1:
            raise UsageError("two students would be called so", "rename a teacher", op="output_dir", tensor=path.name)
        if path.resolve() in taken:
            raise UsageError("it would replace a teacher", "choose another folder", op="output_dir", tensor=path.name)
    return found


def _absolute(model: str | os.PathLike[str]) -> str:
    """A teacher's name for a worker that may be in another folder."""
    where = place(model)
    return where if isinstance(where, str) else os.path.abspath(where)


def _path(model: Model) -> str:
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    raise UsageError("it is in memory", "save it where every worker sees it, and give the path", op="teacher")
