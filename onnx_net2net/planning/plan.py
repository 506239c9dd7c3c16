"""The Plan: every axis with its map, every constant with what is done to it, every size that follows.

A Plan is a value. It is what stands between thinking and changing: `widen.apply` and `deepen.apply` need
nothing but the model and the Plan, and a training pipeline can expand a checkpoint from its JSON.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_net2net.algebra.axes import Maps
from onnx_net2net.errors import RequestError
from onnx_net2net.inference.proto import skeleton
from onnx_net2net.planning.borders import BorderPlan, Units, gathered, joined
from onnx_net2net.planning.document import decode, encode
from onnx_net2net.planning.parts import (
    DIFFERS,
    INITS,
    KEPT,
    MODES,
    SPLITS,
    TYINGS,
    AxisPlan,
    BlockCopy,
    ConstantPlan,
    FillPlan,
    Init,
    Insertion,
    Layer,
    Mode,
    NumberPlan,
    SizePlan,
    Split,
    SplitPlan,
    Statistics,
    Tying,
)
from onnx_net2net.storage.model import AnyModel, proto_of

__all__ = [
    "DIFFERS",
    "INITS",
    "KEPT",
    "MODES",
    "SPLITS",
    "TYINGS",
    "AxisPlan",
    "BlockCopy",
    "ConstantPlan",
    "FillPlan",
    "Init",
    "Insertion",
    "Layer",
    "Mode",
    "NumberPlan",
    "Plan",
    "SizePlan",
    "Split",
    "SplitPlan",
    "Statistics",
    "Tying",
    "check_teacher",
    "fingerprint",
]
VERSION = 1


@dataclass(frozen=True)
class Plan:
    """All that makes a student out of a teacher.

    Attributes:
        teacher: Fingerprint of the teacher's structure; weights do not count.
        seed: Seed of all random choices.
        split: How fractions are drawn.
        noise: Standard deviation of the noise on copies, relative to that of the weights; 0 for none.
        axes: Widened axes.
        constants: Rewritten constants.
        sizes: Rewritten sizes.
        shapes: New shapes of tensors whose shape the teacher's file writes down.
        layers: Inserted layers.
        cloned: Shared constants that the student holds in more than one version.
        inlined: Whether the calls of local functions are inlined first, as an axis has to pass through one.
        blocks: Copies of residual blocks.
        init: What copied units start as: copies, or random numbers (``random-pad``), a baseline that is not exact.
        numbers: Rewritten numbers in attributes.
        borders: Graph inputs and outputs whose shapes change.
        inserted: Inserted nodes.
        kept: Weights that several nodes share and that stay one, as an inserted node takes the fractions of some.
        then: Plans for the student that this one makes, each for what the one before it makes.
    """

    teacher: str
    seed: int = 0
    split: Split = "uneven"
    noise: float = 0.0
    axes: tuple[AxisPlan, ...] = ()
    constants: tuple[ConstantPlan, ...] = ()
    sizes: tuple[SizePlan, ...] = ()
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    layers: tuple[Layer, ...] = ()
    cloned: tuple[str, ...] = ()
    inlined: bool = False
    blocks: tuple[BlockCopy, ...] = ()
    init: Init = "exact"
    numbers: tuple[NumberPlan, ...] = ()
    borders: tuple[BorderPlan, ...] = ()
    inserted: tuple[Insertion, ...] = ()
    kept: tuple[str, ...] = ()
    then: tuple[Plan, ...] = ()

    @property
    def steps(self) -> tuple[Plan, ...]:
        """This plan and those that follow, each by itself."""
        return (dataclasses.replace(self, then=()), *(step for plan in self.then for step in plan.steps))

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return any(step.axes or step.deepens for step in self.steps)

    @property
    def deepens(self) -> bool:
        """Whether the plan inserts anything."""
        return bool(self.layers or self.blocks)

    @property
    def random(self) -> bool:
        """Whether units or layers start with random weights, so that the student does not equal its teacher."""
        return any(step.init != "exact" or any(layer.random for layer in step.layers) for step in self.steps)

    @property
    def noisy(self) -> bool:
        """Whether copies get noise."""
        return any(step.noise and step.axes for step in self.steps)

    @cached_property
    def maps(self) -> Maps:
        """The map of each widened axis."""
        return {axis.name: np.asarray(axis.map, np.int64) for axis in self.axes}

    @cached_property
    def fractions(self) -> Mapping[str, NDArray[np.float64]]:
        """The fractions of each widened axis."""
        return {axis.name: np.asarray(axis.fractions, np.float64) for axis in self.axes}

    @cached_property
    def crossings(self) -> Mapping[str, Units]:
        """By graph input and output whose shape changes, where the teacher's units are in it after all steps."""
        return joined(step.borders for step in self.steps)

    def gathered(self, values: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """The teacher's inputs and outputs as the student has them, such as a stored cache; others stay."""
        return {name: gathered(np.asarray(value), self.crossings.get(name, {})) for name, value in values.items()}

    def to_json(self) -> str:
        """The plan as a JSON document; `from_json` reads it back without loss."""
        body = {f.name: encode(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return json.dumps({"onnx_net2net_plan": VERSION, **body}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Reads what `to_json` wrote.

        Raises:
            RequestError: If the text is not a plan.
        """
        try:
            body = json.loads(text)
            if body.pop("onnx_net2net_plan") != VERSION:
                raise ValueError("another version")
            return cls._decoded(body)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
            raise RequestError(
                f"it is not a plan of this version ({error})", "write one with --plan-out", op="plan"
            ) from error

    @classmethod
    def _decoded(cls, body: dict[str, Any]) -> Plan:
        steps = tuple(cls._decoded(step) for step in body.pop("then", ()))
        return cls(**decode(body), then=steps)

    def digest(self) -> str:
        """Hash of the plan, for provenance."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def fingerprint(model: ModelProto) -> str:
    """Hash of a model's structure: nodes, shapes and names, but no weights."""
    bare = skeleton(model)
    for tensor in bare.graph.initializer:
        if tensor.data_type not in (6, 7, 9):  # int32, int64 and bool hold structure
            name, dtype, dims = tensor.name, tensor.data_type, list(tensor.dims)
            tensor.Clear()
            tensor.name, tensor.data_type = name, dtype
            tensor.dims.extend(dims)
    bare.ClearField("metadata_props")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def check_teacher(plan: Plan, model: AnyModel) -> None:
    """Makes sure that a plan was made for this model.

    Raises:
        RequestError: If it was made for another one.
    """
    if plan.teacher != fingerprint(proto_of(model)):
        raise RequestError("it was made for another model", "make a plan for this one", op="plan")
