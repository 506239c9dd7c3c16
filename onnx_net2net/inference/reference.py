"""Runs single nodes by ONNX's reference implementation, which is made once for nodes that differ by names alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import onnx
from onnx import NodeProto, helper
from onnx.reference import ReferenceEvaluator

from onnx_net2net.errors import ModelError
from onnx_net2net.inference.proto import subgraphs

FEW = 4096
"""Bytes up to which a node is worth remembering."""


class Reference:
    """Runs nodes of the standard's operators.

    Args:
        opset: The version of the standard that the model imports.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self._made: dict[bytes, ReferenceEvaluator] = {}

    def run(self, node: NodeProto, feeds: Mapping[str, Any]) -> list[Any]:
        """The outputs of one node, sequences as lists.

        Raises:
            ModelError: If there is no implementation, or it fails.
        """
        try:
            if node.ByteSize() > FEW or any(True for _ in subgraphs(node)):  # a subgraph may use names of inputs
                return list(self._make(node, feeds).run(None, dict(feeds)))
            plain, names = _without_names(node)
            key = plain.SerializeToString(deterministic=True)
            if key not in self._made:
                self._made[key] = self._make(plain, [names[name] for name in feeds])
            return list(self._made[key].run(None, {names[name]: value for name, value in feeds.items()}))
        except Exception as error:  # the reference implementations raise anything at all
            raise ModelError(
                f"this constant cannot be evaluated ({error})",
                "fold constants before expanding",
                op=node.op_type,
                node=node.name,
                tensor=next(iter(node.output), ""),
            ) from error

    def _make(self, node: NodeProto, inputs: Iterable[str]) -> ReferenceEvaluator:
        unknown = onnx.TypeProto()
        graph = helper.make_graph(
            [node],
            "constant",
            [helper.make_value_info(name, unknown) for name in inputs],
            [helper.make_value_info(name, unknown) for name in node.output if name],
        )
        return ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)]))


def _without_names(node: NodeProto) -> tuple[NodeProto, dict[str, str]]:
    """The node with numbers for the names of its tensors, and these by name."""
    names = {"": ""}
    for name in (*node.input, *node.output):
        names.setdefault(name, str(len(names)))
    plain = NodeProto(op_type=node.op_type, domain=node.domain)
    plain.input.extend(names[name] for name in node.input)
    plain.output.extend(names[name] for name in node.output)
    plain.attribute.extend(node.attribute)
    return plain, names
