"""What commands that write a student have in common."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from onnx_net2net.cli._say import Say
from onnx_net2net.errors import NotEquivalentError, RequestError, UsageError
from onnx_net2net.storage.urls import is_url, place

if TYPE_CHECKING:
    from onnx_net2net.expansion import Expansion


@dataclass(frozen=True, slots=True)
class Job:
    """What `widen`, `deepen` and `expand` have in common."""

    teacher: str
    output: str | None
    plan: str | None
    plan_out: str | None
    dry_run: bool
    no_verify: bool
    scope: Literal["full", "sample"] | None
    no_provenance: bool
    external: bool
    shard_size: int | None
    threads: int | None
    dims: dict[str, int]
    say: Say

    def run(self, how: str, **asked: Any) -> None:
        """Reads the teacher, plans its student with the library's function ``how``, verifies, writes and reports."""
        if self.scope and self.no_verify:
            raise UsageError("it contradicts --no-verify", "give one of them", op="--verify")
        if not self.output and not self.dry_run:
            raise UsageError("no student is named", "give -o STUDENT, or --dry-run", op="-o")
        from onnx_net2net import growing, recipe
        from onnx_net2net.cli import _tables as tables
        from onnx_net2net.expansion import RANDOM
        from onnx_net2net.io import opened

        self._check_targets([self.teacher])
        with self.say.stage("reading"):
            teacher = opened(self.teacher)
            self._check_targets(data_files(self.teacher, self.output))
            plan = Path(self.plan).read_text("utf-8", "replace") if self.plan else None
        with self.say.stage("planning"):
            makers: dict[str, Any] = {"widen": growing.widen, "deepen": growing.deepen, "expand": recipe.expand}
            expansion: Expansion = makers[how](teacher, plan=plan, **asked)
            require(expansion, how)
            if expansion.plan.random and not (self.no_verify or self.dry_run):
                raise UsageError(RANDOM, "add --no-verify", op="--init")
        with self.say.stage("building"):
            document = tables.expansion_document(expansion)
        expansion.provenance = not self.no_provenance
        with self._written(expansion):
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
                    if same_file(target, other):
                        raise UsageError(f"it would replace {what}", "choose another file", op=option, tensor=target)
                where = place(target)
                if isinstance(where, Path) and not where.parent.is_dir():
                    raise UsageError("there is no such folder", "make it first", op=option, tensor=target)

    @contextlib.contextmanager
    def _written(self, expansion: Expansion) -> Iterator[None]:
        """A large student is written first, verified where it lies, and then put in place."""
        from onnx_net2net.storage.sinks import Layout

        if not self.output or self.dry_run:
            yield
            return
        with contextlib.ExitStack() as stack:
            with self.say.moving("writing") as progress:
                layout = Layout(self.external, self.shard_size, self.threads, progress)
                stack.enter_context(expansion.writing(self.output, layout))
            yield

    def _verify(self, expansion: Expansion, document: dict[str, Any]) -> str:
        """Puts verification and drift into the document; returns what is wrong, or an empty string."""
        from onnx_net2net.cli._layers import place
        from onnx_net2net.cli._tables import drift_document

        if self.no_verify or self.dry_run:
            return ""
        with self.say.stage("verifying"):
            verdict = expansion.verify(dims=self.dims, per_layer=None, isolate=True, scope=self.scope)
        document["verification"] = verdict.to_dict()
        if verdict and expansion.plan.noisy:
            with self.say.stage("measuring drift"):
                document["drift"] = drift_document(expansion.drift(dims=self.dims, isolate=True))
        return "" if verdict else (verdict.reason or "it is not equivalent") + place(verdict)

    def _write(self, expansion: Expansion, document: dict[str, Any]) -> None:
        """Writes student and plan, each if it is wanted."""
        from onnx_net2net.io import atomic

        with self.say.stage("writing"):
            if self.output and not self.dry_run:
                asked: dict[str, Any] = {name: getattr(self, name) for name in ("external", "shard_size", "threads")}
                saved = expansion.save(self.output, verify=False, **asked)  # it was, if that was wanted
                document["output"] = str(saved)
                document["bytes"]["after"] = max(document["bytes"]["after"], _size(self.output))
            if self.plan_out:
                with atomic(Path(self.plan_out)) as stream:
                    stream.write(expansion.plan.to_json().encode())


def _size(output: str) -> int:
    """Bytes of a model file."""
    from onnx_net2net.storage.ranges import source

    with source(str(place(output))) as opened:
        return opened.size


def data_files(teacher: str, target: str | None = None) -> list[str]:
    """The files beside a model that hold its weights; none of a URL unless the target is one, too."""
    if is_url(teacher) and not is_url(target):
        return []
    from onnx_net2net.storage.reader import data_files

    return sorted(data_files(place(teacher)))


def same_file(a: str, b: str) -> bool:
    """Whether two paths lead to one file, through whatever links; or whether two URLs are the same."""
    a, b = str(place(a)), str(place(b))
    if is_url(a) or is_url(b):
        return a == b
    with contextlib.suppress(OSError):
        return os.path.samefile(a, b)
    return os.path.realpath(a) == os.path.realpath(b)


def require(expansion: Expansion, how: str) -> None:
    """Refuses a plan that does nothing, with what stands in the way, or one of the other kind."""
    from onnx_net2net.cli._tables import obstacles, refusals

    plan = expansion.plan
    kind = "expand" if plan.then else "widen" if plan.axes else "deepen" if plan.deepens else ""
    if kind and how not in (kind, "expand"):
        raise RequestError("it is of another kind", f"give it to {kind}", op="plan")
    if not kind:
        wrong, why = ("no axis grows as asked", obstacles) if how == "widen" else ("no layer fits", refusals)
        raise RequestError(wrong, why(expansion), op=how)
