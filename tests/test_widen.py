"""Widening: requests, names, shared weights, sizes in the graph, exact fractions, and what is refused."""

from __future__ import annotations

import json
from fractions import Fraction

import ml_dtypes
import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, helper

from onnx_net2net import Plan, RequestError, UsageError, inspect, verify, widen
from onnx_net2net.planning.plan import SPLITS
from onnx_net2net.planning.request import scaled, width
from onnx_net2net.widening.rewrite import exact_parts
from tests.law import fill, parse, weights
from tests.test_verify import network
from tests.untouched import assert_untouched

NETWORKS = {
    "residual and flattening": """(float[n,3,8,8] x) => (float[n,5] y)
        <float[8,3,3,3] w1, float[8,8,3,3] w2, int64[2] s = {-1, 512}, float[512,5] w3>
        { a = Conv<pads=[1,1,1,1]>(x, w1) r = Relu(a) c = Conv<pads=[1,1,1,1]>(r, w2) d = Add(c, r)
          f = Reshape(d, s) y = MatMul(f, w3) }""",
    "dense concatenation": """(float[1,3,6,6] x) => (float[1,4,6,6] y)
        <float[4,3,1,1] w1, float[6,7,1,1] w2, float[4,13,1,1] w3>
        { a = Conv(x, w1) ra = Relu(a) c = Concat<axis=1>(x, ra) b = Conv(c, w2) rb = Relu(b)
          d = Concat<axis=1>(c, rb) y = Conv(d, w3) }""",
    "squeeze and excite": """(float[1,3,6,6] x) => (float[1,4,6,6] y)
        <float[8,3,3,3] w1, float[2,8,1,1] w2, float[2] b2, float[8,2,1,1] w3, float[4,8,1,1] w4>
        { a = Conv<pads=[1,1,1,1]>(x, w1) p = GlobalAveragePool(a) q = Conv(p, w2, b2) r = Relu(q) g = Conv(r, w3)
          h = Sigmoid(g) m = Mul(a, h) y = Conv(m, w4) }""",
    "siamese towers": """(float[1,6] u, float[1,6] v) => (float[1,3] y)
        <float[6,8] w1, float[8] b1, float[8,4] w2, float[8,3] w3>
        { a = Gemm(u, w1, b1) c = Relu(a) e = MatMul(c, w2) b = Gemm(v, w1, b1) d = Relu(b) f = MatMul(d, w2)
          g = Concat<axis=1>(e, f) y = MatMul(g, w3) }""",
    "split and join": """(float[1,6] u) => (float[1,3] y) <float[6,10] w1, int64[2] s = {4, 6}, float[4,6] w2, float[6,3] w3>
        { a = MatMul(u, w1) p, q = Split<axis=1>(a, s) r = Relu(p) t = MatMul(r, w2) z = Mul(t, q) y = MatMul(z, w3) }""",
    "grouped and shuffled": """(float[1,4,5,5] x) => (float[1,3,5,5] y)
        <float[12,4,1,1] w1, float[12,4,3,3] w2, int64[5] s = {1, 3, 4, 5, 5}, int64[4] t = {1, 12, 5, 5}, float[3,12,1,1] w3>
        { a = Conv(x, w1) b = Conv<group=3, pads=[1,1,1,1]>(a, w2) c = Reshape(b, s) d = Transpose<perm=[0,2,1,3,4]>(c)
          e = Reshape(d, t) f = Relu(e) y = Conv(f, w3) }""",
    "transposed convolution": """(float[1,3,4,4] x) => (float[1,2,8,8] y) <float[3,6,2,2] w1, float[6] b1, float[6,2,1,1] w2>
        { a = ConvTranspose<strides=[2,2]>(x, w1, b1) b = Tanh(a) y = ConvTranspose(b, w2) }""",
    "padded shortcut": """(float[1,3,6,6] x) => (float[1,2,6,6] y)
        <int64[8] p = {0, 1, 0, 0, 0, 2, 0, 0}, float[6,3,1,1] w1, float[2,6,1,1] w2>
        { s = Pad(x, p) a = Conv(x, w1) b = Add(a, s) y = Conv(b, w2) }""",
}


