"""Widens the graphs of models/exports and prints a Markdown table. Run from the repository's root.

Usage: python benchmarks/exports.py [--write]     --write records the axes in models/exports/axes.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from onnx_net2net import Expansion, widen
from onnx_net2net.errors import ModelError
from tests.exports import DIMS, EXPORTS, TABLE, export, rows
from tests.zoo import parameters

FACTOR = 2


def main() -> None:
    print(f"Factor {FACTOR}; axes are those that weights carry, without positions of kernels.\n")
    axes = " | ".join(("free", "filled", "uniform", "pinned"))
    print(f"| model | exporter | nodes | {axes} | growth | largest error | tolerance | pinned by |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|")
    for name, row in rows().items():
        made = widen(export(name), factor=FACTOR)
        errors = compared(made)
        growth = parameters(made.exact) / parameters(made.teacher)
        pins = ", ".join(f"{operator} {count}" for operator, count in row["pins"].items())
        axes = " | ".join(str(row[key]) for key in ("nodes", "free", "filled", "uniform", "pinned"))
        print(f"| {' | '.join(name.rsplit('.', 1))} | {axes} | {growth:.2f} | {errors} | {pins} |", flush=True)


def compared(made: Expansion) -> str:
    """The largest error and its tolerance, or that the student is refused."""
    try:
        verdict = made.verify(dims=DIMS)
    except ModelError:
        return "refused: the student does not run | "
    worst = max(verdict.outputs, key=lambda output: output.max_rel)
    return f"{worst.max_rel:.1e} | {worst.tolerance:.1e}" if verdict else f"refused: {verdict.reason} | "


def write() -> None:
    lines = [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows().items()]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"wrote {TABLE.name}: {len(EXPORTS)} exports")


if __name__ == "__main__":
    write() if "--write" in sys.argv[1:] else main()
