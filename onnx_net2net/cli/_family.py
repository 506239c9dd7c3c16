"""Several students at once: makes them and shows, and writes, one table."""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_net2net.cli._guard import code_of
from onnx_net2net.cli._job import Job, data_files, same_file
from onnx_net2net.errors import Net2NetError, NotEquivalentError, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from onnx_net2net.family import Member

SAID = {True: "yes", False: "NO", None: "not verified"}


@dataclass(frozen=True, slots=True)
class Family:
    """Students of one teacher or several, by one recipe.

    Attributes:
        job: What `expand` has in common with commands that write one student.
        teachers: Their teachers.
        source: The recipe's file.
        output_dir: Where they go; None for nowhere.
        table: Where the table goes; None for nowhere.
        engine: What makes them.
        jobs: How many workers it starts.
    """

    job: Job
    teachers: Sequence[str]
    source: str
    output_dir: str | None
    table: str | None
    engine: str | None
    jobs: int | None

    def run(self, recipe: Any, choices: Mapping[str, Sequence[Any]], **asked: Any) -> None:
        """Makes every student, reports, and raises the first thing that went wrong."""
        from onnx_net2net.family import expand_all
        from onnx_net2net.io import atomic

        job = self.job
        members: list[Member] = []
        self._check_targets(math.prod(map(len, choices.values())))
        with job.say.stage("expanding"):
            members += expand_all(
                self.teachers,
                recipe,
                choices,
                output_dir=None if job.dry_run else self.output_dir,
                dims=job.dims,
                verify=not (job.no_verify or job.dry_run),
                isolate=True,
                provenance=not job.no_provenance,
                engine=self.engine or "serial",
                jobs=self.jobs,
                **asked,
            )
        document = {"rows": [row(member) for member in members]}
        if self.table:
            with atomic(Path(self.table)) as stream:
                stream.write(as_csv(document).encode())
        job.say.document(document)
        job.say.report(lambda: report(document))
        failures = [failure for failure in map(failure_of, members) if failure]
        if failures:
            text = f"{len(failures)} of {len(members)} students failed, the first so: " * (len(members) > 1)
            raise type(failures[0])(f"{text}{failures[0]}")

    def _check_targets(self, count: int) -> None:
        """Refuses outputs that would replace an input or each other, or that have nowhere to go."""
        from onnx_net2net.family import places

        students = places(self.teachers, count, self.output_dir) if self.output_dir is not None else []
        targets = [(place, "--output-dir") for name in students for place in (str(name), f"{name}.data")]
        inputs = [*self.teachers, self.source]
        if self.table:
            if not Path(self.table).parent.is_dir():
                raise UsageError("there is no such folder", "make it first", op="--table", tensor=self.table)
            if any(same_file(self.table, place) for place, _ in targets):
                raise UsageError("it would replace a student", "choose another file", op="--table", tensor=self.table)
            targets.append((self.table, "--table"))
        there = [(target, option) for target, option in targets if Path(target).exists()]
        if there:
            inputs += [name for teacher in self.teachers for name in _data_files(teacher)]
        for target, option in there:
            if any(same_file(target, name) for name in inputs):
                raise UsageError("it would replace an input", "choose another place", op=option, tensor=target)


def _data_files(teacher: str) -> list[str]:
    """The files with a teacher's weights; none if it cannot be read, which its own row will say."""
    with contextlib.suppress(Exception):
        return data_files(teacher)
    return []


def row(member: Member) -> dict[str, Any]:
    """One student: what was chosen, its size and its error, or why it failed and with which exit code."""
    verdict, failure = member.verdict, failure_of(member)
    worst = max(verdict.outputs, key=lambda output: output.max_rel, default=None) if verdict is not None else None
    return {
        "teacher": member.teacher,
        **member.chosen,
        "parameters": member.size.parameters if member.size else None,
        "macs": member.size.macs if member.size else None,
        "max_rel": worst.max_rel if worst else None,
        "tolerance": worst.tolerance if worst else None,
        "equivalent": bool(verdict) if verdict is not None else None,
        "output": str(member.output) if member.output else None,
        "code": code_of(failure) if failure else 0,
        "reason": str(failure or ""),
    }


def failure_of(member: Member) -> Net2NetError | None:
    """What is wrong with a student."""
    if member.error or member.verdict is None or member.verdict:
        return member.error
    return NotEquivalentError(f"it is not equivalent to its teacher, {member.verdict.reason}", op="student")


def as_csv(document: Mapping[str, Any]) -> str:
    """All rows as CSV."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(document["rows"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(document["rows"])
    return stream.getvalue()


def report(document: Mapping[str, Any]) -> list[RenderableType]:
    """All rows as a table, without the columns that say nothing."""
    from onnx_net2net.cli._tables import table_of

    rows = document["rows"]
    silent = {"code"} | {name for name in ("output", "reason") if not any(row[name] for row in rows)}
    if len({row["teacher"] for row in rows}) == 1:
        silent.add("teacher")
    names = [name for name in rows[0] if name not in silent]
    texts = {"teacher", "output", "reason"}
    table = table_of(*names, right=tuple(i for i, name in enumerate(names) if name not in texts))
    for row in rows:
        shown = {**row, "equivalent": SAID[row["equivalent"]] if row["code"] in (0, 1) else "failed"}
        table.add_row(*(_shown(shown[name]) for name in names))
    return [table]


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if isinstance(value, float) else str(value)
