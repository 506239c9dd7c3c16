"""Sizes of dynamic dimensions that follow from others: exporters write ``past + tokens`` for the length of a mask."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations

OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
LONGEST = 200
"""Characters of a symbol that is read as an expression."""


def completed(keys: Iterable[str], sizes: Mapping[str, int]) -> dict[str, int]:
    """``sizes``, and those of the keys that are expressions of symbols among them, unless they are given."""
    found = {key: compute(key, sizes) for key in keys if key not in sizes}
    return {**sizes, **{key: size for key, size in found.items() if size is not None}}


def compute(key: str, sizes: Mapping[str, int]) -> int | None:
    """What an expression of symbols comes to; None if it is none, or if that is no size."""
    if len(key) > LONGEST:
        return None
    try:
        body = ast.parse(key.strip(), mode="eval").body
        size = None if isinstance(body, ast.Name) else _value(body, sizes)
    except (SyntaxError, ValueError, KeyError, ZeroDivisionError, RecursionError, MemoryError):
        return None
    return size if size is not None and size >= 0 else None


FEW = 5
"""Dynamic dimensions up to which sums are tried."""


def sums(keys: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Each dimension as the sum of two others: a mask may count what is cached and what is new by its own name."""
    for whole in keys if len(keys) <= FEW else ():
        for a, b in combinations([key for key in keys if key != whole], 2):
            yield whole, a, b


def _value(body: ast.expr, sizes: Mapping[str, int]) -> int:
    match body:
        case ast.Name(id=name):
            return sizes[name]
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            return number
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_value(left, sizes), _value(right, sizes))
    raise KeyError(ast.dump(body))
