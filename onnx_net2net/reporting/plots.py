"""Plots as SVG, drawn for these reports: errors on a logarithmic scale, differences by size, sizes side by side.

They are as wide as the window lets them be: lengths across are in percent, heights and text in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from onnx_net2net.checking.histogram import EDGES
from onnx_net2net.reporting.text import number

ROW, BAR = 38, 12
LOWEST, HIGHEST = -10, 1
"""Powers of ten that plots of errors show at least; smaller errors stand at the edge."""
LONGEST = 48
"""Characters of a name that fit a narrow window; the whole name is its tooltip and in the table."""
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of all elements that lines may be apart."""

Error = tuple[str, float | None, float | None, bool]
"""Name, error, tolerance, and whether it passed."""


def errors(rows: Sequence[Error]) -> str:
    """A bar for each row, and a mark where its tolerance is."""
    high = _highest(value for _, *values, _ in rows for value in values)
    foot = ROW * len(rows) + 2
    shapes = _decades(high, foot)
    for i, (name, error, tolerance, passed) in enumerate(rows):
        y = ROW * i
        title = f"{name}: {number(error)}" + (f", allowed {number(tolerance)}" if tolerance is not None else "")
        shapes.append(_write(0, y + 13, _short(name), tip=name))
        shapes.append(_bar("pass" if passed else "fail", y + 19, max(_share(error, high), 0.3), title))
        if tolerance:
            x = _share(tolerance, high)
            shapes.append(_line("limit", (x, y + 15), (x, y + 23 + BAR)))
    return _svg(foot + 20, shapes, "error of each output, relative to its largest value")


def profile(rows: Sequence[Error], marked: int) -> str:
    """A point for each tensor on the way from the inputs to the outputs, a dash for its tolerance, a ring for one."""
    high = _highest(value for _, *values, _ in rows for value in values)
    height = 230
    step = 100 / max(len(rows), 1)

    def down(value: float | None) -> float:
        return 10 + (height - 40) * (1 - _share(value, high) / 100)

    shapes = []
    for power in range(LOWEST, high + 1):
        y = down(10.0**power)
        shapes.append(_line("grid", (0, y), (100, y)))
        if power % 2 == 0:
            shapes.append(_write(0, y + 4, _power_text(power), "end", shift=-6))
    points = [((i + 0.5) * step, down(error)) for i, (_, error, _, _) in enumerate(rows)]
    shapes += [_line("line", *pair) for pair in pairwise(points)]
    for i, ((x, y), (name, error, tolerance, passed)) in enumerate(zip(points, rows, strict=True)):
        if tolerance:
            limit = down(tolerance)
            shapes.append(_line("limit", (i * step, limit), ((i + 1) * step, limit)))
        circle = f'cx="{x:.2f}%" cy="{y:.1f}"'
        if i == marked:
            shapes.append(f'<circle class="ring" {circle} r="7"/>')
        kind, tip = "pass" if passed else "fail", _tip(f"{name}: {number(error)}")
        shapes.append(f'<circle class="{kind}" {circle} r="3">{tip}</circle>')
    shapes.append(_write(0, height - 6, "inputs"))
    shapes.append(_write(100, height - 6, "outputs", "end"))
    return _svg(height, shapes, "error of each tensor, in graph order", "scaled")


def differences(counts: Sequence[tuple[float | None, int]], tolerance: float | None) -> str:
    """A column for each bin of differences, as high as its share of all elements, and a mark at the tolerance."""
    ends: list[float | None] = [0.0, *EDGES, None]
    held = {end if end is not None and math.isfinite(end) else None: n for end, n in counts}
    total = sum(held.values()) or 1
    most = max(held.values(), default=0) / total
    width, floor = 100 / len(ends), 150
    apart = next((step for step in STEPS if most <= 4 * step), STEPS[-1])
    lines = max(math.ceil(most / apart), 1)
    scale = (floor - 10) / (lines * apart)
    shapes = []
    for k in range(lines + 1):
        y = floor - k * apart * scale
        shapes.append(_line("grid", (0, y), (100, y)))
        shapes.append(_write(0, y + 4, f"{k * apart:.0%}", "end", shift=-6))
    for i, end in enumerate(ends):
        n = held.get(end, 0)
        tall = scale * n / total
        range_ = "equal" if end == 0 else f"up to {end:g}" if end is not None else "more than 1"
        place = f'x="{(i + 0.05) * width:.2f}%" y="{floor - tall:.1f}" width="{0.9 * width:.2f}%" height="{tall:.1f}"'
        shapes.append(f'<rect class="count" {place}>{_tip(f"{range_}: {n:,} of {total:,}")}</rect>')
        if end is None or end == 0:
            shapes.append(_write((i + 0.5) * width, floor + 18, "0" if end == 0 else ">1", "middle"))
        elif i % 4 == 1 and EDGES[0] < end < 1:
            shapes.append(_write((i + 1) * width, floor + 18, f"1e{round(math.log10(end))}", "middle"))
            shapes.append(_line("tick", ((i + 1) * width, floor), ((i + 1) * width, floor + 5)))
    shapes.append(_line("line", (0, floor), (100, floor)))
    if tolerance:
        halves = 2 * (math.log10(tolerance) - math.log10(EDGES[0]))
        x = min(max(halves + 2, 1), len(ends)) * width
        shapes.append(_line("limit", (x, 0), (x, floor)))
    return _svg(floor + 26, shapes, "elements by how far they differ, relative to the output's largest value", "scaled")


