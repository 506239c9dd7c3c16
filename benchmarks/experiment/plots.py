"""Learning curves: the mean over seeds, with the standard deviation around it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.experiment.numbers import Numbers, Row

COLOURS = {
    "uneven": "tab:blue",
    "identity": "tab:blue",
    "random-pad": "tab:orange",
    "random": "tab:orange",
    "scratch": "tab:green",
    "even + noise": "tab:red",
    "scatter": "tab:purple",
    "first": "tab:brown",
    "uneven, state reset": "tab:cyan",
    "identity, state reset": "tab:cyan",
    "teacher trained on": "tab:gray",
}
STARTS = {
    "wide": ("uneven", "random-pad", "scratch", "teacher trained on"),
    "deep": ("identity", "random", "scratch", "teacher trained on"),
}
SPLITS = {"wide": ("uneven", "even + noise", "scatter", "first", "uneven, state reset")}


def draw(folder: Path, numbers: Numbers, points: list[Row]) -> None:
    """Writes the images."""
    folder.mkdir(parents=True, exist_ok=True)
    curves: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in points:
        curves[row["network"], row["optimizer"], row["change"], row["method"]].append(row)
    for name, shown in (("starts", STARTS), ("splits", SPLITS)):
        _figure(folder / f"experiment_{name}.png", numbers, curves, shown)


def _figure(
    path: Path, numbers: Numbers, curves: dict[tuple[str, ...], list[Row]], shown: dict[str, tuple[str, ...]]
) -> None:
    """One row of axes for each change, one column for each network and optimizer."""
    size = (3.4 * len(numbers.cases), 2.9 * len(shown))
    figure, grid = plt.subplots(len(shown), len(numbers.cases), figsize=size, squeeze=False, layout="constrained")
    for line, (change, methods) in zip(grid, shown.items(), strict=True):
        for place, case in zip(line, numbers.cases, strict=True):
            for method in methods:
                found = curves[(*case, "none" if method.startswith("teacher") else change, method)]
                steps, values = _values(found)
                place.plot(steps, values.mean(0), color=COLOURS[method], label=method, linewidth=1.2)
                low, high = values.mean(0) - values.std(0, ddof=1), values.mean(0) + values.std(0, ddof=1)
                place.fill_between(steps, low, high, color=COLOURS[method], alpha=0.15, linewidth=0)
            best = np.mean(numbers.values(case, "none", "teacher", "best")) * 100
            place.axhline(best, color="black", linewidth=0.8, linestyle=":", label="teacher's best")
            place.set_ylim(max(0, best - 35), 100)
            place.set_title(f"{case[0]}, {case[1]}: {change}", fontsize=9)
            place.tick_params(labelsize=7)
        line[0].set_ylabel("validation accuracy, %", fontsize=8)
        line[-1].legend(fontsize=6, loc="lower right")
    for place in grid[-1]:
        place.set_xlabel("step", fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _values(rows: list[Row]) -> tuple[list[int], np.ndarray]:
    """Steps, and percent by seed and step."""
    steps = [int(key) for key, value in rows[0].items() if key.isdigit() and value]
    return steps, np.array([[100 * float(row[str(step)]) for step in steps] for row in rows])
