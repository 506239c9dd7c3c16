"""Graph inputs and outputs whose shapes may change: caches and other states, and what is none."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import ModelProto, numpy_helper

import onnx_net2net
from onnx_net2net import Expansion, Plan, RequestError, UsageError, inspect, verify, widen
from onnx_net2net.checking import verify as verifying
from onnx_net2net.checking.permuted import permutations
from onnx_net2net.cli import cli
from onnx_net2net.planning.borders import BorderPlan
from tests.law import Feeds, fill, parse, run

PARTS = """q = MatMul(x, wq) q4 = Reshape(q, c) qt = Transpose<perm=[0,2,1,3]>(q4)
  k = MatMul(x, wk) k4 = Reshape(k, c) kt = Transpose<perm=[0,2,1,3]>(k4)
  v = MatMul(x, wv) v4 = Reshape(v, d) vt = Transpose<perm=[0,2,1,3]>(v4)"""
CACHE = f"""(float[B,T,6] x, float[B,2,P,4] past_k, float[B,2,P,3] past_v)
  => (float[B,T,5] y, float[B,2,S,4] present_k, float[B,2,S,3] present_v)
  <float[6,8] wq, float[6,8] wk, float[6,6] wv, float[6,5] wo,
   int64[4] c = {{0,0,2,4}}, int64[4] d = {{0,0,2,3}}, int64[3] e = {{0,0,6}}>
{{ {PARTS} present_k = Concat<axis=2>(past_k, kt) present_v = Concat<axis=2>(past_v, vt)
  kk = Transpose<perm=[0,1,3,2]>(present_k) s = MatMul(qt, kk) p = Softmax<axis=-1>(s) w = MatMul(p, present_v)
  wt = Transpose<perm=[0,2,1,3]>(w) m = Reshape(wt, e) y = MatMul(m, wo) }}"""
DELTA = (
    CACHE.replace("B,2,S,", "B,2,T,")
    .replace("present_k", "all_k")
    .replace("present_v", "all_v")
    .replace("] all_k,", "] kt,")
    .replace("] all_v)", "] vt)")
)
MASKED = CACHE.replace("float[B,T,6] x,", "float[B,T,6] x, float[B,1,T,MASK] mask,").replace(
    "p = Softmax<axis=-1>(s)", "sm = Add(s, mask) p = Softmax<axis=-1>(sm)"
)
LSTM = """(float[4,2,3] x, float[1,2,4] h0, float[1,2,4] c0) => (float[4,2,5] y, float[1,2,4] h1, float[1,2,4] c1)
  <float[1,16,3] w, float[1,16,4] r, float[1,32] b, float[4,5] o, int64[1] one = {1}>
{ a, h1, c1 = LSTM<hidden_size=4>(x, w, r, b, , h0, c0) s = Squeeze(a, one) y = MatMul(s, o) }"""
GRU = """(float[4,2,3] x, float[1,2,4] h0) => (float[4,1,2,4] y, float[1,2,4] h1)
  <float[1,12,3] w, float[1,12,4] r, float[1,24] b> { y, h1 = GRU<hidden_size=4>(x, w, r, b, , h0) }"""
MAMBA = """(float[B,T,3] x, float[B,4,2] conv_in, float[B,4,6] ssm_in)
  => (float[B,T,5] y, float[B,4,2] conv_out, float[B,4,6] ssm_out)
  <float[3,4] w, float[4,1,3] f, float[4,6] a, float[6] n, float[4,5] o,
   int64[1] start = {-2}, int64[1] end = {9223372036854775807}, int64[1] axis = {2}>
{ u = MatMul(x, w) t = Transpose<perm=[0,2,1]>(u) j = Concat<axis=2>(conv_in, t) conv_out = Slice(j, start, end, axis)
  g = Conv<kernel_shape=[3], group=4>(j, f) r = Relu(g) i = ReduceMean<axes=[2], keepdims=1>(r)
  sa = Mul(ssm_in, a) si = Mul(i, n) ssm_out = Add(sa, si) z = ReduceMax<axes=[2], keepdims=1>(ssm_out)
  m = Add(r, z) mt = Transpose<perm=[0,2,1]>(m) y = MatMul(mt, o) }"""
STATES: dict[str, tuple[str, set[str]]] = {
    "cache": (CACHE, {"past_k", "past_v", "present_k", "present_v"}),
    "cache of which the new part is given": (DELTA, {"past_k", "past_v", "kt", "vt"}),
    "cache and mask": (MASKED, {"past_k", "past_v", "present_k", "present_v"}),
    "recurrent": (LSTM, {"h0", "c0", "h1", "c1"}),
    "state space": (MAMBA, {"conv_in", "conv_out", "ssm_in", "ssm_out"}),
}
PIXELS = "(float[2,3,8,8] x{}) => (float[2,3,8,8] y{}) <float[3,3,1,1] w, float[3,5] o, float[3,4] t> {{ h = Conv(x, w) y = Add(h, x) {} }}"
SCORES = "p = GlobalAveragePool(y) f = Flatten(p) z = MatMul(f, o)"
STREAM = """(float[2,T,6] x, float[2,T,1] mask) => (float[2,T,6] y, float[2,T,5] z) <float[6,6] w, float[6,5] o>
  { a = Mul(x, mask) h = MatMul(a, w) r = Relu(h) y = Add(r, x) z = MatMul(y, o) }"""
STATELESS = {
    "pixels": PIXELS.format("", "", ""),
    "pixels and scores": PIXELS.format("", ", float[2,5] z", SCORES),
    "pixels and time": PIXELS.format(", float[2,3,1,1] t2", "", "u = Add(y, t2)").replace(
        "float[2,3,8,8] y", "float[2,3,8,8] u"
    ),
    "embeddings": STREAM,
    "hidden states that are outputs too": GRU,
    "ids": "(int64[2,3] x, int64[2,3] k) => (int64[2,3] y, float[2,3,4] z) <float[9,4] e> { y = Add(x, k) z = Gather(e, x) }",
}


def model(graph: str) -> ModelProto:
    return fill(parse(graph, 17), low=-1, high=1)


def rows(names: str, table: Mapping[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(names, list(table.values()), ids=list(table))


@pytest.mark.parametrize("dims", [{}, {"B": 2, "T": 2, "P": 3, "MASK": 5}], ids=["drawn", "given"])
@rows("row", STATES)
def test_states_grow(row: tuple[str, set[str]], dims: dict[str, int]) -> None:
    teacher = model(row[0])
    plain, made = widen(teacher, factor=1.5), widen(teacher, factor=1.5, allow_io_change=True)
    assert {border.name for border in made.plan.borders} == row[1]
    assert len(made.plan.axes) > len(plain.plan.axes)
    assert not plain.plan.borders
    dims = dims or {"MASK": 4}
    for expansion in (plain, made):
        verdict = expansion.verify(dims=dims) if expansion.plan.changes else True
        assert verdict, getattr(verdict, "reason", "")
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*made.model.graph.input, *made.model.graph.output)
    }
    for border in made.plan.borders:
        assert [max(n, 0) for n in border.new] == shapes[border.name]


@rows("graph", STATELESS)
def test_what_is_no_state_stays(graph: str) -> None:
    teacher = model(graph)
    assert widen(teacher, factor=1.5, allow_io_change=True).plan == widen(teacher, factor=1.5).plan


def cached(**options: Any) -> Expansion:
    """A network of more and wider heads, with its cache."""
    widths = {"heads": 3, "head_qk": 7, "head_v": 5}
    return widen(model(CACHE), widths=widths, seed=1, allow_io_change=True, **options)


SIZES = {"B": 2, "T": 2, "P": 3}


def test_keys_in_a_cache_are_whole_and_queries_take_the_fractions() -> None:
    made = widen(model(CACHE), widths={"head_qk": 7}, allow_io_change=True)
    assert {c.source for c in made.plan.constants if c.splits} == {"wq"}
    assert {b.name: b.new for b in made.plan.borders} == {"past_k": (-1, 2, -1, 7), "present_k": (-1, 2, -1, 7)}
    assert made.verify(dims=SIZES)


def steps(network: ModelProto, names: tuple[str, str], state: Feeds, tokens: list[np.ndarray]) -> list[Feeds]:
    """What a network gives token by token, each time on the state that it gave before."""
    found = []
    for token in tokens:
        given = run(network, {"x": token, **state})
        state = {name: given[name.replace(*names)] for name in state}
        found.append(given)
    return found


LOOPS: dict[str, tuple[str, tuple[str, str], tuple[int, ...], dict[str, tuple[int, ...]]]] = {
    "cache": (CACHE, ("past", "present"), (2, 1, 6), {"past_k": (2, 2, 0, 4), "past_v": (2, 2, 0, 3)}),
    "recurrent": (LSTM, ("0", "1"), (4, 2, 3), {"h0": (1, 2, 4), "c0": (1, 2, 4)}),
    "state space": (MAMBA, ("in", "out"), (2, 1, 3), {"conv_in": (2, 4, 2), "ssm_in": (2, 4, 6)}),
}


@rows("loop", LOOPS)
def test_states_go_round(loop: tuple[str, tuple[str, str], tuple[int, ...], dict[str, tuple[int, ...]]]) -> None:
    graph, names, shape, states = loop
    teacher = model(graph)
    made = widen(teacher, factor=1.75, seed=3, allow_io_change=True)
    rng = np.random.default_rng(0)
    tokens = [rng.standard_normal(shape).astype(np.float32) for _ in range(5)]
    state = {name: rng.standard_normal(size).astype(np.float32) for name, size in states.items()}
    before, after = steps(teacher, names, state, tokens), steps(made.model, names, made.plan.gathered(state), tokens)
    for mine, theirs in zip(before, after, strict=True):
        for name, value in made.plan.gathered(mine).items():
            np.testing.assert_allclose(theirs[name], value, rtol=0, atol=2e-5 * np.abs(value).max())
        assert np.ptp(mine["y"]) > 0.1
    assert {name for name in state if made.plan.gathered(state)[name].shape == state[name].shape} == set()


def turned(plan: Plan, name: str) -> Plan:
    """The plan with two units of one input or output exchanged."""

    def swap(units: tuple[int, ...]) -> tuple[int, ...]:
        return (units[1], units[0], *units[2:])

    borders = [
        dataclasses.replace(b, units=tuple((axis, swap(units)) for axis, units in b.units)) if b.name == name else b
        for b in plan.borders
    ]
    return dataclasses.replace(plan, borders=tuple(borders))


@pytest.mark.parametrize("name", ["past_k", "past_v", "present_k", "present_v"])
def test_a_wrong_map_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the maps of the plan say, and where that is not asked, by the tensors."""
    made = cached()
    for scope in ("full", "sample"):
        assert verify(made.teacher, made.model, plan=made.plan, dims=SIZES, scope=scope)
    with pytest.raises(RequestError, match="hold something else than its maps say"):
        verify(made.teacher, made.model, plan=turned(made.plan, name), dims=SIZES)
    monkeypatch.setattr(verifying, "check_borders", lambda teacher, plan: None)
    assert not verify(made.teacher, made.model, plan=turned(made.plan, name), dims=SIZES)


