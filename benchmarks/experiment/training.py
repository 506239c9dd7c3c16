"""Training with everything fixed but the network: the same batches for each method of a seed."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.experiment.data import Data, disturbed

BATCH = 64
EVERY = 25
"""Steps between two looks at the validation set."""
RATES = {"sgd": 0.03, "adam": 3e-3}
"""Learning rates of teachers."""
GRID = (3.0, 1.0, 0.3, 0.1)
"""Rates that are tried for each method, relative to the teacher's."""
LAST = 3
"""How many looks at the validation set make the final accuracy."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What came of a training.

    Attributes:
        steps: Steps at which the network was tried, from 0.
        accuracy: On the validation set.
        seconds: Processor seconds of training up to there; trying does not count.
    """

    steps: list[int]
    accuracy: list[float]
    seconds: list[float]

    @property
    def final(self) -> float:
        """The mean of the last tries: a single one wavers."""
        return sum(self.accuracy[-LAST:]) / len(self.accuracy[-LAST:])

    @property
    def mean(self) -> float:
        """The mean over the whole curve, which rewards both speed and what is reached."""
        return sum(self.accuracy) / len(self.accuracy)

    @property
    def late(self) -> float:
        """The mean over the second half, by which learning rates are chosen."""
        half = self.accuracy[len(self.accuracy) // 2 :]
        return sum(half) / len(half)

    def reaches(self, goal: float) -> int | None:
        """The first try that is as good; None if none is."""
        return next((i for i, found in enumerate(self.accuracy) if found >= goal), None)


def optimizer_for(module: nn.Module, name: str, scale: float = 1.0) -> torch.optim.Optimizer:
    """A new optimizer, at the teacher's learning rate times a factor."""
    if name == "sgd":
        return torch.optim.SGD(module.parameters(), lr=RATES[name] * scale, momentum=0.9)
    return torch.optim.Adam(module.parameters(), lr=RATES[name] * scale)


def train(module: nn.Module, optimizer: torch.optim.Optimizer, data: Data, steps: int, seed: int) -> Curve:
    """Trains at a constant learning rate; the batches follow from the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    curve = Curve([0], [accuracy(module, data)], [0.0])
    spent = 0.0
    for start in range(0, steps, EVERY):
        stop = min(start + EVERY, steps)
        module.train()
        began = time.process_time()
        for _ in range(start, stop):
            chosen = torch.randint(0, len(data.images), (BATCH,), generator=generator)
            logits = module(disturbed(data.images[chosen], generator))
            loss = nn.functional.cross_entropy(logits, data.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        spent += time.process_time() - began
        curve.steps.append(stop)
        curve.accuracy.append(accuracy(module, data))
        curve.seconds.append(spent)
    return curve


def accuracy(module: nn.Module, data: Data) -> float:
    """Share of right answers on the validation set, in evaluation mode."""
    module.eval()
    with torch.no_grad():
        return float((module(data.seen).argmax(1) == data.answers).float().mean())
