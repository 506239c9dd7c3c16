"""What rules call linear is: a factor on these inputs, along an axis that they carry to an output, is a factor on it."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from onnx_net2net.algebra.box import tidy
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.infer import _Inference
from onnx_net2net.inference.share import Mark, Sharing, _Search
from tests.cases import CASES
from tests.law import Case, Feeds, draw, run, run_reference
from tests.test_heads import changed


def marked(case: Case) -> list[tuple[str, Mark, dict[str, Mark]]]:
    """(output, what of it has a factor, what of the inputs takes it) for every way through a single node."""
    inference = _Inference(Graph(case.model), borders=False)
    inference.run()
    graph = inference.graph
    known = (inference.solver, inference.terms, inference.lists, inference.uses, inference.facts, inference._seen)
    sharing = Sharing(graph, *known)
    rng = np.random.default_rng(0)
    found = []
    for name, i in graph.producer.items():
        if name not in graph.outputs or any(tensor in graph.producer for tensor in graph.nodes[i].input):
            continue
        for axis, term in enumerate(inference.terms.get(name, ())):
            for slots in sharing.linear(i) if term.size > 1 else ():
                search = _Search(sharing, set(inference.solver.leaves(term)))
                for units in (np.ones(term.size, bool), rng.permutation(np.arange(term.size) % 2 > 0)):
                    mark = Mark(axis, tidy({axis: units}))
                    handed = search._handed(i, name, mark, slots)
                    if handed is not None:
                        found.append((name, mark, dict(handed.values())))
    return found


BROADCAST = [
    Case(f"{op} of a vector", f"(float[2,3] x, float[3] b) => (float[2,3] y) {{ y = {op}(x, b) }}", "")
    for op in ("Add", "Div", "Sub")
]
LINEAR = [case for case in (*CASES, *BROADCAST) if marked(case)]


def times(value: np.ndarray, mark: Mark) -> np.ndarray:
    """Half of what is marked."""
    inside = np.ix_(*(mark.box.get(i, np.ones(size, bool)) for i, size in enumerate(value.shape)))
    result = value.copy()
    result[inside] = (value[inside] * 0.5).astype(value.dtype)
    return result


@pytest.mark.parametrize("case", LINEAR, ids=lambda case: case.name)
def test_factors_pass(case: Case) -> None:
    model = case.model
    compute = run_reference if case.reference else run
    rng = np.random.default_rng(2)
    feeds: Feeds = {value.name: draw(value, rng, case.low, case.high) for value in Graph(model).inputs}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, mark, inputs in marked(case):
        wanted = times(compute(model, feeds, [name])[name], mark)
        student, given = model, dict(feeds)
        for tensor, taken in inputs.items():
            if tensor in given:
                given[tensor] = times(given[tensor], taken)
            else:
                student = changed(student, tensor, times(stored[tensor], taken))
        got = compute(student, given, [name])[name]
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))


def test_every_linear_operator_has_a_case() -> None:
    tried = {node.op_type for case in LINEAR for node in case.model.graph.node}
    assert tried >= set(
        """Add Cast Concat Conv Div Dropout Einsum Expand Flatten Gather Gemm Identity MatMul Mul Neg Reshape Slice Split
        Squeeze Sub Sum Transpose Unsqueeze Where""".split()
    )
