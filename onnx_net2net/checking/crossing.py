"""Inputs and outputs that are wider in the student, as its plan says.

The student gets the teacher's samples with their units gathered, and has to give the teacher's outputs with theirs
gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from onnx import ModelProto

from onnx_net2net.checking.inputs import Array, Feeds
from onnx_net2net.planning.borders import Units, gathered, restored

Columns = list[list[Array]]
"""Outputs by place, and then by sample."""
Change = Callable[[Array, Units], Array]


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where the teacher's units are in the inputs and outputs of the student, by name; others are alike.

    Without a plan ``units`` is empty, and all of them are.
    """

    units: Mapping[str, Units] = field(default_factory=dict)

    def feeds(self, feeds: Iterable[Feeds]) -> list[Feeds]:
        """What the student gets where the teacher gets ``feeds``."""
        return [
            {name: gathered(value, self.units[name]) if name in self.units else value for name, value in feed.items()}
            for feed in feeds
        ]

    def outputs(self, model: ModelProto, columns: Columns) -> Columns:
        """What the student has to give where the model that it is held to gives ``columns``."""
        return self._each(model, columns, gathered)

    def back(self, model: ModelProto, columns: Columns) -> Columns:
        """What the teacher gives where the student gives ``columns``: the first copy of each unit."""
        return self._each(model, columns, restored)

    def _each(self, model: ModelProto, columns: Columns, change: Change) -> Columns:
        units = [self.units.get(value.name) for value in model.graph.output]
        return [
            column if known is None else [change(value, known) for value in column]
            for known, column in zip(units, columns, strict=True)
        ]
