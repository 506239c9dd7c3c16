"""The table of rules, and the registrars that fill it.

A rule is found by (domain, operator type, newest version not above the model's opset).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from onnx_net2net.algebra.facts import Fact, Node, Pin, terms_of
from onnx_net2net.algebra.filler import Form, linear_in
from onnx_net2net.algebra.spec import parse
from onnx_net2net.algebra.unify import Atom

Apply = Callable[[Node], list[Fact]]
Test = Callable[[Node], bool]
Passes = Callable[[Mapping[str, Any], int, int], int]
Follow = Literal["", "each", "fills", "folds", "moves", "product"]
Cost = Callable[[list[tuple[int, ...]], list[tuple[int, ...]]], int]
Vanishes = Callable[[Node], list[tuple[int, ...]]]
Shapes = Callable[[Node], Form | None]
Linear = Callable[[Node], list[tuple[int, ...]]]
Sizes = Callable[[Node], list[tuple[int, tuple[int, ...]]]]


def nowhere(node: Node) -> list[tuple[int, ...]]:
    """The answer of an operator that zeros do not make zero, or that is not linear."""
    return []


def unshaped(node: Node) -> list[tuple[int, tuple[int, ...]]]:
    """The answer of an operator whose shapes others tell."""
    return []


def shapeless(node: Node) -> None:
    """The answer of an operator that is no sum of products of powers of its inputs."""


@dataclass(frozen=True, slots=True)
class StandIn:
    """A standard operator whose output has the shape and type of another operator's.

    Attributes:
        op: The standard operator.
        slots: The input slots of the other operator to give it.
        attributes: Attributes to set, beside those that both have.
        needed: How many of the slots have to be given.
        unless: An attribute of the other operator that changes the shape.
        outputs: How many of the outputs it has.
        alike: Further outputs, of the shape and type of the first.
    """

    op: str
    slots: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    needed: int = 1
    unless: str = ""
    outputs: int = 1
    alike: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Index:
    """The numbers that have a meaning in an input: ``size`` of them, from ``first`` on.

    Attributes:
        slot: The input.
        size: How many there are, such as the size of the axis along which it holds positions.
        first: The smallest; 1 for lengths.
    """

    slot: int
    size: int
    first: int = 0


Indices = Callable[[Node], list[Index]]


def no_index(node: Node) -> list[Index]:
    """The answer of an operator that any number suits."""
    return []


@dataclass(frozen=True, slots=True)
class Rule:
    """How axes run through one operator.

    Attributes:
        op: Operator type.
        domain: Operator domain; empty for ``ai.onnx``.
        since: First opset for which the rule holds.
        notation: The rule as people read it.
        apply: States the facts of a node; raises `Declined` where it has no answer.
        idempotent: Whether a node f of this operator satisfies f(f(x)) = f(x), so that an identity layer
            and the same activation can follow it.
        follow: How the elements of its output come from those of its inputs, so that sizes can be followed
            through arithmetic on shapes: ``fills`` (they are all alike), ``moves`` (they are elements of the
            inputs in ``data``), ``product`` (products of elements), ``folds`` (one
            product of all elements), ``each`` (computed of the
            elements at their place), or unknown.
        data: Input slots that hold what moves; empty for all.
        passes: For an operator through which a factor along an axis of the output can be moved to input 0:
            from (attributes, axis, rank) to the axis of the input.
        stored: Whether a constant input 0 should stay as it is stored, rather than as what is made of it.
        zero: Input slot of a zero point, for operators that pass factors on.
        stand_in: For an operator that ONNX does not know: a standard one of the same shape and type.
        shapes: For a node, the shapes of its first outputs, each behind the input slot that has its type, for operators
            that neither ONNX nor a stand-in knows.
        unread: Input slots of which only shape and type are read, not the value.
        activation: Whether networks use the operator as a nonlinearity: ``whole`` by itself, ``part`` only inside a
            function that is written out in several nodes.
        elementwise: Whether each element of the output depends on the same element of the inputs alone.
        sums: Whether the output is the sum of the inputs.
        adds: Input slots that it adds before it does something else with the sum.
        keeps: Whether the first output has the elements of input 0, but for their type.
        linear: For a node, sets of input slots in which its outputs are linear: a factor on all slots of a set that
            varies along an axis which they carry to an output is a factor on that output; by default as the form says.
        cost: From the shapes of inputs and outputs to the multiply-accumulates of a node, for operators that have some.
        vanishes: For a node, sets of input slots, the one to prefer first: with zeros in all slots of a set, and
            finite numbers in the others, the first output is zero.
        form: For a node, what sum of products of powers of its inputs every output is, up to constant factors;
            operators that only move, add up or repeat elements are a sum of one.
        indexes: For a node, the inputs that hold positions, classes or lengths, and their range.
    """

    op: str
    domain: str
    since: int
    notation: str
    apply: Apply
    idempotent: Test
    follow: Follow = ""
    data: tuple[int, ...] = ()
    unread: tuple[int, ...] = ()
    passes: Passes | None = None
    stored: bool = False
    zero: int | None = None
    stand_in: StandIn | None = None
    shapes: Sizes = unshaped
    activation: Literal["", "whole", "part"] = ""
    elementwise: bool = False
    sums: bool = False
    adds: tuple[int, ...] = ()
    keeps: bool = False
    vanishes: Vanishes = nowhere
    form: Shapes = shapeless
    linear: Linear | None = None
    cost: Cost | None = None
    indexes: Indices = no_index

    def factors(self, node: Node) -> list[tuple[int, ...]]:
        """Sets of input slots in which a node is linear."""
        return self.linear(node) if self.linear is not None else linear_in(self.form(node))


_RULES: dict[tuple[str, str], list[Rule]] = {}


def never(node: Node) -> bool:
    """The test of an operator that is not idempotent."""
    return False


def always(node: Node) -> bool:
    """The test of an operator that is idempotent whatever its attributes."""
    return True


def register(
    op: str, apply: Apply, notation: str, *, since: int = 1, domain: str = "", idempotent: Test = never
) -> None:
    """Adds a rule."""
    rules = _RULES.setdefault((domain, op), [])
    if any(rule.since == since for rule in rules):
        raise ValueError(f"two rules for {op} since {since}")
    rules.append(Rule(op, domain, since, notation, apply, idempotent))
    rules.sort(key=lambda rule: -rule.since)


def line(op: str, notation: str, *, since: int = 1, domain: str = "") -> None:
    """Adds a rule that one line of the notation says in full."""
    register(op, parse(notation).facts, notation, since=since, domain=domain)


def rule(
    *ops: str, notation: str, since: int = 1, domain: str = "", idempotent: Test = never
) -> Callable[[Apply], Apply]:
    """Adds a function as the rule of ``ops``."""

    def decorate(apply: Apply) -> Apply:
        for op in ops:
            register(op, apply, notation, since=since, domain=domain, idempotent=idempotent)
        return apply

    return decorate


def follows(how: Follow, *ops: str, data: tuple[int, ...] = (), unread: tuple[int, ...] = ()) -> None:
    """States of operators that have a rule how their elements come from those of their inputs."""
    for op in ops:
        rules = _RULES["", op]
        rules[:] = [replace(rule, follow=how, data=data, unread=unread) for rule in rules]


def passes(op: str, axis: Passes, *, stored: bool = False, zero: int | None = None) -> None:
    """States of an operator that has a rule how a factor passes through it."""
    rules = _RULES["", op]
    rules[:] = [replace(rule, passes=axis, stored=stored, zero=zero) for rule in rules]


def stands_for(op: str, domain: str, standard: str, slots: tuple[int, ...], **more: Any) -> None:
    """States of an operator that has a rule which standard operator has the same result shape and type."""
    rules = _RULES[domain, op]
    rules[:] = [replace(rule, stand_in=StandIn(standard, slots, **more)) for rule in rules]


def states(*ops: str, domain: str = "", **properties: Any) -> None:
    """States further properties of operators that have a rule."""
    for op in ops:
        rules = _RULES[domain, op]
        rules[:] = [replace(rule, **properties) for rule in rules]


def find(op: str, domain: str, opset: int) -> Rule | None:
    """The rule for an operator in a model that imports ``opset``, or None."""
    domain = "" if domain == "ai.onnx" else domain
    return next((r for r in _RULES.get((domain, op), ()) if r.since <= opset), None)


def facts_of(rule: Rule, node: Node) -> list[Fact]:
    """What a rule states of a node; a dimension that it does not speak of is pinned.

    Raises:
        Declined: If the rule has no answer for this node.
    """
    facts = rule.apply(node)
    mentioned = {term for fact in facts for term in terms_of(fact)}
    pending = [term for term in mentioned if not isinstance(term, Atom)]
    while pending:
        parts = pending.pop().parts
        mentioned.update(parts)
        pending += [part for part in parts if not isinstance(part, Atom)]
    silent = [term for term in node.terms if term.size > 1 and term not in mentioned]
    return facts + [Pin(term, "its rule does not speak of this dimension") for term in silent]


def all_rules() -> list[Rule]:
    """Every rule, by domain, operator and version."""
    return sorted((r for rules in _RULES.values() for r in rules), key=lambda r: (r.domain, r.op, r.since))
