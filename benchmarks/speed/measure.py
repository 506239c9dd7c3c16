"""Times and memory of whole processes and of calls, and the rows that they become."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
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
    """What a process took: seconds, and its largest resident memory in bytes (VmHWM)."""

    seconds: float
    peak: int


def process(command: Sequence[object], cwd: Path = ROOT, **environment: str) -> Process:
    """Runs a process with one thread to the end.

    Raises:
        RuntimeError: If it fails.
    """
    environ = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT), **environment}
    start = time.perf_counter()
    with subprocess.Popen(
        [str(part) for part in command], cwd=cwd, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as child:
        said = child.stdout.read() if child.stdout else b""
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{command} gave {child.returncode}: {said.decode(errors='replace')[-2000:]}")
    return Process(seconds, usage.ru_maxrss * 1024)


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
