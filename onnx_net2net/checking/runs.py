"""What teacher and student give on all samples, and what the teacher gives where only rounding differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from onnx import ModelProto

from onnx_net2net.checking.crossing import Crossing
from onnx_net2net.checking.inputs import Array, Feeds, Samples
from onnx_net2net.checking.permuted import permutations
from onnx_net2net.checking.probes import moved, runnable
from onnx_net2net.checking.runtime import NoKernel, Runner, Stopped, run_on
from onnx_net2net.checking.upcast import upcast
from onnx_net2net.errors import ModelError
from onnx_net2net.storage.model import AnyModel

FIRST, MORE = 2, 6
"""Permuted teachers that are asked first, and how many more where a student still does not pass."""
PLAIN, SHUFFLED = "graph optimisations", "permuted teacher"


@dataclass(slots=True)
class Runs:
    """What both models give, output by output and sample by sample.

    Attributes:
        runtime: onnxruntime.
        teacher: The teacher as it was run.
        student: The student as it was run.
        feeds: The samples as the teacher gets them, the probes last.
        crossing: How the student gets them.
        providers: Where it ran.
        raised: Whether half types were raised to float32, as onnxruntime has no kernels for them.
        mine: The teacher's outputs as the student has to give them.
        theirs: The student's.
        yardsticks: The teacher's, computed in ways that only rounding tells apart, by the name of the way.
        probes: Names of the probes.
        left_out: Probes that the teacher cannot run, and why.
    """

    runtime: Runner
    teacher: ModelProto
    student: ModelProto
    feeds: Sequence[Feeds]
    crossing: Crossing
    providers: Sequence[str]
    raised: bool
    mine: list[list[Array]]
    theirs: list[list[Array]]
    yardsticks: dict[str, list[list[list[Array]]]]
    probes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    _shuffled: Iterator[tuple[AnyModel, Crossing]] | None = None
    _asked: int = 0

    @property
    def plain(self) -> int:
        """How many samples are no probes."""
        return len(self.feeds) - len(self.probes)

    def showing(self, failed: set[str]) -> list[Feeds]:
        """The samples that are no probes, and the probes on which an output fails."""
        names = [""] * self.plain + list(self.probes)
        return [feed for name, feed in zip(names, self.feeds, strict=True) if not name or name in failed]

    def ordinary(self, columns: list[list[Array]]) -> list[list[Array]]:
        """Outputs on the samples that are no probes."""
        return [column[: self.plain] for column in columns]

    def ask(self, permuted: int) -> bool:
        """Asks so many permuted teachers in all, if the teacher can be permuted and then runs; whether one is new."""
        if self._shuffled is None:
            self._shuffled = permutations(self.teacher, self.crossing.units)
        missing, before = max(0, permuted - self._asked), len(self.yardsticks.get(SHUFFLED, ()))
        self._asked += missing
        for model, order in islice(self._shuffled, missing):
            try:
                outputs = run_on(self.runtime, model, order.feeds(self.feeds), self.providers)
            except Stopped:
                raise
            except (ModelError, NoKernel):
                continue
            outputs = self.crossing.outputs(self.teacher, order.back(self.teacher, outputs))
            self.yardsticks.setdefault(SHUFFLED, []).append(outputs)
        return len(self.yardsticks.get(SHUFFLED, ())) > before

    def moved(self) -> list[list[Array]]:
        """The teacher's outputs on probes that are moved by as little as rounding is, by output and probe."""
        probes = dict(zip(self.probes, self.feeds[self.plain :], strict=True))
        outputs = run_on(self.runtime, self.teacher, moved(probes), self.providers)
        return self.crossing.outputs(self.teacher, outputs)


def run_probed(
    runtime: Runner,
    teacher: ModelProto,
    student: ModelProto,
    samples: Samples,
    providers: Sequence[str],
    crossing: Crossing,
) -> Runs:
    """Runs all samples; without the probes that the teacher cannot run, if there are such.

    Raises:
        ModelError: If a model cannot be run.
    """
    left_out: dict[str, str] = {}

    def ask(feed: Feeds) -> None:
        with suppress(NoKernel):  # which has nothing to do with the numbers
            run_on(runtime, teacher, [feed], providers)

    try:
        runs = _run_all(runtime, teacher, student, samples.feeds, providers, crossing)
    except Stopped:
        raise
    except ModelError:
        left_out = runnable(samples.probes, ask, ModelError)
        if not left_out:
            raise
        samples = Samples(samples.plain, {name: f for name, f in samples.probes.items() if name not in left_out})
        runs = _run_all(runtime, teacher, student, samples.feeds, providers, crossing)
    runs.probes, runs.left_out = tuple(samples.probes), left_out
    return runs


def _run_all(
    runtime: Runner,
    teacher: ModelProto,
    student: ModelProto,
    feeds: Sequence[Feeds],
    providers: Sequence[str],
    crossing: Crossing,
) -> Runs:
    """Runs the teacher, the teacher without graph optimisations, and the student.

    Raises:
        ModelError: If one cannot be run.
    """
    raised = False
    while True:
        try:
            mine = run_on(runtime, teacher, feeds, providers)
            plain = run_on(runtime, teacher, feeds, providers, optimise=False)
            mine, plain = (crossing.outputs(teacher, columns) for columns in (mine, plain))
            theirs = run_on(runtime, student, crossing.feeds(feeds), providers, who="student")
            return Runs(runtime, teacher, student, feeds, crossing, providers, raised, mine, theirs, {PLAIN: [plain]})
        except NoKernel as error:
            if raised:
                wrong = f"onnxruntime has no kernel for an operator and its type ({error})"
                raise ModelError(wrong, "verify it with another provider, or go without", op="model") from error
        raised = True
        feeds = [{name: _widened(value) for name, value in feed.items()} for feed in feeds]
        teacher, student = upcast(teacher), upcast(student)


def fits(runtime: Runner, model: ModelProto, feeds: Sequence[Feeds], providers: Sequence[str]) -> bool:
    """Whether the teacher runs at all sizes that were drawn for its dynamic dimensions."""
    shapes = [{name: value.shape for name, value in feed.items()} for feed in feeds]
    return all(shape == shapes[0] for shape in shapes) or can_run(runtime, model, feeds, providers)


def can_run(runtime: Runner, model: ModelProto, feeds: Sequence[Feeds], providers: Sequence[str]) -> bool:
    """Whether the teacher runs on samples."""
    try:
        run_on(runtime, model, feeds, providers, optimise=False)
    except Stopped:
        raise
    except ModelError:
        return False
    except NoKernel:
        return True
    return True


def _widened(value: Array) -> Array:
    return value.astype(np.float32) if value.dtype.name in ("bfloat16", "float16") else value
