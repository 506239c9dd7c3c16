"""Probes: extreme samples that show what normal numbers hide, and what a teacher's answer to them is worth.

A probe counts only where the teacher knows its own answer. Where it gives NaN, or where changes of the size of
rounding move its outputs further than a student may ever differ, the probe is left out and a notice says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np

from onnx_net2net.checking.inputs import Array, Feeds
from onnx_net2net.checking.tolerance import Bars
from onnx_net2net.checking.verdict import OutputVerdict

ENOUGH = 2
"""Permuted teachers that say how far rounding moves a probe."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one probe says of one output.

    Attributes:
        error: max|a - b| over the largest value of the output.
        allowed: What it may be.
        failure: Why the output fails; empty if it passes or if the probe is left out.
        notice: Why the probe is left out; empty if it counts.
    """

    error: float = 0.0
    allowed: float = 0.0
    failure: str = ""
    notice: str = ""


class Runs(Protocol):
    """What both models gave, by output and then by sample, the probes last."""

    mine: list[list[Array]]
    theirs: list[list[Array]]
    yardsticks: dict[str, list[list[list[Array]]]]
    probes: tuple[str, ...]
    left_out: Mapping[str, str]

    @property
    def plain(self) -> int:
        """How many samples are no probes."""

    def ask(self, permuted: int) -> bool:
        """Adds yardsticks, up to so many permuted teachers in all."""

    def moved(self) -> list[list[Array]]:
        """The teacher's outputs on probes that are moved by as little as rounding is."""


def judge(
    runs: Runs, outputs: Sequence[OutputVerdict], fixed: Collection[str], bars: Bars
) -> tuple[tuple[OutputVerdict, ...], tuple[str, ...]]:
    """The verdicts with what the probes say of the outputs that have passed so far, and notices of what does not count.

    Args:
        runs: What was run.
        outputs: What ordinary samples say.
        fixed: Outputs that are constants.
        bars: What outputs are held to.
    """
    notices = [f"{probe}: left out, {why}" for probe, why in runs.left_out.items()]
    sensitive: list[list[Array]] = []
    result = []
    for place, output in enumerate(outputs):
        found = output
        for k, probe in enumerate(() if output.name in fixed or output.failure else runs.probes):
            said = _ask(runs, place, k, partial(bars.of_probes, output.name), [])
            if said.failure:
                runs.ask(ENOUGH)
                sensitive = sensitive or runs.moved()
                said = _ask(runs, place, k, partial(bars.of_probes, output.name), [sensitive[place][k]])
            if said.notice:
                notices.append(f"{probe}: left out for output '{output.name}', {said.notice}")
                continue
            if said.failure and not found.failure:
                failure = f"on the {probe} probe {said.failure}"
                found = replace(
                    found, max_rel=said.error, tolerance=said.allowed, where=(), failure=failure, probe=probe
                )
            found = replace(found, probes={**found.probes, probe: said.error})
        result.append(found)
    return tuple(result), tuple(notices)


def _ask(
    runs: Runs, place: int, k: int, limits: Callable[[float], tuple[float, float, float]], more: Sequence[Array]
) -> Answer:
    """What probe ``k`` says of the output in a place."""
    at, plain = runs.plain + k, runs.mine[place][: runs.plain]
    scale = min(float(np.abs(np.asarray(value, np.float64)).max(initial=0.0)) for value in plain)
    others = [*(run[place][at] for way in runs.yardsticks.values() for run in way), *more]
    return answer(runs.mine[place][at], runs.theirs[place][at], others, scale, *limits(scale))


def answer(
    mine: Array,
    theirs: Array,
    others: Sequence[Array],
    scale: float,
    floor: float,
    factor: float,
    ceiling: float,
) -> Answer:
    """Compares one output on one probe.

    Args:
        mine: What the teacher gives.
        theirs: What the student gives.
        others: What the teacher gives in ways that only rounding tells apart.
        scale: The largest value of the output on an ordinary sample: on a probe it may be zero.
        floor: The relative error that always passes.
        factor: How many times the teacher's own noise a student may differ.
        ceiling: What it may differ at most.
    """
    if not isinstance(mine, np.ndarray) or not isinstance(theirs, np.ndarray) or not mine.size:
        return Answer(notice="the output cannot be compared")
    if mine.shape != theirs.shape:
        return Answer(failure="its shapes differ")
    exact = [np.asarray(value, np.float64) for value in (mine, theirs, *others)]
    if not all(np.isfinite(value).all() for value in (exact[0], *exact[2:])):
        return Answer(notice="the teacher gives NaN or Inf")
    if not np.isfinite(exact[1]).all():
        return Answer(failure="the student gives NaN or Inf")
    size = max(scale, float(np.abs(exact[0]).max())) or 1.0
    error, *noises = [float(np.abs(exact[0] - value).max()) / size for value in exact[1:] if value.shape == mine.shape]
    noise = factor * max(noises, default=0.0)
    allowed = max(min(max(floor, noise), ceiling), floor)
    if error <= allowed:
        return Answer(error, allowed)
    if noise > ceiling:
        return Answer(error, allowed, notice=f"rounding alone moves the teacher by {noise / factor:.2g}")
    return Answer(error, allowed, failure=f"it differs by {error:.3g} of its largest value (allowed {allowed:.3g})")


def moved(feeds: Mapping[str, Feeds]) -> list[Feeds]:
    """The probes with every float moved by its last bit, or that of one if it is smaller: up or down."""
    rng = np.random.default_rng(0)
    return [{name: _moved(value, rng) for name, value in feed.items()} for feed in feeds.values()]


def _moved(value: Array, rng: np.random.Generator) -> Array:
    if value.dtype.kind != "f":
        return value
    signs = rng.choice([-1.0, 1.0], value.shape)
    step = np.finfo(value.dtype).eps * np.maximum(np.abs(value), 1)
    return np.asarray(value + signs * step, value.dtype)


def runnable(probes: Mapping[str, Feeds], run: Callable[[Feeds], object], failures: type[Exception]) -> dict[str, str]:
    """The probes that the teacher cannot run at all, and why."""
    found = {}
    for name, feed in probes.items():
        try:
            run(feed)
        except failures as error:
            found[name] = f"the teacher cannot run it ({error})"
    return found
