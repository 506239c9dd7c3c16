"""From what the user asks for to the new size of each axis."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from fnmatch import fnmatchcase
from heapq import heappop, heappush

from onnx_net2net.algebra.axes import Axis, Dim, Prod, atoms
from onnx_net2net.errors import RequestError, UsageError
from onnx_net2net.inference.axis_map import AxisInfo, AxisMap
from onnx_net2net.inference.borders import HINT
from onnx_net2net.inference.groups import MEANINGS, groups
from onnx_net2net.inference.recompute import broken

Width = int | str


def scaled(n: int, factor: float, round_to: int | None = None) -> int:
    """``round(factor * n)``, halves up, at least n, rounded up to a multiple of ``round_to``."""
    exact = (Decimal(str(factor)) * n).quantize(Decimal(1), ROUND_HALF_UP)
    wide = max(int(exact), n)
    return -(-wide // round_to) * round_to if round_to else wide


def width(text: Width, n: int, round_to: int | None = None) -> int:
    """The size that ``512``, ``"x1.5"`` or ``"+64"`` means for an axis of ``n`` units.

    Raises:
        UsageError: If it means nothing.
    """
    shown = str(text).strip()
    if re.fullmatch(r"\d+", shown):
        return int(shown)
    if re.fullmatch(r"\+\d+", shown):
        return n + int(shown)
    if re.fullmatch(r"x\d+(\.\d+)?", shown):
        return scaled(n, float(shown[1:]), round_to) if float(shown[1:]) >= 1 else 0
    raise UsageError(f"{shown!r} is not a size", "write 512, x1.5 or +64")


def sizes(
    found: AxisMap,
    factor: float | None,
    widths: Mapping[str, Width],
    only: Sequence[str],
    skip: Sequence[str],
    round_to: int | None,
) -> tuple[dict[str, int], dict[str, str]]:
    """New sizes by axis, and the reasons why axes that were wanted keep theirs.

    Raises:
        RequestError: If a named axis does not exist, is ambiguous, cannot grow, or should shrink.
    """
    wanted: dict[str, int] = {}
    skipped: dict[str, str] = {}
    if factor is not None:
        for name in _channels(found, only, skip):
            axis = found.axes[name].axis
            wanted[name] = scaled(axis.size, factor, round_to)
    asked = _named(found, widths, round_to)
    if "heads" in widths and not is_name(found, "heads"):
        _keep_shared_heads(found, wanted, asked)
    wanted.update(asked)
    named = set(asked)
    while True:
        _balance(found, wanted, named, skipped)
        claims = broken(found, {name: size for name, size in wanted.items() if size > found.axes[name].axis.size})
        if not claims:
            break
        reason = f"{claims[0].node}: a size that the model computes from it does not follow"
        _drop(found, claims[0].dims, reason, "ask for another size", wanted, named, skipped)
    return {name: size for name, size in wanted.items() if size > found.axes[name].axis.size}, skipped


def _named(found: AxisMap, widths: Mapping[str, Width], round_to: int | None) -> dict[str, int]:
    """The sizes of axes that are asked for by name, one by one or in groups.

    Raises:
        RequestError: If a named axis does not exist, is ambiguous, cannot grow, or should shrink.
        UsageError: If an axis is named twice.
    """
    wanted: dict[str, int] = {}
    for text, size in widths.items():
        for axis, times in _meant(found, text):
            if axis.name in wanted:
                raise UsageError("it is named twice", "give each axis one size", op="axis", tensor=axis.name)
            whole = width(size, axis.size * times, round_to)
            if whole % times:
                wrong = f"{text} needs a multiple of {times} and not {whole}"
                raise RequestError(wrong, "ask for a multiple", op="axis", tensor=axis.name)
            wanted[axis.name] = whole // times
            if wanted[axis.name] < axis.size:
                raise RequestError(
                    f"it has {axis.size * times} units and cannot shrink to {whole}",
                    "ask for at least as many",
                    op="axis",
                    tensor=axis.name,
                )
    return wanted


def _keep_shared_heads(found: AxisMap, wanted: dict[str, int], asked: Mapping[str, int]) -> None:
    """Lets heads of keys be as many as they were, since query heads that share them were counted with them.

    Raises:
        UsageError: If they were asked for too.
    """
    for info in (info for group in groups(found) if group.name == "kv_heads" for info in group.axes):
        if info.axis.name in asked:
            wrong = "it and heads exclude each other, since heads of queries share heads of keys"
            raise UsageError(wrong, "give kv_heads and queries", op="axis", tensor=info.axis.name)
        wanted.pop(info.axis.name, None)


def _meant(found: AxisMap, text: str) -> list[tuple[Axis, int]]:
    """The axes that a name means, each with what its size is multiplied by to get the number that is asked for.

    Raises:
        RequestError: If there is none, or several that are no group, or one is pinned.
    """
    if text not in MEANINGS or is_name(found, text):
        return [(find_axis(found, text), 1)]
    group = next((group for group in groups(found) if group.name == text), None)
    if group is None:
        raise RequestError("the model has no such group of axes", known_groups(found), op="width", tensor=text)
    for info in group.axes:
        if info.status == "pinned":
            raise RequestError(f"{text} cannot grow, {info.reason}", _cure(info), op="axis", tensor=info.axis.name)
    return [(info.axis, group.times.get(info.axis.name, 1)) for info in group.axes]


def _cure(info: AxisInfo) -> str:
    """What to do about an axis that is pinned."""
    borders = dict.fromkeys(blame.border for blame in info.pins)
    if "" in borders:
        return "inspect lists the axes that can"
    if all(blame.reason == HINT for blame in info.pins):
        return "allow it (--allow-io-change), or inspect lists the axes that can"
    named = " ".join(f"--allow-io-change={name}" for name in borders)
    return f"if callers can follow, let these shapes change ({named}), or inspect lists the axes that can"


def is_name(found: AxisMap, text: str) -> bool:
    """Whether something in the model has this name, which then goes before a group's."""
    graph = found.graph
    tensors = {graph.tensor(use) for use in found.uses}
    return text in found.axes or text in found.dims or text in tensors or any(n.name == text for n in graph.nodes)


