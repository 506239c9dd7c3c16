"""An expansion: a teacher, a plan, and the student that it makes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from onnx import ModelProto

from onnx_net2net._version import __version__
from onnx_net2net.checking.verdict import Verdict
from onnx_net2net.checking.verify import verify
from onnx_net2net.deepening.deepen import check_layers
from onnx_net2net.errors import NotEquivalentError, RequestError, UsageError
from onnx_net2net.inference.infer import infer
from onnx_net2net.io import STANDARD, digest, draft, is_text, save
from onnx_net2net.planning.plan import Plan, check_teacher
from onnx_net2net.planning.planner import as_planned, complete
from onnx_net2net.planning.request import pinned_by
from onnx_net2net.steps import start, take
from onnx_net2net.storage.model import AnyModel, Digest, LazyModel, proto_of, whole
from onnx_net2net.storage.sinks import Layout, Progress
from onnx_net2net.storage.upload import Upload
from onnx_net2net.storage.urls import Place, place
from onnx_net2net.storage.writer import Draft

PREFIX = "onnx_net2net."
UNKNOWN = "0" * 64
"""Stands in for a digest that is not known yet."""
RANDOM = "random units or layers do not compute what the teacher does"


class Expansion:
    """A student in the making: the plan, and the model once it is asked for.

    Attributes:
        origin: The teacher as it was read.
        plan: What makes the student.
        skipped: Axes that were wanted and keep their size, or places that get no layer -> why.
        pinned: What pins the other axes of weights -> how many axes.
    """

    def __init__(self, teacher: AnyModel, plan: Plan, skipped: Mapping[str, str], pinned: Mapping[str, int]) -> None:
        self.origin = teacher
        self.plan = plan
        self.skipped = dict(skipped)
        self.pinned = dict(pinned)
        self.provenance = True
        self._verdict: Verdict | None = None
        self._written: Draft | Upload | None = None

    @cached_property
    def teacher(self) -> ModelProto:
        """The teacher, in memory."""
        return whole(self.origin)

    @cached_property
    def exact(self) -> ModelProto:
        """The student without noise, which equals the teacher unless units or layers are random; in memory."""
        return whole(self.lazy_exact)

    @cached_property
    def model(self) -> ModelProto:
        """The student, in memory; with noise if the plan asks for it."""
        return whole(self.lazy) if self.plan.noisy else self.exact

    @cached_property
    def lazy_exact(self) -> AnyModel:
        """The same as `exact`; of a teacher that was not read into memory without its large weights."""
        return functools.reduce(partial(take, noise=False), self.plan.steps, self.origin)

    @cached_property
    def lazy(self) -> AnyModel:
        """The same as `model`; of a teacher that was not read into memory without its large weights."""
        return functools.reduce(take, self.plan.steps, self.origin) if self.plan.noisy else self.lazy_exact

    @classmethod
    def chain(cls, teacher: AnyModel, parts: Sequence[Expansion]) -> Expansion:
        """One expansion that takes all steps, each on the student of the one before."""
        plans = [step for part in parts for step in part.plan.steps]
        skipped = {name: why for part in parts for name, why in part.skipped.items()}
        made = cls(teacher, dataclasses.replace(plans[0], then=tuple(plans[1:])), skipped, parts[-1].pinned)
        made.lazy_exact = parts[-1].lazy_exact  # it is there already
        return made

    def verify(self, **options: Any) -> Verdict:
        """Runs teacher and student and compares them; see `onnx_net2net.verify` for the options.

        With noise in the plan the student without it is compared. ``per_layer`` follows the plan from tensor to tensor.
        A plan that changes something claims growth.

        Raises:
            MissingError: If onnxruntime or a provider is not there.
        """
        options = {"grown": self.plan.changes, **options}
        student = self._written.model if self._written is not None and not self.plan.noisy else self.lazy_exact
        verdict = verify(self.origin, student, plan=self.plan, **options)
        if not {"rtol", "atol"} & options.keys():  # what was held to another bar does not count for saving
            self._verdict = verdict
        return verdict

    def drift(self, **options: Any) -> Verdict:
        """How far noise moves the outputs."""
        return verify(self.origin, self._written.model if self._written else self.lazy, plan=self.plan, **options)

    def save(
        self,
        path: str | os.PathLike[str],
        verify: bool = True,
        *,
        external: bool = False,
        shard_size: int | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> Place:
        """Verifies once, then writes the student; writes nothing if that failed.

        Args:
            path: The model file, or a URL to which it is uploaded. Over 2 GiB its weights go to a file beside it, whose
                name begins with the model's.
            verify: Whether to compare it with the teacher.
            external: Whether weights go to a file beside it in any case.
            shard_size: Bytes that such a file may hold; a larger model gets several.
            threads: Threads that gather and write; by default one for each processor, up to four.
            progress: Called with the bytes that are written, and those that there will be.

        Returns:
            The path, or the URL as it was given.

        Raises:
            NotEquivalentError: If the student differs from its teacher.
            MissingError: If onnxruntime is missing; ``verify=False`` goes without it. Or fsspec, for a URL.
            ModelError: If the file or URL cannot be written.
            UsageError: If units or layers are random and ``verify`` is not off, or a number is not positive.
        """
        if verify and self.plan.random:
            raise UsageError(RANDOM, "save without verification (--no-verify)", op="init")
        layout = _layout(external, shard_size, threads, progress)
        there = self._written is not None and self._written.target == place(path)
        with contextlib.nullcontext() if there else self.writing(path, layout):
            if verify:
                verdict = self._verdict if self._verdict is not None else self.verify()
                if not verdict:
                    raise NotEquivalentError(verdict.reason, "nothing was written", op="student")
            if self._written is not None:
                self._written.publish()
            else:
                save(
                    self._with_provenance(digest(self.teacher), self.plan.digest()) if self.provenance else self.model,
                    path,
                    layout,
                )
        return place(path)

    @contextlib.contextmanager
    def writing(self, path: str | os.PathLike[str], layout: Layout = STANDARD) -> Iterator[None]:
        """Has a student that is not made in memory written to new files beside its place while the block lasts.

        Within the block `verify` runs on these files, and `save` puts them in place. Without it they vanish.

        Raises:
            ModelError: If there is no room, or the files cannot be written.
        """
        if not isinstance(self.lazy, LazyModel) or not isinstance(self.origin, LazyModel) or is_text(path):
            yield  # it is in memory, or has to be
            return
        state = Digest(self.origin)
        plan = self.plan.digest()
        proto = self._with_provenance(UNKNOWN, plan) if self.provenance else self.lazy.proto

        def finish(proto: ModelProto) -> str:
            teacher = state.result()
            for entry in proto.metadata_props:
                if self.provenance and entry.key == f"{PREFIX}teacher":
                    entry.value = teacher
            return hashlib.sha256(f"{teacher} {plan} {__version__}".encode()).hexdigest()

        lazy = LazyModel(proto, self.lazy.made)
        with draft(lazy, path, layout, finish=finish, digests=[state], inputs=self.origin.files()) as written:
            before, self._written = self._written, written
            try:
                yield
            finally:
                self._written = before

    def _with_provenance(self, teacher: str, plan: str) -> ModelProto:
        """The student with our own metadata; that of the exporter stays as it is."""
        model = ModelProto()
        model.CopyFrom(proto_of(self.lazy))
        keys = {
            "version": __version__,
            "teacher": teacher,
            "seed": str(self.plan.seed),
            "plan": plan,
        }
        if self.plan.noisy:
            keys["noise"] = repr(max(step.noise for step in self.plan.steps))
        if self.plan.random:
            keys["init"] = "random"
        if self.plan.crossings:
            keys["io"] = "; ".join(str(border) for step in self.plan.steps for border in step.borders)
        ours = {PREFIX + key: value for key, value in keys.items()}
        for entry in model.metadata_props:
            if entry.key in ours:
                entry.value = ours.pop(entry.key)
        for key, value in ours.items():
            model.metadata_props.add(key=key, value=value)
        return model


def _layout(external: bool, shard_size: int | None, threads: int | None, progress: Progress | None) -> Layout:
    for name, value in (("shard_size", shard_size), ("threads", threads)):
        if value is not None and (type(value) is not int or value < 1):
            raise UsageError(f"{value!r} is no such number", "give a positive one", op=name)
    return Layout(external, shard_size, threads, progress)


def from_plan(teacher: AnyModel, plan: Plan | str) -> Expansion:
    """Applies a saved plan after deriving it again, step by step, so that an edited one cannot do harm.

    Raises:
        RequestError: If it was made for another model, or does not follow from its own maps.
    """
    given = Plan.from_json(plan) if isinstance(plan, str) else plan
    made: list[Expansion] = []
    for step in given.steps:
        made.append(_again(made[-1].lazy_exact if made else teacher, step))
    return made[0] if len(made) == 1 else Expansion.chain(teacher, made)


def _again(teacher: AnyModel, given: Plan) -> Expansion:
    base = start(teacher, given)
    check_teacher(given, base)
    found = as_planned(infer(base, allow=[border.name for border in given.borders]), given)
    if given.deepens:
        return Expansion(teacher, check_layers(found, given), {}, {})
    again = complete(found, given.axes, seed=given.seed, split=given.split, noise=given.noise, init=given.init)
    if dataclasses.replace(again, inlined=given.inlined) != given:
        raise RequestError("it does not follow from its own maps", "make it again with --plan-out", op="plan")
    return Expansion(teacher, given, {}, pinned_by(found))
