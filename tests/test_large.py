"""Large graphs: the work grows with the number of nodes and no faster, and nothing recurses over them.

Work is counted, not timed: the calls of Python functions, and of those of C that Python makes, between two points.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import ModelProto

from onnx_net2net import rules
from onnx_net2net.inference.infer import infer
from onnx_net2net.inspection import inspect
from onnx_net2net.planning.planner import plan_widening
from onnx_net2net.planning.request import sizes
from onnx_net2net.widening.apply import apply
from tests.large import GRAPHS, chain, dense

ROOT = Path(__file__).parents[1]
DOUBLE = 2.2
"""Times the calls for twice the nodes: two, and some room for what is met first in the larger graph."""


def calls(run: Callable[[], Any]) -> tuple[int, Any]:
    """How many calls a function makes, and its result."""
    count = 0

    def note(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        result = run()
    finally:
        sys.setprofile(None)
    return count, result


def work(model: ModelProto) -> dict[str, int]:
    """The calls of each stage."""
    infer(model)  # what is imported or remembered by the first of all runs
    counts = {}
    counts["infer"], found = calls(lambda: infer(model))
    counts["sizes"], (wanted, _) = calls(lambda: sizes(found, 1.5, {}, [], [], None))
    counts["plan"], plan = calls(lambda: plan_widening(found, wanted))
    counts["apply"], _ = calls(lambda: apply(model, plan))
    counts["inspect"], _ = calls(lambda: inspect(model).to_dict())
    return counts


@pytest.mark.parametrize("name", GRAPHS)
def test_twice_the_nodes_take_twice_the_calls(name: str) -> None:
    small, large = (work(GRAPHS[name](n)) for n in (150, 300))
    ratios = {stage: large[stage] / small[stage] for stage in small}
    print(f"\n{name}: " + ", ".join(f"{stage} {ratio:.2f}" for stage, ratio in ratios.items()))
    assert max(ratios.values()) < DOUBLE, ratios


def test_calls_for_a_dense_network_grow_with_what_its_layers_read() -> None:
    """Twice the layers read four times as many tensors."""
    small, large = (work(dense(n)) for n in (30, 60))
    assert max(large[stage] / small[stage] for stage in small) < 2 * DOUBLE


def test_the_count_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    facts_of = rules.facts_of

    def slow(rule: Any, node: Any) -> Any:
        seen.append(node)
        return facts_of(rule, [other for other in seen if other.terms is not None][-1])

    monkeypatch.setattr(rules, "facts_of", slow)
    counts = []
    for n in (150, 300):
        seen: list[Any] = []
        counts.append(calls(lambda: infer(chain(n)))[0])  # noqa: B023
    assert counts[1] / counts[0] > DOUBLE


def test_every_rule_is_asked_once_for_each_node(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    facts_of = rules.facts_of
    monkeypatch.setattr(rules, "facts_of", lambda rule, node: asked.append(rule.op) or facts_of(rule, node))  # type: ignore[func-returns-value]
    infer(chain(200))
    assert asked == ["MatMul", *["Relu"] * 198, "MatMul"]


DEEP = """
import sys
from tests.large import GRAPHS
from onnx_net2net import widen
for name, n in (("chain", 300), (sys.argv[1], int(sys.argv[2]))):  # the first imports what is imported late
    made = widen(GRAPHS[name](n), factor=1.5)
    student = made.model
    sys.setrecursionlimit(300)
print(len(made.plan.axes), len(student.graph.node))
"""


@pytest.mark.parametrize(
    ("name", "nodes", "axes"),
    [("chain", 100_000, 1), ("layers", 9_999, 3_332), ("join", 10_000, 10_000), ("shared", 2_000, 1)],
)
def test_no_graph_is_too_deep(name: str, nodes: int, axes: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEEP, name, str(nodes)],
        text=True, capture_output=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    widened, written = map(int, done.stdout.split())
    assert widened == axes
    assert written >= nodes