def model(name: str) -> ModelProto:
    return fill(parse(NETWORKS[name]), 3, -0.7, 0.7)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("factor", [1.5, 2, 3.3])
@pytest.mark.parametrize("name", NETWORKS)
def test_students_equal_their_teachers(name: str, factor: float, split: str) -> None:
    made = widen(model(name), factor=factor, split=split, seed=4)
    verdict = made.verify()
    assert verdict, verdict.reason
    assert made.plan.axes
    grown = {c.source for c in made.plan.constants}
    assert all(
        np.prod(weights(made.model)[n]) > np.prod(weights(made.teacher)[n]) for n in grown if n in weights(made.model)
    )
    assert_untouched(made.teacher, made.exact, made.plan)


def test_shared_weights_stay_shared() -> None:
    made = widen(model("siamese towers"), factor=1.5)
    assert set(weights(made.model)) == {"w1", "b1", "w2", "w3"}
    assert made.plan.cloned == ()


def test_a_tie_is_broken_where_the_scales_force_it() -> None:
    tied = fill(
        parse("""(float[2,6] x) => (float[2,6] y) <float[6,8] w>
        { h = MatMul(x, w) r = Relu(h) y = Gemm<transB=1>(r, w) }""")
    )
    made = widen(tied, factor=1.5)
    assert made.verify()
    assert made.plan.cloned == ("w",)


def test_one_vector_may_serve_several_axes() -> None:
    shared = fill(
        parse("""(float[2,6] x) => (float[2,4] y) <float[6,8] w1, float[8,8] w2, float[8,4] w3, float[8] b>
        { h = Gemm(x, w1, b) r = Relu(h) k = Gemm(r, w2, b) y = MatMul(k, w3) }""")
    )
    made = widen(shared, widths={"w1": 13})
    assert made.verify()
    assert sorted(shape for name, shape in weights(made.model).items() if name.startswith("b")) == [(8,), (13,)]


REQUESTS = {
    "an initializer": ({"w1": 12}, {"w1:0": 12}),
    "an initializer's dimension": ({"w2:1": "x1.5"}, {"w1:0": 12}),
    "an axis": ({"w1:0": "+5"}, {"w1:0": 13}),
    "a tensor": ({"a": "x2"}, {"w1:0": 16}),
    "a tensor's dimension": ({"d:1": "9"}, {"w1:0": 9}),
    "the same size": ({"w1": 8}, {}),
}


@pytest.mark.parametrize(("asked", "got"), REQUESTS.values(), ids=REQUESTS.keys())
def test_widths(asked: dict[str, str | int], got: dict[str, int]) -> None:
    made = widen(network(), widths=asked)
    assert {axis.name: axis.new for axis in made.plan.axes} == got
    assert made.verify()


def test_a_node_names_its_output_channels() -> None:
    named = network()
    named.graph.node[0].name = "first"
    assert [a.name for a in widen(named, widths={"first": 10}).plan.axes] == ["w1:0"]


REFUSED = {
    "no such name": ({"w9": 12}, "no axis, tensor, initializer or node"),
    "shrinking": ({"w1": 4}, "cannot shrink"),
    "pinned by an output": ({"w3": 8}, "graph output 'y'"),
    "pinned by an input": ({"x:1": 8}, "graph input 'x'"),
}


