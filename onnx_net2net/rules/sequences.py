"""Operators that make sequences of tensors, and those that read them."""

from onnx_net2net.algebra.facts import Equal, Fact, Node, Pin, Size, Terms, Unread, normal_axis
from onnx_net2net.algebra.unify import concatenation
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import rule
from onnx_net2net.rules.joining import others


@rule("ConcatFromSequence", since=11, notation="S of X_i[..., c_i, ...] -> Y[..., c_1 + .. + c_k, ...]")
def concat_from_sequence(node: Node) -> list[Fact]:
    y = node.y()
    axis = node.axis("axis", 0, len(y))
    if node.attr("new_axis", 0):
        kept = (*y[:axis], *y[axis + 1 :])
        facts: list[Fact] = [Equal(a, b) for terms in _members(node) for a, b in zip(terms, kept, strict=True)]
        return [*facts, Pin(y[axis], "it counts the tensors of a sequence")]
    facts = [Equal(concatenation(*(terms[axis] for terms in _members(node))), y[axis])]
    return facts + [fact for terms in _members(node) for fact in others(terms, y, {axis})]


@rule("SequenceAt", since=11, notation="S of X_i[c...], position i -> X_i[c...]")
def sequence_at(node: Node) -> list[Fact]:
    members = _members(node)
    chosen = members[normal_axis(node.ints(1, "position")[0], len(members))]
    rest: list[Fact] = [Unread(term) for terms in members for term in terms]
    return [*(Equal(a, b) for a, b in zip(chosen, node.y(), strict=True)), *rest]


@rule("SequenceConstruct", since=11, notation="X_i[c...] -> S of X_i[c...]")
def sequence_construct(node: Node) -> list[Fact]:
    pairs = zip((node.x(i) for i in range(len(node.inputs))), _made(node), strict=True)
    return [Equal(a, b) for x, terms in pairs for a, b in zip(x, terms, strict=True)]


@rule("SequenceLength", since=11, notation="S of X_i[c...] -> the number of tensors")
def sequence_length(node: Node) -> list[Fact]:
    return [Unread(term) for terms in _members(node) for term in terms]


@rule(
    "SplitToSequence", since=11, notation="X[..., c_1 + .. + c_k, ...] split -> S of Y_i[..., c_i, ...]  size c @ split"
)
def split_to_sequence(node: Node) -> list[Fact]:
    x, parts = node.x(0), _made(node)
    axis = node.axis("axis", 0, len(x))
    if not node.has(1):
        kept = (*x[:axis], *x[axis + 1 :])
        if node.attr("keepdims", 1):
            parts = tuple((*terms[:axis], *terms[axis + 1 :]) for terms in parts)
        single: list[Fact] = [Equal(a, b) for terms in parts for a, b in zip(kept, terms, strict=True)]
        return [*single, Pin(x[axis], "it takes single positions")]
    if 1 not in node.constants:
        raise Declined("its sizes are computed while the model runs")
    entries = tuple((i, terms[axis], 1) for i, terms in enumerate(parts))
    scalar = len(node.ints(1, "split")) != len(parts) or len(node.x(1)) == 0
    fill = tuple(terms[axis].size for terms in parts) if scalar else ()
    facts: list[Fact] = [Equal(concatenation(*(terms[axis] for terms in parts)), x[axis]), Size(1, entries, fill)]
    return facts + [fact for terms in parts for fact in others(x, terms, {axis})]


def _members(node: Node) -> tuple[Terms, ...]:
    if 0 not in node.taken:
        raise Declined("how many tensors its sequence has is not known")
    return node.taken[0]


def _made(node: Node) -> tuple[Terms, ...]:
    if 0 not in node.made:
        raise Declined("how many tensors its sequence has is not known")
    return node.made[0]
