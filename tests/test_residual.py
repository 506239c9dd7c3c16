"""The residual stream of transformers at any width: filler, and powers of eta in scales and epsilons."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_net2net import Plan, RequestError, inspect, verify, widen
from onnx_net2net.checking import segments
from onnx_net2net.planning.plan import FillPlan
from onnx_net2net.widening.apply import apply
from tests.law import parse

D, F, V, N = 8, 12, 11, 5
"""Units of the stream and of a branch, tokens that there are, and tokens of a sample."""
EPSILON = 0.3
"""Large enough to matter."""
COMMON = 1e-5
"""In other types: what onnxruntime takes for any epsilon when it fuses norms, and attributes are single precision."""
WIDTHS = {"D + 1": D + 1, "1.5 D": 3 * D // 2, "2 D - 1": 2 * D - 1, "2 D": 2 * D, "2 D + 3": 2 * D + 3}

Norm = Callable[[str, str, str], str]


def fused(x: str, y: str, k: str) -> str:
    return f"{y} = LayerNormalization<epsilon={EPSILON}>({x}, g{k}, b{k})"


def without_bias(x: str, y: str, k: str) -> str:
    return f"{y} = LayerNormalization<epsilon={EPSILON}>({x}, g{k})"


def centred(x: str, y: str) -> str:
    return f"m{y} = ReduceMean<axes=[-1]>({x}) c{y} = Sub({x}, m{y})"


def written(x: str, y: str, k: str) -> str:
    """As torch writes it out below opset 17."""
    return f"""{centred(x, y)} s{y} = Pow(c{y}, two) v{y} = ReduceMean<axes=[-1]>(s{y}) e{y} = Add(v{y}, eps)
    d{y} = Sqrt(e{y}) n{y} = Div(c{y}, d{y}) t{y} = Mul(n{y}, g{k}) {y} = Add(t{y}, b{k})"""


def keras(x: str, y: str, k: str) -> str:
    """As TensorFlow writes it out: scale and shift are computed first."""
    return f"""{centred(x, y)} s{y} = Mul(c{y}, c{y}) v{y} = ReduceMean<axes=[-1]>(s{y}) e{y} = Add(v{y}, eps)
    d{y} = Sqrt(e{y}) r{y} = Reciprocal(d{y}) i{y} = Mul(r{y}, g{k}) t{y} = Mul({x}, i{y}) u{y} = Mul(m{y}, i{y})
    w{y} = Sub(b{k}, u{y}) {y} = Add(t{y}, w{y})"""


def plain(x: str, y: str, k: str) -> str:
    """Without scale or shift: the weights behind it take on the power."""
    return f"""{centred(x, y)} s{y} = Mul(c{y}, c{y}) v{y} = ReduceMean<axes=[-1]>(s{y}) e{y} = Add(v{y}, eps)
    d{y} = Sqrt(e{y}) {y} = Div(c{y}, d{y})"""


def fused_rms(x: str, y: str, k: str) -> str:
    return f"{y} = SimplifiedLayerNormalization<epsilon={EPSILON}>({x}, g{k})"


def standard_rms(x: str, y: str, k: str) -> str:
    return f"{y} = RMSNormalization<epsilon={EPSILON}>({x}, g{k})"


def written_rms(x: str, y: str, k: str) -> str:
    """As Llama is exported, in half precision: statistics are taken in single precision."""
    return f"""x{y} = Cast<to=1>({x}) s{y} = Pow(x{y}, two) v{y} = ReduceMean<axes=[-1]>(s{y}) e{y} = Add(v{y}, eps)
    d{y} = Sqrt(e{y}) r{y} = Reciprocal(d{y}) n{y} = Mul(x{y}, r{y}) h{y} = Cast<to=1>(n{y}) {y} = Mul(g{k}, h{y})"""


def gemma(x: str, y: str, k: str) -> str:
    """As Gemma has it: the scale is one more than the weight."""
    return f"""s{y} = Pow({x}, two) v{y} = ReduceMean<axes=[-1]>(s{y}) e{y} = Add(v{y}, eps) d{y} = Sqrt(e{y})
    r{y} = Div(one, d{y}) n{y} = Mul({x}, r{y}) o{k} = Add(g{k}, one) {y} = Mul(n{y}, o{k})"""


def gelu(x: str, y: str) -> str:
    return f"a{y} = MatMul({x}, w1) k{y} = Add(a{y}, c1) f{y} = Tanh(k{y}) q{y} = MatMul(f{y}, w2) {y} = Add(q{y}, c2)"


def swiglu(x: str, y: str) -> str:
    return f"""a{y} = MatMul({x}, w1) z{y} = Sigmoid(a{y}) k{y} = Mul(a{y}, z{y}) f{y} = MatMul({x}, w3)
    l{y} = Mul(k{y}, f{y}) {y} = MatMul(l{y}, w2)"""


def transformer(norm: Norm, branch: Callable[[str, str], str] = gelu, *, tied: bool = False, post: bool = False) -> str:
    """One block of attention and a branch, with learned positions, between an embedding and a head."""
    attention = """q = MatMul({0}, wq) k = MatMul({0}, wk) v = MatMul({0}, wv) kt = Transpose<perm=[0,2,1]>(k)
    s = MatMul(q, kt) p = Softmax<axis=-1>(s) o = MatMul(p, v) a = MatMul(o, wo)"""
    head = "tt = Transpose<perm=[1,0]>(table) y = MatMul(last, tt)" if tied else "y = MatMul(last, head)"
    if post:
        body = f"{attention.format('x0')} x1 = Add(x0, a) {norm('x1', 'x2', '1')} {branch('x2', 'x3')} x4 = Add(x2, x3)"
    else:
        body = f"""{norm("x0", "n1", "1")} {attention.format("n1")} x1 = Add(x0, a) {norm("x1", "n2", "2")}
        {branch("n2", "x3")} x4 = Add(x1, x3)"""
    return f"(int64[2,{N}] ids) => (float[2,{N},{V}] y) {{ t = Gather(table, ids) x0 = Add(t, places) {body} {norm('x4', 'last', '3')} {head} }}"


SHAPES: dict[str, tuple[int, ...]] = {
    **{f"{kind}{k}": (D,) for kind in "gb" for k in (1, 2, 3)},
    "table": (V, D),
    "places": (N, D),
    "wq": (D, 6),
    "wk": (D, 6),
    "wv": (D, 6),
    "wo": (6, D),
    "head": (D, V),
    "w1": (D, F),
    "w3": (D, F),
    "w2": (F, D),
    "c1": (F,),
    "c2": (D,),
}


def model(text: str, dtype: Any = np.float32, opset: int = 17) -> ModelProto:
    """The text with random weights, in another floating point type if asked for."""
    epsilon = EPSILON if dtype == np.float32 else COMMON
    made = parse(text.replace(f"epsilon={EPSILON}", f"epsilon={epsilon}"), opset)
    rng = np.random.default_rng(1)
    used = {name for node in made.graph.node for name in node.input}
    values = {"eps": np.array(epsilon), "two": np.array(2.0), "one": np.array(1.0)}
    for name, shape in SHAPES.items():
        values[name] = rng.normal(0.4 if name in ("table", "places", "c2") else 0, 0.7, shape)
    made.graph.initializer.extend(
        numpy_helper.from_array(value.astype(dtype), name) for name, value in values.items() if name in used
    )
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    made.graph.output[0].type.tensor_type.elem_type = kind
    if dtype != np.float32:
        _in_type(made, kind, values)
    return made


def _in_type(made: ModelProto, kind: int, values: dict[str, Any]) -> None:
    """Casts of a half precision network go up and down, with a single precision epsilon; others stay in their type."""
    for node in made.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and (node.output[0].startswith("h") or kind != TensorProto.FLOAT16):
                attribute.i = kind
    if kind == TensorProto.FLOAT16 and any(node.op_type == "Cast" for node in made.graph.node):
        for tensor in made.graph.initializer:
            if tensor.name in ("eps", "two", "one"):
                tensor.CopyFrom(numpy_helper.from_array(values[tensor.name].astype(np.float32), tensor.name))


ROWS: dict[str, Callable[..., ModelProto]] = {
    "LayerNormalization": lambda dtype: model(transformer(fused), dtype),
    "LayerNormalization without bias": lambda dtype: model(transformer(without_bias), dtype),
    "LayerNormalization written out": lambda dtype: model(transformer(written), dtype),
    "LayerNormalization as TensorFlow writes it": lambda dtype: model(transformer(keras), dtype),
    "LayerNormalization without scale": lambda dtype: model(transformer(plain), dtype),
    "RMSNormalization": lambda dtype: model(transformer(standard_rms, swiglu), dtype, 23),
    "SimplifiedLayerNormalization": lambda dtype: model(transformer(fused_rms, swiglu), dtype),
    "RMS written out with casts": lambda dtype: model(transformer(written_rms, swiglu), dtype),
    "RMS as Gemma has it": lambda dtype: model(transformer(gemma, swiglu), dtype),
    "tied embeddings": lambda dtype: model(transformer(fused, tied=True), dtype),
    "tied embeddings, RMS": lambda dtype: model(transformer(fused_rms, swiglu, tied=True), dtype),
    "RMS after each branch": lambda dtype: model(transformer(fused_rms, swiglu, post=True), dtype),
}
DTYPES = {"float32": np.float32, "float16": np.float16, "float64": np.float64}
BARS = {np.float32: 3e-6, np.float16: 6e-3, np.float64: 1e-11}
AXIS = "table:1"
TYPED = sorted(ROWS.keys() - {"RMSNormalization", "SimplifiedLayerNormalization", "LayerNormalization without scale"})
"""Rows in other types: onnxruntime has no kernels for some, and without scales half precision rounds all weights."""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("row", ROWS)
def test_any_width_is_exact(row: str, width: str) -> None:
    teacher = ROWS[row](np.float32)
    made = widen(teacher, widths={AXIS: WIDTHS[width]}, seed=3)
    verdict = made.verify()
    assert verdict, verdict.reason
    assert max(output.max_rel for output in verdict.outputs) < BARS[np.float32]
    (axis,) = made.plan.axes
    assert (axis.name, axis.new, axis.filler) == (AXIS, WIDTHS[width], WIDTHS[width] % D)
    assert bool(made.plan.numbers or any(c.scale != 1 for c in made.plan.constants)) == bool(axis.filler)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("row", TYPED)
def test_every_type_is_exact(row: str, dtype: str) -> None:
    kind = DTYPES[dtype]
    made = widen(ROWS[row](kind), widths={AXIS: 3 * D // 2}, seed=3)
    verdict = made.verify(rtol=1e-11 if kind is np.float64 else None)
    assert verdict, verdict.reason
    assert max(output.max_rel for output in verdict.outputs) < BARS[kind]


@pytest.mark.parametrize("row", ROWS)
def test_every_tensor_on_the_way(row: str) -> None:
    made = widen(ROWS[row](np.float32), widths={AXIS: 13})
    layers = verify(made.teacher, made.model, plan=made.plan, per_layer=True).layers
    assert layers is not None
    assert layers.first is None, str(layers.first)
    assert len(layers.tensors) > 8


@pytest.mark.parametrize("split", ["even", "uneven", "scatter", "first"])
def test_every_split(split: Any) -> None:
    made = widen(ROWS["tied embeddings"](np.float32), factor=2.4, split=split)
    assert made.verify()
    assert made.plan.axes[0].filler == 3


def test_a_factor_and_round_to() -> None:
    teacher = ROWS["LayerNormalization"](np.float32)
    axes = {axis.name: (axis.new, axis.filler) for axis in widen(teacher, factor=1.5).plan.axes}
    assert axes[AXIS] == (12, 4)
    assert axes["w1:1"] == (18, 0)
    rounded = widen(teacher, factor=1.3, round_to=7)
    assert {axis.name: axis.new for axis in rounded.plan.axes}[AXIS] == 14
    assert rounded.verify()
    assert {info.axis.name: info.status for info in inspect(teacher).axes}[AXIS] == "filled"


def test_a_shared_table_becomes_two() -> None:
    made = widen(ROWS["tied embeddings"](np.float32), widths={AXIS: 12})
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.model.graph.initializer}
    lookup = held[next(node for node in made.model.graph.node if node.op_type == "Gather").input[0]]
    np.testing.assert_allclose(lookup[:, D:], lookup[:, :D].mean(1, keepdims=True).repeat(4, 1), rtol=1e-6)
    contracted = held[made.model.graph.node[-1].input[1]]
    assert contracted.shape == (12, V)
    assert not contracted[D:].any()


def test_filler_of_a_root_mean_square_is_zero() -> None:
    made = widen(ROWS["SimplifiedLayerNormalization"](np.float32), widths={AXIS: 12})
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.model.graph.initializer}
    for name in ("table", "places", "wo", "w2"):
        assert not held[name][..., D:].any()
        assert held[name][..., :D].any()


REFUSED: dict[str, tuple[str, str]] = {
    "post-norm": (transformer(fused, post=True), "holds the mean, which LayerNormalization 'x2' does not give"),
    "a scale for each unit": (
        transformer(fused, lambda x, y: f"{gelu(x, 'r' + y)} {y} = Mul(r{y}, g2)"),
        "holds the mean, which Mul 'x3' does not give",
    ),
    "an activation": (
        transformer(fused, lambda x, y: f"{gelu(x, 'r' + y)} {y} = Relu(r{y})"),
        "holds the mean, which Relu 'x3' does not give",
    ),
    "both norms": (
        transformer(lambda x, y, k: (fused if k == "1" else fused_rms)(x, y, k)),
        "would have to hold the mean and zero",
    ),
    "the square of the mean": (
        transformer(
            lambda x, y, k: (
                f"""m{y} = ReduceMean<axes=[-1]>({x}) s{y} = Mul({x}, {x}) v{y} = ReduceMean<axes=[-1]>(s{y})
            z{y} = Mul(m{y}, m{y}) e{y} = Sub(v{y}, z{y}) r{y} = Sqrt(e{y}) {y} = Div({x}, r{y})"""
            )
        ),
        "would have to hold the mean and zero",
    ),
    "statistics of the stream as an output": (
        transformer(fused_rms).replace("(float[2,5,11] y)", "(float[2,5,11] y, float[2,5,1] z)")[:-1]
        + "z2 = Mul(x4, x4) z = ReduceMean<axes=[-1]>(z2) }",
        "a power of eta scales z, and it is a graph output",
    ),
    "a largest unit": (
        transformer(fused).replace("(float[2,5,11] y)", "(float[2,5,11] y, float[2,5,1] z)")[:-1]
        + "z = ReduceMax<axes=[-1]>(x4) }",
        "needs filler that holds copies",
    ),
}


@pytest.mark.parametrize("row", REFUSED)
def test_what_cannot_have_filler_grows_by_whole_multiples(row: str) -> None:
    text, reason = REFUSED[row]
    teacher = model(text)
    made = widen(teacher, factor=1.5)
    assert AXIS not in {axis.name for axis in made.plan.axes}
    assert reason in made.skipped[AXIS]
    with pytest.raises(RequestError, match="whole multiple"):
        widen(teacher, widths={AXIS: 12})
    doubled = widen(teacher, widths={AXIS: 16})
    assert doubled.verify()
    assert not doubled.plan.axes[0].filler


def test_a_plan_says_it_all() -> None:
    teacher = ROWS["tied embeddings"](np.float32)
    made = widen(teacher, widths={AXIS: 13}, seed=2)
    text = made.plan.to_json()
    assert Plan.from_json(text) == made.plan
    again = widen(teacher, plan=text)
    assert again.model.SerializeToString(deterministic=True) == made.model.SerializeToString(deterministic=True)
    for wrong in (
        dataclasses.replace(made.plan, numbers=()),
        dataclasses.replace(made.plan, axes=(dataclasses.replace(made.plan.axes[0], filler=0),)),
        dataclasses.replace(made.plan, axes=(dataclasses.replace(made.plan.axes[0], filler=6),)),
    ):
        with pytest.raises(RequestError):
            widen(teacher, plan=wrong)


def constants(plan: Plan, **change: Any) -> Plan:
    """The plan with something else in every constant that has it."""
    ((key, value),) = change.items()
    changed = tuple(dataclasses.replace(c, **{key: value(c)}) for c in plan.constants)
    assert changed != plan.constants
    return dataclasses.replace(plan, constants=changed)


MUTATIONS: dict[str, tuple[str, Callable[[Plan], Plan]]] = {
    "no eta in epsilon": ("LayerNormalization", lambda plan: dataclasses.replace(plan, numbers=())),
    "no eta in a written epsilon": (
        "LayerNormalization written out",
        lambda plan: constants(plan, scale=lambda c: 1.0 if c.source == "eps" else c.scale),
    ),
    "no eta in scales": ("LayerNormalization", lambda plan: constants(plan, scale=lambda c: 1.0)),
    "zero instead of the mean": (
        "LayerNormalization",
        lambda plan: constants(plan, fills=lambda c: tuple(FillPlan(f.axis, f.over, "zero") for f in c.fills)),
    ),
    "a copy instead of the mean": ("LayerNormalization", lambda plan: constants(plan, fills=lambda c: ())),
    "the mean instead of zero": (
        "SimplifiedLayerNormalization",
        lambda plan: constants(plan, fills=lambda c: tuple(FillPlan(f.axis, f.over, "mean") for f in c.fills)),
    ),
    "no filler at all": (
        "SimplifiedLayerNormalization",
        lambda plan: dataclasses.replace(plan, axes=(dataclasses.replace(plan.axes[0], filler=0),)),
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutations_are_caught(mutation: str) -> None:
    row, mutate = MUTATIONS[mutation]
    teacher = ROWS[row](np.float32)
    plan = widen(teacher, widths={AXIS: 13}).plan
    assert verify(teacher, apply(teacher, plan))
    assert not verify(teacher, apply(teacher, mutate(plan)))


def test_a_student_is_a_teacher_too() -> None:
    teacher = ROWS["LayerNormalization written out"](np.float32)
    once = widen(teacher, factor=1.5)
    twice = widen(once.model, factor=1.4)
    assert {axis.name: axis.filler for axis in twice.plan.axes}[AXIS] == 5
    assert verify(teacher, twice.model)


@pytest.mark.parametrize("row", ["LayerNormalization written out", "RMS written out with casts"])
def test_in_segments(row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments.in_segments, "__defaults__", (None, 300))
    teacher = ROWS[row](np.float32)
    made = widen(teacher, widths={AXIS: 13})
    verdict = verify(teacher, made.model, plan=made.plan, scope="sample")
    assert verdict, verdict.reason
    assert "in 1 segments" not in verdict.notices[0]
    worse = constants(made.plan, scale=lambda c: 1.0)
    assert not verify(teacher, apply(teacher, worse), plan=made.plan, scope="sample")
