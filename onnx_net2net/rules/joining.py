"""Operators that join, cut, pad or repeat along an axis."""

from onnx_net2net.algebra.facts import Equal, Fact, Node, Pin, Size, normal_axis
from onnx_net2net.algebra.unify import EMPTY, Term, concatenation, fresh, product
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import rule
from onnx_net2net.rules.elementwise import broadcast


def others(x: tuple[Term, ...], y: tuple[Term, ...], axes: set[int]) -> list[Fact]:
    """Equates all dimensions of ``x`` and ``y`` but ``axes``."""
    return [Equal(a, b) for i, (a, b) in enumerate(zip(x, y, strict=True)) if i not in axes]


@rule("Concat", since=4, notation="X_i[..., c_i, ...] -> Y[..., c_1 + .. + c_k, ...]")
def concat(node: Node) -> list[Fact]:
    y = node.y()
    axis = node.axis("axis", 1, len(y))
    given = [terms for terms in node.inputs if terms is not None]
    facts: list[Fact] = [Equal(concatenation(*(terms[axis] for terms in given)), y[axis])]
    return facts + [fact for terms in given for fact in others(terms, y, {axis})]


@rule("Expand", since=8, notation="X[bcast ...] shape -> Y[...]  size ... @ shape")
def expand(node: Node) -> list[Fact]:
    y = node.y()
    sizes = node.ints(1, "shape")
    first = len(y) - len(sizes)
    entries = tuple((i, y[first + i], 1) for i, size in enumerate(sizes) if size != 1)
    return [*broadcast(node.x(0), y), Size(1, entries)]


@rule("Pad", since=2, notation="X[..., c, ...] -> Y[..., before + c + after, ...]  size before, after @ pads")
def pad(node: Node) -> list[Fact]:
    x, y = node.x(0), node.y()
    where: str | int = 1 if node.has(1) else "pads"
    pads = node.ints(1, "pads") if node.has(1) else list(node.attr("pads"))
    axes = [normal_axis(a, len(x)) for a in node.ints(3, "axes")] if node.has(3) else list(range(len(x)))
    facts = others(x, y, set(axes))
    for i, axis in enumerate(axes):
        before, after = pads[i], pads[i + len(axes)]
        if before == after == 0:
            facts.append(Equal(x[axis], y[axis]))
        elif min(before, after) < 0 or node.attr("mode", b"constant") != b"constant":
            facts += [Pin(d, "its padding depends on position") for d in (x[axis], y[axis])]
        else:
            low, high = fresh(before), fresh(after)
            facts.append(Equal(concatenation(low, x[axis], high), y[axis]))
            facts.append(Size(where, ((i, low, 1), (i + len(axes), high, 1))))
    return facts


@rule("Slice", since=10, notation="X[..., before + c + after, ...] -> Y[..., c, ...]  size @ starts, ends")
def slice_input(node: Node) -> list[Fact]:
    starts, ends = node.ints(1, "starts"), node.ints(2, "ends")
    axes = node.ints(3, "axes") if node.has(3) else list(range(len(starts)))
    steps = node.ints(4, "steps") if node.has(4) else [1] * len(starts)
    return _slice(node, starts, ends, axes, steps, (1, 2))


@rule("Slice", notation="X[..., before + c + after, ...] -> Y[..., c, ...]  size @ starts, ends")
def slice_attribute(node: Node) -> list[Fact]:
    starts, ends = list(node.attr("starts")), list(node.attr("ends"))
    axes = list(node.attr("axes", range(len(starts))))
    return _slice(node, starts, ends, axes, [1] * len(starts), ("starts", "ends"))


def _slice(
    node: Node,
    starts: list[int],
    ends: list[int],
    axes: list[int],
    steps: list[int],
    where: tuple[str | int, str | int],
) -> list[Fact]:
    x, y = node.x(0), node.y()
    axes = [normal_axis(axis, len(x)) for axis in axes]
    facts = others(x, y, set(axes))
    for i, (start, end, axis, step) in enumerate(zip(starts, ends, axes, steps, strict=True)):
        n = x[axis].size
        low, high, _ = slice(start, end, step).indices(n)
        if step != 1 or not low < high:
            facts += _strided((x[axis], y[axis]), start, end, step, i, where)
            continue
        before, after = fresh(low), fresh(n - high)
        facts.append(Equal(concatenation(before, y[axis], after), x[axis]))
        facts += _bound(where[0], i, start, before, concatenation(y[axis], after))
        facts += _bound(where[1], i, end, concatenation(before, y[axis]), after)
    return facts


def _strided(
    dims: tuple[Term, Term], start: int, end: int, step: int, place: int, where: tuple[str | int, str | int]
) -> list[Fact]:
    """Every k-th position, all the way: one of the k units in each block that the step goes over."""
    x, y = dims
    low = slice(start, end, step).indices(x.size)[0]
    if step < 2 or x.size != step * y.size or low >= step or (start < 0 and low):
        return [Pin(d, "it takes single positions") for d in dims]
    offset = fresh(step)
    facts: list[Fact] = [Equal(product(y, offset), x), Pin(offset, "it takes one position in each block")]
    facts += _bound(where[0], place, start, EMPTY, x) if start < 0 else []
    if 0 <= end < 2**31 - 1:  # the size is as good an end; one counted from the end can stay
        facts.append(Size(where[1], ((place, x, 1),)))
    return facts


def _bound(where: str | int, place: int, bound: int, up_to: Term, from_there: Term) -> list[Fact]:
    """A bound follows what lies before it, or counted from the end what lies behind; clamped ones too."""
    total = up_to.size + from_there.size
    if bound >= 0:
        return [Size(where, ((place, up_to, 1),))] if up_to.size and bound < 2**31 - 1 else []
    if bound < -total:
        return [Size(where, ((place, concatenation(up_to, from_there), -1),))]
    return [Size(where, ((place, from_there, -1),))]


@rule("Split", since=13, notation="X[..., c_1 + .. + c_k, ...] -> Y_i[..., c_i, ...]  size c_i @ split")
def split_input(node: Node) -> list[Fact]:
    if node.has(1):
        node.ints(1, "split")
    return _split(node, 1, given=node.has(1))


@rule("Split", since=2, notation="X[..., c_1 + .. + c_k, ...] -> Y_i[..., c_i, ...]  size c_i @ split")
def split_attribute(node: Node) -> list[Fact]:
    return _split(node, "split", given="split" in node.attributes)


def _split(node: Node, where: str | int, *, given: bool) -> list[Fact]:
    x = node.x(0)
    axis = node.axis("axis", 0, len(x))
    if any(terms is None for terms in node.outputs):
        raise Declined("an output in the middle is left out")
    parts = [node.y(i) for i in range(len(node.outputs))]
    entries = tuple((i, terms[axis], 1) for i, terms in enumerate(parts))
    fill = () if given else tuple(terms[axis].size for terms in parts)
    instead = "num_outputs" if "num_outputs" in node.attributes else ""
    facts: list[Fact] = [
        Equal(concatenation(*(terms[axis] for terms in parts)), x[axis]),
        Size(where, entries, fill, instead),
    ]
    return facts + [fact for terms in parts for fact in others(x, terms, {axis})]


@rule("Tile", since=6, notation="X[c_i, ...] repeats -> Y[!r_i*c_i, ...]")
def tile(node: Node) -> list[Fact]:
    facts: list[Fact] = []
    for times, a, b in zip(node.ints(1, "repeats"), node.x(0), node.y(), strict=True):
        repeat = fresh(times)
        facts += [Equal(product(repeat, a), b), Pin(repeat, "it repeats")]
    return facts
