"""Corner cases that went wrong once, or nearly did."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from onnx_net2net import ModelError, RequestError, UsageError, deepen, inspect, verify, widen
from onnx_net2net.algebra.axes import size
from onnx_net2net.algebra.unify import Atom, Solver, concatenation, product
from onnx_net2net.inference.freeze import Freezer
from onnx_net2net.inference.infer import infer
from tests.law import fill, law, parse, run, signature

NETWORKS = {
    "a split constant of which one part grows": (
        """(float[2,4] x) => (float[2,6] y, float[2,5] z) <int64[2] sp={6,5}, float[4,11] W, float[6,6] v>
        { a,b=Split<axis=1>(W,sp) h=MatMul(x,a) r=Relu(h) y=MatMul(r,v) z=MatMul(x,b) }""", 17),
    "a slice that ends behind the end": (
        """(float[2,4] x) => (float[2,3] y) <float[4,4] w1, float[4,3] w2, int64[1] s={0}, int64[1] e={5}, int64[1] ax={-1}>
        { h=MatMul(x,w1) r=Relu(h) a=Slice(r,s,e,ax) y=MatMul(a,w2) }""", 17),
    "a slice that begins before the beginning": (
        """(float[2,4] x) => (float[2,3] y) <float[4,4] w1, float[3,3] w2, int64[1] s={-6}, int64[1] e={3}, int64[1] ax={1}>
        { h=MatMul(x,w1) r=Relu(h) a=Slice(r,s,e,ax) y=MatMul(a,w2) }""", 17),
    "a slice counted from the end that keeps all": (
        """(float[2,4] x) => (float[2,3] y) <float[4,4] w1, float[4,3] w2, int64[1] s={-4}, int64[1] e={9223372036854775807},
        int64[1] ax={1}> { h=MatMul(x,w1) r=Relu(h) a=Slice(r,s,e,ax) y=MatMul(a,w2) }""", 17),
    "slices by attributes": (
        """(float[2,4] x) => (float[2,3] y) <float[4,4] w1, float[3,3] w2>
        { h=MatMul(x,w1) r=Relu(h) a=Slice<axes=[1], starts=[1], ends=[9]>(r) y=MatMul(a,w2) }""", 9),
    "integers behind DequantizeLinear, opset 13": (
        """(float[2,4] x) => (float[2,3] y) <int8[4,5] W0, float s={0.5}, int8 z={0}, float[5,3] v>
        { W=DequantizeLinear(W0,s,z) h=MatMul(x,W) r=Relu(h) y=MatMul(r,v) }""", 13),
    "a constant among the outputs": (
        """(float[2,4] x) => (float[2,3] y, float[4,5] W) <float[4,5] W, float[5,3] v>
        { h=MatMul(x,W) r=Relu(h) y=MatMul(r,v) }""", 17),
    "one number in two slots of a shape": (
        """(float[batch,3,4] x) => (float[batch,3,5] y)
        <float[4,8] u, float[16,5] v, int64[1] two={2}, int64[1] three={3}, int64[1] four={4}, int64[4] s1={-1,3,2,4},
         int64[3] s2={-1,3,16}>
        { n=Shape<start=0,end=1>(x) h=MatMul(x,u) a=Reshape(h,s1) t=Transpose<perm=[0,2,1,3]>(a) e=Unsqueeze(t,two)
          sh=Concat<axis=0>(n,two,two,three,four) b=Expand(e,sh) r=Relu(b) p=Transpose<perm=[0,3,1,2,4]>(r)
          f=Reshape(p,s2) y=MatMul(f,v) }""", 17),
    "an empty weight": (
        """(float[2,4] x) => (float[2,3] z) <float[4,5] W, float[5,0] v, float[5,3] u, float[0,3] t>
        { h=MatMul(x,W) r=Relu(h) e=MatMul(r,v) f=MatMul(e,t) g=MatMul(r,u) z=Add(f,g) }""", 17),
}  # fmt: skip


@pytest.mark.parametrize("factor", [1.5, 2])
@pytest.mark.parametrize(("graph", "opset"), NETWORKS.values(), ids=NETWORKS.keys())
def test_widened(graph: str, opset: int, factor: float) -> None:
    model = fill(parse(graph, opset))
    made = widen(model, factor=factor)
    assert made.plan.axes
    verdict = made.verify()
    assert verdict, verdict.reason
    onnx.checker.check_model(made.model)


PARITY = """(float[T,6] x) => (float[2] y) <float[6,6] w1, int64[2] s={2,-1}>
    { h=MatMul(x,w1) r=Relu(h) a=Reshape(r,s) y=ReduceMax<keepdims=0,axes=[1]>(a) }"""
HALVES = """(float[T,6] x) => (float[T2,3] y) <float[6,6] w1, float[6,3] w2, int64[1] f={-1}, int64[2] b={-1,6}>
    { h=MatMul(x,w1) r=Relu(h) a=Reshape(r,f) p,q=Split<axis=0,num_outputs=2>(a) p2=Reshape(p,b) q2=Reshape(q,b)
      c=Add(p2,q2) y=MatMul(c,w2) }"""


@pytest.mark.parametrize(("graph", "sizes"), [(PARITY, (2, 3, 5)), (HALVES, (2, 4, 6))], ids=["parity", "halves"])
def test_what_depends_on_a_dynamic_size_is_pinned_or_right_at_every_size(graph: str, sizes: tuple[int, ...]) -> None:
    model = fill(parse(graph, 18 if "num_outputs" in graph else 17))
    made = widen(model, factor=1.5)
    for n in sizes:
        x = {"x": np.random.default_rng(n).standard_normal((n, 6)).astype(np.float32)}
        np.testing.assert_allclose(run(made.model, x)["y"], run(model, x)["y"], rtol=1e-4, atol=1e-5)


def test_one_valid_size_of_a_dynamic_dimension_pins_and_does_not_fail() -> None:
    model = fill(
        parse("""(float[N,3,H,W] x) => (float[N,3] y) <float[4,3,3,3] c, float[100,6] v, float[6,3] u>
        { h=Conv(x,c) r=Relu(h) f=Flatten(r) g=MatMul(f,v) q=Relu(g) y=MatMul(q,u) }""")
    )
    found = inspect(model)
    pinned = {info.axis.name: info.reason for info in found.axes if info.status == "pinned"}
    assert pinned["c:0"]
    assert pinned["v:1"]


def test_verification_tries_several_sizes_of_dynamic_dimensions() -> None:
    teacher = parse("(float[T,4] x) => (float[T,4] y) { y = Relu(x) }")
    wrong = parse("""(float[T,4] x) => (float[T,4] y) <int64[1] s={0}, int64[1] e={2}, int64[1] z={2}, int64[1] m={99}, int64[1] a={0}>
        { p = Slice(x, s, e, a) q = Slice(x, z, m, a) r = Relu(p) y = Concat<axis=0>(r, q) }""")
    assert verify(teacher, wrong, samples=2)  # two rows hide it
    assert not verify(teacher, wrong)


DEEPER = {
    "a matrix before Gemm could do without C": ("(float[2,4] x) => (float[2,4] y) { h=Neg(x) y=Relu(h) }", 9, "MatMul"),
    "a matrix": ("(float[2,4] x) => (float[2,4] y) { h=Neg(x) y=Relu(h) }", 11, "Gemm"),
    "dynamic channels": ("(float[N,T] x) => (float[N,T] y) { y=Relu(x) }", 17, "is dynamic"),
    "a dynamic image": ("(float[N,C,H,W] x) => (float[N,C,H,W] y) { y=Relu(x) }", 17, "is dynamic"),
    "bfloat16 before Conv took it": ("(bfloat16[1,3,4,4] x) => (bfloat16[1,3,4,4] y) { y=Relu(x) }", 17, "does not take its type"),
    "one dimension": ("(float[4] x) => (float[4] y) { y=Relu(x) }", 17, "no axis of channels"),
    "integers": ("(int32[2,4] x) => (int32[2,4] y) { y=Abs(x) }", 17, "not of a floating point type"),
}  # fmt: skip


@pytest.mark.parametrize(("graph", "opset", "outcome"), DEEPER.values(), ids=DEEPER.keys())
def test_deepened_or_refused(graph: str, opset: int, outcome: str) -> None:
    model = parse(graph, opset)
    if outcome in ("MatMul", "Gemm"):
        made = deepen(model, after="every")
        assert [layer.kind for layer in made.plan.layers] == [outcome]
        assert made.verify()
        return
    assert not deepen(model, after="every").plan.layers
    with pytest.raises(RequestError, match=outcome):
        deepen(model, after="y")


def test_new_names_avoid_those_inside_subgraphs() -> None:
    model = fill(
        parse("""(float[2,4] x, bool c) => (float[2,3] y, float[5,3] w) <float[4,5] u, float[5,3] v>
        { h = MatMul(x, u) r = Relu(h) y = MatMul(r, v)
          w = If (c) <then_branch = t () => (float[5,3] v_wide) { v_wide = Neg(v) },
                      else_branch = e () => (float[5,3] r_deeper_input) { r_deeper_input = Abs(v) }> }""")
    )
    made = widen(model, factor=2)
    assert made.plan.axes
    onnx.checker.check_model(made.model, full_check=True)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32), "c": np.array(True)}
    for student in (made.model, deepen(model, after="r").model):
        for name, value in run(model, feeds).items():
            np.testing.assert_allclose(run(student, feeds)[name], value, rtol=1e-5, atol=1e-5)


def test_listed_initializers_keep_the_interface() -> None:
    model = fill(
        parse(
            "(float[2,4] x) => (float[2,3] y) <float[4,6] w1, int64[2] s={2, 6}, float[6,3] w2>"
            "{ h = MatMul(x, w1) r = Reshape(h, s) y = MatMul(r, w2) }"
        )
    )
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    made = widen(model, factor=1.5)
    assert [v.name for v in made.model.graph.input] == [v.name for v in model.graph.input]
    assert made.verify()


def layered(**changes: object) -> str:
    """A plan with one layer, edited."""
    plan = deepen(activation(), after="r").plan
    return dataclasses.replace(plan, layers=(dataclasses.replace(plan.layers[0], **changes),)).to_json()


def activation() -> ModelProto:
    return parse("(float[2,4] x) => (float[2,4] y) { h=Sigmoid(x) r=Relu(h) y=Neg(r) }")


@pytest.mark.parametrize(
    "changes",
    [
        {"after": 0, "tensor": "h"},
        {"after": 77},
        {"channels": 7},
        {"kind": "Conv"},
        {"kernel": (3,)},
        {"names": ("r",) * 5},
    ],
    ids=str,
)
def test_edited_plans_of_layers_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="does not fit"):
        deepen(activation(), plan=layered(**changes))
    assert deepen(activation(), plan=layered()).plan.layers


def test_edited_plans_of_axes_are_refused() -> None:
    model = fill(parse("(float[2,4] x) => (float[2,3] y) <float[4,6] u, float[6,3] v> { h=MatMul(x,u) y=MatMul(h,v) }"))
    plan = widen(model, factor=2).plan
    axis = plan.axes[0]
    for edited in ((dataclasses.replace(axis, fractions=(1.0,)),), (dataclasses.replace(axis, old=7),), (axis, axis)):
        with pytest.raises(RequestError, match="plan"):
            widen(model, plan=dataclasses.replace(plan, axes=edited))


def test_frozen_terms_do_not_mix_up_temporaries() -> None:
    solver = Solver()
    roots, terms = [], []
    for i in range(60):
        a, b = Atom(2 + i), Atom(3 + i)
        pair = [Atom(2 + i), Atom(3 + i)]
        roots += pair
        solver.equate(a, pair[0], None)
        solver.equate(b, pair[1], None)
        terms.append(concatenation(a, b) if i % 2 else product(a, b))
    freezer = Freezer.__new__(Freezer)
    freezer.solver, freezer.names = solver, {root: f"r{i}" for i, root in enumerate(roots)}
    freezer.roots, freezer.frozen = {}, {}
    assert all(size(freezer._dim(term)) == term.size for term in terms)


CLEAR = {
    "a reduction over an axis that is not there": "(float x) => (float y) <int64[1] a={0}> { y=ReduceSum<keepdims=0>(x,a) }",
    "a double without a kernel": "(double[1,3,4,4] x) => (double[1,2,4,4] y) <double[2,3,1,1] w> { h=Conv(x,w) y=Relu(h) }",
}


@pytest.mark.parametrize("graph", CLEAR.values(), ids=CLEAR.keys())
def test_errors_are_clear(graph: str) -> None:
    model = fill(parse(graph))
    assert inspect(model)
    with pytest.raises(ModelError, match="onnxruntime"):
        verify(model, model)


def test_a_shared_scale_pins_what_it_resizes() -> None:
    model = parse(
        """(float[1,2,2,4] x) => (float[1,2,2,3] y) <int64[2] sizes = {1,3}>
        { y = Resize<axes=[2,3], keep_aspect_ratio_policy="not_smaller", mode="nearest">(x, , , sizes) }""",
        19,
    )
    assert law(fill(model)) > 0
    assert signature(infer(fill(model), borders=False)) == "x[1, a, !, !] -> y[1, a, !, !]"


def test_a_sequence_that_no_rule_knows_pins_its_members() -> None:
    found = inspect(
        parse("""(float[2,3] x, float[2,3] z) => (float[2,3] y) <int64 i = {1}>
        { e = SequenceEmpty() p = SequenceInsert(e, x) q = SequenceInsert(p, z) y = SequenceAt(q, i) }""")
    )
    assert {info.status for info in found.axes} == {"pinned"}


def test_a_constant_sequence_is_no_constant_tensor() -> None:
    model = parse("""(float[2,3] x) => (float[2,3] y) <float[2] a={1.0,2.0}, float[3] b={1.0,2.0,3.0}, int64 i={0}>
        { q = SequenceConstruct(a, b) e = SequenceAt(q, i) y = Identity(x) }""")
    assert inspect(model)


MISUSED = {
    "a factor in quotes": ({"factor": "2"}, UsageError),
    "a broken seed": ({"factor": 2, "seed": 1.5}, UsageError),
    "one axis twice": ({"widths": {"u": 9, "h": 7}}, UsageError),
    "a shrinking factor": ({"widths": {"u": "x0.5"}}, RequestError),
}


@pytest.mark.parametrize(("options", "error"), MISUSED.values(), ids=MISUSED.keys())
def test_misuse(options, error) -> None:  # type: ignore[no-untyped-def]
    model = fill(parse("(float[2,4] x) => (float[2,3] y) <float[4,6] u, float[6,3] v> { h=MatMul(x,u) y=MatMul(h,v) }"))
    with pytest.raises(error):
        widen(model, **options)


def test_nodes_of_one_name_are_ambiguous() -> None:
    model = fill(parse("(float[2,4] x) => (float[2,3] y) <float[4,6] u, float[6,3] v> { h=MatMul(x,u) y=MatMul(h,v) }"))
    for node in model.graph.node:
        node.name = "same"
    with pytest.raises(RequestError, match="several nodes have this name"):
        widen(model, widths={"same": 9})


def test_a_lenient_verification_does_not_open_the_door(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = fill(parse("(float[2,4] x) => (float[2,3] y) <float[4,6] u, float[6,3] v> { h=MatMul(x,u) y=MatMul(h,v) }"))
    made = widen(model, factor=2)
    for tensor in made.exact.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.1), tensor.name))
    assert made.verify(rtol=1e9)
    with pytest.raises(Exception, match="differs"):
        made.save(tmp_path / "student.onnx")
    assert not list(tmp_path.iterdir())
