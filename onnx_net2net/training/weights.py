"""The way back to training: a framework's checkpoint and optimizer state, grown as a plan says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from onnx_net2net.algebra.axes import atoms
from onnx_net2net.deepening.deepen import apply as insert_layers
from onnx_net2net.errors import RequestError
from onnx_net2net.inference.infer import infer
from onnx_net2net.inference.proto import label
from onnx_net2net.io import Model
from onnx_net2net.planning.plan import BlockCopy, ConstantPlan, Layer, Plan
from onnx_net2net.planning.planner import as_planned
from onnx_net2net.training.matching import listed, match, module_of
from onnx_net2net.training.teacher import Match, Teacher, carries
from onnx_net2net.widening.inserted import build as build_node

Array = NDArray[Any]
State = Mapping[str, Array]
Slots = Mapping[str, Mapping[str, Any]]
"""Parameter -> key of the optimizer -> its buffer."""
POWERS = {
    "exp_avg": 1,
    "exp_avg_sq": 2,
    "exp_inf": 1,
    "grad_avg": 1,
    "max_exp_avg_sq": 2,
    "momentum_buffer": 1,
    "mu": 1,
    "nu": 2,
    "square_avg": 2,
    "sum": 2,
    "trace": 1,
}
"""How often the gradient enters a buffer as a factor: SGD, Adam and its kin, RMSprop, Adagrad; Optax."""
EVEN = 1e-9


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one tensor of the checkpoint.

    Attributes:
        tensor: Its name.
        before: Its shape.
        after: Its new shape.
        roles: For each axis ``in`` (contracted: fractions divide it), ``out`` (carried) or nothing.
        how: How it was matched with the teacher's constants.
    """

    tensor: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    roles: tuple[str, ...]
    how: str


