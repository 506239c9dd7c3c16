"""Every rule obeys the law, says what its cases expect, and says nothing that no case needs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest

from onnx_net2net import rules
from onnx_net2net.algebra.facts import Default, Fact, Idempotent, Node, Unread, terms_of
from onnx_net2net.inference.infer import infer
from onnx_net2net.rules import Rule
from tests.cases import CASES
from tests.law import Case, law, operators, signature

by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@by_name
def test_the_law(case: Case) -> None:
    dims = "".join(re.findall(r"\[.*?\]", case.expect))
    assert law(case.model, case.low, case.high, reference=case.reference) > 0 or not re.search("[a-z]", dims)


@by_name
def test_signature(case: Case) -> None:
    assert signature(infer(case.model, borders=False)) == case.expect


def covered() -> dict[tuple[str, str, int], list[Case]]:
    found: dict[tuple[str, str, int], list[Case]] = {}
    for case in CASES:
        for domain, op, opset in operators(case.model):
            rule = rules.find(op, domain, opset)
            assert rule is not None, (op, opset)
            found.setdefault((rule.domain, rule.op, rule.since), []).append(case)
    return found


@pytest.mark.parametrize("rule", rules.all_rules(), ids=lambda r: f"{r.op}-{r.since}")
def test_every_rule_has_a_case_and_a_notation(rule: Rule) -> None:
    assert covered_once()[rule.domain, rule.op, rule.since]
    assert "->" in rule.notation


_COVERED: dict[tuple[str, str, int], list[Case]] = {}


def covered_once() -> dict[tuple[str, str, int], list[Case]]:
    if not _COVERED:
        _COVERED.update(covered())
    return _COVERED


def says_something(fact: Fact) -> bool:
    """Whether a fact concerns an axis at all; dimensions of one unit have none."""
    return any(term.size > 1 for term in terms_of(fact))


def survivors(case: Case, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Facts of a case's nodes that can be deleted without breaking the law."""
    model = case.model
    stated: list[tuple[Rule, Fact]] = []
    honest = rules.facts_of

    def record(rule: Rule, node: Node) -> list[Fact]:
        facts = [fact for fact in honest(rule, node) if says_something(fact)]
        stated.extend((rule, fact) for fact in facts)
        return facts

    monkeypatch.setattr(rules, "facts_of", record)
    infer(model, borders=False)
    every, alive = list(stated), []
    for k, (rule, fact) in enumerate(every):
        seen = itertools.count()

        def mutant(rule: Rule, node: Node, k: int = k, seen: Iterator[int] = seen) -> list[Fact]:
            return [fact for fact in honest(rule, node) if says_something(fact) and next(seen) != k]

        monkeypatch.setattr(rules, "facts_of", mutant)
        try:
            law(model, case.low, case.high)
        except Exception:  # a wrong number, a wrong shape or a graph that does not run: all are caught
            continue
        if not isinstance(fact, (Default, Idempotent, Unread)):  # without it the axis is merely pinned by nobody
            alive.append(f"{rule.op}: {fact}")
    return alive


@pytest.mark.parametrize("case", [c for c in CASES if not c.redundant], ids=lambda case: case.name)
def test_each_fact_is_needed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not survivors(case, monkeypatch)
