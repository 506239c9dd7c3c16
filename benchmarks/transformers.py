"""Widens the exported transformers by the names of their groups of axes, deepens them by blocks, and writes a table.

Usage: python benchmarks/transformers.py [--print]     from the repository's root; writes docs/transformers.md
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, numpy_helper

from onnx_net2net import Expansion, deepen, widen
from onnx_net2net.checking.runs import SHUFFLED
from onnx_net2net.errors import ModelError, RequestError
from onnx_net2net.inference.groups import MEANINGS, groups
from onnx_net2net.inference.infer import infer
from tests.exports import DIMS, EXPORTS, export

FAMILIES = "attention bert convnext encoder gemma gpt2 llama mixer qwen3 segformer swin t5 vit whisper".split()
PAGE = Path(__file__).parents[1] / "docs" / "transformers.md"
EPS = float(np.finfo(np.float32).eps)
INTRODUCTION = """\
# Transformers, by group of axes

Each group of axes that `inspect` names is widened alone, in the exports of models/exports: to twice its size (x2), and
by half and one more (odd). A cell is the largest error of an output over what another order of the teacher's own units,
or graph optimisations, change in it: about one is as exact as rounding allows, more than 10 would be refused. `blocks`
is a copy of every residual block, inserted behind it. An empty cell: the model has no such group. *pinned* and
*multiples* (whole ones only): `inspect` says why.

Made by `python benchmarks/transformers.py` on {today}: {machine}, Python {python}, onnx {onnx},
onnxruntime {runtime}, CPU.
"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--print", action="store_true")
    given = parser.parse_args()
    found = INTRODUCTION.format(
        today=date.today().isoformat(),
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        python=platform.python_version(),
        onnx=onnx.__version__,
        runtime=onnxruntime.__version__,
    )
    parts = [found]
    for title, half in (("float32", False), ("float16", True)):
        head = ["model", "exporter", *(f"{g} {w}" for g in MEANINGS for w in ("x2", "odd")), "blocks"]
        lines = [f"| {' | '.join(head)} |", f"|---|---|{'---:|' * (len(head) - 2)}"]
        for name in EXPORTS:
            if name.split(".")[0] in FAMILIES:
                row = [*name.split(".", 1), *cells(halved(export(name)) if half else export(name))]
                lines.append(f"| {' | '.join(row)} |")
                print(lines[-1], file=sys.stderr, flush=True)
        parts += [f"## {title}\n", "\n".join(lines) + "\n"]
    if given.print:
        print("\n".join(parts))
    else:
        PAGE.write_text("\n".join(parts), encoding="utf-8")
    return int(any("refused" in part for part in parts))


def cells(teacher: ModelProto) -> Iterator[str]:
    """What became of each group at both sizes, and of copied blocks."""
    known = {group.name: min(map(group.size, group.axes)) for group in groups(infer(teacher))}
    for name in MEANINGS:
        for odd in (False, True):
            width = f"+{known[name] // 2 + 1}" if odd and name in known else "x2"
            yield attempt(partial(widen, teacher, widths={name: width})) if name in known else ""
    yield attempt(partial(deepen, teacher, block="every"))


def attempt(make: Callable[[], Expansion]) -> str:
    """The error of a student over its teacher's own rounding, or why there is none."""
    try:
        made = make()
    except RequestError as error:
        return "multiples" if "multiple" in str(error) else "pinned"
    if not made.plan.changes:
        return ""
    try:
        verdict = made.verify(dims=DIMS)
    except ModelError:
        return "refused"
    if not verdict:
        return "refused"
    return f"{max(o.max_rel / max(o.noises.get(SHUFFLED, 0.0), o.noise, EPS) for o in verdict.outputs):.1f}"


def halved(model: ModelProto) -> ModelProto:
    """The same model in float16: weights, casts, inputs and outputs."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        _halve(tensor)
    for value in (*copy.graph.input, *copy.graph.output, *copy.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in copy.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _halve(attribute.t)
            if attribute.name in ("to", "dtype", "stash_type") and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16 if attribute.name != "stash_type" else TensorProto.FLOAT
    return copy


def _halve(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        value = numpy_helper.to_array(tensor)
        limit = float(np.finfo(np.float16).max)
        tensor.CopyFrom(numpy_helper.from_array(np.clip(value, -limit, limit).astype(np.float16), tensor.name))


if __name__ == "__main__":
    sys.exit(main())
