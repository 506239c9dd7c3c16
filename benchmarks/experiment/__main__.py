"""Trains teachers and students on digits, and writes benchmarks/results/, docs/images/ and docs/experiment.md.

Usage: python -m benchmarks.experiment [--page]     from the repository's root; --page only writes the page anew
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import resource
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks.experiment import page
from benchmarks.experiment.runs import PROCESSES, Run, Settings, run, tuned

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--page", action="store_true", help="write the page from the numbers that are there")
    if not parser.parse_args().page:
        RESULTS.mkdir(exist_ok=True)
        measure(Settings())
    page.write(ROOT)


def measure(settings: Settings) -> None:
    """Tunes learning rates, trains everything, and writes the numbers."""
    began = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(PROCESSES, torch.set_num_threads, (1,)) as pool:
        tries: list[Run] = []
        for found in pool.imap(run, settings.jobs(), 1):
            tries += found
            report(found, began)
        table("experiment_tuning.csv", (one.row() for one in tries))
        made: list[Run] = []
        for found in pool.imap(run, settings.jobs(tuned(tries)), 1):
            made += found
            report(found, began)
            table("experiment.csv", (one.row() for one in made))
            table("experiment_curves.csv", (one.points() for one in made))
        pool.close()
        pool.join()
    spent = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    table("experiment_machine.csv", [page.machine(time.perf_counter() - began, spent)])


def report(found: list[Run], began: float) -> None:
    """Says what is done."""
    first = found[0]
    print(f"{time.perf_counter() - began:5.0f} s: {first.network}, {first.optimizer}, seed {first.seed}", flush=True)


def table(name: str, rows: Iterable[dict[str, object]]) -> None:
    """Writes a CSV file; columns are those of all rows, in order."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with (RESULTS / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
