"""Cases of the law, loss: the losses of classifiers under every reduction."""

from __future__ import annotations

from tests.law import Case

MARKS = {"none": ("a", "c", "[a, c]"), "mean": ("!", "!", "[]"), "sum": ("!", "!", "[]")}


def loss(op: str, reduction: str, more: str) -> Case:
    """A loss of 5 classes at 2 x 3 places, weighted."""
    n, d, result = MARKS[reduction]
    shape = "[2,3]" if reduction == "none" else ""
    second, given = ("", "") if op[0] == "N" else (", float[2,5,3] z", ", z")
    also = "" if op[0] == "N" else f" z[{n}, !, {d}]"
    return Case(
        f"{op} {reduction}{more}",
        f"(float[2,5,3] x, int64[2,3] l) => (float{shape} y{second}) <float[5] w>"
        f'{{ y{given} = {op}<reduction="{reduction}"{more}>(x, l, w) }}',
        f"x[{n}, !, {d}] l[{n}, {d}] w[!] -> y{result}{also}",
        low=0.3,
    )


LOSS = [
    loss(op, reduction, more)
    for op in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
    for reduction, more in (("none", ""), ("mean", ""), ("mean", ", ignore_index=2"), ("sum", ""))
]
