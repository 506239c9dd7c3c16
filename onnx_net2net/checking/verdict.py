"""The comparison of outputs, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from onnx_net2net.checking.histogram import Histogram
from onnx_net2net.checking.inputs import Array

if TYPE_CHECKING:
    from onnx_net2net.checking.device import Device
    from onnx_net2net.checking.layers import Layers

FLOOR: dict[int, float] = {TensorProto.FLOAT16: 2e-3, TensorProto.BFLOAT16: 2e-2}
"""Relative error that always passes, by element type; 1e-5 for all others."""
CEILING = 1e-2
NOISE_FACTOR = 20


@dataclass(frozen=True, slots=True)
class OutputVerdict:
    """How one output compares.

    Attributes:
        name: The output.
        max_abs: Largest absolute difference.
        max_rel: max|a - b| / max|a| over the whole output, the worst of all samples.
        tolerance: What ``max_rel`` may be; with rtol or atol given, what the largest excess is held to.
        where: Position of the largest difference, sample first.
        failure: Why the output fails; empty if it passes.
        probes: By probe that counts, the largest difference over the largest value of the output.
        probe: The probe on which it fails, if it does so on one alone.
        histogram: How many elements differ by how much; see `onnx_net2net.checking.histogram`.
    """

    name: str
    max_abs: float
    max_rel: float
    tolerance: float
    where: tuple[int, ...] = ()
    failure: str = ""
    probes: Mapping[str, float] = field(default_factory=dict)
    probe: str = ""
    histogram: Histogram = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a verification; true when teacher and student are equivalent.

    Attributes:
        outputs: How each output compares.
        failure: Why nothing could be compared.
        samples: How many samples were run, probes apart.
        providers: Where they ran.
        upcast: Whether half types were raised to float32.
        layers: The comparison of all tensors on the way, if it was made.
        device: Where nodes ran, away from the CPU.
        notices: Probes that were left out, with the reason.
    """

    outputs: tuple[OutputVerdict, ...] = ()
    failure: str = ""
    samples: int = 0
    providers: tuple[str, ...] = ()
    upcast: bool = field(default=False)
    layers: Layers | None = None
    device: Device | None = None
    notices: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.failure and bool(self.outputs) and not any(o.failure for o in self.outputs)

    @property
    def reason(self) -> str:
        """Why the verification failed, or an empty string."""
        return self.failure or next((f"output '{o.name}': {o.failure}" for o in self.outputs if o.failure), "")

    def to_dict(self) -> dict[str, Any]:
        """The verdict for JSON."""
        outputs = [
            {"name": o.name, "max_abs": o.max_abs, "max_rel": o.max_rel, "tolerance": o.tolerance}
            | {"where": list(o.where), "probes": dict(o.probes)}
            | {"histogram": [{"up_to": end, "elements": n} for end, n in o.histogram]}
            | ({"failure": o.failure} if o.failure else {})
            for o in self.outputs
        ]
        return {
            "equivalent": bool(self),
            "outputs": outputs,
            "samples": self.samples,
            "providers": list(self.providers),
            "upcast": self.upcast,
            "notices": list(self.notices),
            "reason": self.reason,
            **({"layers": self.layers.to_dict()} if self.layers else {}),
            **({"device": self.device.to_dict()} if self.device else {}),
        }


def equal(name: str, mine: list[Array], theirs: list[Array]) -> OutputVerdict:
    """Compares a constant output, which has to be the same to the bit."""
    same = all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
    return OutputVerdict(name, 0.0, 0.0, 0.0, (), "" if same else "it is a constant and differs")


