"""What stands behind a verdict, for people: all tensors on the way, the growth of the error, and the device."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from onnx_net2net.cli._tables import table_of

if TYPE_CHECKING:
    from onnx_net2net.checking.verdict import Verdict

ROWS = 20
"""Tensors that the table lists unless all are wanted."""
COLUMNS = 60
"""Width of the drawing."""
LOWEST, HIGHEST = -8, 0
"""Powers of ten between which errors are drawn."""


def place(verdict: Verdict) -> str:
    """Where the student leaves its teacher, to follow the reason in a message; empty if that is not known."""
    layers = verdict.layers
    if layers is None or layers.first is None:
        return ""
    return f"; of the tensors matched by {layers.by} the first that diverges is that of {layers.first}"


def layers_report(document: Mapping[str, Any], detailed: bool) -> list[RenderableType]:
    """The tensors, or some of them from the first to the last, and how the error grows."""
    tensors = document["tensors"]
    table = table_of("tensor", "made by", "max_abs", "max_rel", "tolerance", "result", right=(2, 3, 4))
    names = [tensor["name"] for tensor in tensors]
    first = names.index(document["first"]) if document["first"] is not None else None
    for i in range(len(tensors)) if detailed else chosen(len(tensors), first):
        tensor = tensors[i]
        numbers = [f"{tensor[key]:.3g}" for key in ("max_abs", "max_rel", "tolerance")]
        result = Text(tensor["failure"], "red") if tensor["failure"] else Text("equal", "green")
        maker = f"{tensor['op']} '{tensor['node']}'" if tensor["node"] else tensor["op"]
        table.add_row(tensor["name"], maker, *numbers, result)
    diverge = sum(bool(tensor["failure"]) for tensor in tensors)
    found = f"{diverge} diverge, the first is {document['first']}" if diverge else "none diverges"
    lines: list[RenderableType] = [table, *drawing([tensor["max_rel"] for tensor in tensors])] if tensors else []
    lines.append(f"{len(tensors)} tensors matched by {document['by']}: {found}")
    return [*lines, *(f"{count} not compared: {why}" for why, count in document["skipped"].items())]


def device_report(document: Mapping[str, Any]) -> list[RenderableType]:
    """How far rounding goes on a device, output by output, and which nodes ran elsewhere."""
    titles = {
        "teacher on the CPU": "cpu_gap",
        "teacher with TF32": "tf32_teacher",
        "student with TF32": "tf32_student",
    }
    shown = {title: document[key] for title, key in titles.items() if document[key]}
    table = table_of("output", *shown, right=tuple(range(1, len(shown) + 1)))
    for name in dict.fromkeys(name for column in shown.values() for name in column):
        table.add_row(name, *(f"{column[name]:.3g}" for column in shown.values()))
    nodes = [
        f"{node['model']}: {node['op']} '{node['node']}' ran on {node['provider']}"
        + ("" if node["compute"] else ", a size")
        for node in document["elsewhere"]
    ]
    return [*([table] if shown else []), *(nodes or [f"all nodes ran on {document['provider']}"])]


def chosen(count: int, first: int | None) -> list[int]:
    """Which rows to show of so many: evenly spaced ones, and those around the first that diverges."""
    if count <= ROWS:
        return list(range(count))
    spaced = {round(i * (count - 1) / (ROWS - 1)) for i in range(ROWS)}
    near = {i for i in (first - 1, first, first + 1) if 0 <= i < count} if first is not None else set()
    return sorted(spaced | near)


def drawing(errors: Sequence[float]) -> list[str]:
    """Errors from the first tensor to the last, the largest of each stretch, on a scale of powers of ten."""
    width = min(COLUMNS, len(errors))
    bounds = [i * len(errors) // width for i in range(width + 1)]
    peaks = [max(map(_power, errors[a:b])) for a, b in itertools.pairwise(bounds)]
    lines = [
        f"1e{power:+03d} |{''.join('#' if peak >= power else ' ' for peak in peaks)}".rstrip()
        for power in range(HIGHEST, LOWEST - 1, -1)
    ]
    return ["max_rel, from the first tensor to the last:", *lines, f"      +{'-' * width}"]


def _power(error: float) -> float:
    """The power of ten that an error reaches; what is not finite reaches the top."""
    return HIGHEST if not math.isfinite(error) else math.floor(math.log10(error)) if error > 0 else -math.inf
