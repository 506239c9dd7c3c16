"""What ONNX and the rules say of an operator at one opset, each question asked once however many nodes there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx
from onnx.reference.ops import load_op

from onnx_net2net import rules

NO_REFERENCE = (AssertionError, ImportError, LookupError, RuntimeError, onnx.defs.SchemaError)
"""The ways in which ONNX says that it has no reference implementation."""


@dataclass(frozen=True)
class Operator:
    """An operator of a model.

    Attributes:
        name: Its type.
        domain: Its domain; empty for ``ai.onnx``.
        opset: The version of the domain that the model imports.
    """

    name: str
    domain: str
    opset: int

    @cached_property
    def rule(self) -> rules.Rule | None:
        """Its rule, or None."""
        return rules.find(self.name, self.domain, self.opset)

    @cached_property
    def schema(self) -> Any:
        """What the standard says of it, or None."""
        try:
            return onnx.defs.get_schema(self.name, self.opset, self.domain)
        except (onnx.defs.SchemaError, TypeError):  # the latter for versions beyond all numbers
            return None

    @cached_property
    def is_declared(self) -> bool:
        """Whether the standard has it at any opset."""
        return bool(onnx.defs.has(self.name, self.domain))

    @cached_property
    def kinds(self) -> Mapping[str, int]:
        """The types that the standard gives its attributes."""
        known = {} if self.schema is None else self.schema.attributes
        return {name: attribute.type.value for name, attribute in known.items()}

    @cached_property
    def is_deterministic(self) -> bool:
        """Whether it is one of the standard's and computes the same from the same inputs."""
        kind = onnx.defs.OpSchema.NodeDeterminism.Deterministic
        return self.schema is not None and bool(self.schema.node_determinism == kind)

    @cached_property
    def makes_tensors(self) -> bool:
        """Whether it gives tensors, rather than sequences."""
        outputs = getattr(self.schema, "outputs", ())
        return all(any(kind.startswith("tensor(") for kind in output.types) for output in outputs)

    @cached_property
    def types(self) -> frozenset[str]:
        """The types that it takes for its first input, such as ``tensor(float)``; none if the standard lacks it."""
        return frozenset() if self.schema is None else frozenset(self.schema.inputs[0].types)

    @cached_property
    def has_reference(self) -> bool:
        """Whether ONNX's reference implementation has it at this version."""
        try:
            load_op("", self.name, self.opset)
        except NO_REFERENCE:
            return False
        return True