def compare(
    name: str,
    kind: int,
    mine: list[Array],
    theirs: list[Array],
    others: Sequence[list[Array]],
    rtol: float | None,
    atol: float | None,
) -> OutputVerdict:
    """Compares one output over all samples.

    Args:
        name: The output.
        kind: Its element type.
        mine: What the teacher gives.
        theirs: What the student gives.
        others: What the teacher gives in ways that only rounding tells apart.
        rtol: Relative tolerance in place of the measured one.
        atol: Absolute tolerance in place of the measured one.
    """
    if not all(isinstance(a, np.ndarray) for a in (*mine, *theirs)):
        return OutputVerdict(name, float("inf"), float("inf"), 0.0, (), "it is not a tensor, and cannot be compared")
    if any(a.shape != b.shape for a, b in zip(mine, theirs, strict=True)):
        return OutputVerdict(name, float("inf"), float("inf"), 0.0, (), "its shapes differ")
    if not any(a.size for a in mine):
        return OutputVerdict(name, 0.0, 0.0, 0.0, (), "it is empty")
    if not (np.issubdtype(mine[0].dtype, np.number) or mine[0].dtype == bool or mine[0].dtype.name == "bfloat16"):
        return OutputVerdict(name, float("inf"), float("inf"), 0.0, (), f"it is of type {mine[0].dtype}")
    exact = [[np.asarray(a, np.float64) for a in side] for side in (mine, theirs, *others)]
    for side, who in ((exact[0], "the teacher"), (exact[1], "the student")):
        if not all(np.isfinite(a).all() for a in side):
            return OutputVerdict(name, float("nan"), float("nan"), 0.0, (), f"{who} gives NaN or Inf")
    errors = [_error(a, b) for a, b in zip(exact[0], exact[1], strict=True)]
    worst = max(range(len(errors)), key=lambda i: errors[i][1])
    max_abs, max_rel = max(e[0] for e in errors), errors[worst][1]
    noise = max(_error(a, b)[1] for other in exact[2:] for a, b in zip(exact[0], other, strict=True))
    tolerance = max(min(max(FLOOR.get(kind, 1e-5), NOISE_FACTOR * noise), CEILING), FLOOR.get(kind, 0.0))
    reaction = _reaction(exact[0])
    if reaction <= tolerance:
        failure = (
            "it is the same for every input" if not reaction else f"it hardly reacts to the input ({reaction:.2g})"
        )
        return OutputVerdict(name, max_abs, max_rel, tolerance, (), f"{failure}, so it proves nothing")
    at = np.unravel_index(int(np.argmax(np.abs(exact[0][worst] - exact[1][worst]))), exact[0][worst].shape)
    where = (worst, *(int(i) for i in at))
    if rtol is not None or atol is not None:
        tolerance = rtol or 0.0
        excess = [e[0] - (atol or 0.0) - tolerance * _scale(a) for e, a in zip(errors, exact[0], strict=True)]
        failure = "" if max(excess) <= 0 else f"it differs by {max_abs:.3g}"
        return OutputVerdict(name, max_abs, max_rel, tolerance, where, failure)
    failure = (
        "" if max_rel <= tolerance else f"it differs by {max_rel:.3g} of its largest value (allowed {tolerance:.3g})"
    )
    return OutputVerdict(name, max_abs, max_rel, tolerance, where, failure)


def _reaction(samples: list[Array]) -> float:
    """How much an output changes between samples, relative to its size; with one sample, within it."""
    alike = [a for a in samples[1:] if a.shape == samples[0].shape]
    if alike:
        return max(float(np.abs(a - samples[0]).max(initial=0.0)) for a in alike) / (max(map(_scale, samples)) or 1.0)
    return max(1.0 if a.size == 1 else float(np.ptp(a)) / (_scale(a) or 1.0) for a in samples if a.size)


def _scale(value: Array) -> float:
    return float(np.abs(value).max(initial=0.0))


def _error(a: Array, b: Array) -> tuple[float, float]:
    """(max|a - b|, max|a - b| / max|a|)."""
    worst = float(np.abs(a - b).max(initial=0.0))
    return worst, worst / _scale(a) if _scale(a) else (float("inf") if worst else 0.0)
