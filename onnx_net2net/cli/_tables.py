"""What the commands report: documents for JSON, and rich tables made from the same documents."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from onnx_net2net.checking.verdict import Verdict
from onnx_net2net.expansion import Expansion
from onnx_net2net.inference.axis_map import AxisInfo
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inspection import Inspection, inspect
from onnx_net2net.io import weigh
from onnx_net2net.planning.borders import BorderPlan
from onnx_net2net.planning.budget import parameters
from onnx_net2net.planning.plan import Insertion, Layer
from onnx_net2net.reporting.text import METRICS, metrics
from onnx_net2net.training.course import Course

SHOWN = 3
"""Names or reasons that are listed before the rest is counted."""
MANY = 12
"""Units that are listed before the rest is left out."""
WIDE = 1000
"""Columns where no terminal sets a limit, so that names stay whole in pipes and files."""
STYLES = {"free": "green", "filled": "green", "uniform": "yellow", "pinned": "dim"}


def finite(value: Any) -> Any:
    """The same document with null for numbers that JSON does not know."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def expansion_document(expansion: Expansion) -> dict[str, Any]:
    """What an expansion does to its teacher; verification and output are still null."""
    plan, steps = expansion.plan, expansion.plan.steps
    deepens = any(step.deepens for step in steps)
    skipped = [{"name": name, "reason": reason} for name, reason in expansion.skipped.items()]
    models = {"before": expansion.origin, "after": expansion.lazy}
    return {
        "parameters": {when: parameters(Graph(model)) for when, model in models.items()},
        "bytes": {when: weigh(model) for when, model in models.items()},
        "axes": {
            "widened": [{"name": axis.name, "old": axis.old, "new": axis.new} for step in steps for axis in step.axes],
            "pinned": [{"reason": reason, "axes": count} for reason, count in expansion.pinned.items()],
            "skipped": [] if deepens else skipped,
        },
        "borders": [border_document(border) for step in steps for border in step.borders],
        "layers": [layer_document(layer) for step in steps for layer in step.layers],
        "blocks": [
            {"after": block.tensor, "from": block.source, "nodes": len(block.nodes), "zeroed": len(block.zeroed)}
            for step in steps
            for block in step.blocks
        ],
        "inserted": [insertion_document(item) for step in steps for item in step.inserted],
        "kept": list(dict.fromkeys(name for step in steps for name in step.kept)),
        "skipped": skipped if deepens else [],
        "verification": None,
        **({"drift": None} if plan.noisy else {}),
        "output": None,
        "cloned": list(dict.fromkeys(name for step in steps for name in step.cloned)),
    }


def border_document(border: BorderPlan) -> dict[str, Any]:
    """What becomes of a graph input or output; the size of a dynamic dimension is null."""
    old, new = ([None if n < 0 else n for n in shape] for shape in (border.old, border.new))
    units = {str(axis): list(chosen) for axis, chosen in border.units}
    return {"kind": border.kind, "name": border.name, "old": old, "new": new, "units": units}


def insertion_document(item: Insertion) -> dict[str, Any]:
    """What a node is that widening inserts."""
    meant = {"axis": item.axis, "macs": item.macs} if item.kind == "mean" else {"value": item.value}
    return {"kind": item.kind, "after": item.tensor, **meant}


def layer_document(layer: Layer) -> dict[str, Any]:
    """What an inserted layer is."""
    return {
        "after": layer.tensor,
        "kind": layer.kind,
        "kernel": list(layer.kernel),
        "mode": layer.mode,
        "group": layer.group,
        "batch_norm": layer.batch_norm,
        "init": "random" if layer.random else "exact",
    }


def drift_document(verdict: Verdict) -> list[dict[str, Any]]:
    """How far noise moved each output."""
    return [{"name": output.name, "max_rel": output.max_rel} for output in verdict.outputs]


def expansion_report(expansion: Expansion, document: Mapping[str, Any], detailed: bool) -> list[RenderableType]:
    """The teacher and the student side by side, what became of the axes, and how the verification went."""
    verification = document["verification"]
    dry_run = not document["output"] and not verification
    shown: list[RenderableType] = [_sizes(document), _facts(document)]
    if expansion.plan.axes and (detailed or dry_run):
        shown.append(_widened(document))
    shown += [_borders(document, detailed)] if document["borders"] else []
    if expansion.plan.axes and detailed:
        shown.append(_pinned(inspect(expansion.origin)))
    shown.append(verdict_line(verification) if verification else Text("not verified", "yellow"))
    if document.get("drift"):
        worst = max(document["drift"], key=lambda output: output["max_rel"])
        shown.append(f"drift from noise: max_rel {worst['max_rel']:.3g} (output '{worst['name']}')")
    return [*shown, f"written: {document['output'] or 'nothing'}"]


