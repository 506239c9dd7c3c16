"""HTML: one file with everything in it, which opens without a network and runs no scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from onnx_net2net._version import __version__
from onnx_net2net.reporting import plots
from onnx_net2net.reporting.text import headline, layers, number, runs, sizes

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --faint: #d5dae0; --pass: #2f7d4f; --fail: #b3352b;
  --old: #8795a6; --new: #3f6ea8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --paper: #15181c; --faint: #3a424c; --pass: #58b07c;
  --fail: #e57368; --old: #6d7a8a; --new: #6b9bd6; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 900px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; } h3 { font-size: .95rem; font-weight: 600; }
.verdict { padding: .6rem 1rem; border-left: 6px solid var(--pass); } .verdict.bad { border-color: var(--fail); }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .6rem;
  border-bottom: 1px solid var(--faint); overflow-wrap: anywhere; }
td.n, th.n { text-align: right; white-space: nowrap; }
.scroll { overflow-x: auto; } .bad { color: var(--fail); }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg text.end { text-anchor: end; } svg .pass { fill: var(--pass); } svg .fail { fill: var(--fail); }
svg .grid { stroke: var(--faint); } svg .bar { stroke: var(--ink); stroke-width: 2; } svg .count { fill: var(--new); }
svg .line { stroke: var(--old); fill: none; } svg .teacher { fill: var(--old); } svg .student { fill: var(--new); }
footer { margin-top: 3rem; font-size: .85rem; }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(document: Mapping[str, Any]) -> str:
    """A check as one HTML page with its plots, which is also well-formed XML."""
    title = f"{document['student']}: {headline(document)}"
    body = [f"<h1>{_text(document['student'])}</h1>", *_verdict(document), *_outputs(document)]
    body += [*_differences(document), *_layers(document), *_sizes(document)]
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
    lines = [
        f'<p class="{kind}"><strong>{headline(document)}</strong>: compared with {_text(document["teacher"])}{ran}.</p>'
    ]
    lines += [f'<p class="bad">{_text(document["reason"])}</p>'] if document["reason"] else []
    notices = "".join(f"<li>{_text(notice)}</li>" for notice in document["notices"])
    return lines + ([f"<ul>{notices}</ul>"] if notices else [])


def _outputs(document: Mapping[str, Any]) -> list[str]:
    outputs = document["outputs"]
    if not outputs:
        return []
    probes = list(dict.fromkeys(probe for output in outputs for probe in output["probes"]))
    rows = []
    for output in outputs:
        numbers = [output[key] for key in ("max_abs", "max_rel", "tolerance")]
        asked = [number(output["probes"][probe]) if probe in output["probes"] else "" for probe in probes]
        result = output.get("failure", "")
        rows.append([output["name"], *map(number, numbers), *asked, result or "equal"])
    titles = ["output", "max_abs", "max_rel", "tolerance", *(f"{probe} probe" for probe in probes), "result"]
    shown = [(o["name"], o["max_rel"], o["tolerance"], not o.get("failure")) for o in outputs]
    return ["<h2>Error of each output</h2>", plots.errors(shown), _table(titles, rows)]


def _differences(document: Mapping[str, Any]) -> list[str]:
    lines = []
    for output in document["outputs"]:
        if output["histogram"]:
            counts = [(bin_["up_to"], bin_["elements"]) for bin_ in output["histogram"]]
            lines += [f"<h3>{_text(output['name'])}</h3>", plots.differences(counts)]
    return ["<h2>Elements by how far they differ</h2>", *lines] if lines else []


def _layers(document: Mapping[str, Any]) -> list[str]:
    tensors = layers(document)
    if not tensors:
        return []
    shown = [(t["name"], t["max_rel"], t["tolerance"], not t.get("failure")) for t in tensors]
    failed = [
        [t["name"], t["op"], number(t["max_rel"]), number(t["tolerance"]), t["failure"]]
        for t in tensors
        if t.get("failure")
    ]
    table = [_table(["tensor", "operator", "max_rel", "tolerance", "result"], failed)] if failed else []
    return ["<h2>Error of each tensor on the way</h2>", plots.profile(shown), *table]


def _sizes(document: Mapping[str, Any]) -> list[str]:
    rows = sizes(document)
    return ["<h2>Sizes before and after</h2>", plots.growth(rows)] if rows else []


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the columns between the first and the last hold numbers, but for operators."""

    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = [' class="n"' if 0 < i < len(row) - 1 and titles[i] != "operator" else "" for i in range(len(row))]
        return "".join(f"<{tag}{kind}>{_text(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    inner = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    head = f"<thead><tr>{cells('th', titles)}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{inner}</tbody></table></div>'


def _text(text: str) -> str:
    return escape("".join(c if c.isprintable() else "\ufffd" for c in text))