@dataclass(frozen=True, slots=True)
class Added:
    """A weight of an inserted layer or node, for which the caller makes a module.

    Attributes:
        tensor: Its name in the new checkpoint: that of the student's initializer.
        shape: Its shape.
        kind: ``Conv``, ``Gemm`` or ``MatMul``, or ``block`` for the copy of a residual block; ``mean`` for a matrix
            that the tensor is multiplied by, ``scale`` for a factor of what a tied head reads.
        after: The tensor that the layer or block follows.
        scopes: Modules that make that tensor, as far as the exporter wrote it down.
    """

    tensor: str
    shape: tuple[int, ...]
    kind: str
    after: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a checkpoint.

    Attributes:
        changes: Every tensor that lies in the teacher's constants, in the checkpoint's order.
        kept: Tensors that passed through -> why.
        added: Weights of inserted layers.
        sizes: Sizes written down in nodes, which the module's code may write down too -> the student's.
        constants: The same for numbers: an epsilon that a module has to use from now on, since its axis has filler.
    """

    changes: tuple[Change, ...]
    kept: dict[str, str]
    added: tuple[Added, ...]
    sizes: dict[str, tuple[float, ...]]
    constants: dict[str, float] = field(default_factory=dict)

    @property
    def modules(self) -> dict[str, str]:
        """New sizes by module, such as ``{"conv2": "in 32 -> 48, out 64 -> 96"}``."""
        modules: dict[str, list[Change]] = {}
        for change in self.changes:
            modules.setdefault(module_of(change.tensor) or change.tensor, []).append(change)
        found: dict[str, str] = {}
        for module, changes in modules.items():
            most = max(len(change.before) for change in changes)
            large = [change for change in changes if len(change.before) == most]
            alike = len({_sizes(change) for change in large}) == 1
            for change in large[:1] if alike else large:
                if sizes := _sizes(change):
                    found[module if alike else change.tensor] = sizes
        return found

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {**asdict(self), "modules": self.modules}


def _sizes(change: Change) -> str:
    grown = []
    for role in ("in", "out", ""):
        for axis, (before, after) in enumerate(zip(change.before, change.after, strict=True)):
            if before != after and change.roles[axis] == role:
                grown.append(f"{role} {before} -> {after}".strip())
    return ", ".join(grown)


class Growth:
    """A checkpoint on its way from a teacher to its student.

    Args:
        teacher: The teacher: a path, a `ModelProto` or a `gs.Graph`.
        plan: The plan that made the student, or its JSON.
        state: The checkpoint: arrays by the framework's own names.
        reference: The checkpoint that was exported, if ``state`` is a later one; tensors are matched by its values.
        names: Checkpoint name -> name of the student's or teacher's initializer, where a choice is needed.
        keep: Globs of tensors that pass through as they are: the caller answers for it.

    Raises:
        ModelError: If the teacher cannot be read.
        RequestError: If the plan is not for this teacher, or a tensor cannot be matched without guessing.
    """

    def __init__(
        self,
        teacher: Model,
        plan: Plan | str,
        state: State,
        *,
        reference: State | None = None,
        names: Mapping[str, str] | None = None,
        keep: Sequence[str] = (),
    ) -> None:
        self.plan = Plan.from_json(plan) if isinstance(plan, str) else plan
        if self.plan.then:
            raise RequestError("it has several steps", "use Course, which takes them all", op="plan")
        self.teacher = Teacher(teacher, self.plan)
        self.given = dict(state)
        if reference is not None:
            _check_alike(reference, self.given)
        self.matching = match(self.teacher, reference if reference is not None else state, names=names, keep=keep)
        self.layers = self._layers()
        self.state = self._expand()
        self.report = self._report()

    def _expand(self) -> dict[str, Array]:
        """The student's checkpoint, in the order of the teacher's, then the weights of inserted layers."""
        matches = self.matching.matches
        grown = {
            name: self.teacher.image(value, matches[name]) if name in matches else value
            for name, value in self.given.items()
        }
        if clash := sorted(grown.keys() & self.layers.keys()):
            raise RequestError("an inserted layer has this name", "rename it", op="checkpoint", tensor=clash[0])
        return grown | self.layers

    def _layers(self) -> dict[str, Array]:
        """The weights of inserted layers, under the student's names."""
        if self.plan.inserted:
            built = [build_node(item, self.plan) for item in self.plan.inserted]
            return {name: value for one in built for name, value in one.weights.items()}
        if not self.plan.layers and not self.plan.blocks:
            return {}
        before = {tensor.name for tensor in self.teacher.base.graph.initializer}
        after = insert_layers(self.teacher.base, self.plan).graph.initializer
        return {t.name: np.array(numpy_helper.to_array(t)) for t in after if t.name not in before}

    def _report(self) -> Report:
        matches = self.matching.matches
        changes = tuple(
            Change(name, value.shape, self.state[name].shape, self.roles(matches[name]), matches[name].how)
            for name, value in self.given.items()
            if name in matches
        )
        added = []
        items: list[Layer | BlockCopy] = [*self.plan.layers, *self.plan.blocks]
        for item in items:
            scopes = tuple(sorted(self.teacher.scopes(item.after), key=len, reverse=True))
            kind = item.kind if isinstance(item, Layer) else "block"
            mine = set(item.names)
            shapes = {name: value.shape for name, value in self.layers.items() if name in mine}
            added += [Added(name, shape, kind, item.tensor, scopes) for name, shape in shapes.items()]
        for node in self.plan.inserted:
            made = self.teacher.graph.producer[node.tensor]
            scopes = tuple(sorted(self.teacher.scopes(made), key=len, reverse=True))
            constant = node.names[1]
            added.append(Added(constant, self.layers[constant].shape, node.kind, node.tensor, scopes))
        nodes = self.teacher.graph.nodes
        sizes = {f"{label(nodes[s.node])} {s.where}": s.values for s in self.plan.sizes}
        return Report(changes, dict(self.matching.kept), tuple(added), sizes, self._constants())

    def _constants(self) -> dict[str, float]:
        """Numbers in attributes, and constants that the checkpoint does not hold, that a power of eta scales."""
        teacher = self.teacher
        nodes = teacher.graph.nodes
        numbers = {f"{label(nodes[n.node])} {n.where}": n.value for n in self.plan.numbers}
        held = {part.version for found in self.matching.matches.values() for part in found.parts}
        for name, constant in teacher.versions.items():
            value = teacher.value(constant.source)
            if constant.scale != 1 and value.size == 1 and name not in held:
                number = float(value.reshape(())) * constant.scale
                numbers |= {f"{label(nodes[i])} {slot}": number for i, slot in constant.uses}
        return numbers

    def roles(self, found: Match) -> tuple[str, ...]:
        """For each axis of a tensor whether the plan contracts it (``in``) or carries it (``out``)."""
        version = found.parts[0].version
        split = {s.axis for s in self.teacher.versions[version].splits} if version else set()
        axes = self.teacher.axes(found)
        return tuple("" if axis is None else "in" if axis in split else "out" for axis in axes)

    def optimizer(
        self, slots: Slots, *, powers: Mapping[str, int] | None = None, strict: bool = False
    ) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Grows an optimizer's state with the weights.

        The gradient of a copy is its fraction times that of its source, so buffers that are linear in the
        gradient are scaled by the fractions along carried axes, and buffers of its square by their square.

        Args:
            slots: Parameter -> key -> buffer; numbers and single elements, such as a step, stay.
            powers: How often the gradient enters the buffer of a key as a factor, for keys that are not known.
            strict: Whether a buffer without an exact image is an error rather than reported.

        Returns:
            The student's state, and the parameters whose state has no exact image -> why.

        Raises:
            RequestError: If a parameter or a key is unknown, or an image is not exact and ``strict`` is set.
        """
        inexact = self._inexact(list(slots))
        if strict and inexact:
            name, why = next(iter(inexact.items()))
            raise RequestError(
                f"its state has no exact image: {why}",
                "use split='even', or start it anew",
                op="optimizer",
                tensor=name,
            )
        grown: dict[str, dict[str, Any]] = {}
        for name, buffers in slots.items():
            if name not in self.given:
                raise RequestError("the checkpoint has no such parameter", "check names", op="optimizer", tensor=name)
            known = {**POWERS, **({"momentum_buffer": 0} if "square_avg" in buffers else {}), **(powers or {})}
            grown[name] = {key: self._buffer(name, key, value, known) for key, value in buffers.items()}
        return grown, inexact

    def _buffer(self, name: str, key: str, value: Any, known: Mapping[str, int]) -> Any:
        found = self.matching.matches.get(name)
        if found is None or not found.touched or not isinstance(value, np.ndarray) or value.size <= 1:
            return value
        if key not in known:
            wrong = f"it is not known how {key} depends on the gradient"
            raise RequestError(wrong, f"say so with powers={{{key!r}: ...}}", op="optimizer", tensor=name)
        if value.shape != found.shape:
            wrong = f"{key} has the shape {list(value.shape)}, not {list(found.shape)}"
            raise RequestError(wrong, "give the state that belongs to the checkpoint", op="optimizer", tensor=name)
        return self.teacher.image(value, found, known[key])

    def _inexact(self, names: Sequence[str]) -> dict[str, str]:
        """Parameters whose buffers have no exact image -> why."""
        bad = self._bad_axes()
        found: dict[str, str] = {}
        for name in names:
            matched = self.matching.matches.get(name)
            if matched is None:
                continue
            why = self._untied(matched, names)
            for part in matched.parts:
                if part.version:
                    version = self.teacher.versions[part.version]
                    why = why or self._filled(version)
                    carried = carries(version, self.plan)
                    why = why or next((bad[axis] for axis in carried if axis in bad), "")
            if why:
                found[name] = why
        return found

    def _filled(self, constant: ConstantPlan) -> str:
        """Why the gradients of a constant are not those of its source, if it is for filler."""
        if constant.scale != 1:
            return "the weight is scaled, since an axis has filler"
        axes = {axis.name for dim in constant.dims for axis in atoms(dim)}
        return next((f"{axis.name} has filler" for axis in self.plan.axes if axis.filler and axis.name in axes), "")

    def _bad_axes(self) -> dict[str, str]:
        """Widened axes over which a copy's gradient is not its fraction times its source's -> why."""
        if self.plan.split == "scatter":
            return {axis.name: "split scatter divides each weight by itself" for axis in self.plan.axes}
        if not self.plan.axes:
            return {}
        known = as_planned(infer(self.teacher.base), self.plan).axes
        bad = {}
        for axis in self.plan.axes:
            info = known[axis.name]
            copies = np.bincount(axis.map)[list(axis.map)]
            if info.uniform and np.abs(np.array(axis.fractions) * copies - 1).max() > EVEN:
                bad[axis.name] = f"{info.uniform[0]}, and the fractions of {axis.name} are not even"
            elif info.idempotent:
                bad[axis.name] = f"{info.idempotent[0]}, where copies of {axis.name} are ties"
        return bad

    def _untied(self, found: Match, names: Sequence[str]) -> str:
        """Why a shared weight that the student holds in several versions has no image, if that is so."""
        why = "the weight is shared, and the student holds it in several versions"
        for part in found.parts:
            versions = self.teacher.versions_of(part.place.constant)
            matches = [m for name in names if (m := self.matching.matches.get(name))]
            held = {p.version for m in matches for p in m.parts if p.place.constant == part.place.constant}
            if len(held) < len(versions) and math.prod(found.shape) > 1:
                return why
        own = self.given[found.tensor]
        for name, value in self.given.items():  # tied tensors have one state
            tied = name not in names and name in self.matching.matches and np.array_equal(value, own)
            if tied and not np.array_equal(self.state[name], self.state[found.tensor]):
                return why
        return ""


def _check_alike(reference: State, state: State) -> None:
    """Makes sure that a reference has the tensors of the checkpoint."""
    differ = [name for name in state if name not in reference or reference[name].shape != state[name].shape]
    differ += [name for name in reference if name not in state]
    if differ:
        raise RequestError(
            f"checkpoint and reference differ in {listed(differ)}",
            "give two checkpoints of one module",
            op="checkpoint",
        )
