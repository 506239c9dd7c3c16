"""The numbers as they lie in benchmarks/results/, and what is computed from them."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import t

Row = dict[str, str]
Case = tuple[str, str]
"""Network and optimizer."""
LEVEL = 0.95


def read(path: Path) -> list[Row]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better one method is than another, seed by seed.

    Attributes:
        each: By seed.
        half: Half of the interval that holds the mean with 95% confidence, by Student's t.
    """

    each: tuple[float, ...]
    half: float

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return statistics.fmean(self.each)

    @property
    def clear(self) -> int:
        """1 if clearly better, -1 if clearly worse, else 0: the interval holds zero."""
        return 0 if abs(self.mean) <= self.half else 1 if self.mean > 0 else -1


class Numbers:
    """All runs.

    Args:
        rows: One for each run.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.cases: list[Case] = list(dict.fromkeys((row["network"], row["optimizer"]) for row in rows))
        self.seeds = sorted({int(row["seed"]) for row in rows})

    def of(self, case: Case, change: str, method: str) -> list[Row]:
        """The runs of one method, by seed."""
        wanted = (*case, change, method)
        found = [r for r in self.rows if (r["network"], r["optimizer"], r["change"], r["method"]) == wanted]
        return sorted(found, key=lambda row: int(row["seed"]))

    def methods(self, change: str) -> list[str]:
        """Methods in the order of the rows."""
        return list(dict.fromkeys(row["method"] for row in self.rows if row["change"] == change))

    def values(self, case: Case, change: str, method: str, column: str) -> list[float]:
        """A column by seed; what was not reached is infinite."""
        return [float(row[column] or "inf") for row in self.of(case, change, method)]

    def difference(self, case: Case, left: tuple[str, str], right: tuple[str, str], column: str) -> Difference:
        """Left minus right, in percentage points; each is a change and a method."""
        pairs = zip(self.values(case, *left, column), self.values(case, *right, column), strict=True)
        return interval([100 * (a - b) for a, b in pairs])

    def everywhere(self, left: tuple[str, str], right: tuple[str, str], column: str) -> Difference:
        """The same over all cases: the cases of a seed are first averaged, as they share its batches."""
        by_case = [self.difference(case, left, right, column).each for case in self.cases]
        return interval([statistics.fmean(of_seed) for of_seed in zip(*by_case, strict=True)])


def interval(each: Sequence[float]) -> Difference:
    """Differences with their interval."""
    count = len(each)
    if count < 2:
        return Difference(tuple(each), float("inf"))
    half = float(t.ppf((1 + LEVEL) / 2, count - 1)) * statistics.stdev(each) / count**0.5
    return Difference(tuple(each), half)


def spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{show(statistics.fmean(values))} ± {show(deviation)}"


def middle(values: Sequence[float], show: Callable[[float], str]) -> str:
    """Median and range; ``never`` for what was not reached."""
    low, high = min(values), max(values)
    centre = statistics.median_low(values)
    shown = [show(value) if value != float("inf") else "never" for value in (centre, low, high)]
    return f"{shown[0]} ({shown[1]} to {shown[2]})" if low != high else shown[0]
