"""Widens the exported transformers by the names of their groups of axes, deepens them by blocks, and writes a table.

Usage: python benchmarks/transformers.py [--only GLOB]     from the repository's root; writes docs/transformers.md

With --only the rows of the exports that match are printed and nothing is written.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from itertools import count, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, numpy_helper

from onnx_net2net import Expansion, deepen, growing, widen
from onnx_net2net.checking import permuted, runs
from onnx_net2net.checking.crossing import Crossing
from onnx_net2net.checking.permuted import permutations
from onnx_net2net.checking.runs import SHUFFLED
from onnx_net2net.checking.tolerance import FACTOR
from onnx_net2net.checking.verdict import OutputVerdict
from onnx_net2net.errors import ModelError, RequestError
from onnx_net2net.inference.axis_map import AxisMap
from onnx_net2net.inference.groups import MEANINGS, Group, groups
from onnx_net2net.inference.infer import infer
from onnx_net2net.storage.model import AnyModel
from tests.exports import DIMS, EXPORTS, export

FAMILIES = """
    attention bert convnext encoder gemma gpt2 gpt2_cache gru_tagger llama llama_cache lstm_tagger mamba mixer mixtral
    qwen3 segformer swin t5 vit whisper
""".split()
Permuted = tuple[AnyModel, Crossing]
COLUMNS = (*MEANINGS, "others", "blocks")
PAGE = Path(__file__).parents[1] / "docs" / "transformers.md"
SAMPLES = 8
INTRODUCTION = """\
# Transformers, by group of axes

Each group of axes that `inspect` names is widened alone, in the exports of models/exports: to twice its size, and to
half as much again and one more, which is no whole multiple. A cell has the errors of both: the largest error of an
output over what another order of the teacher's own units, or graph optimisations, change in it, which counts as no less
than the type's epsilon. About one is as exact as rounding allows; what is refused is above 10. `others` are all other
axes that can grow, together (x2 and x1.5); `blocks` is a copy of every residual block, inserted behind it. Caches grow
along (`--allow-io-change`).

An empty cell: the model has no such group. *pinned* and *multiples* (whole ones only): the reasons are below the
tables. *loud*: correct within the teacher's own rounding, but that is more than verification allows for any model.
An n: with inserted nodes (`--allow-nodes`); whole multiples only without. A star: onnxruntime has no float16 kernel for
one of the operators, so both models were raised to float32, exactly.

