"""Plots as SVG, drawn for these reports: errors on a logarithmic scale, differences by size, sizes side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from onnx_net2net.checking.histogram import EDGES
from onnx_net2net.reporting.text import number

WIDE, LABEL, ROW = 860, 230, 22
LOWEST, HIGHEST = -10, 1
"""Powers of ten that plots of errors show at least; smaller errors stand at the left edge."""
LONGEST = 34
"""Characters of a name that fit beside a bar; the whole name is its tooltip."""

Error = tuple[str, float | None, float | None, bool]
"""Name, error, tolerance, and whether it passed."""


def errors(rows: Sequence[Error]) -> str:
    """A bar for each row, and a mark where its tolerance is."""
    high = _highest(value for _, *values, _ in rows for value in values)
    height = ROW * len(rows) + 30
    shapes = _decades(high, height)
    for i, (name, error, tolerance, passed) in enumerate(rows):
        y = i * ROW + 4
        shapes += _label(name, y)
        end = WIDE if error is None or not math.isfinite(error) else _across(error, high)
        title = f"{name}: {number(error)}" + (f", allowed {number(tolerance)}" if tolerance is not None else "")
        width = max(end - LABEL, 1)
        kind = "pass" if passed else "fail"
        shapes.append(
            f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{width:.1f}" height="{ROW - 8}">{_tip(title)}</rect>'
        )
        if tolerance:
            x = _across(tolerance, high)
            shapes.append(f'<path class="bar" d="M{x:.1f} {y - 3}v{ROW - 2}"/>')
    return _svg(height, shapes, "error of each output, relative to its largest value")


def profile(rows: Sequence[Error]) -> str:
    """A point for each tensor on the way from the inputs to the outputs."""
    high = _highest(value for _, *values, _ in rows for value in values)
    height, left = 260, 60
    step = (WIDE - left - 20) / max(len(rows) - 1, 1)

    def down(value: float) -> float:
        return 10 + (height - 40) * (high - _power(value, high)) / (high - LOWEST)

    shapes = []
    for power in range(LOWEST, high + 1):
        y = down(10.0**power)
        shapes.append(f'<path class="grid" d="M{left} {y:.1f}H{WIDE}"/>')
        if power % 2 == 0:
            shapes.append(f'<text class="end" x="{left - 6}" y="{y + 4:.1f}">1e{power}</text>')
    points = []
    for i, (name, error, _, passed) in enumerate(rows):
        x = left + 10 + i * step
        y = 10 if error is None or not math.isfinite(error) else down(error)
        points.append(f"{x:.1f} {y:.1f}")
        tip = _tip(f"{name}: {number(error)}")
        shapes.append(f'<circle class="{"pass" if passed else "fail"}" cx="{x:.1f}" cy="{y:.1f}" r="3">{tip}</circle>')
    if points:
        shapes.insert(0, f'<path class="line" d="M{"L".join(points)}"/>')
    shapes.append(f'<text x="{left}" y="{height - 8}">inputs</text>')
    shapes.append(f'<text class="end" x="{WIDE}" y="{height - 8}">outputs</text>')
    return _svg(height, shapes, "error of each tensor, in graph order")


def differences(counts: Sequence[tuple[float | None, int]]) -> str:
    """A column for each bin of differences, as high as its share of all elements."""
    ends: list[float | None] = [0.0, *EDGES, None]
    held = {end if end is not None and math.isfinite(end) else None: n for end, n in counts}
    total = sum(held.values()) or 1
    height, left = 180, 60
    width = (WIDE - left) / len(ends)
    most = max(held.values(), default=1) / total
    shapes = []
    for i, end in enumerate(ends):
        n = held.get(end, 0)
        tall = (height - 50) * n / total / most
        x, y = left + i * width, height - 30 - tall
        range_ = "equal" if end == 0 else f"up to {end:g}" if end is not None else "more than 1"
        tip = _tip(f"{range_}: {n:,} of {total:,}")
        shapes.append(
            f'<rect class="count" x="{x:.1f}" y="{y:.1f}" width="{width - 2:.1f}" height="{tall:.1f}">{tip}</rect>'
        )
        if i == 0 or (end is not None and i % 4 == 1):
            shapes.append(f'<text x="{x:.1f}" y="{height - 12}">{"equal" if i == 0 else f"{end:.0e}"}</text>')
    shapes.append(f'<text class="end" x="{left - 6}" y="28">{most:.0%}</text>')
    shapes.append(f'<path class="line" d="M{left} {height - 30}H{WIDE}"/>')
    return _svg(height, shapes, "elements by how far they differ, relative to the output's largest value")


def growth(rows: Sequence[tuple[str, int, int]]) -> str:
    """Two bars for each size: before and after."""
    height = len(rows) * (2 * ROW + 10)
    shapes = []
    for i, (title, *pair) in enumerate(rows):
        for k, value in enumerate(pair):
            y = i * (2 * ROW + 10) + k * ROW + 4
            width = (WIDE - LABEL - 130) * value / max(*pair, 1)
            who = ("teacher", "student")[k]
            shapes += _label(f"{title}, {who}", y)
            shapes.append(f'<rect class="{who}" x="{LABEL}" y="{y}" width="{width:.1f}" height="{ROW - 8}"/>')
            shapes.append(f'<text x="{LABEL + width + 6:.1f}" y="{y + 12}">{value:,}</text>')
    return _svg(height, shapes, "sizes before and after")


def _highest(values: Iterable[float | None]) -> int:
    """The power of ten that a plot ends with."""
    known = [v for v in values if v is not None and math.isfinite(v) and v > 0]
    return max([HIGHEST, *(math.ceil(math.log10(v)) for v in known)])


def _power(value: float, high: int) -> float:
    return min(max(math.log10(value), LOWEST), high) if value > 0 else LOWEST


def _across(value: float, high: int) -> float:
    return LABEL + (WIDE - LABEL) * (_power(value, high) - LOWEST) / (high - LOWEST)


def _decades(high: int, height: int) -> list[str]:
    shapes = []
    step = max(2, 2 * ((high - LOWEST) // 12))
    for power in range(LOWEST, high + 1):
        x = _across(10.0**power, high)
        shapes.append(f'<path class="grid" d="M{x:.1f} 0V{height - 24}"/>')
        if (power - LOWEST) % step == 0 and power < high:
            shapes.append(f'<text x="{x + 2:.1f}" y="{height - 8}">1e{power}</text>')
    return shapes


def _label(name: str, y: float) -> list[str]:
    short = name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."
    return [f'<text class="end" x="{LABEL - 8}" y="{y + 12}">{_tip(name)}{_clean(short)}</text>']


def _tip(text: str) -> str:
    return f"<title>{_clean(text)}</title>"


def _clean(text: str) -> str:
    return escape("".join(c if c.isprintable() else "\ufffd" for c in text))


def _svg(height: int, shapes: Iterable[str], title: str) -> str:
    inner = "\n".join(shapes)
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {height}" role="img" aria-label="{title}">'
    return f"{opening}\n{inner}\n</svg>"
