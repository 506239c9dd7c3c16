"""What rules call linear is: a factor on these inputs, along an axis that they carry to an output, is a factor on it."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from onnx_net2net.algebra.facts import Operand
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.infer import _Inference
from onnx_net2net.inference.share import Sharing, _Search
from tests.cases import CASES
from tests.law import Case, Feeds, draw, run, run_reference
from tests.test_heads import changed


def marked(case: Case) -> list[tuple[str, int, np.ndarray, dict[str, tuple[int, np.ndarray]]]]:
    """(output, axis, units, what inputs take the factor along which axis) for every way through a single node."""
    inference = _Inference(Graph(case.model), borders=False)
    inference.run()
    graph = inference.graph
    sharing = Sharing(graph, inference.solver, inference.terms, inference.uses, inference.facts, inference._seen)
    rng = np.random.default_rng(0)
    found = []
    for name, i in graph.producer.items():
        if name not in graph.outputs or any(tensor in graph.producer for tensor in graph.nodes[i].input):
            continue
        for axis, term in enumerate(inference.terms.get(name, ())):
            for slots in sharing.linear(i) if term.size > 1 else ():
                search = _Search(sharing, (i, 0), Operand(0, axis, term))
                for units in (np.ones(term.size, bool), rng.permutation(np.arange(term.size) % 2 > 0)):
                    handed = search._handed(i, name, (axis, units), slots)
                    if handed is not None:
                        inputs = {graph.nodes[i].input[slot]: mark for slot, mark in handed.items()}
                        found.append((name, axis, units, inputs))
    return found


BROADCAST = [
    Case(f"{op} of a vector", f"(float[2,3] x, float[3] b) => (float[2,3] y) {{ y = {op}(x, b) }}", "")
    for op in ("Add", "Div", "Sub")
]
LINEAR = [case for case in (*CASES, *BROADCAST) if marked(case)]


def times(value: np.ndarray, axis: int, units: np.ndarray) -> np.ndarray:
    """Half of some units."""
    factor = np.where(units, 0.5, 1.0).reshape([-1 if i == axis else 1 for i in range(value.ndim)])
    return (value * factor).astype(value.dtype)


@pytest.mark.parametrize("case", LINEAR, ids=lambda case: case.name)
def test_factors_pass(case: Case) -> None:
    model = case.model
    compute = run_reference if case.reference else run
    rng = np.random.default_rng(2)
    feeds: Feeds = {value.name: draw(value, rng, case.low, case.high) for value in Graph(model).inputs}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, axis, units, inputs in marked(case):
        wanted = times(compute(model, feeds, [name])[name], axis, units)
        student, given = model, dict(feeds)
        for tensor, mark in inputs.items():
            if tensor in given:
                given[tensor] = times(given[tensor], *mark)
            else:
                student = changed(student, tensor, times(stored[tensor], *mark))
        got = compute(student, given, [name])[name]
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))


def test_every_linear_operator_has_a_case() -> None:
    tried = {node.op_type for case in LINEAR for node in case.model.graph.node}
    assert tried >= set(
        """Add Cast Concat Conv Div Dropout Einsum Expand Flatten Gather Gemm Identity MatMul Mul Neg Reshape Slice Split
        Squeeze Sub Sum Transpose Unsqueeze Where""".split()
    )
