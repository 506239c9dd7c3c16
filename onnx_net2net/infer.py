"""Remapping inference: model -> `AxisMap`, a term for every dimension and a reason for every pin.

The engine knows no operator names. It asks the rules for facts, hands the equations to the solver, and
reads roles and pins off the solved terms. Dynamic dimensions are analysed at two trial sizes: what comes
out differently is pinned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from onnx import ModelProto

from onnx_net2net import rules
from onnx_net2net.axes import Axis, Dim, Prod, Sum, atoms
from onnx_net2net.errors import Declined, ModelError, SizeMismatch
from onnx_net2net.facts import Contract, Equal, Fact, Node, Pin, Size, Uniform, terms_of
from onnx_net2net.graph import Graph, attributes, label
from onnx_net2net.unify import Atom, Product, Solver, Term, fresh, product

Slot = tuple[int, int]
"""(node, input slot)"""


@dataclass(frozen=True, slots=True)
class Blame:
    """Why an axis is pinned or uniform: the node (or border of the graph) and the reason."""

    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}" if self.node else self.reason


@dataclass(frozen=True, slots=True)
class Scaled:
    """Where a constant absorbs the fractions of ``over``: its dimension is before * over * after."""

    use: Slot
    axis: int
    before: Dim
    over: Dim
    after: Dim


@dataclass(frozen=True, slots=True)
class Written:
    """Sizes written down in a node; see `facts.Size`."""

    node: int
    where: str | int
    entries: tuple[tuple[int, Dim, int], ...]
    fill: tuple[int, ...]
    instead_of: str


@dataclass(slots=True)
class AxisInfo:
    """An axis of the model, and what is known of it."""

    axis: Axis
    pins: list[Blame] = field(default_factory=list)
    uniform: list[Blame] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)
    initializers: list[str] = field(default_factory=list)
    contracted_by: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """``free`` (any size), ``uniform`` (whole multiples) or ``pinned``."""
        return "pinned" if self.pins else "uniform" if self.uniform else "free"

    @property
    def reason(self) -> str:
        """The first blame, and how many more there are."""
        blames = [str(blame) for blame in self.pins or self.uniform]
        return blames[0] + (f" (and {len(blames) - 1} more)" if len(blames) > 1 else "") if blames else ""


@dataclass(slots=True)
class AxisMap:
    """What inference found out about a model.

    Attributes:
        graph: The model's graph at the first trial sizes.
        axes: Every axis by name, in graph order.
        dims: The term of each dimension of each computed tensor.
        uses: The same for each constant, at each place that uses it.
        scaled: Where constants absorb fractions.
        uniform: Terms whose units all need equally many copies.
        written: Sizes written down in the graph.
        equations: All equations, for the certificate.
        ties: Shared weights that had to be kept apart, with the nodes.
    """

    graph: Graph
    axes: dict[str, AxisInfo]
    dims: dict[str, tuple[Dim, ...]]
    uses: dict[Slot, tuple[Dim, ...]]
    scaled: list[Scaled]
    uniform: list[tuple[Dim, Blame]]
    written: list[Written]
    equations: list[tuple[Dim, Dim, str]]
    ties: list[str]


def infer(model: ModelProto, *, borders: bool = True) -> AxisMap:
    """Infers how axes run through a model.

    Args:
        model: The teacher; it is not changed.
        borders: Whether the shapes of graph inputs and outputs must stay; tests of single operators
            switch this off.

    Raises:
        ModelError: If the graph is invalid or contradicts itself.
    """
    graph = Graph(model)
    trials = list(_trials(list(graph.dynamic())))
    solved = []
    for trial in trials:
        try:
            solved.append(_Inference(Graph(model, trial), borders).run())
        except (ModelError, SizeMismatch) as error:
            failure = error
        if len(solved) == 2 or (solved and not trials[0]):
            break
    if not solved:
        raise failure if isinstance(failure, ModelError) else ModelError(str(failure), "check the model")
    result = solved[0]
    if trials[0]:
        _pin_what_differs(result, solved[1] if len(solved) > 1 else None)
    return result


def _trials(keys: list[str]) -> Iterator[dict[str, int]]:
    """Sizes to try for the dynamic dimensions, never 0 or 1: first all different, then all alike."""
    if not keys:
        yield {}
        return
    for step in (32, 2):
        for start in (3, 4):
            yield {key: step * (start + 2 * i) for i, key in enumerate(keys)}
    for size in (96, 64, 6, 4):
        yield dict.fromkeys(keys, size)


class _Inference:
    """One analysis at fixed sizes."""

    def __init__(self, graph: Graph, borders: bool) -> None:
        self.graph = graph
        self.borders = borders
        self.solver = Solver()
        self.terms: dict[str, tuple[Term, ...]] = {}
        self.uses: dict[Slot, tuple[Term, ...]] = {}
        self.facts: list[tuple[int, Fact]] = []
        self.pins: list[tuple[Term, Blame]] = []
        self.ties: list[str] = []

    def run(self) -> AxisMap:
        for value in self.graph.inputs:
            self._make(value.name)
        for i in range(len(self.graph.nodes)):
            if i not in self.graph.constant_nodes:
                self._visit(i)
        for i, fact in self.facts:
            if isinstance(fact, Equal):
                self._equate(i, fact)
        self.solver.settle()
        self._tie()
        self._collect_pins()
        return _Frozen(self).axis_map()

    def _make(self, name: str) -> tuple[Term, ...] | None:
        shape = self.graph.shape(name)
        if shape is None:
            return None
        self.terms[name] = tuple(fresh(size) for size in shape)
        return self.terms[name]

    def _visit(self, i: int) -> None:
        """Asks the node's rule for facts; without an answer, pins all that touches the node."""
        proto = self.graph.nodes[i]
        inputs = [self._operand(i, slot, name) for slot, name in enumerate(proto.input)]
        outputs = [self._make(name) if name else None for name in proto.output]
        found = rules.find(proto.op_type, proto.domain, self.graph.opsets.get(_domain(proto.domain), 1))
        named = zip([*proto.input, *proto.output], [*inputs, *outputs], strict=True)
        unknown = [name for name, terms in named if name and terms is None and not self._unused(name)]
        try:
            if found is None:
                raise Declined("no rule knows this operator")
            if unknown:
                raise Declined(f"the shape of {unknown[0]} is not known")
            node = Node(
                proto.op_type,
                self.graph.opsets.get(_domain(proto.domain), 1),
                attributes(proto),
                inputs,
                outputs,
                proto.domain,
                lambda slot: self.graph.small_value(proto.input[slot]) if proto.input[slot] else None,
                frozenset(s for s, name in enumerate(proto.input) if name in self.graph.constants),
            )
            self.facts += [(i, fact) for fact in rules.facts_of(found, node)]
        except Declined as why:
            self._pin_all(i, [*inputs, *outputs], str(why))
        for name in sorted(self.graph.captured[i]):
            self._pin_all(i, [self.terms.get(name)], "its subgraph uses it")

    def _unused(self, name: str) -> bool:
        return name not in self.graph.consumers and name not in self.graph.outputs

    def _operand(self, i: int, slot: int, name: str) -> tuple[Term, ...] | None:
        if not name:
            return None
        if name in self.graph.constants:
            shape = self.graph.shape(name)
            if shape is None:
                return None
            self.uses[i, slot] = tuple(fresh(size) for size in shape)
            return self.uses[i, slot]
        return self.terms.get(name)

    def _equate(self, i: int, fact: Equal) -> None:
        try:
            self.solver.equate(fact.left, fact.right, i)
        except SizeMismatch as error:
            node = self.graph.nodes[i]
            raise ModelError(
                f"its shapes contradict each other ({error})", "check the model with onnx.checker",
                op=node.op_type, node=node.name,
            ) from error

    def _tie(self) -> None:
        """Lets all uses of a shared weight agree, so that it is widened once and stays shared."""
        first: dict[str, tuple[Term, ...]] = {}
        for (i, slot), terms in self.uses.items():
            name = self.graph.nodes[i].input[slot]
            if sum(term.size > 1 for term in terms) < 2:
                continue
            pairs = list(zip(first.setdefault(name, terms), terms, strict=True))
            if not self.solver.attempt(pairs, i):
                self.ties.append(f"{name} at {label(self.graph.nodes[i])}")

    def _collect_pins(self) -> None:
        if self.borders:
            for names, border in (
                ((v.name for v in self.graph.inputs), "graph input"),
                (self.graph.outputs, "graph output"),
            ):
                for name in names:
                    blame = Blame(f"{border} '{name}'", "its shape must stay")
                    self.pins += [(term, blame) for term in self.terms.get(name, ())]
        for i, fact in self.facts:
            if isinstance(fact, Pin):
                self.pins.append((fact.over, self._blame(i, fact.reason)))
            elif isinstance(fact, Contract) and not any((i, o.slot) in self.uses for o in fact.operands):
                self.pins.append((fact.over, self._blame(i, "no constant operand can absorb the fractions")))
        for conflict in self.solver.settle():
            i = conflict.why
            assert isinstance(i, int)
            shown = f"{self.solver.sizes(conflict.left)} against {self.solver.sizes(conflict.right)}"
            blame = self._blame(i, f"it cannot align {shown}")
            self.pins += [(conflict.left, blame), (conflict.right, blame)]

    def _pin_all(self, i: int, operands: Iterable[tuple[Term, ...] | None], reason: str) -> None:
        blame = self._blame(i, reason)
        self.pins += [(term, blame) for terms in operands for term in terms or ()]

    def _blame(self, i: int, reason: str) -> Blame:
        return Blame(label(self.graph.nodes[i]), reason)


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


