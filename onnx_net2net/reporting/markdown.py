"""Markdown: a summary for the page of a job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from onnx_net2net.reporting.text import MEASURES, METRICS, headline, layers, measures, metrics, runs, sizes


def markdown(document: Mapping[str, Any]) -> str:
    """A check as Markdown, with tables as GitHub and GitLab show them."""
    lines = [
        f"### {plain(document['student'])}: {headline(document)}",
        "",
        f"Compared with {plain(document['teacher'])}" + (f", {plain(runs(document))}." if runs(document) else "."),
        "",
    ]
    if document["reason"]:
        lines += [f"**{plain(document['reason'])}**", ""]
    if document["outputs"]:
        rows = [
            [plain(o["name"]), *measures(o).values(), plain(o.get("failure") or "equal")] for o in document["outputs"]
        ]
        lines += _table(["output", *MEASURES, "result"], rows)
        rows = [[plain(o["name"]), *map(plain, metrics(o).values())] for o in document["outputs"]]
        lines += _table(["output", *METRICS], rows)
    first = next((tensor for tensor in layers(document) if tensor.get("failure")), None)
    if first:
        lines += [f"First tensor that differs: {plain(first['name'])} ({plain(first['op'])}).", ""]
    if sizes(document):
        rows = [[title, f"{old:,}", f"{new:,}", f"x{new / max(old, 1):.2f}"] for title, old, new in sizes(document)]
        lines += _table(["", "teacher", "student", "growth"], rows)
    lines += [f"- {plain(notice)}" for notice in document["notices"]]
    return "\n".join(lines).rstrip() + "\n"


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(text.split()))


def _table(titles: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---" if title in ("", "output", "result", "yardstick") else "---:" for title in titles]
    return [f"| {' | '.join(cells)} |" for cells in (titles, rule, *rows)] + [""]
