"""The comparison of one output over all samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import helper

from onnx_net2net.checking.claims import ASK
from onnx_net2net.checking.inputs import Array
from onnx_net2net.checking.metrics import error, measure, scale
from onnx_net2net.checking.tolerance import Bars
from onnx_net2net.checking.verdict import OutputVerdict

Yardsticks = Mapping[str, Sequence[list[Array]]]
"""What the teacher gives in ways that only rounding tells apart, by the name of the way."""


def equal(name: str, mine: list[Array], theirs: list[Array]) -> OutputVerdict:
    """Compares a constant output, which has to be the same to the bit."""
    same = all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
    return OutputVerdict(name, 0.0, 0.0, 0.0, (), "" if same else "it is a constant and differs")


def compare(
    name: str,
    mine: list[Array],
    theirs: list[Array],
    others: Yardsticks,
    bars: Bars,
) -> OutputVerdict:
    """Compares one output over all samples.

    Args:
        name: The output.
        mine: What the teacher gives.
        theirs: What the student gives.
        others: What the teacher gives in ways that only rounding tells apart.
        bars: What outputs are held to.
    """
    unfit = _unfit(mine, theirs)
    if unfit:
        return OutputVerdict(name, float("inf"), float("inf"), 0.0, (), unfit, needed=float("inf"))
    if not any(a.size for a in mine):
        return OutputVerdict(name, 0.0, 0.0, 0.0, (), "it is empty")
    first, second = _wide(mine), _wide(theirs)
    for side, who in ((first, "the teacher"), (second, "the student")):
        if not all(np.isfinite(a).all() for a in side):
            wrong, nan = f"{who} gives NaN or Inf", float("nan")
            return OutputVerdict(name, nan, nan, 0.0, (), wrong, needed=nan)
    errors = [error(a, b) for a, b in zip(first, second, strict=True)]
    worst = max(range(len(errors)), key=lambda i: errors[i][1])
    max_abs, max_rel = max(e[0] for e in errors), errors[worst][1]
    noises = {way: max(_apart(first, other) for other in ways) for way, ways in others.items() if ways}
    measured, own = bars.measured(name, noises), bars.own(name)
    rtol, atol = own or (measured.allowed, 0.0)
    at = np.unravel_index(int(np.argmax(np.abs(first[worst] - second[worst]))), first[worst].shape)
    where = (worst, *(int(i) for i in at))
    metrics = measure(helper.tensor_dtype_to_np_dtype(bars.kinds[name]), mine, theirs)
    needed = max(_needed(e[0] - atol, scale(a)) for e, a in zip(errors, first, strict=True))
    failure = _vacuous(_reaction(first), measured.allowed)
    if failure:
        where = ()
    elif needed > rtol or (metrics.ulps and not max_abs):  # integers that float64 does not tell apart
        wrong = f"it differs by {max_rel:.3g} of its largest value"
        failure = f"it differs by {max_abs:.3g}" if own else f"{wrong} (allowed {rtol:.3g})"
    tolerance = measured.allowed if failure and not where else rtol
    return OutputVerdict(
        name, max_abs, max_rel, tolerance, where, failure, metrics, needed, noises, measured.noise, measured.yardstick
    )


def _unfit(mine: list[Array], theirs: list[Array]) -> str:
    """Why two outputs cannot be compared, or an empty string."""
    if not all(isinstance(a, np.ndarray) for a in (*mine, *theirs)):
        return "it is not a tensor, and cannot be compared"
    if any(a.shape != b.shape for a, b in zip(mine, theirs, strict=True)):
        a, b = next((a.shape, b.shape) for a, b in zip(mine, theirs, strict=True) if a.shape != b.shape)
        return f"its shapes differ, {list(a)} against {list(b)}; {ASK}"
    if any(a.dtype.kind not in "iubf" and "float" not in a.dtype.name for a in mine):
        return f"it is of type {mine[0].dtype}"
    return ""


def _vacuous(reaction: float, tolerance: float) -> str:
    """Why a comparison would prove nothing, or an empty string."""
    if reaction > tolerance:
        return ""
    seen = "it is the same for every input" if not reaction else f"it hardly reacts to the input ({reaction:.2g})"
    return f"{seen}, so it proves nothing"


def _reaction(samples: list[Array]) -> float:
    """How much an output changes between samples, relative to its size; with one sample, within it."""
    alike = [a for a in samples[1:] if a.shape == samples[0].shape]
    if alike:
        return max(float(np.abs(a - samples[0]).max(initial=0.0)) for a in alike) / (max(map(scale, samples)) or 1.0)
    return max(1.0 if a.size == 1 else float(np.ptp(a)) / (scale(a) or 1.0) for a in samples if a.size)


def _needed(excess: float, size: float) -> float:
    """The relative tolerance that an excess over the absolute one needs."""
    return 0.0 if excess <= 0 else excess / size if size else float("inf")


def _apart(first: list[Array], other: list[Array]) -> float:
    return max(error(a, b)[1] for a, b in zip(first, _wide(other), strict=True))


def _wide(side: list[Array]) -> list[Array]:
    return [np.asarray(a, np.float64) for a in side]
