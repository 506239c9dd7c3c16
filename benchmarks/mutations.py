"""Damages correct students and counts what the check catches; counts false alarms; writes docs/mutations.md.

Usage: python benchmarks/mutations.py [--quick] [--students N] [--jobs J] [--print]     from the repository's root

--quick takes few models and prints; --print writes no page. Exit code 1 if a mutant was missed or a correct student
refused.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from onnx import ModelProto

from benchmarks import mutation_page as pages
from benchmarks import subjects
from onnx_net2net import Expansion, ModelError, Verdict, verify
from onnx_net2net.checking.inputs import samples_for
from onnx_net2net.checking.permuted import permutations
from onnx_net2net.checking.runtime import Here, run_on

INPUTS = 100
"""Inputs on which an undetected mutant has to be harmless."""
CPU = ("CPUExecutionProvider",)
Outputs = list[list[np.ndarray]]


@dataclass
class Row:
    """What became of one student or mutant.

    Attributes:
        name: The model.
        kind: The kind of damage; empty for a correct student.
        fate: ``caught``, ``equal`` (bit for bit on all inputs), ``noise`` (damage below the teacher's own rounding),
            ``under`` (above it, and below the tolerance), ``inside`` (only tensors on the way show it), ``missed``;
            ``passed``, ``alarm``, ``vacuous`` for correct students; ``invalid`` if it does not run.
        reason: Why it was refused.
        outputs: (max_rel, tolerance, noises) of each output that was compared as numbers.
        damage: What the damage did on many inputs, as max_rel, and the teacher's rounding there.
        seconds: How long the verification took.
    """

    name: str
    kind: str
    fate: str
    reason: str = ""
    outputs: list[tuple[float, float, dict[str, float]]] = field(default_factory=list)
    damage: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0


def judged(row: Row, teacher: ModelProto, student: ModelProto, dims: dict[str, int]) -> Verdict | None:
    """Verifies at the defaults; None if the student does not run."""
    start = time.perf_counter()
    try:
        verdict = verify(teacher, student, dims=dims)
    except ModelError as error:
        row.fate, row.reason = "invalid", str(error)
        return None
    row.seconds = time.perf_counter() - start
    row.reason = verdict.reason
    row.outputs = [(o.max_rel, o.tolerance, dict(o.noises)) for o in verdict.outputs if o.metrics]
    return verdict


def settle(cores: Any) -> None:
    """Keeps a worker to a core of its own: threads of onnxruntime that wait for each other take most of the time."""
    os.sched_setaffinity(0, {cores.get()})


def mutate(task: tuple[str, bool, int]) -> list[Row]:
    """All mutants of one student."""
    name, deep, seeds = task
    made, rows = (subjects.student if deep else subjects.wider)(name), []
    name, dims = f"{name}, deeper" if deep else name, subjects.dims(name)
    healthy = Health(made.teacher, made.exact, dims)
    for kind, seed, model in subjects.mutants(made, seeds):
        row = Row(f"{name} #{seed}", kind, "caught")
        verdict = judged(row, made.teacher, model, dims)
        if verdict:
            row.fate, row.damage = healthy.fate(model)
            if row.fate == "missed" and not inside(row, made, model, dims):
                row.fate = "inside"
            if row.fate == "missed" and row.damage[0] <= max(allowed for _error, allowed, _noises in row.outputs):
                row.fate = "under"
        rows.append(row)
    print(f"  {name}: {len(rows)} mutants, {sum(row.fate == 'missed' for row in rows)} missed", file=sys.stderr)
    return rows


def inside(row: Row, made: Expansion, student: ModelProto, dims: dict[str, int]) -> bool:
    """Whether every tensor on the way is where the plan says."""
    verdict = verify(made.teacher, student, plan=made.plan, per_layer=True, dims=dims)
    row.reason = row.reason or verdict.reason
    return bool(verdict)


class Health:
    """What a correct student and its teacher give on many inputs, to judge mutants that a verification let pass."""

    def __init__(self, teacher: ModelProto, student: ModelProto, dims: dict[str, int]) -> None:
        self.teacher, self.student, self.dims = teacher, student, dims
        self.known: tuple[list[dict[str, np.ndarray]], Outputs, list[float]] | None = None

    def measured(self) -> tuple[list[dict[str, np.ndarray]], Outputs, list[float]]:
        """The inputs, what the student gives, and the teacher's rounding output by output."""
        if self.known is None:
            feeds = samples_for(self.teacher, None, INPUTS, 1000, self.dims, vary=False).plain
            runtime = Here()
            mine = run_on(runtime, self.teacher, feeds, CPU)
            others = [run_on(runtime, self.teacher, feeds, CPU, optimise=False)]
            others += [
                run_on(runtime, model, feeds, CPU)
                for model in islice(map(itemgetter(0), permutations(self.teacher)), 2)
            ]
            noise = [max(apart(a, other[at]) for other in others) for at, a in enumerate(mine)]
            self.known = feeds, run_on(runtime, self.student, feeds, CPU), noise
        return self.known

    def fate(self, mutant: ModelProto) -> tuple[str, tuple[float, float]]:
        """What an undetected mutant is, and (damage, rounding) of the output that shows most."""
        feeds, healthy, noise = self.measured()
        given = run_on(Here(), mutant, feeds, CPU)
        if all(np.array_equal(x, y) for a, b in zip(healthy, given, strict=True) for x, y in zip(a, b, strict=True)):
            return "equal", (0.0, 0.0)
        found = [(apart(a, b), n) for a, b, n in zip(healthy, given, noise, strict=True)]
        worst = max(found, key=lambda pair: pair[0] / (pair[1] or 1e-30))
        return "noise" if worst[0] <= worst[1] else "missed", worst


def apart(mine: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """max|a - b| / max|a|, the worst of all samples."""
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(mine, theirs, strict=True)]
    return max(float(np.abs(a - b).max(initial=0)) / (float(np.abs(a).max(initial=0)) or 1.0) for a, b in pairs)


def spare(task: tuple[int, int, bool]) -> Row | None:
    """Verifies one correct student; None if there is nothing to make."""
    number, count, quick = task
    subject = subjects.correct(count, quick)[number]
    made = subject.make()
    if made is None:
        return None
    row = Row(subject.name, "", "passed")
    verdict = judged(row, made.teacher, made.exact, subject.dims)
    if verdict is not None and not verdict:
        row.fate = "vacuous" if "proves nothing" in row.reason else "alarm"
    elif verdict is not None and not inside(row, made, made.exact, subject.dims):
        row.fate = "alarm"
    return row


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--students", type=int, default=0, help="correct students (200; with --quick 40)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--print", action="store_true")
    given = parser.parse_args()
    count = given.students or (40 if given.quick else 200)
    start, models = time.perf_counter(), subjects.names(given.quick)
    context = multiprocessing.get_context("spawn")
    cores = context.SimpleQueue()
    for job in range(given.jobs):
        cores.put(sorted(os.sched_getaffinity(0))[job % len(os.sched_getaffinity(0))])
    with context.Pool(given.jobs, settle, (cores,)) as pool:
        tasks = [(name, False, 1) for name in models]
        tasks += [(name, True, 1) for name in subjects.QUICK]
        rows = [row for part in pool.imap_unordered(mutate, tasks) for row in part]
        wanted = [(n, 2 * count, given.quick) for n in range(2 * count)]  # some networks have nothing that grows
        students: list[Row] = []
        for row in pool.imap(spare, wanted, chunksize=4):
            students += [row] if row is not None else []
            if len(students) == count:
                break
        pool.terminate()
    page = pages.page(rows, students, time.perf_counter() - start)
    if given.quick or given.print:
        print(page)
    else:
        pages.write(page)
    return int(any(row.fate in ("missed", "alarm", "vacuous") for row in (*rows, *students)))


if __name__ == "__main__":
    sys.exit(main())
