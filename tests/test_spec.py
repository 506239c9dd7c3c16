"""The notation: each line that is wrong stands beside one that is right."""

from __future__ import annotations

import pytest

from onnx_net2net import rules
from onnx_net2net.algebra.facts import Contract, Equal, Node, Pin, Size, Uniform
from onnx_net2net.algebra.spec import parse
from onnx_net2net.algebra.unify import fresh
from onnx_net2net.errors import Declined

INVALID = {
    "X[N] Y[N]": ("X[N] -> Y[N]", "no '->'"),
    "X[N] -> Y[M]": ("X[N] -> Y[N]", "only once"),
    "X[N] -> Y[N] contract K @ X": ("X[N, K] W[K] -> Y[N] contract K @ W", "no operand"),
    "X[N] nonsense -> Y[N]": ("X[N] Z[N] -> Y[N]", "mean nothing"),
    "X[N] -> Y[N] sum N": ("X[N] -> Y[N] uniform N", "mean nothing"),
}


@pytest.mark.parametrize("wrong", INVALID)
def test_invalid_lines_beside_valid_ones(wrong: str) -> None:
    right, message = INVALID[wrong]
    assert parse(right)
    with pytest.raises(ValueError, match=message):
        parse(wrong)


def node(*shapes: tuple[int, ...], out: tuple[int, ...] = (), **attributes: int) -> Node:
    return Node("Op", 17, attributes, [tuple(map(fresh, s)) for s in shapes], [tuple(map(fresh, out))])


def test_a_line_states_equations_and_roles() -> None:
    spec = parse("X[N, G*I, !...] W[G*O, I, !...] B[G*O] -> Y[N, G*O, !...]  contract I @ W  size G @ group")
    facts = spec.facts(node((2, 6, 5), (4, 3, 1), out=(2, 4, 5), group=2))
    kinds = [type(fact) for fact in facts]
    assert (kinds.count(Equal), kinds.count(Pin), kinds.count(Contract), kinds.count(Size)) == (6, 3, 1, 1)
    (contract,) = (fact for fact in facts if isinstance(fact, Contract))
    assert contract.over.size == 3
    assert [(o.slot, o.axis) for o in contract.operands] == [(1, 1)]


REFUSED = {
    "a rank too many": (((2, 3, 4),), (2, 3), "rank 3 instead of 2"),
    "sizes that do not fit": (((2, 3),), (2, 4), "should be"),
}


@pytest.mark.parametrize(("shapes", "out", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_shapes_that_do_not_fit_are_declined(shapes, out, why) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Declined, match=why):
        parse("X[N, C] -> Y[N, C]").facts(node(*shapes, out=out))


def test_uniform() -> None:
    assert any(isinstance(f, Uniform) for f in parse("X[N, C] -> Y[N, C] uniform C").facts(node((2, 3), out=(2, 3))))


@pytest.mark.parametrize("rule", rules.all_rules(), ids=lambda r: f"{r.op}-{r.since}")
def test_rules_of_one_line_print_what_they_do(rule: rules.Rule) -> None:
    spec = getattr(rule.apply, "__self__", None)
    assert spec is None or spec == parse(rule.notation)
