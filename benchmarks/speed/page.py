"""The page docs/benchmarks.md and the table benchmarks/results/speed.csv."""

from __future__ import annotations

import csv
import math
import platform
from collections.abc import Iterable, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from os import cpu_count

from benchmarks.speed.measure import ROOT, Row

PAGE, TABLE = ROOT / "docs" / "benchmarks.md", ROOT / "benchmarks" / "results" / "speed.csv"
NOTES = "## Notes\n"
"""What stands below this line is written by hand, and stays."""
TOOLS = "numpy onnx onnxslim onnxsim torch torch-pruning torchvision transformers"
INTRODUCTION = """\
# Benchmarks

Each figure is the least of several runs, taken by turns with what it is compared with, on one thread. A ratio is the
figure over what stands beside it; a target is what the ratio, or else the figure, may be at most.

Made by `make benchmarks` on {today}: {machine}, Python {python}, {tools}.
"""


def page(rows: Sequence[Row]) -> str:
    """The page, without the notes."""
    found = INTRODUCTION.format(
        today=date.today().isoformat(),
        machine=f"{platform.machine()}, {cpu_count()} cores, {platform.system()}",
        python=platform.python_version(),
        tools=", ".join(f"{name} {_version(name)}" for name in TOOLS.split() if _version(name)),
    )
    parts = [found]
    for section, members in groupby(rows, key=lambda row: row.section):
        parts += [f"## {section[0].upper()}{section[1:]}\n", _table(members)]
    return "\n".join(parts)


def write(rows: Sequence[Row]) -> None:
    """Writes page and table; the notes stay."""
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    notes = NOTES + old.partition(NOTES)[2] if NOTES in old else ""
    PAGE.write_text("\n".join([page(rows), notes]).rstrip() + "\n", encoding="utf-8")
    with TABLE.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["section", "name", "value", "unit", "beside", "ratio", "target", "met"])
        for row in rows:
            numbers = [_number(row.ratio), _number(row.target), {None: "", True: "yes", False: "no"}[row.met]]
            writer.writerow([row.section, row.name, _number(row.value), row.unit, row.beside, *numbers])


def line(row: Row) -> str:
    """A row as text."""
    return " | ".join(_cells(row))


def _table(rows: Iterable[Row]) -> str:
    lines = ["| what | figure | beside | ratio | target | met |", "|---|---:|---|---:|---:|---|"]
    return "\n".join([*lines, *(f"| {line(row)} |" for row in rows)]) + "\n"


def _cells(row: Row) -> list[str]:
    target = "" if math.isnan(row.target) else _number(row.target)
    met = {None: "", True: "yes", False: "**no**"}[row.met]
    return [row.name, f"{_number(row.value)} {row.unit}".strip(), row.beside, _number(row.ratio), target, met]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
