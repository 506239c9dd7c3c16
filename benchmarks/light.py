"""Widens the nine light models of the onnx wheel and prints a Markdown table. Run from the repository's root.

Usage: python benchmarks/light.py [FACTOR]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from onnx_net2net import widen
from tests.zoo import LIGHT, light, parameters


def main(factor: float) -> None:
    print("| model | axes widened | parameters before | after | growth | largest error | tolerance |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in LIGHT:
        made = widen(light(name), factor=factor)
        light.cache_clear()
        before, after = parameters(made.teacher), parameters(made.exact)
        (output,) = made.verify().outputs
        assert not output.failure, output
        print(
            f"| {name} | {len(made.plan.axes)} | {before:,} | {after:,} | {after / before:.2f} "
            f"| {output.max_rel:.1e} | {output.tolerance:.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.5)
