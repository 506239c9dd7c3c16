"""What a rule says of one node: equations between terms, and the roles of axes. Pure data.

A rule receives a `Node` and returns a list of facts. The engine acts on facts alone and never asks which
operator made them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_net2net.algebra.filler import Fill
from onnx_net2net.algebra.unify import EMPTY, UNIT, Term
from onnx_net2net.errors import Declined

Value = NDArray[Any]
Terms = tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Equal:
    """Both terms are resized by one and the same map."""

    left: Term
    right: Term


@dataclass(frozen=True, slots=True)
class OneOf:
    """At least one of these equations can hold, and it does not matter which; if none can, their terms are pinned."""

    options: tuple[Equal, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Operand:
    """A dimension of an input in which ``over`` is summed away: ``ahead + before * over * after + behind``, row-major.

    Attributes:
        slot: The input.
        axis: The dimension.
        over: What is summed away.
        before: Outer factors of its block.
        after: Inner factors.
        zero: Of a quantised weight the slot of the zero point, which varies along dimension ``channel``.
        channel: See there.
        ahead: What comes before the block, where the node cuts the dimension into blocks.
        behind: What comes behind it.
        plus: What the node adds to it, such as a bias: it takes the fractions too.
        kept: Whether it takes none, because the node hands it on as it is.
    """

    slot: int
    axis: int
    over: Term
    before: Term = UNIT
    after: Term = UNIT
    zero: int | None = None
    channel: int = 0
    ahead: Term = EMPTY
    behind: Term = EMPTY
    plus: tuple[Operand, ...] = ()
    kept: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the operand is the input and nothing else."""
        return not (self.plus or self.is_carried)

    @property
    def is_carried(self) -> bool:
        """Whether the input carries ``over`` elsewhere too, behind the node or in another block."""
        return self.kept or bool(self.ahead.size or self.behind.size)


@dataclass(frozen=True, slots=True)
class Contract:
    """``over`` is summed away; the first constant operand absorbs the fractions, by position."""

    over: Term
    operands: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Uniform:
    """Statistics are taken over ``over``: every unit needs equally many copies.

    Attributes:
        over: The term; it belongs to the first input.
        reason: What is taken over it.
        fills: What filler may hold, the one to prefer first; none for whole multiples only.
        epsilon: The attribute that holds what is added to a variance, and what it is if left out.
    """

    over: Term
    reason: str
    fills: tuple[Fill, ...] = ()
    epsilon: tuple[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Idempotent:
    """``over`` is reduced in a way that copies do not change (a maximum): any map is exact."""

    over: Term


@dataclass(frozen=True, slots=True)
class Unread:
    """No number along ``over`` is read, only how many there are, or their type: any map is exact."""

    over: Term


@dataclass(frozen=True, slots=True)
class Pin:
    """No axis in ``over`` may be resized.

    Attributes:
        over: A term.
        reason: Why.
        read: The positions that are read, if it is known that others are not.
    """

    over: Term
    reason: str
    read: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Size:
    """A size that is written down in the node and follows an axis.

    Attributes:
        where: Name of an attribute, or number of an input slot that holds a constant of integers.
        entries: (position, term, sign): the value at that position is ``sign`` times the term's size.
        fill: The whole value, where nothing is written down yet (an omitted ``split``).
        instead_of: An attribute that has to go when the value is written.
    """

    where: str | int
    entries: tuple[tuple[int, Term, int], ...]
    fill: tuple[int, ...] = ()
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class Default:
    """An attribute that is left out and whose default follows the size of ``over``: it has to stay the teacher's."""

    where: str
    value: float
    over: Term


@dataclass(frozen=True, slots=True)
class Holds:
    """The elements of the first output are the sizes of these terms (Shape, Size)."""

    sizes: tuple[Term, ...]


Fact = Equal | OneOf | Contract | Uniform | Idempotent | Unread | Pin | Size | Default | Holds


def terms_of(fact: Fact) -> list[Term]:
    """The terms that a fact speaks of."""
    if isinstance(fact, Equal):
        return [fact.left, fact.right]
    if isinstance(fact, OneOf):
        return [term for option in fact.options for term in terms_of(option)]
    if isinstance(fact, Size):
        return [term for _, term, _ in fact.entries]
    if isinstance(fact, Holds):
        return list(fact.sizes)
    return [fact.over]


@dataclass(frozen=True, slots=True)
class Node:
    """What a rule may see of a node.

    Attributes:
        op: Operator type.
        domain: Operator domain; empty for ``ai.onnx``.
        opset: Version of the domain that the model imports.
        attributes: Decoded attributes.
        inputs: One term for each dimension of each input; None for an input that is left out.
        outputs: The same for the outputs.
        value: The value of an input that is a small constant, or that follows from shapes alone; else None.
        constants: Slots whose value is known before the model runs, whatever its shapes.
        taken: By slot, the terms of the members of a sequence that it reads.
        made: By slot, the terms of the members of a sequence that it makes.
    """

    op: str
    opset: int
    attributes: Mapping[str, Any]
    inputs: Sequence[tuple[Term, ...] | None]
    outputs: Sequence[tuple[Term, ...] | None]
    domain: str = ""
    value: Callable[[int], Value | None] = field(default=lambda slot: None)
    constants: frozenset[int] = frozenset()
    taken: Mapping[int, tuple[Terms, ...]] = field(default_factory=dict)
    made: Mapping[int, tuple[Terms, ...]] = field(default_factory=dict)

    @property
    def terms(self) -> list[Term]:
        """The terms of all that it reads and makes."""
        members = (m for parts in (*self.taken.values(), *self.made.values()) for m in parts)
        return [term for terms in (*self.inputs, *self.outputs, *members) for term in terms or ()]

    def x(self, slot: int) -> tuple[Term, ...]:
        """Terms of an input that the operator requires."""
        terms = self.inputs[slot] if slot < len(self.inputs) else None
        if terms is None:
            raise Declined(f"input {slot} is missing")
        return terms

    def y(self, slot: int = 0) -> tuple[Term, ...]:
        """Terms of an output that the operator requires."""
        terms = self.outputs[slot] if slot < len(self.outputs) else None
        if terms is None:
            raise Declined(f"output {slot} is missing")
        return terms

    def has(self, slot: int) -> bool:
        """Whether an optional input is given."""
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def gives(self, slot: int) -> bool:
        """Whether an optional output is asked for."""
        return slot < len(self.outputs) and self.outputs[slot] is not None

    def attr(self, name: str, default: Any = None) -> Any:
        """Value of an attribute."""
        return self.attributes.get(name, default)

    def ints(self, slot: int, what: str) -> list[int]:
        """The integers in a constant input.

        Raises:
            Declined: If the input is computed while the model runs.
        """
        value = self.value(slot)
        if value is None:
            raise Declined(f"{what} (input {slot}) is computed while the model runs")
        return [int(v) for v in np.asarray(value).ravel()]

    def axis(self, name: str, default: int, rank: int) -> int:
        """An axis attribute, counted from the front."""
        return normal_axis(int(self.attr(name, default)), rank)


def normal_axis(axis: int, rank: int) -> int:
    """``axis`` counted from the front.

    Raises:
        Declined: If there is no such axis.
    """
    if not -rank <= axis < rank:
        raise Declined(f"axis {axis} does not exist in a tensor of rank {rank}")
    return axis % rank
