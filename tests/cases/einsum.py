"""Cases of the law, einsum: equations of one to three operands."""

from __future__ import annotations

from tests.law import Case


def case(name: str, equation: str, graph: str, expect: str) -> Case:
    """A node with operands x, then z or weights in the order of their names."""
    inputs = [n for n in ("x", "z", "v", "w") if f" {n}" in graph.partition("=>")[0] + graph.partition("<")[2]]
    node = f'{{ y = Einsum<equation="{equation}">({", ".join(inputs)}) }}'
    return Case(f"Einsum {name}", f"{graph} {node}", expect, 12)


EINSUM = [
    case(
        "of a matrix",
        "bsi,io->bso",
        "(float[2,5,3] x) => (float[2,5,4] y) <float[3,4] w>",
        "x[a, b, c] w[c, d] -> y[a, b, d]",
    ),
    case(
        "into heads",
        "bsi, ihd -> bhsd",
        "(float[2,5,3] x) => (float[2,4,5,6] y) <float[3,4,6] w>",
        "x[a, b, c] w[c, d, e] -> y[a, d, b, e]",
    ),
    case(
        "out of heads",
        "bhsd,hdo->bso",
        "(float[2,4,5,6] x) => (float[2,5,3] y) <float[4,6,3] w>",
        "x[a, b, c, d] w[b, d, e] -> y[a, c, e]",
    ),
    case(
        "of two activations",
        "bqhd,bkhd->bhqk",
        "(float[2,5,4,3] x, float[2,6,4,3] z) => (float[2,4,5,6] y)",
        "x[a, b, c, !] z[a, e, c, !] -> y[a, c, b, e]",
    ),
    case(
        "of three",
        "bi,ij,jo->bo",
        "(float[2,3] x) => (float[2,5] y) <float[3,4] v, float[4,5] w>",
        "x[a, b] v[b, c] w[c, d] -> y[a, d]",
    ),
    case(
        "with a sum over one operand",
        "bik,io->bo",
        "(float[2,3,4] x) => (float[2,5] y) <float[3,5] w>",
        "x[a, b, !] w[b, d] -> y[a, d]",
    ),
    case(
        "with an ellipsis",
        "...i,...io->...o",
        "(float[2,5,3] x) => (float[2,5,4] y) <float[2,5,3,4] v>",
        "x[a, b, c] v[a, b, c, d] -> y[a, b, d]",
    ),
    case(
        "with an ellipsis over leading axes",
        "...i,io->...o",
        "(float[2,5,3] x) => (float[2,5,4] y) <float[3,4] w>",
        "x[a, b, c] w[c, d] -> y[a, b, d]",
    ),
    case("that transposes", "ba", "(float[2,3] x) => (float[3,2] y)", "x[a, b] -> y[b, a]"),
    case(
        "without an output",
        "bi,io",
        "(float[2,3] x) => (float[2,4] y) <float[3,4] w>",
        "x[a, b] w[b, c] -> y[a, c]",
    ),
    case("of a diagonal", "bii->bi", "(float[2,3,3] x) => (float[2,3] y)", "x[!, !, !] -> y[!, !]"),
]
