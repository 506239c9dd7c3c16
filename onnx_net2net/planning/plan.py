"""The Plan: every axis with its map, every constant with what is done to it, every size that follows.

A Plan is a value. It is what stands between thinking and changing: `widen.apply` and `deepen.apply` need
nothing but the model and the Plan, and a training pipeline can expand a checkpoint from its JSON.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from onnx_net2net.algebra.axes import EMPTY, Axis, Dim, Maps, Prod, Sum
from onnx_net2net.algebra.filler import CONTENTS, Content
from onnx_net2net.errors import RequestError
from onnx_net2net.inference.proto import skeleton
from onnx_net2net.planning.borders import BorderPlan, Units, gathered, joined
from onnx_net2net.storage.model import AnyModel, proto_of

Split = Literal["even", "uneven", "scatter", "first"]
SPLITS: tuple[Split, ...] = ("even", "uneven", "scatter", "first")
Init = Literal["exact", "random-pad"]
INITS: tuple[Init, ...] = ("exact", "random-pad")
Mode = Literal["identity", "residual", "prelu", "linear"]
MODES: tuple[Mode, ...] = ("identity", "residual", "prelu", "linear")
"""What makes an inserted layer exact, the one that is preferred first."""
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and variance of each channel."""
VERSION = 1
KEPT, DIFFERS = -1, -2
"""In place of a new size in value_info: what is written stays, or no one size holds any more."""


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """One widened axis.

    Attributes:
        name: The axis.
        old: Units in the teacher.
        new: Units in the student.
        map: For each unit of the student the unit of the teacher that it copies.
        fractions: For each unit of the student its share of that unit; shares of one unit sum to one.
        filler: How many of the last units are filler: they stand for no unit, and their shares are zero.
    """

    name: str
    old: int
    new: int
    map: tuple[int, ...]
    fractions: tuple[float, ...]
    filler: int = 0

    @property
    def eta(self) -> float:
        """The root of the part of the units that are no filler."""
        return math.sqrt((self.new - self.filler) / self.new) if self.filler else 1.0


@dataclass(frozen=True, slots=True)
class FillPlan:
    """Filler of a constant that holds something else than copies.

    Attributes:
        axis: The dimension of the constant.
        over: The axis whose filler it is.
        content: ``zero``, or ``mean``: the mean over all units.
    """

    axis: int
    over: str
    content: Content


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """A dimension of a constant over which ``over`` is contracted: ahead + before * over * after + behind.

    Of a quantised weight ``zero`` is the teacher's tensor of zero points, which vary along ``channel``.
    """

    axis: int
    before: Dim
    over: Dim
    after: Dim
    zero: str = ""
    channel: int = 0
    ahead: Dim = EMPTY
    behind: Dim = EMPTY


@dataclass(frozen=True, slots=True)
class ConstantPlan:
    """One constant of the student, made from one of the teacher.

    Attributes:
        source: The teacher's tensor.
        name: The student's initializer; the same as ``source`` where nothing else needs the old value.
        uses: (node, input slot) of the teacher's graph that read it.
        dims: The term of each dimension, along which the source is gathered.
        splits: Dimensions that are scaled by fractions.
        fills: Filler that holds something else than copies.
        scale: A factor for all of it.
    """

    source: str
    name: str
    uses: tuple[tuple[int, int], ...]
    dims: tuple[Dim, ...]
    splits: tuple[SplitPlan, ...]
    fills: tuple[FillPlan, ...] = ()
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class SizePlan:
    """Sizes that are written down in a node: an attribute, or an initializer for an input slot.

    Attributes:
        node: Position of the node in the teacher's graph.
        where: Attribute name, or number of the input slot.
        values: The student's values: sizes, or a number that has to stay although a size changes.
        scalar: Whether the attribute is a single number.
        name: Name of the initializer that holds the values, for a slot.
        instead_of: An attribute that goes when the value is written.
    """

    node: int
    where: str | int
    values: tuple[float, ...]
    scalar: bool = False
    name: str = ""
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class NumberPlan:
    """A number in an attribute of a node, given by its position in the teacher's graph."""

    node: int
    where: str
    value: float


@dataclass(frozen=True, slots=True)
class Layer:
    """An inserted layer.

    Attributes:
        kind: ``Conv``, ``Gemm`` or ``MatMul``.
        after: Position of the node in the teacher's graph that makes the tensor.
        tensor: The tensor that the layer follows.
        channels: Units of the axis that the layer works on.
        kernel: Kernel of a Conv.
        dtype: Element type of the weights.
        names: Names of what is new, in the order of `layers.roles`.
        mode: What makes the layer exact.
        group: Groups of a Conv.
        repeats: Position of the activation that is repeated; -1 for a Relu instead.
        batch_norm: Whether BatchNormalization follows the linear operator.
        rank: Dimensions of the tensor.
        mean: Its statistics, one number for each channel; empty for 0.
        var: The same; empty for 1.
        random: Whether the weights are random, so that the layer is not exact: a baseline.
    """

    kind: str
    after: int
    tensor: str
    channels: int
    kernel: tuple[int, ...]
    dtype: int
    names: tuple[str, ...]
    mode: Mode = "identity"
    group: int = 1
    repeats: int = -1
    batch_norm: bool = False
    rank: int = 0
    mean: tuple[float, ...] = ()
    var: tuple[float, ...] = ()
    random: bool = False


