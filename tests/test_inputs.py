"""Inputs of a check: what is drawn, what the graph says of integers, what files and functions give, and what probes see."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from onnx_net2net import RequestError, UsageError, verify
from onnx_net2net.checking.inputs import PROBES, Samples, samples_for
from onnx_net2net.checking.ranges import Range, indexing
from onnx_net2net.checking.sources import read, write
from tests.law import fill, parse


def rows(names: str, table: Mapping[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(names, list(table.values()), ids=list(table))


def model(graph: str, opset: int = 17) -> ModelProto:
    return fill(parse(graph, opset))


# Integers

INDICES = {
    "Gather": ("(int64[2,3] i) => (y) <float[7,4] w> { y = Gather(w, i) }", 0, 6),
    "an inner axis": ("(int64[2] i) => (y) <float[7,4] w> { y = Gather<axis=-1>(w, i) }", 0, 3),
    "through moves": (
        "(int32[2,3] i) => (y) <float[9,4] w, int64[1] s = {-1}> { c = Cast<to=7>(i) r = Reshape(c, s) t = Identity(r) y = Gather(w, t) }",
        0,
        8,
    ),
    "a float that becomes an index": (
        "(float[2] i) => (y) <float[9,4] w> { c = Cast<to=7>(i) y = Gather(w, c) }",
        0,
        8,
    ),
    "two tables": ("(int64[2] i) => (y, z) <float[9,4] w, float[5,4] v> { y = Gather(w, i) z = Gather(v, i) }", 0, 4),
    "a computed table": ("(float[2,3] x, int64[4] i) => (y) { t = Neg(x) y = Gather<axis=1>(t, i) }", 0, 2),
    "a dynamic axis": ("(float[n,3] x, int64[4] i) => (y) { t = Neg(x) y = Gather(t, i) }", 0, 4),
    "GatherElements": ("(int64[2,3] i) => (y) <float[5,3] w> { y = GatherElements(w, i) }", 0, 4),
    "GatherND": ("(int64[4,2] i) => (y) <float[8,5,3] w> { y = GatherND(w, i) }", 0, 4),
    "GatherND of batches": ("(int64[8,1] i) => (y) <float[8,5,3] w> { y = GatherND<batch_dims=1>(w, i) }", 0, 4),
    "ScatterElements": ("(int64[2,3] i, float[2,3] u) => (y) <float[6,3] w> { y = ScatterElements(w, i, u) }", 0, 5),
    "ScatterND": ("(int64[4,1] i, float[4,3] u) => (y) <float[6,3] w> { y = ScatterND(w, i, u) }", 0, 5),
    "OneHot": ("(int64[4] i) => (y) <int64 d = {6}, float[2] v> { y = OneHot(i, d, v) }", 0, 5),
    "lengths": ("(float[5,2] x, int64[2] i) => (y) { y = ReverseSequence(x, i) }", 1, 5),
    "sequences": (
        "(float[5,2,3] x, int32[2] i) => (y) <float[1,8,3] w, float[1,8,2] r> { y = LSTM<hidden_size=2>(x, w, r, , i) }",
        1,
        5,
    ),
    "labels": ("(float[4,6] x, int64[4] i) => (y) { y = SoftmaxCrossEntropyLoss(x, i) }", 0, 5),
    "arithmetic is not followed": (
        "(int64[2] i) => (y) <float[9,4] w, int64 k = {1}> { a = Add(i, k) y = Gather(w, a) }",
        None,
        None,
    ),
    "a mask": ("(int64[2,3] i) => (y) { y = Cast<to=1>(i) }", None, None),
}


@rows("graph, low, high", INDICES)
def test_the_graph_says_which_integers_have_a_meaning(graph: str, low: int | None, high: int | None) -> None:
    expected = None if low is None else Range(low, high or 0, whole=True)
    assert indexing(model(graph), {"n": 5}).get("i") == expected


@rows("graph, low, high", {name: row for name, row in INDICES.items() if name not in ("lengths", "labels")})
def test_what_is_drawn_stays_in_range_and_uses_it(graph: str, low: int | None, high: int | None) -> None:
    drawn = samples_for(model(graph), None, 20, 0, {"n": 5})
    values = np.concatenate([feed["i"].ravel() for feed in drawn.feeds])
    assert (values.min(), values.max()) == (low or 0, 1 if high is None else high)


def test_a_wrong_row_of_an_embedding_is_seen() -> None:
    """Integers of 0 and 1 alone would read two rows of nine."""
    teacher = model("(int64[4,8] i) => (float[4,8,3] y) <float[9,3] w> { y = Gather(w, i) }")
    wrong = ModelProto()
    wrong.CopyFrom(teacher)
    value = numpy_helper.to_array(teacher.graph.initializer[0]).copy()
    value[7] += 1
    wrong.graph.initializer[0].CopyFrom(numpy_helper.from_array(value, "w"))
    assert verify(teacher, teacher)
    assert not verify(teacher, wrong)
    assert verify(teacher, wrong, ranges={"i": (0, 6)})


TYPES = {"uint8": (0, 255), "int8": (-128, 127), "int64": (0, 1), "bool": (0, 1)}


@pytest.mark.parametrize("kind", TYPES)
def test_other_integers_are_drawn_by_their_type(kind: str) -> None:
    drawn = samples_for(parse(f"({kind}[99,99] x) => (y) {{ y = Identity(x) }}"), None, 1, 0, {}).plain[0]["x"]
    assert (int(drawn.min()), int(drawn.max())) == TYPES[kind]


# Floats

PLAIN = "(float[n,6] x) => (float[n,6] y) { y = Neg(x) }"


def test_floats_are_signed_and_seeded_and_probes_are_what_they_are_called() -> None:
    one, again, other = (samples_for(model(PLAIN), None, 4, seed, {}) for seed in (0, 0, 1))
    assert [feed["x"].shape for feed in one.feeds] == [(2, 6), (2, 6), (3, 6), (5, 6), (5, 6), (5, 6), (5, 6)]
    assert all((a["x"] == b["x"]).all() for a, b in zip(one.feeds, again.feeds, strict=True))
    assert (one.plain[0]["x"] != other.plain[0]["x"]).all()
    assert one.plain[0]["x"].min() < 0 < one.plain[0]["x"].max()
    assert tuple(one.probes) == PROBES
    assert not one.probes["zeros"]["x"].any()
    assert np.abs(one.probes["large"]["x"]).max() > 100
    assert (np.abs(one.probes["one-hot"]["x"]).sum(1) == 1).all()
    assert not samples_for(model(PLAIN), None, 1, 0, {}, probes=False).probes


def test_a_given_range_holds_for_probes_too() -> None:
    drawn = samples_for(model(PLAIN), None, 3, 0, {}, ranges={"x": (0.25, 0.75)})
    assert all((feed["x"] >= 0.25).all() and (feed["x"] <= 0.75).all() for feed in drawn.feeds)
    assert set(drawn.probes["large"]["x"].ravel()) == {0.25, 0.75}
    assert (drawn.probes["one-hot"]["x"] == 0.75).sum(1).tolist() == [1, 1, 1]


@rows(
    "name, low, high, wrong",
    {"unknown": ("z", 0, 1, "no such input; the inputs are x"), "turned": ("x", 1, 0, "1:0 is no range")},
)
def test_ranges_that_make_no_sense(name: str, low: float, high: float, wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        samples_for(model(PLAIN), None, 3, 0, {}, ranges={name: (low, high)})


# What probes see

BOUNDS = "<float low = {-50}, float high = {50}>"


def pointwise(body: str) -> ModelProto:
    return parse(f"(float[4,6] x) => (float[4,6] y) {BOUNDS} {{ {body} }}")


def test_a_wrong_identity_is_caught() -> None:
    """Uniform [0, 1) lets Relu pass for the identity; normal numbers let a wide Clip pass for it."""
    identity = pointwise("y = Identity(x)")
    assert verify(identity, pointwise("y = Relu(x)"), ranges={"x": (0, 1)})
    assert not verify(identity, pointwise("y = Relu(x)"))
    clipped = pointwise("y = Clip(x, low, high)")
    assert verify(identity, clipped, probes=False)
    assert verify(identity, clipped).reason.startswith("output 'y': on the large probe it differs by")


LEFT_OUT = {
    "Inf on large values": ("(float[4,6] x) => (y) { y = Exp(x) }", "large"),
    "NaN on zeros": ("(float[4,6] x) => (y) { n = ReduceL2<axes=[1]>(x) y = Div(x, n) }", "zeros"),
    "a step at zero": (
        "(float[4,6] x) => (y) <float[6,6] a, float[6,6] b> { p = MatMul(x, a) q = MatMul(p, b) y = Sign(q) }",
        "",
    ),
}


@rows("graph, probe", LEFT_OUT)
def test_a_probe_that_breaks_the_teacher_does_not_break_its_student(graph: str, probe: str) -> None:
    teacher = model(graph)
    verdict = verify(teacher, teacher)
    assert verdict, verdict.reason
    assert [notice.partition(":")[0] for notice in verdict.notices] == [probe] * bool(probe)
    assert (probe in verdict.outputs[0].probes) is False


def test_a_tensor_that_is_wrong_on_a_probe_alone_is_found() -> None:
    low, high = "<float low = {-50}, float high = {50}> { a = Neg(x)", "b = Abs(c) y = Neg(b) }"
    graph = "(float[4,6] x) => (float[4,6] y) "
    first, second = (parse(f"{graph} {low} c = {op} {high}") for op in ("Identity(a)", "Clip(a, low, high)"))
    layers = verify(first, second, per_layer=None).layers
    assert layers is not None
    assert layers.first is not None
    assert layers.first.name == "c"


def test_a_probe_counts_only_where_rounding_does_not_decide() -> None:
    """At zero the teacher is a step: which side a sum falls on is rounding, and no fault."""
    graph = "(float[4,6] x) => (float[4,6] y) <float[6] e = {1e-9, 1e-9, 1e-9, 1e-9, 1e-9, 1e-9}> "
    teacher, student = (parse(graph + f"{{ s = {op}(x, e) y = Sign(s) }}") for op in ("Add", "Sub"))
    verdict = verify(teacher, student)
    assert verdict, verdict.reason
    assert any(n.startswith("zeros: left out for output 'y', rounding alone") for n in verdict.notices)


def test_a_student_that_breaks_where_its_teacher_does_not_fails() -> None:
    teacher = parse("(float[4,6] x) => (y) { y = Softplus(x) }")
    student = parse("(float[4,6] x) => (y) <float o = {1}> { e = Exp(x) s = Add(e, o) y = Log(s) }")
    assert verify(teacher, student, probes=False, rtol=1e-5)
    assert "on the large probe the student gives NaN or Inf" in verify(teacher, student, rtol=1e-5).reason


# Files and functions

TWO = "(float[n,3] x, int64[n] i) => (float[n,3] y) <float[5,3] w> { g = Gather(w, i) y = Add(g, x) }"
FEED = {"x": np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32), "i": np.array([0, 4, 2, 1])}


def npz(path: Path) -> str:
    np.savez(path / "x.npz", **FEED)
    return str(path / "x.npz")


def folder(path: Path) -> str:
    for name, value in FEED.items():
        np.save(path / f"{name}.npy", value)
    return str(path)


def folders(path: Path) -> str:
    for k in range(2):
        (path / f"set{k}").mkdir()
        folder(path / f"set{k}")
    return str(path)


def protos(path: Path, names: tuple[str, str] = ("", "")) -> str:
    for place, (name, value) in enumerate(zip(names, FEED.values(), strict=True)):
        (path / f"input_{place}.pb").write_bytes(numpy_helper.from_array(value, name).SerializeToString())
        (path / f"output_{place}.pb").write_bytes(b"")
    return str(path)


def named_protos(path: Path) -> str:
    """Names count, not places."""
    (path / "input_0.pb").write_bytes(numpy_helper.from_array(FEED["i"], "i").SerializeToString())
    (path / "input_1.pb").write_bytes(numpy_helper.from_array(FEED["x"], "x").SerializeToString())
    return str(path)


def data_sets(path: Path) -> str:
    for k in range(3):
        (path / f"test_data_set_{k}").mkdir()
        protos(path / f"test_data_set_{k}")
    return str(path)


def function(path: Path) -> str:
    text = (
        "import numpy as np\ndef samples():\n    for n in (2, 3):\n        yield {'x': np.ones((n, 3)), 'i': [0] * n}\n"
    )
    (path / "my_samples.py").write_text(text)
    return "my_samples:samples"


SOURCES = {
    "npz": (npz, 1),
    "folder": (folder, 1),
    "folders": (folders, 2),
    "protos": (protos, 1),
    "named protos": (named_protos, 1),
    "data sets": (data_sets, 3),
    "function": (function, 2),
}


@rows("make, count", SOURCES)
def test_sources(make: Any, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = make(tmp_path)
    found = samples_for(model(TWO), source, 3, 0, {})
    assert (len(found.plain), found.probes) == (count, {})
    for feed in found.plain:
        assert {name: value.dtype.name for name, value in feed.items()} == {"x": "float32", "i": "int64"}
        if make is not function:
            assert all((feed[name] == FEED[name]).all() for name in FEED)
    assert verify(model(TWO), model(TWO), inputs=source).samples == count


@pytest.mark.parametrize("suffix", [".npy", ".pb"])
def test_one_tensor_is_enough_for_one_input(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, FEED["x"])
    else:
        path.write_bytes(numpy_helper.from_array(FEED["x"]).SerializeToString())
    one = parse("(float[4,3] x) => (float[4,3] y) { y = Neg(x) }")
    assert (read(str(path), one).plain[0]["x"] == FEED["x"]).all()
    with pytest.raises(RequestError, match="it is one tensor, and the model has 2 inputs"):
        read(str(path), model(TWO))


def test_what_was_used_can_be_saved_and_used_again(tmp_path: Path) -> None:
    path = tmp_path / "used.npz"
    teacher = model(TWO)
    first = verify(teacher, teacher, save_inputs=path, seed=3)
    saved = path.read_bytes()
    found = samples_for(teacher, path, 3, 0, {})
    drawn = samples_for(teacher, None, 24, 3, {})
    assert (len(found.plain), tuple(found.probes)) == (24, PROBES)
    for a, b in zip(found.feeds, drawn.feeds, strict=True):
        assert all((a[name] == b[name]).all() and a[name].dtype == b[name].dtype for name in b)
    assert verify(teacher, teacher, inputs=path, save_inputs=tmp_path / "again.npz") == first
    assert (tmp_path / "again.npz").read_bytes() == saved
    assert sorted(os.listdir(tmp_path)) == ["again.npz", "used.npz"]


def test_types_that_numpy_files_do_not_know_survive(tmp_path: Path) -> None:
    short = parse("(bfloat16[2,3] x) => (bfloat16[2,3] y) { y = Identity(x) }")
    drawn = samples_for(short, None, 1, 0, {})
    write(drawn, tmp_path / "x.npz")
    again = samples_for(short, tmp_path / "x.npz", 1, 0, {})
    assert again.plain[0]["x"].dtype == drawn.plain[0]["x"].dtype
    assert (again.plain[0]["x"] == drawn.plain[0]["x"]).all()


BAD = {
    "an input is missing": ({"x": FEED["x"]}, "no value for"),
    "floats for integers": ({**FEED, "i": FEED["x"]}, r"input \(i\): it is float32 in place of int64"),
    "integers that do not fit": ({"n": np.array([2**40])}, r"input \(n\): it is int64 in place of int32"),
    "no mapping": ([[1, 2]], "a sample is a list"),
    "a function that fails": ("bad_samples:fail", r"bad_samples:fail\): ValueError: not today"),
    "a function that is not there": ("bad_samples:none", "AttributeError"),
    "a module that is not there": ("no_such_module:f", "ModuleNotFoundError"),
    "a function that gives nothing": ("bad_samples:nothing", "it gives no samples"),
}


@rows("given, wrong", BAD)
def test_bad_inputs(given: Any, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad_samples.py").write_text("def fail():\n    raise ValueError('not today')\ndef nothing():\n    return []\n")
    narrow = parse("(int32[1] n) => (int32[1] y) { y = Neg(n) }")
    with pytest.raises(UsageError, match=wrong):
        samples_for(narrow if isinstance(given, dict) and "n" in given else model(TWO), given, 3, 0, {})


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"it holds no .npy and no input_0.pb files"):
        read(str(tmp_path), model(TWO))


def test_the_teacher_may_be_unable_to_run_a_probe() -> None:
    """As with probes that ask for an index or a size that is not there."""
    graph = "(float[4,6] x, int64[1] k) => (float[n,6] y) <int64[1] z = {0}, int64[1] e = {0}> { s = Slice(x, z, k, e) y = Neg(s) }"
    teacher = parse(graph)
    drawn = samples_for(teacher, {"x": np.ones((4, 6)), "k": [3]}, 1, 0, {})
    samples = Samples(
        drawn.plain, {"zeros": drawn.plain[0], "large": {**drawn.plain[0], "x": np.ones((4, 7), np.float32)}}
    )
    samples.plain[0]["x"] = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    verdict = verify(teacher, teacher, inputs=samples)
    assert verdict, verdict.reason
    assert verdict.notices[0].startswith("large: left out, the teacher cannot run it")
    assert list(verdict.outputs[0].probes) == ["zeros"]
