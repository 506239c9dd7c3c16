"""Numbers and sizes as reports write them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MEASURES = ("max_abs", "max_rel", "tolerance")
"""Numbers of an output that reports show, in their order."""
METRICS = ("mean_abs", "ulps", "cosine", "top1", "needed", "noise", "yardstick")
"""What reports tell of an output beside them."""
SIZES = {"parameters": "parameters", "bytes": "file size in bytes"}


def number(value: float | None) -> str:
    """Three digits; a number that is none has a name."""
    return "NaN" if value is None or math.isnan(value) else f"{value:.3g}"


def measures(output: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of an output, by name."""
    return {key: number(output[key]) for key in MEASURES}


def metrics(output: Mapping[str, Any]) -> dict[str, str]:
    """What else was measured of an output, by name; a dash for what there is not."""
    return {key: _metric(key, output[key]) for key in METRICS}


def _metric(key: str, value: Any) -> str:
    if value in (None, ""):
        return "-"
    if key == "top1":
        return f"{value:.1%}"
    if key == "cosine":  # always near one: what it lacks
        return f"1-{1 - value:.1e}" if value < 1 else "1"
    if key == "ulps":
        return f"{value:,}"
    return value if key == "yardstick" else number(value)


def headline(document: Mapping[str, Any]) -> str:
    """The result in a line."""
    if document.get("error"):
        return "the check could not be made"
    return "equivalent" if document["equivalent"] else "not equivalent"


def runs(document: Mapping[str, Any]) -> str:
    """What was run, in a line; empty if nothing was."""
    if not document["samples"]:
        return ""
    probes = list(dict.fromkeys(probe for output in document["outputs"] for probe in output["probes"]))
    besides = f" and {_count(len(probes), 'probe')} ({', '.join(probes)})" if probes else ""
    return f"{_count(document['samples'], 'sample')}{besides} on {', '.join(document['providers'])}"


def sizes(document: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(what, before, after) of the sizes that are known."""
    found = [(title, document.get(key)) for key, title in SIZES.items()]
    return [(title, pair["before"], pair["after"]) for title, pair in found if pair]


def layers(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tensors on the way that were compared, in graph order, if any were."""
    return list((document.get("layers") or {}).get("tensors", ()))


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
