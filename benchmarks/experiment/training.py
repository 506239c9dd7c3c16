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
OPTIMIZERS = ("sgd", "adam")
RATES = {("cnn", "sgd"): 0.03, ("cnn", "adam"): 0.01, ("inception", "sgd"): 0.1, ("inception", "adam"): 0.01}
"""Learning rates of teachers, at the start: what was best from scratch, give or take a factor of three."""
GRID = (1.0, 0.3, 0.1)
"""Rates that are tried for each method, relative to the teacher's."""


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
        """The last: the rate is next to zero there, so it does not waver."""
        return self.accuracy[-1]

    @property
    def mean(self) -> float:
        """The mean over the whole curve, which rewards both speed and what is reached."""
        return sum(self.accuracy) / len(self.accuracy)

    @property
    def late(self) -> float:
        """The mean over the last quarter, by which learning rates are chosen."""
        last = self.accuracy[-(len(self.accuracy) // 4 or 1) :]
        return sum(last) / len(last)

    def reaches(self, goal: float) -> int | None:
        """The first try that is as good; None if none is."""
        return next((i for i, found in enumerate(self.accuracy) if found >= goal), None)


def optimizer_for(module: nn.Module, name: str, rate: float) -> torch.optim.Optimizer:
    """A new optimizer at a learning rate."""
    if name == "sgd":
        return torch.optim.SGD(module.parameters(), lr=rate, momentum=0.9)
    return torch.optim.Adam(module.parameters(), lr=rate)


def train(module: nn.Module, optimizer: torch.optim.Optimizer, data: Data, steps: int, seed: int) -> Curve:
    """Trains at a learning rate that falls linearly to zero; the batches follow from the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    curve = Curve([0], [accuracy(module, data)], [0.0])
    spent = 0.0
    rates = [group["lr"] for group in optimizer.param_groups]
    for start in range(0, steps, EVERY):
        stop = min(start + EVERY, steps)
        module.train()
        began = time.process_time()
        for step in range(start, stop):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (1 - step / steps)
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
