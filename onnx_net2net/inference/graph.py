"""A read-only view of a model's main graph: who makes and who uses each tensor, constants and shapes.

The view never needs the weights: shapes come from a skeleton of the model without them, and values are
read from the model only where a rule asks for a small one.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from copy import copy
from functools import cached_property, partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from onnx_net2net import rules
from onnx_net2net.errors import Declined, ModelError
from onnx_net2net.inference.operators import Operator
from onnx_net2net.inference.proto import (
    FLOATS,
    HUGE,
    QUANTISED,
    attributes,
    captured,
    open_dims,
    read_tensor,
    skeleton,
    subgraphs,
)
from onnx_net2net.inference.reference import Reference
from onnx_net2net.inference.shapes import SMALL, Shape, Shapes, is_small, resolve
from onnx_net2net.storage.model import AnyModel, LazyModel, proto_of, stored
from onnx_net2net.storage.ranges import is_external
from onnx_net2net.storage.tensors import Made, Tensor

NOTHING: frozenset[str] = frozenset()


class Graph:
    """The main graph of a model.

    Args:
        model: A model (in memory or lazy) whose nodes are in topological order, as ONNX demands.
        trial: Sizes to assume for dynamic dimensions of the graph inputs: by symbol for symbolic ones,
            by ``name:dim`` for unknown ones.

    Raises:
        ModelError: If the graph is not valid: a tensor that nothing makes, or that two nodes make.
    """

    def __init__(self, model: AnyModel, trial: Mapping[str, int] | None = None) -> None:
        self.model = model = proto_of(held := model)
        self.made = held.made if isinstance(held, LazyModel) else {}
        self.proto = model.graph
        self.trial = dict(trial or {})
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.opsets = {o.domain if o.domain != "ai.onnx" else "": o.version for o in model.opset_import}
        self.initializers: dict[str, TensorProto] = {t.name: t for t in model.graph.initializer}
        self.sparse = {t.values.name for t in model.graph.sparse_initializer}
        self.inputs = [v for v in model.graph.input if v.name not in self.initializers]
        self.outputs = [v.name for v in model.graph.output]
        self.producer: dict[str, int] = {}
        self.consumers: dict[str, list[tuple[int, int]]] = {}
        self.captured: list[frozenset[str]] = []
        self.reads: list[tuple[str, ...]] = [tuple(node.input) for node in self.nodes]
        self.makes: list[tuple[str, ...]] = [tuple(node.output) for node in self.nodes]
        self._reference = Reference(self.opset(""))
        self._attributes: dict[int, Mapping[str, Any]] = {}
        self._operators: dict[tuple[str, str], Operator] = {}
        self.operators = [self.operator_of(node) for node in self.nodes]
        self.constant_nodes: set[int] = set()
        self._values: dict[str, NDArray[Any]] = {}
        self._lock = threading.RLock()  # lazy weights are made by several threads
        self._walk()

    def at(self, trial: Mapping[str, int]) -> Graph:
        """The same graph at other sizes of its dynamic dimensions."""
        other = copy(self)
        other.trial = dict(trial)
        other.__dict__.pop("shapes", None)
        return other

    def _walk(self) -> None:
        self._check_declared()
        inner = [captured(node) if node.attribute else NOTHING for node in self.nodes]
        self._reads = Counter(name for names in self.reads for name in names)
        self._reads.update(self.outputs)
        self._reads.update(name for names in inner for name in names)
        known = {v.name for v in self.proto.input} | set(self.initializers) | self.sparse
        constant = set(self.initializers)
        for i, node in enumerate(self.nodes):
            self.captured.append(inner[i] & known if inner[i] else NOTHING)
            for slot, name in enumerate(self.reads[i]):
                if name and name not in known:
                    raise ModelError(
                        "no earlier node makes this input",
                        "sort the graph topologically and check it with onnx.checker",
                        op=node.op_type,
                        node=node.name,
                        tensor=name,
                    )
                if name:
                    self.consumers.setdefault(name, []).append((i, slot))
            for name in filter(None, self.makes[i]):
                if name in self.producer or name in self.initializers:
                    raise ModelError(
                        "this tensor is made twice",
                        "give every tensor a name of its own",
                        op=node.op_type,
                        node=node.name,
                        tensor=name,
                    )
                self.producer[name] = i
                known.add(name)
            if self._is_constant(i, constant):
                self.constant_nodes.add(i)
                constant.update(filter(None, self.makes[i]))
        for name in self.outputs:
            if name not in known:
                raise ModelError("no node makes this graph output", "repair the model", op="graph", tensor=name)
        self.constants = constant

    @cached_property
    def varying(self) -> set[str]:
        """Tensors that depend on inputs; quantised weights, which are no constants, are not among them."""
        found = {value.name for value in self.proto.input} - self.initializers.keys()
        for node, inner in zip(self.nodes, self.captured, strict=True):
            if not found.isdisjoint((*node.input, *inner)):
                found.update(filter(None, node.output))
        return found

    def _check_declared(self) -> None:
        """Refuses names that are declared twice, and weights of impossible size."""
        for field in ("initializer", "input", "output"):
            counts = Counter(value.name for value in getattr(self.proto, field))
            for name, count in counts.items():
                if count > 1 or not name:
                    wrong = "it has no name" if not name else f"this name stands {count} times"
                    raise ModelError(wrong, "give every tensor a name of its own", op=f"graph {field}", tensor=name)
        for tensor in self.proto.initializer:
            if any(n < 0 for n in tensor.dims) or math.prod(tensor.dims) > HUGE:
                wrong = f"its shape {list(tensor.dims)} is not possible"
                raise ModelError(wrong, "export the model again", op="initializer", tensor=tensor.name)

    def _is_constant(self, i: int, constant: set[str]) -> bool:
        """Whether a node computes the same from constants in every run."""
        if not all(name in constant for name in self.reads[i] if name) or any(True for _ in subgraphs(self.nodes[i])):
            return False
        operator = self.operators[i]
        if operator.domain or self._is_stored(i):
            return False
        return operator.is_deterministic and operator.has_reference and operator.makes_tensors

    def operator(self, name: str, domain: str = "") -> Operator:
        """What is known of an operator at the model's opset."""
        found = self._operators.get((name, domain))
        if found is None:
            found = Operator(name, "" if domain == "ai.onnx" else domain, self.opset(domain))
            self._operators[name, domain] = found
        return found

    def operator_of(self, node: NodeProto) -> Operator:
        """The same for a node's."""
        return self.operator(node.op_type, node.domain)

    def attributes(self, i: int) -> Mapping[str, Any]:
        """The decoded attributes of a node."""
        if i not in self._attributes:
            self._attributes[i] = attributes(self.nodes[i])
        return self._attributes[i]

    def rule(self, i: int) -> rules.Rule | None:
        """The rule of a node's operator, or None."""
        return self.operators[i].rule

    def _is_stored(self, i: int) -> bool:
        """Whether a node makes a weight of something stored that should stay so, such as integers."""
        rule = self.rule(i)
        return rule is not None and rule.stored and self.is_private(self.makes[i][0])

    def is_private(self, name: str) -> bool:
        """Whether only one input slot reads a tensor."""
        return self._reads[name] == 1

    def tensor(self, use: tuple[int, int]) -> str:
        """The tensor that a node reads in an input slot."""
        return self.reads[use[0]][use[1]]

    def dynamic(self) -> dict[str, str]:
        """The dynamic dimensions of the graph inputs: key for ``trial`` -> input they were seen in."""
        return {key: value.name for value in self.inputs for key, _ in open_dims(value)}

    @cached_property
    def shapes(self) -> Shapes:
        """Types, shapes, and values that follow from shapes, at the trial sizes."""
        bare = skeleton(self.model)
        bare.ir_version = max(bare.ir_version, 4)  # from which initializers need not be listed as inputs
        nodes: list[NodeProto] = []
        foreign = {name for node in bare.graph.node for name in self._stand_in(node, nodes)}
        del bare.graph.node[:]
        bare.graph.node.extend(nodes)
        for value in bare.graph.input:
            for key, dim in open_dims(value):
                if key in self.trial:
                    dim.dim_value = self.trial[key]
        if self.trial:  # shapes that the exporter wrote down would contradict the trial
            kept = [value for value in bare.graph.value_info if value.name in foreign and self._at_trial(value)]
            del bare.graph.value_info[:]
            bare.graph.value_info.extend(kept)
            for value in bare.graph.output:
                if value.type.HasField("tensor_type") and not (value.name in foreign and self._at_trial(value)):
                    value.type.tensor_type.ClearField("shape")
        return resolve(self, bare)

    def _stand_in(self, node: NodeProto, nodes: list[NodeProto]) -> list[str]:
        """Lets standard operators of the same shape stand in for one that ONNX does not know.

        Args:
            node: The node.
            nodes: Takes what stands in for it, or the node itself.

        Returns:
            The outputs of which only the file can tell the shapes: all if there is none, else those it lacks.
        """
        nodes.append(node)
        operator = self.operator_of(node)
        found = operator.rule.stand_in if operator.rule is not None else None
        if found is None and operator.is_declared:
            return []
        outputs = list(node.output)
        if found is None or not self._can_stand_in(found, node):
            return [] if operator.is_declared else outputs
        inputs = [node.input[slot] for slot in found.slots if slot < len(node.input)]
        schema = onnx.defs.get_schema(found.op, self.opset(""), "")
        attributes = [a for a in node.attribute if a.name in schema.attributes]
        made = helper.make_node(found.op, inputs, outputs[: found.outputs], node.name, **found.attributes)
        made.attribute.extend(attributes)
        alike = [name for k, name in enumerate(outputs) if k in found.alike and name and outputs[0]]
        nodes[-1:] = [made, *(helper.make_node("Identity", outputs[:1], [name]) for name in alike)]
        return [name for name in outputs[found.outputs :] if name not in alike]

    def _can_stand_in(self, found: rules.StandIn, node: NodeProto) -> bool:
        """Whether the model knows the operator, the node has the inputs that it needs, and no attribute forbids it."""
        given = [slot < len(node.input) and bool(node.input[slot]) for slot in found.slots[: found.needed]]
        other = any(attribute.name == found.unless and attribute.i for attribute in node.attribute)
        return all(given) and not other and onnx.defs.has(found.op, self.opset(""), "")

    def _at_trial(self, value: ValueInfoProto) -> bool:
        """Writes trial sizes into a shape that the file gives; says whether that makes it complete."""
        dims = value.type.tensor_type.shape.dim
        for dim in dims:
            if not dim.HasField("dim_value") and dim.dim_param in self.trial:
                dim.dim_value = self.trial[dim.dim_param]
        return all(dim.HasField("dim_value") for dim in dims)

    def opset(self, domain: str) -> int:
        """The version of an operator domain that the model imports."""
        return int(self.opsets.get("" if domain == "ai.onnx" else domain, 1))

    def shape(self, name: str) -> Shape | None:
        """Shape of a tensor, or None where it is not known."""
        return self.shapes.types.get(name, (0, None))[1]

    def dtype(self, name: str) -> int:
        """Element type of a tensor (``TensorProto.DataType``), 0 where it is not known."""
        return self.shapes.types.get(name, (0, None))[0]

    def is_weight(self, name: str) -> bool:
        """Whether a tensor may hold weights: floating point numbers, or quantised ones."""
        return self.dtype(name) in FLOATS or self.dtype(name) in QUANTISED

    def small_value(self, name: str) -> NDArray[Any] | None:
        """The value of a small tensor that constants or shapes determine, else None."""
        if name in self.shapes.values:
            return self.shapes.values[name]
        if name not in self.constants or not is_small(self.dtype(name), self.shape(name)):
            return None
        return self.value(name)

    def ancestors(self, names: Iterable[str]) -> set[int]:
        """The nodes that values which shapes determine are computed by."""
        found: set[int] = set()
        pending = [name for name in names if name in self.shapes.values]
        while pending:
            i = self.producer[pending.pop()]
            if i not in found:
                found.add(i)
                pending += [name for name in self.nodes[i].input if name in self.shapes.values]
        return found

    def value(self, name: str) -> NDArray[Any]:
        """The value of a constant: an initializer's data, or what constant nodes make of it.

        Raises:
            ModelError: If the data is damaged or a constant node cannot be evaluated.
        """
        with self._lock:
            return self._value(name)

    def _value(self, name: str) -> NDArray[Any]:
        needed = [name]
        while needed:
            current = needed[-1]
            if current in self._values:
                needed.pop()
            elif current in self.made:
                self._values[current] = self.made[current].read()
            elif current in self.initializers:
                self._values[current] = read_tensor(self.initializers[current])
            else:
                node = self.nodes[self.producer[current]]
                unread = {node.input[slot] for slot in self.unread(node) if slot < len(node.input)}
                missing = [n for n in node.input if n and n not in self._values and n not in unread]
                if missing:
                    needed += missing
                else:
                    feeds = {n: self.blank(n) if n in unread else self._values[n] for n in node.input if n}
                    self._values.update(self.evaluate(node, feeds))
        value = self._values[name]
        if value.size > SMALL:
            self._values.clear()  # large weights are not kept
        return value

    def tensor_of(self, name: str) -> Tensor:
        """A constant that is read when it is wanted. Raises then what `value` raises."""
        weight = self.initializers.get(name)
        if name in self.made:
            return self.made[name]
        if weight is not None and is_external(weight):
            return stored(weight)
        dtype, shape = (
            (self.dtype(name), self.shape(name)) if weight is None else (weight.data_type, tuple(weight.dims))
        )
        return Made(dtype, shape or (), partial(self.value, name))

    def check_attributes(self, node: NodeProto) -> None:
        """Makes sure that attributes have the types that the standard gives them, so that rules can rely on it.

        Raises:
            Declined: If one has another, or the model's opset does not have the operator.
        """
        operator = self.operator_of(node)
        if not operator.is_declared:
            return
        if operator.schema is None:
            raise Declined(f"opset {operator.opset} does not have it")
        for attribute in node.attribute:
            if operator.kinds.get(attribute.name, attribute.type) != attribute.type:
                raise Declined(f"its attribute {attribute.name} is of the wrong type")

    def unread(self, node: NodeProto) -> tuple[int, ...]:
        """Input slots of which a node reads only shape and type."""
        rule = self.operator_of(node).rule
        return rule.unread if rule is not None else ()

    def blank(self, name: str) -> NDArray[Any]:
        """Zeros in the shape of a tensor whose value nobody reads; they take no memory."""
        return np.broadcast_to(np.zeros((), helper.tensor_dtype_to_np_dtype(self.dtype(name))), self.shape(name) or ())

    @cached_property
    def handles_lists(self) -> list[bool]:
        """By node: whether it makes or reads a sequence that some node makes."""
        lists: set[str] = set()
        found = []
        for i, operator in enumerate(self.operators):
            if not operator.makes_tensors:
                lists.update(self.makes[i])
            found.append(bool(lists) and any(name in lists for name in (*self.reads[i], *self.makes[i])))
        return found

    def evaluate(self, node: NodeProto, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs of one node that makes tensors.

        Raises:
            ModelError: If there is no reference implementation, or it fails.
        """
        results = self.run(node, feeds)
        if any(isinstance(value, (list, type(None))) for value in results):
            raise ModelError("it makes no tensor", "fold constants before expanding", op=node.op_type, node=node.name)
        return dict(zip(filter(None, node.output), map(np.asarray, results), strict=True))

    def run(self, node: NodeProto, feeds: Mapping[str, Any]) -> list[Any]:
        """The outputs of one node, sequences as lists, by ONNX's reference implementation.

        Raises:
            ModelError: If there is none, or it fails.
        """
        return self._reference.run(node, feeds)
