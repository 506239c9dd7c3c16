"""What is trained: a teacher for each network, optimizer and seed, and its students by each method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.experiment.data import Data, load
from benchmarks.experiment.networks import NETWORKS, start
from benchmarks.experiment.students import METHODS, SCRATCH, Method, Nursery, Student, Teacher, export
from benchmarks.experiment.training import GRID, OPTIMIZERS, RATES, Curve, optimizer_for, train

PROCESSES = 2
"""Each with one thread."""
NEAR = 0.99
"""The share of a network's best accuracy from scratch that counts as reaching it."""
Key = tuple[str, str, str, str]
"""Network, change, method, optimizer."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is run.

    Attributes:
        seeds: Those that are reported.
        tuning: Those that learning rates are chosen on.
        teacher_steps: How long teachers train.
        steps: How long students train.
        networks: Which networks.
        methods: How students start.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    tuning: tuple[int, ...] = (100,)
    teacher_steps: Mapping[str, int] = field(default_factory=lambda: {"cnn": 800, "inception": 500})
    steps: Mapping[str, int] = field(default_factory=lambda: {"cnn": 500, "inception": 300})
    networks: tuple[str, ...] = ("inception", "cnn")
    methods: tuple[Method, ...] = METHODS

    def jobs(self, rates: Mapping[Key, float] | None = None) -> list[Job]:
        """The jobs that try all rates on the seeds for tuning, or the chosen rates on the others."""
        return [
            Job(
                network,
                optimizer,
                seed,
                self.teacher_steps[network],
                self.steps[network],
                tuple(
                    (method, rate) for method in self.methods for rate in rates_for(method, network, optimizer, rates)
                ),
            )
            for seed in (self.tuning if rates is None else self.seeds)
            for network in self.networks
            for optimizer in OPTIMIZERS
        ]


def rates_for(method: Method, network: str, optimizer: str, rates: Mapping[Key, float] | None) -> tuple[float, ...]:
    """The rates that a method is to be run at; those that take another's rate are not tuned."""
    if rates is None:
        return () if method.fresh else GRID
    return (rates[network, method.change, method.name, optimizer],)


@dataclass(frozen=True, slots=True)
class Job:
    """A teacher and the students that it is to have, each at a learning rate relative to the teacher's."""

    network: str
    optimizer: str
    seed: int
    teacher_steps: int
    steps: int
    students: tuple[tuple[Method, float], ...]


@dataclass(slots=True)
class Run:
    """One training and what it was."""

    network: str
    change: str
    method: str
    optimizer: str
    seed: int
    rate: float
    parameters: int
    expansion: float
    curve: Curve
    goals: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """What it is a run of."""
        return self.network, self.change, self.method, self.optimizer

    def row(self) -> dict[str, Any]:
        """A row of numbers."""
        found: dict[str, Any] = {
            **self.names(),
            "rate": self.rate,
            "parameters": self.parameters,
            "expansion_seconds": round(self.expansion, 3),
            "step0": round(self.curve.accuracy[0], 5),
            "best": round(max(self.curve.accuracy), 5),
            "final": round(self.curve.final, 5),
            "mean": round(self.curve.mean, 5),
            "late": round(self.curve.late, 5),
            "seconds": round(self.curve.seconds[-1], 3),
        }
        for name, goal in self.goals.items():
            at = self.curve.reaches(goal)
            found[f"{name}_goal"] = round(goal, 5)
            found[f"{name}_steps"] = "" if at is None else self.curve.steps[at]
            found[f"{name}_seconds"] = "" if at is None else round(self.curve.seconds[at], 3)
        return found

    def points(self) -> dict[str, Any]:
        """Accuracy by step."""
        points = {str(step): round(found, 4) for step, found in zip(self.curve.steps, self.curve.accuracy, strict=True)}
        return {**self.names(), **points}

    def names(self) -> dict[str, Any]:
        """What it is a run of, and its seed."""
        names = dict(zip(("network", "change", "method", "optimizer"), self.key, strict=True))
        return {**names, "seed": self.seed}


def run(job: Job) -> list[Run]:
    """Trains a teacher and its students.

    The students' batches are the same for all, and others than the teacher's.
    """
    data = load()
    teacher, first = taught(job, data)
    nursery = Nursery(teacher, data)
    found = [first]
    for method, rate in job.students:
        student = nursery.make(method)
        curve = train(
            student.module,
            at_rate(student, job.optimizer, rate * RATES[job.network, job.optimizer]),
            data,
            job.steps,
            1000 + job.seed,
        )
        found.append(_run(job, method, rate, student, curve))
    for one in found:
        scratch = [r for r in found if r.change == one.change and r.method == SCRATCH]
        one.goals["teacher"] = max(first.curve.accuracy)
        if scratch:
            one.goals["scratch"] = NEAR * max(max(r.curve.accuracy) for r in scratch)
    return found


def taught(job: Job, data: Data) -> tuple[Teacher, Run]:
    """The teacher, trained from its seed, and its curve."""
    kind, scale = NETWORKS[job.network]
    module = start(kind(scale), job.seed)
    optimizer = optimizer_for(module, job.optimizer, RATES[job.network, job.optimizer])
    curve = train(module, optimizer, data, job.teacher_steps, job.seed)
    example = data.seen[:4]
    teacher = Teacher(job.network, module, optimizer, export(module, example), example, job.seed)
    return teacher, _run(job, Method("none", "teacher"), 1.0, Student(module, optimizer, 0.0), curve)


def at_rate(student: Student, name: str, rate: float) -> torch.optim.Optimizer:
    """The student's optimizer, new if there is none to take over, at its learning rate."""
    optimizer = student.optimizer or optimizer_for(student.module, name, rate)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return optimizer


def _run(job: Job, method: Method, rate: float, student: Student, curve: Curve) -> Run:
    count = sum(p.numel() for p in student.module.parameters())
    title = method.title
    return Run(job.network, method.change, title, job.optimizer, job.seed, rate, count, student.seconds, curve)


def tuned(tries: list[Run]) -> dict[Key, float]:
    """For each method the rate with the best accuracy in the last quarter of training."""
    found: dict[Key, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in tries:
        found[one.key][one.rate].append(one.curve.late)
    return {key: max(rates, key=lambda rate: sum(rates[rate])) for key, rates in found.items()}
