"""Graph inputs and outputs whose shapes change: what a caller of the student has to know. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_net2net.algebra.axes import Index

Units = Mapping[int, Index]
"""For each dimension that grew: the unit of the teacher's tensor that each of the student's units holds."""


@dataclass(frozen=True, slots=True)
class BorderPlan:
    """A graph input or output that is wider in the student, where it holds the teacher's units, each of them whole.

    Attributes:
        name: The input or output.
        kind: Which of both.
        old: Its shape in the teacher, -1 for a dynamic dimension.
        new: Its shape in the student.
        units: (dimension, for each unit of the student the unit of the teacher that it holds).
    """

    name: str
    kind: Literal["input", "output"]
    old: tuple[int, ...]
    new: tuple[int, ...]
    units: tuple[tuple[int, tuple[int, ...]], ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {_shown(self.old)} -> {_shown(self.new)}"


def _shown(shape: Iterable[int]) -> str:
    return f"[{', '.join('?' if n < 0 else str(n) for n in shape)}]"


def joined(steps: Iterable[Iterable[BorderPlan]]) -> Mapping[str, Units]:
    """Where the teacher's units are in the inputs and outputs of the student that several steps make."""
    found: dict[str, dict[int, Index]] = {}
    for step in steps:
        for border in {border.name: border for border in step}.values():  # an input may be an output too
            known = found.setdefault(border.name, {})
            for axis, units in border.units:
                here = np.asarray(units, np.int64)
                known[axis] = known[axis][here] if axis in known else here
    return found


def gathered(value: NDArray[Any], units: Units) -> NDArray[Any]:
    """What the student holds where the teacher holds ``value``."""
    for axis, chosen in units.items():
        value = np.take(value, chosen, axis)
    return value


def restored(value: NDArray[Any], units: Units) -> NDArray[Any]:
    """The reverse: of the copies of each unit the first."""
    for axis, chosen in units.items():
        value = np.take(value, np.unique(chosen, return_index=True)[1], axis)
    return value