def _sizes(document: Mapping[str, Any]) -> Table:
    """Parameters and file size, before and after."""
    table = table_of("", "teacher", "student", "", right=(1, 2))
    for title, key, shown in (("parameters", "parameters", "{:,}".format), ("file size", "bytes", decimal)):
        before, after = document[key]["before"], document[key]["after"]
        table.add_row(title, shown(before), shown(after), f"x{after / before:.2f}" if before else "")
    return table


def _facts(document: Mapping[str, Any]) -> Table:
    """How many axes were widened, what pins or stops others, and what was inserted or copied."""
    axes = document["axes"]
    table = Table(box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows: dict[str, list[str]] = {
        "axes widened": [str(len(axes["widened"]))],
        "axes pinned": [f"{item['axes']} by {item['reason']}" for item in axes["pinned"]],
        "axes skipped": [f"{item['name']}: {item['reason']}" for item in axes["skipped"]],
        "places skipped": [f"{item['name']}: {item['reason']}" for item in document["skipped"]],
        "layers inserted": [_layer(layer) for layer in document["layers"]],
        "blocks copied": [_block(block) for block in document["blocks"]],
        "nodes inserted": [_insertion(item) for item in document["inserted"]],
        "tied weights kept": document["kept"],
        "constants in several versions": document["cloned"],
    }
    for title, lines in rows.items():
        for i, line in enumerate(lines or ["none"]):
            table.add_row("" if i else title, line)
    return table


def _widened(document: Mapping[str, Any]) -> Table:
    """Every widened axis with its old and new size."""
    table = table_of("widened axis", "teacher", "", "student", right=(1, 3))
    for axis in document["axes"]["widened"]:
        table.add_row(axis["name"], str(axis["old"]), "->", str(axis["new"]))
    return table


def _borders(document: Mapping[str, Any], detailed: bool) -> Table:
    """Every input and output that callers have to give or take in another shape, and which units it holds."""
    told = "callers give and get these wider, with the teacher's units in this order (also in the plan)"
    table = table_of("", "shape", "", "student", told, right=(1, 3))
    for border in document["borders"]:
        old, new = ("x".join("?" if n is None else str(n) for n in border[side]) for side in ("old", "new"))
        units = [f"dimension {axis}: {_units(chosen, detailed)}" for axis, chosen in border["units"].items()]
        table.add_row(f"{border['kind']} {border['name']}", old, "->", new, "; ".join(units))
    return table


def _units(chosen: Sequence[int], every: bool) -> str:
    listed = list(map(str, chosen if every else chosen[:MANY]))
    return " ".join([*listed, *(["..."] if len(listed) < len(chosen) else [])])


def _size(info: AxisInfo) -> str:
    return "dynamic" if info.dynamic else str(info.axis.size)


def _pinned(inspection: Inspection) -> Table:
    """Every pinned axis with its reason."""
    table = table_of("pinned axis", "size", "reason", right=(1,))
    for info in inspection.axes:
        if info.status == "pinned":
            table.add_row(info.axis.name, _size(info), info.reason)
    return table


def inspection_report(inspection: Inspection, detailed: bool) -> list[RenderableType]:
    """The axes, the places for layers and a summary; ``detailed`` lists pinned axes and refused places."""
    free = [info for info in inspection.axes if info.status != "pinned"]
    table = table_of("axis", "size", "status", "carried by", "reason", right=(1,))
    for info in inspection.axes if detailed else free:
        carriers = dict.fromkeys((*info.tensors, *info.initializers))
        status = Text(info.status, STYLES[info.status])
        table.add_row(info.axis.name, _size(info), status, _names(carriers, detailed), info.reason)
    pinned = len(inspection.axes) - len(free)
    shown: list[RenderableType] = [_groups(inspection), table] if inspection.groups else [table]
    if pinned and not detailed:
        shown.append(_reasons(inspection))
    if inspection.deepen or detailed:
        shown.append(_places(inspection, detailed))
    if any(detailed or not block.refusal for block in inspection.blocks):
        shown.append(_blocks(inspection, detailed))
    able = sum(bool(info.initializers) for info in free)
    axes = f"{len(inspection.axes)} axes: {able} can be widened, {pinned} pinned"
    return [*shown, f"{axes}; {len(inspection.deepen)} places for a layer, {len(inspection.refused)} refused"]


def _groups(inspection: Inspection) -> Table:
    """The axes that play one part in all layers, by size and status."""
    table = table_of("group", "size", "axes", "status", "what it is", "reason", right=(1, 2))
    for group in inspection.groups:
        alike: dict[tuple[int, str], list[AxisInfo]] = {}
        for info in group.axes:
            alike.setdefault((group.size(info), info.status), []).append(info)
        for (size, status), infos in alike.items():
            shown = Text(status, STYLES[status])
            table.add_row(group.name, str(size), str(len(infos)), shown, group.meaning, infos[0].reason)
    return table


def _reasons(inspection: Inspection) -> Table:
    """How many axes each reason pins, most first."""
    counts: dict[str, int] = {}
    for info in inspection.axes:
        if info.pins:
            counts[info.pins[0].reason] = counts.get(info.pins[0].reason, 0) + 1
    table = table_of("pinned axes", "reason", right=(0,))
    for reason, count in sorted(counts.items(), key=lambda item: -item[1]):
        table.add_row(str(count), reason)
    return table


def _places(inspection: Inspection, detailed: bool) -> Table:
    """Where a layer can go, and if ``detailed`` where it cannot."""
    table = table_of("deepen after", "layer", "channels", "modes", "reason", right=(2,))
    for place in (*inspection.deepen, *(inspection.refused if detailed else ())):
        table.add_row(place.tensor, place.kind, str(place.channels or ""), ", ".join(place.modes), place.refusal)
    return table


def _blocks(inspection: Inspection, detailed: bool) -> Table:
    """Residual blocks that can be copied, and if ``detailed`` those that cannot."""
    table = table_of("block", "from", "copied after", "nodes", "reason", right=(3,))
    for block in inspection.blocks:
        if detailed or not block.refusal:
            name = inspection.found.graph.nodes[block.add].output[0]
            table.add_row(name, block.source, block.tensor, str(len(block.nodes)), block.refusal)
    return table


def verdict_report(document: Mapping[str, Any]) -> list[RenderableType]:
    """Every output with its differences, then with what else was measured, and the result in a line."""
    if not document["outputs"]:
        return [verdict_line(document)]
    table = table_of("output", "max_abs", "max_rel", "tolerance", "result", right=(1, 2, 3))
    more = table_of("output", *METRICS, right=tuple(range(1, len(METRICS))))
    for output in document["outputs"]:
        failure = output.get("failure", "")
        numbers = [f"{output[key]:.3g}" for key in ("max_abs", "max_rel", "tolerance")]
        table.add_row(output["name"], *numbers, Text(failure, "red") if failure else Text("equal", "green"))
        more.add_row(output["name"], *metrics(output).values())
    notices = [Text(notice, "yellow") for notice in document["notices"]]
    return [table, more, *notices, verdict_line(document)]


def growth_document(growth: Course, inexact: Mapping[str, str], output: str | None) -> dict[str, Any]:
    """What `weights` reports: the library's report, totals, and what state has no exact image."""
    totals = {"before": growth.given, "after": growth.state}
    count = {when: sum(value.size for value in state.values()) for when, state in totals.items()}
    return {"numbers": count, **growth.report.to_dict(), "inexact": dict(inexact), "output": output}


def growth_report(document: Mapping[str, Any], detailed: bool) -> list[RenderableType]:
    """New sizes by module, every tensor if ``detailed``, and what the caller has to see to."""
    lines: list[RenderableType] = []
    modules = table_of("module", "new sizes")
    for module, sizes in document["modules"].items():
        modules.add_row(module, sizes)
    tensors = table_of("tensor", "before", "", "after", "matched", right=(1, 3))
    for change in document["changes"]:
        before, after = (str(list(change[when])) for when in ("before", "after"))
        tensors.add_row(change["tensor"], before, "->", after, change["how"])
    lines += [modules] if document["modules"] else []
    lines += [tensors] if detailed and document["changes"] else []
    before, after = document["numbers"]["before"], document["numbers"]["after"]
    lines.append(f"{before:,} -> {after:,} numbers in {len(document['changes']) + len(document['kept'])} tensors")
    for added in document["added"]:
        lines.append(f"new {added['tensor']} {list(added['shape'])}: a {added['kind']} after {added['after']}")
    for node, sizes in document["sizes"].items():
        lines += [f"size {node}: {', '.join(map(str, sizes))}"] if detailed else []
    lines += [f"constant {node}: {value:.9g}" for node, value in document["constants"].items()]
    for name, why in document["kept"].items():
        lines += [f"kept {name}: {why}"] if detailed else []
    lines += [Text(f"inexact optimizer state of {name}: {why}", "yellow") for name, why in document["inexact"].items()]
    lines.append(f"written: {document['output']}" if document["output"] else "nothing written")
    return lines


def verdict_line(document: Mapping[str, Any]) -> Text:
    """One line: whether the models are equivalent, and how closely."""
    if not document["equivalent"]:
        return Text("not equivalent", "red")  # the error says why
    worst = max(document["outputs"], key=lambda output: output["max_rel"])
    probes = list(dict.fromkeys(probe for output in document["outputs"] for probe in output["probes"]))
    besides = f" and {len(probes)} probes" if probes else ""
    return Text(
        f"equivalent: max_rel {worst['max_rel']:.3g}, tolerance {worst['tolerance']:.3g} (output '{worst['name']}', "
        f"{document['samples']} samples{besides} on {', '.join(document['providers'])})",
        "green",
    )


def obstacles(expansion: Expansion) -> str:
    """What keeps every axis of a model as it is, in a line."""
    reasons = [f"{name}: {reason}" for name, reason in expansion.skipped.items()]
    return _some([*reasons, *(f"{count} pinned by {reason}" for reason, count in expansion.pinned.items())])


def refusals(expansion: Expansion) -> str:
    """Why no layer as asked is exact anywhere in a model, in a line."""
    skipped = [f"{name}: {reason}" for name, reason in expansion.skipped.items()]
    return _some(skipped) or "it has no activation, or no residual block, to go by"


def _some(reasons: Sequence[str]) -> str:
    """The first few reasons, and how many more there are."""
    more = [f"and {len(reasons) - SHOWN} more, which inspect lists"] if len(reasons) > SHOWN else []
    return "; ".join([*reasons[:SHOWN], *more])


def table_of(*titles: str, right: tuple[int, ...] = ()) -> Table:
    """An empty table that folds long cells rather than cutting them."""
    table = Table(box=box.SIMPLE_HEAD)
    for i, title in enumerate(titles):
        table.add_column(title, justify="right" if i in right else "left", overflow="fold")
    return table


def _names(names: Iterable[str], every: bool) -> str:
    """A list of names, cut to the first few unless ``every`` one is wanted."""
    listed = list(names)
    if every or len(listed) <= SHOWN:
        return ", ".join(listed)
    return f"{', '.join(listed[:SHOWN])} and {len(listed) - SHOWN} more"


def _layer(layer: Mapping[str, Any]) -> str:
    """A layer in a line, with what its mode means for training."""
    kernel = "x".join(map(str, layer["kernel"]))
    group = f" in {layer['group']} groups" if layer["group"] > 1 else ""
    notes = ["random"] if layer["init"] == "random" else [layer["mode"]]
    notes += ["with BatchNormalization"] if layer["batch_norm"] else []
    notes += ["redundant until it is trained"] if layer["mode"] == "linear" else []
    return f"{layer['kind']} {kernel}".strip() + f"{group} after {layer['after']}: {', '.join(notes)}"


def _insertion(item: Mapping[str, Any]) -> str:
    if item["kind"] == "scale":
        return f"a factor of {item['value']:.6g} after {item['after']}, in place of fractions in a tied weight"
    return f"the mean over {item['axis']} after {item['after']}: {item['macs']:,} multiply-accumulates"


def _block(block: Mapping[str, Any]) -> str:
    return f"{block['nodes']} nodes from {block['from']}, after {block['after']}"


def console(stderr: bool = False) -> Console:
    """A console that takes names of tensors as they are, markup or not."""
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else WIDE
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
