"""Times and memory of whole processes and of calls, and the rows that they become."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
LAUNCH = Path(__file__).with_name("launch.py")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
OURS = [sys.executable, "-m", "onnx_net2net"]


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        section: What it belongs to.
        name: What was measured.
        value: The figure.
        unit: Its unit.
        target: What the figure, or the ratio where there is one, is held to at most; NaN if to nothing.
        ratio: The figure over what it is compared with.
        beside: What it is compared with.
    """

    section: str
    name: str
    value: float
    unit: str
    target: float = math.nan
    ratio: float = math.nan
    beside: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if math.isnan(self.target):
            return None
        seen = self.value if math.isnan(self.ratio) else self.ratio
        return seen <= self.target


@dataclass(frozen=True)
class Process:
    """What a process took: seconds, and its largest resident memory in bytes."""

    seconds: float
    peak: int


def process(command: Sequence[object], cwd: Path = ROOT, **environment: str) -> Process:
    """Runs a process with one thread to the end.

    Raises:
        RuntimeError: If it fails.
    """
    environ = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT), **environment}
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as report:
        launched = [sys.executable, "-S", LAUNCH, report.name, *map(str, command)]
        ran = subprocess.run(launched, cwd=cwd, env=environ, capture_output=True, check=True)
        seconds, kilobytes, status = report.read().split()
    if int(status):
        said = (ran.stdout + ran.stderr).decode(errors="replace")
        raise RuntimeError(f"{command} gave {status}: {said[-2000:]}")
    return Process(float(seconds), int(kilobytes) * 1024)


def least(runs: int, call: Callable[[], Any]) -> float:
    """The shortest of several calls, in seconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def by_turns(runs: int, *calls: Callable[[], float]) -> list[float]:
    """The shortest time of each, with the calls taken by turns, so that a busy machine is busy for all of them."""
    best = [math.inf] * len(calls)
    for _ in range(runs):
        for i, call in enumerate(calls):
            best[i] = min(best[i], call())
    return best


def exponent(sizes: Sequence[float], figures: Sequence[float]) -> float:
    """The exponent of the power law that fits best."""
    return float(np.polyfit(np.log(sizes), np.log(figures), 1)[0])