class _Frozen:
    """Turns the solver's terms into named, immutable ones."""

    def __init__(self, found: _Inference) -> None:
        self.found = found
        self.graph = found.graph
        self.solver = found.solver
        self.names: dict[Atom, str] = {}
        self.taken: set[str] = set()
        self.cache: dict[int, Dim] = {}

    def axis_map(self) -> AxisMap:
        """Names the axes and freezes all that refers to them."""
        self._name_all()
        axes = {name: AxisInfo(Axis(name, atom.size)) for atom, name in self.names.items()}
        found = self.found
        for term, blame in found.pins:
            for atom in self.solver.leaves(term):
                info = axes[self.names[atom]]
                if blame not in info.pins:
                    info.pins.append(blame)
        result = AxisMap(
            self.graph,
            axes,
            {name: self._dims(terms) for name, terms in found.terms.items()},
            {slot: self._dims(terms) for slot, terms in found.uses.items()},
            [], [], [], [], found.ties,
        )
        for i, fact in found.facts:
            self._role(i, fact, result)
        self._carriers(result)
        return result

    def _name_all(self) -> None:
        """An axis is named after the first constant that carries it, else that contracts it, else a tensor."""
        contracted = {
            (i, operand.slot, operand.axis)
            for i, fact in self.found.facts
            if isinstance(fact, Contract)
            for operand in fact.operands
        }
        floats = [use for use in self.found.uses if self.graph.is_weight(self._tensor(use))]
        others = [use for use in self.found.uses if use not in set(floats)]
        for wanted in (False, True):
            for use in floats:
                for axis, term in enumerate(self.found.uses[use]):
                    if ((*use, axis) in contracted) is wanted:
                        self._name(self._tensor(use), axis, term, self.graph.nodes[use[0]].name)
        for name, terms in self.found.terms.items():
            for axis, term in enumerate(terms):
                self._name(name, axis, term, "")
        for use in others:
            for axis, term in enumerate(self.found.uses[use]):
                self._name(self._tensor(use), axis, term, self.graph.nodes[use[0]].name)
        for i, fact in self.found.facts:  # atoms that only rules mention, such as padding
            for term in terms_of(fact):
                self._name(self.graph.nodes[i].output[0], "in", term, "")

    def _name(self, tensor: str, axis: int | str, term: Term, node: str) -> None:
        leaves = self.solver.leaves(term)
        for k, atom in enumerate(leaves):
            if atom in self.names:
                continue
            base = f"{tensor}:{axis}" + (f"[{k}]" if len(leaves) > 1 else "")
            name, n = base, 1
            while name in self.taken:
                name = f"{base}@{node}" if node and n == 1 else f"{base}#{n}"
                n += 1
            self.taken.add(name)
            self.names[atom] = name

    def _tensor(self, use: Slot) -> str:
        return self.graph.nodes[use[0]].input[use[1]]

    def _dims(self, terms: Iterable[Term]) -> tuple[Dim, ...]:
        return tuple(self._dim(term) for term in terms)

    def _dim(self, term: Term) -> Dim:
        term = self.solver.resolve(term)
        if isinstance(term, Atom):
            return Axis(self.names[term], term.size)
        if id(term) not in self.cache:
            kind = Prod if isinstance(term, Product) else Sum
            self.cache[id(term)] = kind(tuple(self._dim(part) for part in term.parts))
        return self.cache[id(term)]

    def _raw(self, term: Term) -> Dim:
        """A side of an equation as the rule wrote it, so that the certificate does not repeat the solver."""
        if isinstance(term, Atom):
            return self._dim(term)
        kind = Prod if isinstance(term, Product) else Sum
        return kind(tuple(self._raw(part) for part in term.parts))

    def _role(self, i: int, fact: Fact, into: AxisMap) -> None:
        if isinstance(fact, Equal):
            into.equations.append((self._raw(fact.left), self._raw(fact.right), label(self.graph.nodes[i])))
        elif isinstance(fact, Uniform):
            blame = self.found._blame(i, fact.reason)
            into.uniform.append((self._dim(fact.over), blame))
            for axis in atoms(into.uniform[-1][0]):
                into.axes[axis.name].uniform.append(blame)
        elif isinstance(fact, Size):
            entries = tuple((place, self._dim(term), sign) for place, term, sign in fact.entries)
            into.written.append(Written(i, fact.where, entries, fact.fill, fact.instead_of))
        elif isinstance(fact, Contract):
            for axis in atoms(self._dim(fact.over)):
                into.axes[axis.name].contracted_by.append(label(self.graph.nodes[i]))
            for operand in fact.operands:
                if (i, operand.slot) in self.found.uses:
                    around = self._dims((operand.before, operand.over, operand.after))
                    into.scaled.append(Scaled((i, operand.slot), operand.axis, *around))
                    break

    def _carriers(self, into: AxisMap) -> None:
        for name, dims in into.dims.items():
            for axis in {axis.name: None for dim in dims for axis in atoms(dim)}:
                into.axes[axis].tensors.append(name)
        for use, dims in into.uses.items():
            tensor = self._tensor(use)
            for axis in {axis.name: None for dim in dims for axis in atoms(dim)}:
                carried = into.axes[axis].initializers
                if self.graph.is_weight(tensor) and (not carried or carried[-1] != tensor):
                    carried.append(tensor)