Made by `python benchmarks/transformers.py` in {minutes:.0f} minutes on {today}: {machine}, Python {python},
onnx {onnx}, onnxruntime {runtime}, CPU.
"""


@dataclass
class Row:
    """One line of a table.

    Attributes:
        name: The export.
        half: Whether it was made float16 first.
        cells: By column, what came of it.
        reasons: By column, why a cell has no number.
    """

    name: str
    half: bool
    cells: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        cells = (self.cells.get(column, "") for column in COLUMNS)
        return f"| {' | '.join((*self.name.split('.', 1), *cells))} |"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", metavar="GLOB", default="*")
    only = parser.parse_args().only
    start = time.monotonic()
    names = [name for name in EXPORTS if name.split(".")[0] in FAMILIES and fnmatchcase(name, only)]
    jobs = [(name, half) for half in (False, True) for name in names]
    rows = []
    with ProcessPoolExecutor(2, initializer=share_work) as pool:
        for row in pool.map(fill, jobs):
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    found = page(rows, (time.monotonic() - start) / 60)
    if only == "*":
        PAGE.write_text(found, encoding="utf-8")
    else:
        print(found)
    return int(any("refused" in cell for row in rows for cell in row.cells.values()))


def page(rows: Iterable[Row], minutes: float) -> str:
    """The tables, and the reasons of what is not in them."""
    parts = [
        INTRODUCTION.format(
            minutes=minutes,
            today=date.today().isoformat(),
            machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            python=platform.python_version(),
            onnx=onnx.__version__,
            runtime=onnxruntime.__version__,
        )
    ]
    reasons: dict[str, list[str]] = {}
    for title, half in (("float32", False), ("float16", True)):
        lines = [str(row) for row in rows if row.half == half]
        head = [f"| model | exporter | {' | '.join(COLUMNS)} |", f"|---|---|{'---:|' * len(COLUMNS)}"]
        parts.append("\n".join([f"## {title}\n", *head, *lines, ""]))
        for row in rows:
            for column, why in row.reasons.items() if row.half == half else ():
                reasons.setdefault(f"{column}: {why}", []).append(row.name)
    told = [f"- {why} ({', '.join(dict.fromkeys(names))})" for why, names in sorted(reasons.items())]
    return "\n".join([*parts, "## Why some cells have no number\n", *told, ""])


def fill(job: tuple[str, bool]) -> Row:
    """The row of one export."""
    row = Row(*job)
    teacher = halved(export(row.name)) if row.half else export(row.name)
    attempt = partial(_attempt, half=row.half)
    known = groups(_infer(teacher, allow=True))
    grow = partial(widen, teacher, allow_io_change=True)  # caches
    for group in known:
        makes = [partial(grow, widths={group.name: wide}) for wide in ("x2", f"+{odd(group)}")]
        _put(row, group.name, map(attempt, makes))
    named = [info.axis.name for group in known for info in group.axes]
    makes = [partial(grow, factor=factor, skip=named) for factor in (2, 1.5)]
    _put(row, "others", map(attempt, makes))
    _put(row, "blocks", map(attempt, [partial(deepen, teacher, block="every")]))
    return row


@lru_cache(maxsize=4)
def _found(model: bytes, allow: bool | tuple[str, ...]) -> AxisMap:
    return infer(ModelProto.FromString(model), allow=allow)


def _infer(model: ModelProto, *, allow: bool | Sequence[str] = False) -> AxisMap:
    return _found(model.SerializeToString(), allow if isinstance(allow, bool) else tuple(allow))


@lru_cache(maxsize=4)
def _permuted(model: bytes, borders: tuple[str, ...]) -> tuple[list[Permuted], Iterator[Permuted]]:
    return [], permutations(ModelProto.FromString(model), borders)


def _permutations(model: ModelProto, borders: Iterable[str] = ()) -> Iterator[Permuted]:
    made, more = _permuted(model.SerializeToString(), tuple(sorted(borders)))
    for i in count():
        made += islice(more, i == len(made))
        if i == len(made):
            return
        yield made[i]


def share_work() -> None:
    """Lets one analysis, and the same permuted teachers, do for all cells of a row; they come out the same anyway."""
    growing.infer = permuted.infer = _infer  # type: ignore[attr-defined]
    runs.permutations = _permutations  # type: ignore[attr-defined]


def odd(group: Group) -> int:
    """What makes the smallest axis of a group half as wide again and one more, never twice as wide."""
    info = min(group.axes, key=group.size)
    units = info.axis.size
    return (units // 2 + (units > 2)) * max(group.times.get(axis.axis.name, 1) for axis in group.axes)


def _put(row: Row, column: str, cells: Iterable[tuple[str, str]]) -> None:
    found = list(cells)
    texts = [text for text, _ in found]
    same = len(set(texts)) == 1 and not texts[0][:1].isdigit()
    row.cells[column] = texts[0] if same else " / ".join(texts)
    for text, why in found:
        if why:
            row.reasons[column] = f"{text}, {why}"


def _attempt(make: Callable[..., Expansion], *, half: bool) -> tuple[str, str]:
    """The error of a student over its teacher's own rounding, or why there is none."""
    inserted = ""
    try:
        made = make()
    except RequestError as error:
        if "--allow-nodes" not in str(error):
            return ("multiples" if "multiple" in str(error) else "pinned"), _shortened(str(error))
        made, inserted = make(allow_nodes=True), "n"
    if not made.plan.changes:
        return ("multiples", _shortened(next(iter(made.skipped.values())))) if made.skipped else ("", "")
    try:
        verdict = made.verify(dims=DIMS, samples=SAMPLES)
    except ModelError as error:
        return "refused", str(error)
    noises = [_noise(output, np.float16 if half and not verdict.upcast else np.float32) for output in verdict.outputs]
    ratio = max(output.max_rel / noise for output, noise in zip(verdict.outputs, noises, strict=True))
    if verdict:
        return f"{ratio:.1f}{'*' if verdict.upcast else ''}{inserted}", ""
    if ratio <= FACTOR:
        return "loud", f"the teacher's own rounding moves an output by {max(noises):.0e}"
    return "refused", verdict.reason


def _noise(output: OutputVerdict, kind: type[np.floating]) -> float:
    return max(output.noises.get(SHUFFLED, 0.0), output.noise, float(np.finfo(kind).eps))


def _shortened(reason: str) -> str:
    """A reason without names and numbers, which differ between exporters."""
    for part in (
        r"^axis \(\S+\): ", r" ?'[^']*'", r"it cannot become \d+ wide, ", r", so \S+ \(\d+\) needs a whole [^;]*",
        r"^\w+ cannot grow, ", r" \(and \d+ more\)", r"; (ask for|inspect) .*",
    ):  # fmt: skip
        reason = re.sub(part, "", reason)
    return reason


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