@pytest.mark.parametrize("source", ["wk", "wv", "wq"])
def test_weights_that_do_not_follow_the_cache_are_caught(source: str) -> None:
    made = cached()
    assert verify(made.teacher, made.model, plan=made.plan, dims=SIZES, scope="sample")
    student = ModelProto()
    student.CopyFrom(made.model)
    tensor = next(t for t in student.graph.initializer if t.name == source)
    value = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.roll(value, 1, axis=1), source))
    for scope in ("full", "sample"):
        assert not verify(made.teacher, student, plan=made.plan, dims=SIZES, scope=scope), scope


def test_a_plan_that_lies_about_an_output_hides_nothing() -> None:
    """Held to what the plan says of ``y``, a student that gives the first score for every class would pass."""
    teacher = fill(
        parse("(float[2,3] x) => (float[2,5] y) <float[3,4] w, float[4,5] o> { h = MatMul(x, w) y = MatMul(h, o) }")
    )
    made = widen(teacher, factor=2)
    liar = ModelProto()
    liar.CopyFrom(made.model)
    for tensor in liar.graph.initializer:
        if tensor.name == "o":
            value = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.repeat(value[:, :1], 5, 1), "o"))
    forged = BorderPlan("y", "output", (2, 5), (2, 5), ((1, (0,) * 5),))
    assert verify(teacher, made.model, plan=made.plan)
    assert not verify(teacher, liar, plan=made.plan)
    with pytest.raises(RequestError, match="hold something else than its maps say"):
        verify(teacher, liar, plan=dataclasses.replace(made.plan, borders=(forged,)).to_json())


