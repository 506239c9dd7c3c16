"""What a Plan is made of: values that say what becomes of one axis, constant, size or place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from onnx_net2net.algebra.axes import EMPTY, Dim
from onnx_net2net.algebra.filler import Content

Split = Literal["even", "uneven", "scatter", "first"]
SPLITS: tuple[Split, ...] = ("even", "uneven", "scatter", "first")
Tying = Literal["clone", "keep"]
TYINGS: tuple[Tying, ...] = ("clone", "keep")
Init = Literal["exact", "random-pad"]
INITS: tuple[Init, ...] = ("exact", "random-pad")
Mode = Literal["identity", "residual", "prelu", "linear"]
MODES: tuple[Mode, ...] = ("identity", "residual", "prelu", "linear")
"""What makes an inserted layer exact, the one that is preferred first."""
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and variance of each channel."""
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


Inserting = Literal["mean", "scale"]
INSERTING: tuple[Inserting, ...] = ("mean", "scale")


@dataclass(frozen=True, slots=True)
class Insertion:
    """A node that widening inserts, since no constant of the teacher can do what it does.

    Attributes:
        kind: ``mean``: writes the mean over all units of an axis, the last one, into its filler; ``scale``: multiplies.
        tensor: The teacher's tensor that it reads.
        dtype: Its element type.
        names: Names of the node, of its constant and of a tensor: what ``tensor`` is called before the mean is in, or
            the product.
        axis: The axis of a mean.
        value: What a scale multiplies by, and a mean too, all units alike, where it takes on a power of eta.
        uses: (node, input slot) of the teacher's graph that read a product; a mean takes over the tensor's name.
        macs: What a mean costs in one run, at size one of each dynamic dimension: multiply-accumulates.
    """

    kind: Inserting
    tensor: str
    dtype: int
    names: tuple[str, str, str]
    axis: str = ""
    value: float = 1.0
    uses: tuple[tuple[int, int], ...] = ()
    macs: int = 0
