"""What inference finds out about a model: a term for every dimension, and a reason for every pin. Values only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from onnx_net2net.algebra.axes import EMPTY, Axis, Dim
from onnx_net2net.algebra.filler import Content, Contents, Fill
from onnx_net2net.inference.graph import Graph

Slot = tuple[int, int]
"""(node, input slot)"""


@dataclass(frozen=True, slots=True)
class Blame:
    """Why an axis is pinned or uniform: the node (or border of the graph) and the reason.

    ``border`` is the graph input or output whose shape is to blame and nothing else: a request may lift such a pin.
    """

    node: str
    reason: str
    border: str = ""

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}" if self.node else self.reason


@dataclass(frozen=True, slots=True)
class Scaled:
    """Where a constant absorbs the fractions of ``over``: its dimension is before * over * after.

    Of a quantised weight ``zero`` is the use that gives its zero point, which varies along ``channel``. Where the
    contraction is between two computed operands, the constant carries the axis (``carried``), and the dimension may
    have other blocks ``ahead`` and ``behind``.
    """

    use: Slot
    axis: int
    before: Dim
    over: Dim
    after: Dim
    zero: Slot | None = None
    channel: int = 0
    ahead: Dim = EMPTY
    behind: Dim = EMPTY
    carried: bool = False


@dataclass(frozen=True, slots=True)
class Meeting:
    """Computed operands of a node are contracted over a term; ``operands`` is what each of them has beside it."""

    node: int
    over: Dim
    operands: tuple[tuple[Dim, ...], ...]


@dataclass(frozen=True, slots=True)
class Written:
    """Sizes written down in a node; see `facts.Size`."""

    node: int
    where: str | int
    entries: tuple[tuple[int, Dim, int], ...]
    fill: tuple[int, ...]
    instead_of: str


@dataclass(frozen=True, slots=True)
class Claim:
    """An element that is computed from sizes: in the student it has to be ``sign`` times ``dim``'s size.

    Without ``dim`` it has to be what it was. It depends on the sizes of ``depends``.
    """

    node: str
    tensor: str
    place: int
    dim: Dim | None
    sign: int
    depends: tuple[Dim, ...]

    @property
    def dims(self) -> tuple[Dim, ...]:
        """All terms that it speaks of."""
        return self.depends if self.dim is None else (*self.depends, self.dim)


@dataclass(frozen=True, slots=True)
class Statistic:
    """A statistic that a node takes over ``over``, a term of the input in ``slot``; see `facts.Uniform`.

    Where copies do not change it, as for a maximum, filler has to hold copies.
    """

    node: int
    over: Dim
    blame: Blame
    fills: tuple[Fill, ...] = ()
    epsilon: tuple[str, float] | None = None
    slot: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """A contraction of ``over``, a dimension of a tied weight as ``use`` reads it; ``operand`` takes the fractions."""

    use: Slot
    axis: int
    operand: Slot
    over: Dim


@dataclass(frozen=True, slots=True)
class Tied:
    """A weight that is to stay one tensor, although some of its uses contract what others carry.

    Attributes:
        name: The weight.
        uses: All that computes with it, directly or transposed: for each dimension that is read, the weight's.
        moved: The same for the tensors in between.
        heads: The uses that contract.
        refusal: Why it cannot stay one.
    """

    name: str
    uses: dict[Slot, tuple[int, ...]]
    moved: dict[str, tuple[int, ...]]
    heads: tuple[Head, ...]
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Filling:
    """How an axis under statistics grows by more than whole multiples: what filler holds, and powers of eta.

    Attributes:
        contents: What is known of the filler of each tensor that carries the axis.
        fills: The filler of constants that holds something else than copies: use -> (dimension, content).
        scales: The powers of eta that constants are multiplied by.
        powers: The powers of eta by which computed tensors are larger than the teacher's.
        numbers: (node, attribute, its value, power): numbers in attributes, and their powers of eta.
        makers: Tensors behind which inserted nodes write the mean into filler, as nothing else does, and the powers of
            eta that these nodes take on.
    """

    contents: dict[str, Contents]
    fills: dict[Slot, tuple[int, Content]]
    scales: dict[Slot, float]
    powers: dict[str, float]
    numbers: tuple[tuple[int, str, float, float], ...]
    makers: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class AxisInfo:
    """An axis of the model, and what is known of it; the size of a dynamic one is a trial size.

    ``filling`` is how one under statistics grows to any size, ``unfilled`` why it cannot; ``aided`` is how it does if
    nodes may be inserted.
    """

    axis: Axis
    pins: list[Blame] = field(default_factory=list)
    uniform: list[Blame] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)
    initializers: list[str] = field(default_factory=list)
    carried_by: list[str] = field(default_factory=list)
    contracted_by: list[str] = field(default_factory=list)
    dynamic: bool = False
    idempotent: list[Blame] = field(default_factory=list)
    filling: Filling | None = None
    unfilled: str = ""
    aided: Filling | None = None

    @property
    def status(self) -> str:
        """``free`` or ``filled`` (any size, the latter with filler), ``uniform`` (whole multiples) or ``pinned``."""
        if self.pins or not self.uniform:
            return "pinned" if self.pins else "free"
        return "uniform" if self.filling is None else "filled"

    @property
    def reason(self) -> str:
        """The first blame, and how many more there are; and why there can be no filler."""
        blames = [str(blame) for blame in self.pins or self.uniform]
        more = f" (and {len(blames) - 1} more)" if len(blames) > 1 else ""
        unfilled = f"; {self.unfilled}" if self.status == "uniform" and self.unfilled else ""
        return blames[0] + more + unfilled if blames else ""


@dataclass(slots=True)
class AxisMap:
    """What inference found out about a model.

    Attributes:
        graph: The model's graph at the first trial sizes.
        axes: Every axis by name, in graph order.
        dims: The term of each dimension of each computed tensor.
        uses: The same for each constant, at each place that uses it.
        scaled: Where constants absorb fractions.
        meetings: Contractions of two computed operands, such as attention scores.
        shared: Tensors that hold shares of the teacher's units, with the axes whose fractions they take.
        uniform: Statistics over terms whose units all need equally many copies.
        idempotent: Statistics that copies do not change.
        contracted: Terms that are summed away: by (node, input slot), the dimension and the term.
        written: Sizes written down in the graph.
        defaults: Attributes (node, name, value) that have to be written down where a term changes.
        equations: All equations, for the certificate.
        ties: Shared weights that had to be kept apart, with the nodes.
        claims: Elements computed from sizes that have to follow them.
        lists: The terms of the members of each sequence.
        tied: Weights that are to stay one tensor.
        held: Of what claims depend on, by tensor or use of a constant: the elements that are sizes of terms.
        lifted: The graph inputs and outputs whose shapes may change.
    """

    graph: Graph
    axes: dict[str, AxisInfo]
    dims: dict[str, tuple[Dim, ...]]
    uses: dict[Slot, tuple[Dim, ...]]
    scaled: list[Scaled] = field(default_factory=list)
    uniform: list[Statistic] = field(default_factory=list)
    idempotent: list[Statistic] = field(default_factory=list)
    contracted: dict[Slot, list[tuple[int, Dim]]] = field(default_factory=dict)
    written: list[Written] = field(default_factory=list)
    defaults: list[tuple[int, str, float, Dim]] = field(default_factory=list)
    equations: list[tuple[Dim, Dim, str]] = field(default_factory=list)
    ties: list[str] = field(default_factory=list)
    lists: dict[str, tuple[tuple[Dim, ...], ...]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    meetings: list[Meeting] = field(default_factory=list)
    shared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    held: dict[str | Slot, tuple[tuple[int, Dim], ...]] = field(default_factory=dict)
    lifted: frozenset[str] = frozenset()
    tied: list[Tied] = field(default_factory=list)

    def operands(self) -> Iterator[tuple[str | Slot, tuple[Dim, ...]]]:
        """The terms of every tensor and of every use of a constant."""
        yield from self.dims.items()
        yield from self.uses.items()
