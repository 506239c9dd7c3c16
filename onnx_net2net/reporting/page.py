"""HTML: one file with everything in it, which opens without a network and runs no scripts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from onnx_net2net._version import __version__
from onnx_net2net.reporting import plots
from onnx_net2net.reporting.text import MEASURES, METRICS, headline, layers, measures, metrics, number, runs, sizes

STYLE = """
:root { --ink: #1b1f24; --paper: #ffffff; --faint: #d5dae0; --soft: #5b6672; --pass: #2f7d4f; --fail: #b3352b;
  --old: #8795a6; --new: #3f6ea8; }
@media screen { :root { color-scheme: light dark; } }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --paper: #15181c; --faint: #3a424c;
  --soft: #9aa5b1; --pass: #58b07c; --fail: #e57368; --old: #6d7a8a; --new: #6b9bd6; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 900px;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .4rem; } h3 { font-size: .95rem; margin: 1rem 0 0; }
.verdict { padding: .1rem 1rem; border-left: 6px solid var(--pass); } .verdict.bad { border-color: var(--fail); }
.verdict p { margin: .5rem 0; } .verdict strong { color: var(--pass); font-size: 1.1rem; }
.bad, .verdict.bad strong { color: var(--fail); } .verdict.bad { color: inherit; }
.key, footer { color: var(--soft); font-size: .85rem; } .key { margin: .2rem 0 .6rem; } footer { margin-top: 3rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .5rem; border-bottom: 1px solid var(--faint); }
th { vertical-align: bottom; } th, .n, .o, .r { overflow-wrap: normal; } .n { text-align: right; }
td.n { white-space: nowrap; } .bad .r { min-width: 9rem; }
th:first-child, td:first-child { min-width: 6rem; padding-left: 0; position: sticky; left: 0;
  background: var(--paper); }
.scroll { overflow-x: auto; } summary { cursor: pointer; }
svg { display: block; width: 100%; } svg.scaled { margin-left: 3.4rem; width: calc(100% - 3.4rem); overflow: visible; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); stroke: var(--paper); stroke-width: 3px;
  paint-order: stroke; } svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
svg .pass { fill: var(--pass); } svg .fail { fill: var(--fail); } svg .count, svg .student { fill: var(--new); }
svg .teacher { fill: var(--old); } svg .grid { stroke: var(--faint); } svg .line, svg .tick { stroke: var(--old); }
svg .limit { stroke: var(--ink); stroke-width: 2; } svg .ring { stroke: var(--ink); fill: none; }
@media print { body { max-width: none; margin: 0; } table { font-size: .75rem; } .scroll { overflow: visible; }
  h1, h2, h3 { break-after: avoid; } svg, tr { break-inside: avoid; } }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
KINDS = {"output": "", "tensor": "", "operator": "o", "result": "r", "yardstick": "o"}
"""Classes of the columns that hold words; all others hold numbers."""


def page(document: Mapping[str, Any]) -> str:
    """A check as one HTML page with its plots, which is also well-formed XML."""
    title = f"{document['student']}: {headline(document)}"
    body = [f"<h1>{_text(document['student'])}</h1>", *_verdict(document), *_outputs(document)]
    body += [*_differences(document), *_sizes(document), *_layers(document)]
    inner = "\n".join(body)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta http-equiv="Content-Security-Policy" content="{POLICY}"/>