def test_a_check_without_the_plan_asks_for_it() -> None:
    made = cached()
    verdict = verify(made.teacher, made.model, dims=SIZES)
    assert "input 'past_k' takes [?, 3, ?, 7] and not [?, 2, ?, 4]" in verdict.reason
    assert "give the plan that made the student (--plan)" in verdict.reason
    wide = widen(model(CACHE), widths={"heads": 4}, allow_io_change=True)
    assert (
        "takes [?, 4, ?, 4] and not [?, 3, ?, 7]" in verify(made.teacher, wide.model, plan=made.plan, dims=SIZES).reason
    )


def test_outputs_alone_may_change() -> None:
    first = fill(parse("(float[2,6] x) => (float[2,8] y) <float[6,8] w> { y = MatMul(x, w) }"))
    made = widen(first, factor=1.5, allow_io_change="y")
    assert [str(b) for b in made.plan.borders] == ["output y [2, 8] -> [2, 12]"]
    assert made.verify()
    assert "its shapes differ, [2, 8] against [2, 12]; if" in verify(first, made.model).reason


NAMED: dict[str, tuple[str, Any, Any]] = {
    "by name": (GRU, ["h0", "h1", "y"], {"h0", "h1", "y"}),
    "by glob": (CACHE, ["past_*", "present_*"], {"past_k", "past_v", "present_k", "present_v"}),
    "one of two": (CACHE, ["*_k"], {"past_k", "present_k"}),
    "inputs without outputs": (CACHE, "past_*", set()),
    "pixels": (PIXELS.format("", "", ""), "*", {"x", "y"}),
}