def known_groups(found: AxisMap) -> str:
    """The groups of a model, as a hint."""
    names = [group.name for group in groups(found)]
    return f"its groups are {', '.join(names)}; inspect lists its axes" if names else "inspect lists the axes"


def find_axis(found: AxisMap, text: str) -> Axis:
    """The axis that NAME or NAME:DIM means: an axis, tensor, initializer or node.

    Raises:
        RequestError: If there is none, or several, or it is pinned.
    """
    if text in found.axes:
        candidates = [found.axes[text].axis]
    else:
        candidates = _by_carrier(found, text)
    free = [axis for axis in candidates if found.axes[axis.name].status != "pinned"]
    if len(free) == 1:
        return free[0]
    if free:
        listed = ", ".join(f"{axis.name} ({axis.size})" for axis in free)
        raise RequestError(f"several axes are meant: {listed}", "name one of them", op="width", tensor=text)
    if candidates:
        info = found.axes[candidates[0].name]
        raise RequestError(f"it cannot grow, {info.reason}", _cure(info), op="axis", tensor=info.axis.name)
    close = difflib.get_close_matches(text, [*found.axes, *found.dims, *(group.name for group in groups(found))], 3)
    hint = f"did you mean {', '.join(close)}?" if close else known_groups(found)
    raise RequestError("no axis, tensor, initializer or node has this name", hint, op="width", tensor=text)


def _by_carrier(found: AxisMap, text: str) -> list[Axis]:
    """The axes of the dimension that a tensor, initializer or node name means."""
    graph = found.graph
    nodes = {node.name: node for node in graph.nodes if node.name}
    same = [node for node in graph.nodes if node.name == text]
    if text and len(same) > 1 and text not in found.dims:
        listed = ", ".join(node.output[0] for node in same)
        raise RequestError(
            f"several nodes have this name, with outputs {listed}", "name one of those", op="width", tensor=text
        )
    name, _, tail = text.rpartition(":")
    dim = int(tail) if name and re.fullmatch(r"-?\d+", tail) else None
    for given, place in ((text, None), (name, dim)):
        base = nodes[given].output[0] if given in nodes and given not in found.dims else given
        used = [use for use in found.uses if base and graph.tensor(use) == base]
        options = [found.dims[base]] if base in found.dims else [found.uses[use] for use in used]
        if not options:
            continue
        if place is not None:
            chosen = [dims[place] for dims in options if -len(dims) <= place < len(dims)]
        elif base in found.dims:
            chosen = [dim for dim in options[0] if _is_channel(found, dim)]
        else:
            chosen = [dim for use in used for dim in _carried(found, use)]
        return list({axis.name: axis for dim in chosen for axis in atoms(dim)}.values())
    return []


def _carried(found: AxisMap, use: tuple[int, int]) -> list[Dim]:
    """The dimensions of a constant over which nothing is contracted."""
    contracted = {scaled.axis for scaled in found.scaled if scaled.use == use and not scaled.carried}
    return [dim for i, dim in enumerate(found.uses[use]) if i not in contracted and _is_channel(found, dim)]


def _is_channel(found: AxisMap, dim: Dim) -> bool:
    """Whether a weight has some axis of the dimension, and not just positions of a kernel."""
    infos = [found.axes[axis.name] for axis in atoms(dim)]
    return any(info.initializers and (info.status != "pinned" or info.tensors) for info in infos)


def _channels(found: AxisMap, only: Sequence[str], skip: Sequence[str]) -> list[str]:
    """The axes that a factor widens: of a product, the outermost one that can grow."""
    able = {
        name
        for name, info in found.axes.items()
        if info.status != "pinned" and info.initializers and _taken(found, name, only, skip)
    }
    terms = {id(dim): dim for dims in (*found.dims.values(), *found.uses.values()) for dim in dims}  # most are shared
    products = [product for dim in terms.values() for product in _products(dim)]
    while True:
        chosen, lost = _choose(products, able)
        if not lost:
            return chosen
        able -= lost  # another factor of the products they were in gets its turn