def growth(rows: Sequence[tuple[str, int, int]]) -> str:
    """Two bars for each size: before and after."""
    shapes = []
    tall = 66
    for i, (title, *pair) in enumerate(rows):
        shapes.append(_write(0, tall * i + 14, f"{title}: x{pair[1] / max(pair[0], 1):.2f}"))
        for k, value in enumerate(pair):
            y = tall * i + 21 + 18 * k
            who, width = ("teacher", "student")[k], 60 * value / max(*pair, 1)
            shapes.append(_bar(who, y, width))
            shapes.append(_write(width, y + 11, f"{who} {value:,}", shift=6))
    return _svg(tall * len(rows), shapes, "sizes before and after")


def _highest(values: Iterable[float | None]) -> int:
    """The power of ten that a plot ends with."""
    known = [v for v in values if v is not None and math.isfinite(v) and v > 0]
    return max([HIGHEST, *(math.ceil(math.log10(v)) for v in known)])


def _share(value: float | None, high: int) -> float:
    """Where a value stands on the scale, in percent of its length; what is no number stands at the end."""
    if value is None or not math.isfinite(value):
        return 100
    power = min(max(math.log10(value), LOWEST), high) if value > 0 else LOWEST
    return 100 * (power - LOWEST) / (high - LOWEST)


def _decades(high: int, foot: int) -> list[str]:
    shapes = []
    step = max(2, 2 * ((high - LOWEST) // 12))
    for power in range(LOWEST, high + 1):
        x = _share(10.0**power, high)
        shapes.append(_line("grid", (x, 0), (x, foot)))
        if (power - LOWEST) % step == 0 and power < high:
            shapes.append(_write(x, foot + 15, _power_text(power), "" if power == LOWEST else "middle"))
    return shapes


def _power_text(power: int) -> str:
    return f"{'≤' if power == LOWEST else ''}1e{power}"


def _line(kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line class="{kind}" x1="{x1:.2f}%" y1="{y1:.1f}" x2="{x2:.2f}%" y2="{y2:.1f}"/>'


def _bar(kind: str, y: float, width: float, tip: str = "") -> str:
    inner = _tip(tip) if tip else ""
    return f'<rect class="{kind}" x="0" y="{y}" width="{width:.2f}%" height="{BAR}">{inner}</rect>'


def _write(x: float, y: float, words: str, kind: str = "", *, shift: int = 0, tip: str = "") -> str:
    moved = f' dx="{shift}"' if shift else ""
    inner = (_tip(tip) if tip else "") + _clean(words)
    return f'<text class="{kind}" x="{x:.2f}%" y="{y:.1f}"{moved}>{inner}</text>'


def _short(name: str) -> str:
    """A name without its middle, if it is long: the ends of exporters' names tell more."""
    return name if len(name) <= LONGEST else f"{name[:16]}...{name[19 - LONGEST :]}"


def _tip(text: str) -> str:
    return f"<title>{_clean(text)}</title>"


def _clean(text: str) -> str:
    return escape("".join(c if c.isprintable() else "\ufffd" for c in text))


def _svg(height: int, shapes: Iterable[str], title: str, kind: str = "") -> str:
    inner = "\n".join(shapes)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{kind}" height="{height}" role="img" aria-label="{title}">'
    )
    return f"{opening}\n{inner}\n</svg>"