@rows("row", NAMED)
def test_names_say_what_may_change(row: tuple[str, Any, set[str]]) -> None:
    made = widen(model(row[0]), widths=None, factor=1.5, allow_io_change=row[1])
    assert {border.name for border in made.plan.borders} == row[2]
    assert not made.plan.changes or made.verify(dims=SIZES)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(
        RequestError, match=r"allow_io_change \(past\): no graph input or output .* there are x, past_k"
    ):
        widen(model(CACHE), factor=2, allow_io_change=["past"])
    with pytest.raises(UsageError, match="a plan already says"):
        widen(model(CACHE), plan=cached().plan, allow_io_change=True)


def test_pins_name_the_way_out() -> None:
    pinned = {info.axis.name: info for info in inspect(model(CACHE)).axes}
    assert (
        "graph input 'past_v': its shape must stay unless states may change (--allow-io-change)"
        in pinned["wv:1[1]"].reason
    )
    assert "--allow" not in pinned["wo:1"].reason
    with pytest.raises(RequestError, match=r"allow it \(--allow-io-change\)"):
        widen(model(CACHE), widths={"head_v": 6})
    with pytest.raises(RequestError, match=r"if callers can follow, .* \(--allow-io-change=y\)"):
        widen(model(CACHE), widths={"wo:1": 6}, allow_io_change=True)
    able = {info.axis.name: info.status for info in inspect(model(CACHE), allow_io_change=True).axes}
    assert able["wv:1[1]"] == "free"


def test_a_plan_is_derived_again_and_carries_the_maps() -> None:
    made = cached()
    again = widen(made.teacher, plan=made.plan.to_json())
    assert again.plan == made.plan
    assert again.model.SerializeToString() == made.model.SerializeToString()
    with pytest.raises(RequestError, match="does not follow from its own maps"):
        widen(made.teacher, plan=turned(made.plan, "past_k"))
    with pytest.raises(RequestError, match="it cannot grow"):
        widen(made.teacher, plan=dataclasses.replace(made.plan, borders=()))


