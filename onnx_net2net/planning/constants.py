"""What becomes of constants: a version for each way in which they are needed, and the nodes that help them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from onnx_net2net.algebra.axes import Axis, Dim, Maps, atoms, index, size, substitute, touches
from onnx_net2net.errors import RequestError
from onnx_net2net.inference.axis_map import AxisMap, Filling, Head, Slot, Tied
from onnx_net2net.planning.names import Names
from onnx_net2net.planning.plan import AxisPlan, ConstantPlan, FillPlan, Insertion, SplitPlan

Version = tuple[tuple[Dim, ...], tuple[SplitPlan, ...], tuple[FillPlan, ...], float]
"""What distinguishes the versions of one constant: its terms, how it is split, its filler, and a factor."""


class Constants:
    """Groups the uses of constants by what they need, so that what was shared stays shared."""

    def __init__(self, found: AxisMap, maps: Maps, filled: Sequence[AxisPlan] = ()) -> None:
        self.found = found
        self.graph = found.graph
        self.maps = maps
        self.elsewhere = frozenset(found.graph.outputs).union(*found.graph.captured)
        self.fills: dict[Slot, list[FillPlan]] = {}
        self.factors: dict[Slot, float] = {}
        for axis, filling in fillings(found, filled):
            for use, (place, content) in filling.fills.items():
                self.fills.setdefault(use, []).append(FillPlan(place, axis.name, content))
            for use, power in filling.scales.items():
                self.factors[use] = self.factors.get(use, 1.0) * axis.eta**power
        self.scaled: dict[Slot, list[SplitPlan]] = {}
        self.filler = {axis.name: axis.filler for axis in filled}
        self.kept = [tied for tied in found.tied if not tied.refusal]
        heads = {(head.use, head.over) for tied in self.kept for head in tied.heads}
        for s in found.scaled:
            if touches(s.over, maps) and (s.use, s.over) not in heads:
                zero = self.graph.tensor(s.zero) if s.zero is not None else ""
                before, over, after = (self._plain(dim) for dim in (s.before, s.over, s.after))
                ahead, behind = self._plain(s.ahead), self._plain(s.behind)
                part = SplitPlan(s.axis, before, over, after, zero, s.channel if zero else 0, ahead, behind)
                self.scaled.setdefault(s.use, []).append(part)

    def plan(self) -> tuple[tuple[ConstantPlan, ...], list[str]]:
        """A plan for each version of each constant that changes, and the constants that were cloned.

        Raises:
            RequestError: If one that was to stay one tensor cannot.
        """
        tied = {use for item in self.kept for use in item.uses}
        groups: dict[str, dict[Version | None, list[Slot]]] = {}
        for use, dims in self.found.uses.items():
            plain = tuple(self._plain(dim) for dim in dims)
            fills, factor = tuple(self.fills.get(use, ())), self.factors.get(use, 1.0)
            key = (plain, tuple(self.scaled.get(use, ())), fills, factor)
            changed = any(touches(dim, self.maps) for dim in plain) or key[1] or factor != 1
            if use in tied:
                continue
            tensor = self.graph.tensor(use)
            groups.setdefault(tensor, {}).setdefault(key if changed else None, []).append(use)
        plans, cloned = [], []
        names = Names(self.graph)
        for tensor, versions in groups.items():
            kept = None in versions or not self._only_slots(tensor)
            changed_keys = [key for key in versions if key is not None]
            if len(changed_keys) + kept > 1 and self._is_shared_weight(tensor):
                cloned.append(tensor)
            for n, key in enumerate(changed_keys):
                name = tensor if n == 0 and not kept else names.new(f"{tensor}_wide")
                plans.append(ConstantPlan(tensor, name, tuple(versions[key]), *key))
        for item in self.found.tied:
            if item.refusal and (item.name in cloned or any(plan.source in item.moved for plan in plans)):
                raise _cannot_stay(item, item.refusal)
        return (*plans, *(plan for item in self.kept if (plan := self._shared(item)))), cloned

    def _shared(self, tied: Tied) -> ConstantPlan | None:
        """The plan of a tied weight that stays one tensor, or None if it does not change.

        Raises:
            RequestError: If its uses need different values.
        """
        filled = {fill for use in tied.uses for fill in self._filled(tied, use)}
        versions = dict.fromkeys(self._turned(tied, use, filled) for use in tied.uses)
        if len(versions) > 1:
            raise _cannot_stay(tied, "what reads it needs different values")
        (key,) = versions
        direct = tuple(use for use in tied.uses if self.graph.tensor(use) == tied.name)
        changed = any(touches(dim, self.maps) for dim in key[0]) or key[1] or key[3] != 1
        return ConstantPlan(tied.name, tied.name, direct, *key) if changed else None

    def _turned(self, tied: Tied, use: Slot, filled: set[FillPlan]) -> Version:
        """What a use needs of a tied weight, along the weight's own dimensions; a head takes any filler."""
        order = tied.uses[use]
        dims = [self._plain(dim) for dim in self.found.uses[use]]
        turned = tuple(dims[order.index(k)] for k in range(len(order)))
        splits = tuple(replace(part, axis=order[part.axis % len(order)]) for part in self.scaled.get(use, ()))
        free = {order[head.axis % len(order)] for head in tied.heads if head.use == use}
        fills = {*self._filled(tied, use), *(fill for fill in filled if fill.axis in free)}
        return turned, splits, tuple(sorted(fills, key=lambda fill: (fill.axis, fill.over))), self._factor(tied, use)

    def _filled(self, tied: Tied, use: Slot) -> list[FillPlan]:
        """The filler that a use needs, along the weight's own dimensions."""
        return [replace(fill, axis=tied.uses[use][fill.axis]) for fill in self.fills.get(use, ())]

    def _factor(self, tied: Tied, use: Slot) -> float:
        """What all of a tied weight is multiplied by; the operands of its heads take on what these need beyond it."""
        heads = {head.use for head in tied.heads}
        others = (other for other in tied.uses if other not in heads)
        return self.factors.get(next(others, use) if use in heads else use, 1.0)

    def scales(self) -> Iterator[tuple[Tied, Head, float]]:
        """The heads whose operands take a factor, in place of the weight, and this factor."""
        copied = {name: chosen[: len(chosen) - self.filler.get(name, 0)] for name, chosen in self.maps.items()}
        for tied in self.kept:
            for use in dict.fromkeys(head.use for head in tied.heads):
                mine = [head for head in tied.heads if head.use == use and touches(head.over, self.maps)]
                copies = math.prod(len(index(head.over, copied)) // size(head.over) for head in mine)
                factor = self.factors.get(use, 1.0) / self._factor(tied, use) / copies
                if mine:
                    yield tied, mine[0], factor

    def _plain(self, dim: Dim) -> Dim:
        """A term in which all that stays is one nameless axis, so that equal changes compare equal."""
        return substitute(dim, lambda axis: axis if axis.name in self.maps else Axis("", axis.size))

    def _only_slots(self, tensor: str) -> bool:
        """Whether nothing but computing nodes reads the tensor: no constant node, subgraph or output."""
        readers = self.graph.consumers.get(tensor, [])
        return tensor not in self.elsewhere and all(use in self.found.uses for use in readers)

    def _is_shared_weight(self, tensor: str) -> bool:
        shape = self.graph.shape(tensor) or ()
        return self.graph.is_weight(tensor) and sum(n > 1 for n in shape) > 1


def insertions(found: AxisMap, constants: Constants, filled: Sequence[AxisPlan], names: Names) -> list[Insertion]:
    """The nodes that write means into filler, and those that scale what tied weights are multiplied with."""
    graph = found.graph
    made = []
    for axis, filling in fillings(found, filled):
        for tensor, power in filling.makers.items():
            bases = (f"{tensor}_averaged", f"{tensor}_averaging", f"{tensor}_unaveraged")
            made.append(
                Insertion(
                    "mean",
                    tensor,
                    graph.dtype(tensor),
                    _new(names, bases),
                    axis.name,
                    axis.eta**power,
                    macs=_macs(found, tensor, axis),
                )
            )
    shared: dict[tuple[str, float], list[Slot]] = {}
    for _, head, factor in constants.scales():
        if factor != 1:
            shared.setdefault((graph.tensor(head.operand), factor), []).append(head.operand)
    for (tensor, factor), uses in shared.items():
        bases = (f"{tensor}_scaling", f"{tensor}_factor", f"{tensor}_scaled")
        made.append(Insertion("scale", tensor, graph.dtype(tensor), _new(names, bases), value=factor, uses=tuple(uses)))
    return made


def _macs(found: AxisMap, tensor: str, axis: AxisPlan) -> int:
    """What it costs to multiply each row of a tensor by a square matrix."""
    outer = (size(dim) for dim in found.dims[tensor][:-1] if not any(found.axes[a.name].dynamic for a in atoms(dim)))
    return math.prod(outer) * axis.new**2


def _new(names: Names, bases: tuple[str, str, str]) -> tuple[str, str, str]:
    first, second, third = map(names.new, bases)
    return first, second, third


def _cannot_stay(tied: Tied, why: str) -> RequestError:
    return RequestError(f"it cannot stay one tensor: {why}", "use --tied clone", op="weight", tensor=tied.name)


def fillings(found: AxisMap, filled: Iterable[AxisPlan]) -> Iterator[tuple[AxisPlan, Filling]]:
    """How each axis that has filler is filled."""
    for axis in filled:
        filling = found.axes[axis.name].filling
        if filling is not None:
            yield axis, filling
