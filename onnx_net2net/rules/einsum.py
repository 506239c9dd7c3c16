"""Einsum: its equation is already the notation of a rule."""

import re
from collections.abc import Sequence

from onnx_net2net.algebra.facts import Contract, Equal, Fact, Node, Operand
from onnx_net2net.algebra.unify import Term, fresh
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import rule

_LABEL = re.compile(r"\.\.\.|[A-Za-z]")


@rule("Einsum", since=12, notation="X_i[...] -> Y[...]  (the equation's letters)  contract what Y lacks @ X_k|..|X_1")
def einsum(node: Node) -> list[Fact]:
    operands = [node.x(slot) for slot in range(len(node.inputs))]
    left, right = _sides(bytes(node.attr("equation", b"")).decode())
    if len(left) != len(operands):
        raise Declined("its equation does not fit its inputs")
    rows = [_spread(labels, terms) for labels, terms in zip([*left, right], [*operands, node.y()], strict=True)]
    sizes: dict[str, int] = {}
    for row in rows:
        for name, term in row.items():
            sizes[name] = max(sizes.get(name, 0), term.size)
    axes = {name: fresh(size) for name, size in sizes.items()}
    facts: list[Fact] = [
        Equal(axes[name], term) for row in rows for name, term in row.items() if term.size == sizes[name]
    ]
    for name, axis in axes.items():
        if name not in rows[-1]:
            facts.append(Contract(axis, _carriers(name, axis, rows[:-1])))
    return facts


def _carriers(name: str, axis: Term, rows: Sequence[dict[str, Term]]) -> tuple[Operand, ...]:
    """Where an axis that is summed away stands; the last operand comes first, as it is mostly the weight."""
    places = [
        Operand(slot, list(row).index(name), axis)
        for slot, row in enumerate(rows)
        if name in row and row[name].size == axis.size
    ]
    return tuple(reversed(places))


def _sides(equation: str) -> tuple[list[list[str]], list[str]]:
    """The labels of each input and of the output, which an equation need not name."""
    text = equation.replace(" ", "")
    before, arrow, after = text.partition("->")
    left = [_LABEL.findall(part) for part in before.split(",")]
    right = _LABEL.findall(after)
    if "".join(",".join("".join(labels) for labels in left)) + arrow + "".join(right) != text:
        raise Declined(f"its equation {equation} cannot be read")
    if not arrow:
        letters = [label for labels in left for label in labels]
        once = sorted(label for label in letters if letters.count(label) == 1 and label != "...")
        if "".join(once) not in ("".join(once).lower(), "".join(once).upper()):
            raise Declined("its equation names no output, and the order of small and large letters is not certain")
        right = ["..."] * ("..." in letters) + once
    return left, right


def _spread(labels: list[str], terms: Sequence[Term]) -> dict[str, Term]:
    """Each dimension by its label; dimensions under an ellipsis are numbered from the right."""
    extra = len(terms) - len(labels) + labels.count("...")
    if len(set(labels)) < len(labels):
        raise Declined("it takes a diagonal")
    if extra < 0 or (extra and "..." not in labels):
        raise Declined("its equation does not fit its inputs")
    names: list[str] = []
    for label in labels:
        names += [f"...{extra - i}" for i in range(extra)] if label == "..." else [label]
    return dict(zip(names, terms, strict=True))