@pytest.mark.parametrize(("asked", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_widths_say_why(asked: dict[str, int], why: str) -> None:
    with pytest.raises(RequestError, match=why):
        widen(network(), widths=asked)


def test_several_candidates_are_listed() -> None:
    with pytest.raises(RequestError, match=r"several axes are meant: w1:0\[0\] \(3\), w2:0\[1\] \(4\)"):
        widen(model("grouped and shuffled"), widths={"w2": 24})


MISUSE = {
    "nothing asked": ({}, "nothing is asked for"),
    "a factor below one": ({"factor": 0.5}, "between 1 and 1000"),
    "an unknown split": ({"factor": 2, "split": "half"}, "choose one of"),
    "a size that means nothing": ({"widths": {"w1": "big"}}, "not a size"),
    "negative noise": ({"factor": 2, "noise": -1.0}, "cannot be negative"),
}


@pytest.mark.parametrize(("options", "why"), MISUSE.values(), ids=MISUSE.keys())
def test_misuse(options: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        widen(network(), **options)  # type: ignore[arg-type]


def test_sizes() -> None:
    assert [scaled(n, 1.5) for n in (1, 3, 5, 8)] == [2, 5, 8, 12]
    assert [scaled(10, f) for f in (1, 1.04, 1.05)] == [10, 10, 11]
    assert scaled(10, 1.5, 8) == 16
    assert [width(w, 10) for w in (512, "512", "x1.5", "+64")] == [512, 512, 15, 74]


def test_only_and_skip() -> None:
    teacher = model("dense concatenation")
    assert [a.name for a in widen(teacher, factor=2).plan.axes] == ["w1:0", "w2:0"]
    assert [a.name for a in widen(teacher, factor=2, only="w2*").plan.axes] == ["w2:0"]
    assert [a.name for a in widen(teacher, factor=2, skip=["rb"]).plan.axes] == ["w1:0"]


def test_channels_grow_by_the_factor_and_not_by_its_square() -> None:
    made = widen(model("grouped and shuffled"), factor=2)
    assert [(a.name, a.new) for a in made.plan.axes] == [("w1:0[0]", 6)]
    assert weights(made.model)["w1"] == (24, 4, 1, 1)


def test_uniform_axes_grow_by_whole_multiples_only() -> None:
    normed = fill(
        parse("""(float[2,6] x) => (float[2,4] y) <float[6,8] w1, float[8] s, float[8] b, float[8,4] w2>
        { h = MatMul(x, w1) r = Relu(h) n = LayerNormalization(r, s, b) y = MatMul(n, w2) }""")
    )
    made = widen(normed, factor=1.5)
    assert not made.plan.axes
    assert "LayerNormalization" in made.skipped["w1:1"]
    doubled = widen(normed, factor=2)
    assert doubled.verify()
    assert doubled.plan.axes[0].map == tuple(range(8)) * 2
    with pytest.raises(RequestError, match="whole multiple"):
        widen(normed, widths={"w1": 12})


def test_names_do_not_change_between_runs_and_are_unique() -> None:
    names = [info.axis.name for info in inspect(model("dense concatenation")).axes]
    assert names == [info.axis.name for info in inspect(model("dense concatenation")).axes]
    assert len(set(names)) == len(names)


def test_a_saved_plan_gives_the_same_bytes() -> None:
    made = widen(network(), factor=1.7, seed=9, split="scatter", noise=0.1)
    again = widen(network(), plan=made.plan.to_json())
    assert Plan.from_json(made.plan.to_json()) == made.plan
    assert again.model.SerializeToString() == made.model.SerializeToString()


def test_a_plan_of_another_model_or_an_edited_one_is_refused() -> None:
    text = widen(network(), factor=1.5).plan.to_json()
    with pytest.raises(RequestError, match="made for another model"):
        widen(model("siamese towers"), plan=text)
    edited = json.loads(text)
    next(c for c in edited["constants"] if c["splits"])["splits"] = []
    with pytest.raises(RequestError, match="does not follow from its own maps"):
        widen(network(), plan=json.dumps(edited))
    swapped = json.loads(text)
    swapped["axes"][0]["map"][-1] = 99
    with pytest.raises(RequestError, match="leaves the axis"):
        widen(network(), plan=json.dumps(swapped))
    with pytest.raises(RequestError, match="not a plan"):
        widen(network(), plan="{}")


def test_a_seed_changes_maps_and_the_same_seed_does_not() -> None:
    first, again, other = (widen(network(), factor=1.5, seed=s).model.SerializeToString() for s in (1, 1, 2))
    assert first == again != other


def test_noise_is_added_after_an_exact_student() -> None:
    made = widen(network(), factor=1.5, noise=0.05)
    assert made.verify()
    drift = made.drift().outputs[0].max_rel
    assert drift > made.verify().outputs[0].max_rel
    assert not verify(network(), made.model)


def test_inputs_of_every_kind(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "teacher.onnx"
    path.write_bytes(network().SerializeToString())
    plans = [widen(m, factor=1.5).plan.axes for m in (path, str(path), network(), gs.import_onnx(network()))]
    assert all(plan == plans[0] for plan in plans)


def test_teachers_are_not_changed() -> None:
    teacher = network()
    before = teacher.SerializeToString()
    made = widen(teacher, factor=1.5)
    assert made.model.graph.node
    assert teacher.SerializeToString() == before


def test_unknown_operators_pin_what_touches_them() -> None:
    odd = fill(
        parse("""(float[2,6] x) => (float[2,4] y) <float[6,8] w1, float[8,4] w2, float[4,4] w3>
        { a = MatMul(x, w1) b = com.microsoft.BiasSplitGelu(a, w1) c = MatMul(b, w2) d = Relu(c) y = MatMul(d, w3) }""")
    )
    odd.graph.value_info.append(helper.make_tensor_value_info("b", 1, [2, 8]))
    pins = {i.axis.name: i.reason for i in inspect(odd).axes if i.status == "pinned"}
    assert "no rule knows this operator" in pins["w1:1"]
    assert [a.name for a in widen(odd, factor=2).plan.axes] == ["w2:1"]


def test_dynamic_dimensions_are_pinned_whatever_their_size() -> None:
    dynamic = fill(
        parse("""(float[n,t,6] x) => (float[n,t,4] y) <float[6,8] w1, float[8,4] w2>
        { a = MatMul(x, w1) r = Relu(a) y = MatMul(r, w2) }""")
    )
    status = {i.axis.name: i.status for i in inspect(dynamic).axes}
    assert status["w1:1"] == "free"
    assert status["x:0"] == status["x:1"] == "pinned"
    assert widen(dynamic, factor=1.5).verify(dims={"n": 3, "t": 5})


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([np.float16, np.float32, np.float64, ml_dtypes.bfloat16]),
    st.integers(1, 5),
    st.integers(0, 9),
    st.integers(0, 2**31),
    st.sampled_from([1e-38, 1e-3, 1.0, 1e4]),
)
def test_parts_sum_to_the_weight_exactly(dtype, n, extra, seed, scale) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    group = np.r_[np.arange(n), rng.integers(0, n, extra)]
    weight = (rng.standard_normal((3, n, 2)) * scale).astype(dtype)
    shares = rng.uniform(0.5, 1.5, len(group))
    shares /= np.bincount(group, shares, minlength=n)[group]
    parts = exact_parts(weight[:, group], shares.reshape(1, -1, 1), group, 1)
    assert parts.dtype == dtype
    for i, j, k in np.ndindex(weight.shape):
        total = sum(Fraction(float(p)) for p in parts[i, group == j, k])
        assert total == Fraction(float(weight[i, j, k]))


def test_an_infinite_weight_stays_whole() -> None:
    group = np.array([0, 0])
    parts = exact_parts(np.array([[np.inf, np.inf]], np.float32), np.array([[0.5, 0.5]]), group, 1)
    assert parts.tolist() == [[np.inf, 0.0]]


def test_old_models_keep_their_version_and_their_listed_initializers() -> None:
    teacher = network()
    teacher.ir_version = 3
    for tensor in teacher.graph.initializer:
        teacher.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    made = widen(teacher, factor=1.5)
    assert made.model.ir_version == 3
    listed = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in made.model.graph.input}
    assert all(listed[name] == shape for name, shape in weights(made.model).items())
    assert made.verify()


def test_documentation_of_a_rewritten_tensor_stays() -> None:
    teacher = network()
    for tensor in teacher.graph.initializer:
        tensor.doc_string = f"documents {tensor.name}"
    made = widen(teacher, factor=1.5)
    assert all(
        t.doc_string == f"documents {t.name}" for t in made.model.graph.initializer if t.name in weights(teacher)
    )