def test_steps_of_a_recipe_change_shapes_one_after_the_other() -> None:
    step = {"do": "widen", "factor": 1.5, "allow-io-change": True}
    made = onnx_net2net.expand(model(CACHE), {"seed": 2, "steps": [step, step]})
    assert [b.new for b in made.plan.steps[1].borders if b.name == "past_k"] == [(-1, 5, -1, 4)]
    assert {name: [len(u) for u in units.values()] for name, units in made.plan.crossings.items()}["past_k"] == [5]
    assert made.verify(dims=SIZES)
    assert Plan.from_json(made.plan.to_json()).crossings.keys() == made.plan.crossings.keys()


def test_noise_on_a_cache_is_measured() -> None:
    made = cached(noise=0.05)
    assert made.verify(dims=SIZES)
    assert max(output.max_rel for output in made.drift(dims=SIZES).outputs) > 1e-4


def test_permuted_teachers_permute_states_too() -> None:
    names = {"past_k", "past_v", "present_k", "present_v"}
    teacher = model(CACHE)
    shuffled, order = next(permutations(teacher, names))
    assert order.units.keys() == names
    assert any((units != np.arange(len(units))).any() for known in order.units.values() for units in known.values())
    assert not list(permutations(teacher)), "nothing else can be permuted"
    assert isinstance(shuffled, ModelProto)
    assert "permuted teacher" in cached().verify(dims=SIZES).outputs[0].noises


NORMED = CACHE.replace(
    "kt = Transpose<perm=[0,2,1,3]>(k4)", "kn = RMSNormalization(k4, g) kt = Transpose<perm=[0,2,1,3]>(kn)"
).replace("<float[6,8] wq,", "<float[4] g, float[6,8] wq,")


def test_a_cache_holds_no_filler() -> None:
    teacher = fill(parse(NORMED, 23), low=-1, high=1)
    with pytest.raises(RequestError, match="callers would see filler in p"):
        widen(teacher, widths={"head_qk": 7}, allow_io_change=True)
    made = widen(teacher, widths={"head_qk": 8}, allow_io_change=True)
    assert not any(axis.filler for axis in made.plan.axes)
    assert made.verify(dims=SIZES)


def test_sizes_of_dynamic_dimensions_that_follow_from_others() -> None:
    summed = model(MASKED)
    for value in summed.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == "MASK":
                dim.dim_param = "P + T"
    made = widen(summed, factor=1.5, allow_io_change=True)
    assert made.verify()
    assert made.verify(dims={"P": 4, "T": 1})
    assert not made.verify(dims={"P": 4, "T": 1, "P + T": 5}).reason


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(model(CACHE), "t.onnx")

    def call(text: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, text.split())
        assert result.exit_code == code, result.output
        return result.stdout if not code else result.output

    dims = "--dim B=2 --dim T=2 --dim P=3"
    told = call("widen --allow-io-change t.onnx --factor 1.5 --dry-run")
    assert "input past_k" in " ".join(told.split())
    assert "dimension 1: 0 1" in told
    made = json.loads(call(f"widen t.onnx -o s.onnx --plan-out p.json --factor 1.5 --allow-io-change --json {dims}"))
    assert [b["name"] for b in made["borders"]] == ["past_k", "past_v", "present_k", "present_v"]
    assert made["borders"][0]["new"] == [None, 3, None, 4]
    assert made["verification"]["equivalent"]
    assert "(--plan)" in call(f"check t.onnx s.onnx {dims}", 1)
    assert "equivalent" in call(f"check t.onnx s.onnx --plan p.json --per-layer {dims}")
    assert "head_v cannot grow" in call("widen t.onnx -o n.onnx --width head_v=6", 3)
    assert "excludes --allow-io-change" in call("widen t.onnx -o n.onnx --plan p.json --allow-io-change", 2)
    assert "alone it means states" in call("widen t.onnx -o n.onnx --factor 2 --allow-io-change --allow-io-change=x", 2)
    assert "wv:1[1]" in call("inspect t.onnx --allow-io-change=*_v")
    kept = {p.key: p.value for p in onnx.load("s.onnx").metadata_props}
    assert kept["onnx_net2net.io"].startswith("input past_k [?, 2, ?, 4] -> [?, 3, ?, 4]; ")