<title>{_text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{inner}
<footer>onnx-net2net {__version__}</footer>
</body>
</html>
"""


def _verdict(document: Mapping[str, Any]) -> list[str]:
    kind = "verdict" if document["equivalent"] else "verdict bad"
    ran = f", {_text(runs(document))}" if runs(document) else ""
    reason = f"<p>{_text(document['reason'])}</p>" if document["reason"] else ""
    head = f"<p><strong>{headline(document)}</strong>: compared with {_text(document['teacher'])}{ran}.</p>"
    return [f'<div class="{kind}">{head}{reason}</div>', _list(document["notices"])]


def _outputs(document: Mapping[str, Any]) -> list[str]:
    outputs = document["outputs"]
    if not outputs:
        return []
    probes = list(dict.fromkeys(probe for output in outputs for probe in output["probes"]))
    rows = []
    for output in outputs:
        asked = [number(output["probes"][probe]) if probe in output["probes"] else "" for probe in probes]
        rows.append([output["name"], output.get("failure") or "equal", *measures(output).values(), *asked])
    titles = ["output", "result", *MEASURES, *(f"{probe} probe" for probe in probes)]
    shown = [(o["name"], o["max_rel"], o["tolerance"], not o.get("failure")) for o in outputs]
    key = "Bars are max_rel, the largest difference over the output's largest value, on a logarithmic scale; marks are"
    key += " what is allowed. max_abs is the largest difference in the output's own unit."
    bad = [bool(output.get("failure")) for output in outputs]
    more = [[output["name"], *metrics(output).values()] for output in outputs]
    lines = ["<h2>Error of each output</h2>", plots.errors(shown), _key(key), _table(titles, rows, bad)]
    key = (
        "ulps counts the numbers of the output's type between two values; needed is the tolerance that would have been"
    )
    key += " enough; noise is what rounding alone does to the teacher, as the yardstick shows it."
    return [*lines, _table(["output", *METRICS], more, bad), _key(key)]


def _differences(document: Mapping[str, Any]) -> list[str]:
    lines = []
    for output in document["outputs"]:
        if output["histogram"]:
            counts = [(bin_["up_to"], bin_["elements"]) for bin_ in output["histogram"]]
            total = sum(n for _, n in counts)
            lines += [f"<h3>{_text(output['name'])}: {total:,} elements</h3>"]
            lines += [plots.differences(counts, output["tolerance"])]
    key = "The share of elements by |teacher - student| over the output's largest value, on all samples, probes apart;"
    key += " the mark is what is allowed."
    return ["<h2>Elements by how far they differ</h2>", *lines, _key(key)] if lines else []


def _sizes(document: Mapping[str, Any]) -> list[str]:
    rows = sizes(document)
    return ["<h2>Sizes before and after</h2>", plots.growth(rows)] if rows else []


def _layers(document: Mapping[str, Any]) -> list[str]:
    tensors = layers(document)
    if not tensors:
        return []
    bad = [bool(tensor.get("failure")) for tensor in tensors]
    marked = bad.index(True) if any(bad) else max(range(len(tensors)), key=lambda i: _size(tensors[i]["max_rel"]))
    told, what = tensors[marked], "first that differs" if any(bad) else "largest error"
    key = f"Points are max_rel in graph order, dashes what is allowed. Ringed, the {what}: "
    key += f"{told['name']} ({told['op']}), {number(told['max_rel'])}."
    shown = [(t["name"], t["max_rel"], t["tolerance"], not t.get("failure")) for t in tensors]
    titles = ["tensor", "operator", "result", "max_rel", "tolerance"]
    rows = [
        [t["name"], t["op"], t.get("failure") or "equal", number(t["max_rel"]), number(t["tolerance"])] for t in tensors
    ]
    count = f"{len(tensors)} tensors, matched by {document['layers']['by']}"
    left_out = [f"{n} not compared: {why}" for why, n in document["layers"].get("skipped", {}).items()]
    opened = ' open="open"' if any(bad) else ""
    details = f"<details{opened}><summary>{_text(count)}</summary>{_table(titles, rows, bad)}</details>"
    title = "<h2>Error of each tensor on the way</h2>"
    return [title, plots.profile(shown, marked), _key(key), _list(left_out), details]


def _size(error: float | None) -> float:
    return math.inf if error is None or math.isnan(error) else error


def _key(text: str) -> str:
    return f'<p class="key">{_text(text)}</p>'


def _list(lines: Sequence[str]) -> str:
    inner = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f"<ul>{inner}</ul>" if inner else ""


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], bad: Sequence[bool]) -> str:
    """A table; rows that are bad say so by their colour too."""
    kinds = [KINDS.get(title, "n") for title in titles]

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f'<{tag} class="{kind}">{_text(cell)}</{tag}>' for kind, cell in zip(kinds, row, strict=True))

    inner = "\n".join(
        f'<tr class="{"bad" if wrong else ""}">{cells("td", row)}</tr>' for row, wrong in zip(rows, bad, strict=True)
    )
    head = f"<thead><tr>{cells('th', titles)}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{inner}</tbody></table></div>'


def _text(text: str) -> str:
    return escape("".join(c if c.isprintable() else "\ufffd" for c in text))