@dataclass(frozen=True, slots=True)
class BlockCopy:
    """A copy of a residual block, inserted after the block, whose branch ends in zeros.

    Attributes:
        add: Position of the node in the teacher's graph that adds the branch.
        after: Position of the node that makes what the copy follows: the sum, or an activation of it.
        tensor: The tensor that the copy follows.
        source: The tensor that the block starts from.
        nodes: Positions of the nodes that are copied.
        constants: Weights that the copy has for itself.
        zeroed: (node, input slot) of the weights that are zero in the copy.
        names: Names of what is new, in the order of `blocks.new_names`.
        span: How many blocks that follow each other the copy is of; ``add`` is the first one's.
    """

    add: int
    after: int
    tensor: str
    source: str
    nodes: tuple[int, ...]
    constants: tuple[str, ...]
    zeroed: tuple[tuple[int, int], ...]
    names: tuple[str, ...]
    span: int = 1


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
        body = {f.name: _encode(getattr(self, f.name)) for f in dataclasses.fields(self)}
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
            return _decode_plan(body)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
            raise RequestError(
                f"it is not a plan of this version ({error})", "write one with --plan-out", op="plan"
            ) from error

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


def _encode(value: Any) -> Any:
    if isinstance(value, Axis):
        return {"axis": value.name, "size": value.size}
    if isinstance(value, (Prod, Sum)):
        return {type(value).__name__.lower(): [_encode(part) for part in value.parts]}
    if dataclasses.is_dataclass(value):
        return {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_encode(item) for item in value]
    return value


def _decode_plan(given: dict[str, Any]) -> Plan:
    body = {"blocks": [], "numbers": [], "borders": [], "then": [], **given}
    lists: dict[str, Callable[[Any], Any]] = {
        "axes": _decode_axis,
        "constants": _decode_constant,
        "sizes": lambda item: SizePlan(**{**item, "values": tuple(item["values"])}),
        "shapes": lambda item: (str(item[0]), tuple(item[1])),
        "numbers": lambda item: NumberPlan(**item),
        "borders": _decode_border,
        "layers": _decode_layer,
        "blocks": _decode_block,
        "cloned": str,
        "then": _decode_plan,
    }
    known: dict[str, Any] = {name: tuple(decode(item) for item in body.pop(name)) for name, decode in lists.items()}
    if body.get("init", "exact") not in INITS:
        raise ValueError(f"{body['init']!r} is no start")
    return Plan(**body, **known)


def _decode_dim(item: dict[str, Any]) -> Dim:
    if "axis" in item:
        return Axis(item["axis"], item["size"])
    ((kind, parts),) = item.items()
    inner = tuple(_decode_dim(part) for part in parts)
    return Prod(inner) if {"prod": True, "sum": False}[kind] else Sum(inner)


def _decode_axis(item: dict[str, Any]) -> AxisPlan:
    _check("whole number", int, item.get("filler", 0))
    return AxisPlan(**{**item, "map": tuple(item["map"]), "fractions": tuple(item["fractions"])})


def _decode_split(item: dict[str, Any]) -> SplitPlan:
    terms = ("ahead", "before", "over", "after", "behind")
    return SplitPlan(**{**item, **{key: _decode_dim(item[key]) for key in terms if key in item}})


def _decode_constant(item: dict[str, Any]) -> ConstantPlan:
    uses = tuple((i, slot) for i, slot in item["uses"])
    dims, splits = tuple(map(_decode_dim, item["dims"])), tuple(map(_decode_split, item["splits"]))
    fills = tuple(FillPlan(**fill) for fill in item.get("fills", ()))
    if any(fill.content not in CONTENTS for fill in fills):
        raise ValueError("filler has no such content")
    scale = item.get("scale", 1.0)
    _check("number", float, scale)
    return ConstantPlan(item["source"], item["name"], uses, dims, splits, fills, scale)


def _decode_border(item: dict[str, Any]) -> BorderPlan:
    units = tuple((axis, tuple(chosen)) for axis, chosen in item["units"])
    _check("whole number", int, *item["old"], *item["new"], *(n for axis, chosen in units for n in (axis, *chosen)))
    return BorderPlan(**{**item, "old": tuple(item["old"]), "new": tuple(item["new"]), "units": units})


def _decode_layer(item: dict[str, Any]) -> Layer:
    lists = {key: tuple(item.get(key, ())) for key in ("kernel", "names", "mean", "var")}
    layer = Layer(**{**item, **lists})
    numbers = (layer.after, layer.channels, layer.dtype, layer.group, layer.repeats, layer.rank)
    _check("whole number", int, *numbers, *layer.kernel)
    _check("text", str, layer.kind, layer.tensor, layer.mode, *layer.names)
    _check("number", float, *layer.mean, *layer.var)
    _check("flag", bool, layer.batch_norm, layer.random)
    if layer.mode not in MODES:
        raise ValueError(f"{layer.mode!r} is no mode")
    return layer


def _decode_block(item: dict[str, Any]) -> BlockCopy:
    lists: dict[str, Any] = {key: tuple(item[key]) for key in ("nodes", "constants", "names")}
    block = BlockCopy(**{**item, **lists, "zeroed": tuple((i, slot) for i, slot in item["zeroed"])})
    zeroed = (n for use in block.zeroed for n in use)
    _check("whole number", int, block.add, block.after, block.span, *block.nodes, *zeroed)
    _check("text", str, block.tensor, block.source, *block.constants, *block.names)
    return block


def _check(what: str, kind: type, *values: object) -> None:
    for value in values:
        if type(value) is not kind:
            raise TypeError(f"{value!r} is no {what}")
