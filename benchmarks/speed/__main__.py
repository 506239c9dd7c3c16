"""Runs all parts and writes docs/benchmarks.md and benchmarks/results/speed.csv.

Usage: python -m benchmarks.speed [--only PART]... [--runs 5] [--print]     from the repository's root

Needs about 25 GB on the disk of the current folder, and `pip install -r benchmarks/requirements.txt`; what compares
with a tool that is not there is left out. All with one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.speed import analysis, baselines, page, rewriting, tools
from benchmarks.speed.measure import ONE_THREAD, Row

PARTS: dict[str, Callable[[Path, int], Iterator[Row]]] = {
    "start-up": tools.start_up,
    "rewriting": rewriting.rewriting,
    "resnet": tools.resnet,
    "analysis": analysis.beside_torch_pruning,
    "baselines": baselines.baselines,
    "nodes": analysis.growth,
    "bytes": rewriting.growth,
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", action="append", choices=PARTS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--print", action="store_true")
    given = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):  # numpy has read them by now
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks.speed", *sys.argv[1:]], {**os.environ, **ONE_THREAD}
        )
    rows = []
    for part in given.only or PARTS:
        with tempfile.TemporaryDirectory(dir=".") as name:
            for row in PARTS[part](Path(name).resolve(), given.runs):
                print(page.line(row), file=sys.stderr, flush=True)
                rows.append(row)
    if given.print or given.only:
        print(page.page(rows))
    else:
        page.write(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