def _pin_what_differs(first: AxisMap, second: AxisMap | None) -> None:
    """Pins the axes that come out differently at another size of the dynamic dimensions."""
    blame = Blame("", "it depends on the size of a dynamic dimension")
    partner: dict[str, str] = {}
    bad: set[str] = set()

    def compare(a: Dim, b: Dim) -> None:
        if isinstance(a, Axis) and isinstance(b, Axis):
            same = partner.setdefault(a.name, b.name) == b.name and partner_back.setdefault(b.name, a.name) == a.name
            fixed = first.axes[a.name].pins and other.axes[b.name].pins
            free = not first.axes[a.name].pins and not other.axes[b.name].pins
            if not (same and (fixed or (free and a.size == b.size))):
                bad.add(a.name)
        elif type(a) is type(b) and not isinstance(a, Axis) and not isinstance(b, Axis) and len(a.parts) == len(b.parts):
            for left, right in zip(a.parts, b.parts, strict=True):
                compare(left, right)
        else:
            bad.update(axis.name for axis in atoms(a))

    partner_back: dict[str, str] = {}
    other = second if second is not None else first
    if second is None:
        bad.update(first.axes)
    for key, dims in _all_dims(first).items():
        others = _all_dims(other).get(key, ())
        if len(dims) != len(others):
            bad.update(axis.name for dim in dims for axis in atoms(dim))
            continue
        for a, b in zip(dims, others, strict=True):
            compare(a, b)
    for name in bad:
        if not first.axes[name].pins:
            first.axes[name].pins.append(blame)


def _all_dims(found: AxisMap) -> Mapping[str | Slot, tuple[Dim, ...]]:
    return {**found.dims, **found.uses}