def _choose(products: Iterable[tuple[Dim, ...]], able: set[str]) -> tuple[list[str], set[str]]:
    """One pass in graph order: what was chosen, and what was chosen but multiplies an earlier choice."""
    chosen: dict[str, int] = {}
    barred: set[str] = set()
    for factors in products:
        groups = [[axis.name for axis in atoms(f) if axis.name in able and axis.name not in barred] for f in factors]
        groups = [group for group in groups if group]
        if groups:
            keep = min(groups, key=lambda group: min(chosen.get(name, len(chosen)) for name in group))
            for name in keep:
                chosen.setdefault(name, len(chosen))
            barred |= {name for group in groups for name in group} - set(keep)
    return list(chosen), barred & chosen.keys()


def _products(dim: Dim) -> Iterable[tuple[Dim, ...]]:
    """The factors of each product in a term; blocks of a concatenation do not exclude each other."""
    if isinstance(dim, Axis):
        yield (dim,)
        return
    if isinstance(dim, Prod):
        yield dim.parts
    for part in dim.parts:
        if not (isinstance(dim, Prod) and isinstance(part, Axis)):
            yield from _products(part)


def _taken(found: AxisMap, name: str, only: Sequence[str], skip: Sequence[str]) -> bool:
    if not only and not skip:
        return True
    info, graph = found.axes[name], found.graph
    nodes = [graph.nodes[graph.producer[t]].name for t in info.tensors if t in graph.producer]
    names = [name, *info.tensors, *info.carried_by, *nodes]

    def matches(globs: Sequence[str]) -> bool:
        return any(fnmatchcase(n, glob) or n == glob for glob in globs for n in names)

    return (not only or matches(only)) and not matches(skip)


def _balance(found: AxisMap, wanted: dict[str, int], named: set[str], skipped: dict[str, str]) -> None:
    """Sees to it that under statistics every unit has equally many copies; drops what cannot.

    Dropping an axis can unbalance other constraints on it, so they get another turn, the first of all first.
    """
    places: dict[str, list[int]] = {}
    for k, statistic in enumerate(found.uniform):
        for axis in atoms(statistic.over):
            places.setdefault(axis.name, []).append(k)
    pending = list(range(len(found.uniform)))
    while pending:
        statistic = found.uniform[heappop(pending)]
        if isinstance(statistic.over, Axis) and found.axes[statistic.over.name].filling is not None:
            continue
        try:
            _multiple(statistic.over, wanted)
        except ValueError as error:
            lost = [found.axes[axis.name].unfilled for axis in atoms(statistic.over) if _grows(found, axis, wanted)]
            reason = f"{statistic.blame}, so {error}" + (f"; {lost[0]}" if lost and lost[0] else "")
            for name in _drop(found, [statistic.over], reason, "ask for a whole multiple", wanted, named, skipped):
                for k in places[name]:
                    heappush(pending, k)


def _drop(
    found: AxisMap,
    dims: Iterable[Dim],
    reason: str,
    cure: str,
    wanted: dict[str, int],
    named: set[str],
    skipped: dict[str, str],
) -> set[str]:
    """Lets the axes of some terms keep their sizes, and says which.

    Raises:
        RequestError: If one of them was asked for by name.
    """
    axes = {axis.name for dim in dims for axis in atoms(dim) if _grows(found, axis, wanted)}
    insisted = sorted(axes & named)
    if insisted:
        wrong = f"it cannot become {wanted[insisted[0]]} wide, {reason}"
        raise RequestError(wrong, cure, op="axis", tensor=insisted[0])
    for name in axes:
        skipped[name] = reason
        del wanted[name]
    return axes


def _grows(found: AxisMap, axis: Axis, wanted: Mapping[str, int]) -> bool:
    return wanted.get(axis.name, axis.size) > axis.size


def _multiple(dim: Dim, wanted: Mapping[str, int]) -> int:
    """How many copies every unit of a term gets.

    Raises:
        ValueError: If that differs between its units.
    """
    if isinstance(dim, Axis):
        size = wanted.get(dim.name, dim.size)
        if size % dim.size:
            raise ValueError(f"{dim.name} ({dim.size}) needs a whole multiple and not {size}")
        return size // dim.size
    multiples = [_multiple(part, wanted) for part in dim.parts]
    if isinstance(dim, Prod):
        return math.prod(multiples)
    if len(set(multiples)) > 1:
        raise ValueError("all parts of the concatenation must grow by the same multiple")
    return multiples[0] if multiples else 1


def pinned_by(found: AxisMap) -> dict[str, int]:
    """How many weight axes each reason pins, most first."""
    counts: dict[str, int] = {}
    for info in found.axes.values():
        if info.pins and info.initializers and not _kernel(info.pins[0].reason):
            text = str(info.pins[0])
            counts[text] = counts.get(text, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _kernel(reason: str) -> bool:
    return reason.startswith("positions")
