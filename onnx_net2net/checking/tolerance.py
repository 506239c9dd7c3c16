"""How far two outputs may be apart, and why: measured rounding times a factor, between a floor and a ceiling.

The numbers come from `python benchmarks/mutations.py`; docs/mutations.md has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onnx import ModelProto, TensorProto

from onnx_net2net.errors import UsageError

FACTOR = 10
"""How many times the measured rounding a student may be off; correct ones stayed below half of what that allows."""
FLOOR: dict[int, float] = {
    TensorProto.DOUBLE: 1e-12,
    TensorProto.FLOAT: 2e-6,
    TensorProto.FLOAT16: 2e-3,
    TensorProto.BFLOAT16: 2e-2,
}
"""Relative error that always passes: a few roundings of the type; none for integers."""
CEILING: dict[int, float] = {
    TensorProto.DOUBLE: 1e-3,
    TensorProto.FLOAT: 1e-3,
    TensorProto.FLOAT16: 2e-2,
    TensorProto.BFLOAT16: 1e-1,
}
"""Relative error that never passes, whatever rounding was measured; 1e-2 for all other types."""
OTHERS = 1e-2
REST = "*"
"""In place of an output's name: all outputs that are not named."""

Tolerance = float | Mapping[str, float] | None


@dataclass(frozen=True, slots=True)
class Bar:
    """What is allowed.

    Attributes:
        allowed: Relative error that passes.
        noise: The largest rounding that was measured.
        yardstick: What showed it; empty if there was none.
    """

    allowed: float
    noise: float
    yardstick: str


def bar(kind: int, noises: Mapping[str, float]) -> Bar:
    """The tolerance for an element type, from the rounding that each yardstick showed."""
    finite = {name: noise for name, noise in noises.items() if math.isfinite(noise)}
    yardstick = max(finite, key=finite.__getitem__, default="")
    noise = finite.get(yardstick, 0.0)
    allowed = max(FLOOR.get(kind, 0.0), min(FACTOR * noise, ceiling(kind)))
    return Bar(allowed, noise, yardstick if noise else "")


def ceiling(kind: int) -> float:
    """The largest tolerance of an element type."""
    return CEILING.get(kind, OTHERS)


@dataclass(frozen=True, slots=True)
class Bars:
    """What the outputs of a model are held to.

    Attributes:
        kinds: Element type that the model declares, by output.
        worked: Element type whose roundings an output shows, by output.
        rtol: The user's relative tolerance.
        atol: The user's absolute tolerance.
    """

    kinds: Mapping[str, int]
    worked: Mapping[str, int]
    rtol: Tolerance = None
    atol: Tolerance = None

    def own(self, name: str) -> tuple[float, float] | None:
        """The user's (rtol, atol) for an output, if there is one."""
        found = given(self.rtol, name), given(self.atol, name)
        return None if found == (None, None) else (found[0] or 0.0, found[1] or 0.0)

    def measured(self, name: str, noises: Mapping[str, float]) -> Bar:
        """The bar of an output, from the rounding that each yardstick showed."""
        return bar(self.worked[name], noises)

    def may_pass(self, name: str, error: float) -> bool:
        """Whether more measured rounding could let an output pass."""
        return self.own(name) is None and error <= ceiling(self.worked[name])

    def of_probes(self, name: str, scale: float) -> tuple[float, float, float]:
        """For an output of a scale: the error that always passes, the factor to measured noise, what never passes."""
        own = self.own(name)
        if own is not None:
            allowed = own[0] + own[1] / (scale or 1.0)
            return allowed, FACTOR, allowed
        kind = self.worked[name]
        return FLOOR.get(kind, 0.0), FACTOR, ceiling(kind)


def given(tolerance: Tolerance, name: str) -> float | None:
    """The tolerance that the user gave for an output, if any."""
    if isinstance(tolerance, Mapping):
        return tolerance.get(name, tolerance.get(REST))
    return tolerance


def check_names(tolerance: Tolerance, outputs: Iterable[str], option: str) -> None:
    """Refuses tolerances for outputs that are not there, and such that are no tolerances.

    Raises:
        UsageError: If there is one.
    """
    known = list(outputs)
    for name, value in (tolerance if isinstance(tolerance, Mapping) else {REST: tolerance}).items():
        if name != REST and name not in known:
            raise UsageError("there is no such output", f"there is {', '.join(known)}", op=option, tensor=name)
        if value is not None and not value >= 0:
            raise UsageError(f"{value} is no tolerance", "give a number from 0 on", op=option, tensor=name)


def working_type(kind: int, model: ModelProto) -> int:
    """The type whose roundings an output shows: float64 only where the model holds no coarser one."""
    if kind != TensorProto.DOUBLE:
        return kind
    found = {tensor.data_type for tensor in model.graph.initializer}
    found |= {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.value_info)}
    for node in model.graph.node:
        for attribute in node.attribute:
            found.add(attribute.t.data_type if attribute.HasField("t") else 0)
            found.add(attribute.i if attribute.name in ("to", "dtype") else 0)
    coarse = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
    return TensorProto.FLOAT if found & coarse else kind
