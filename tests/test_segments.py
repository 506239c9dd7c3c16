"""The check in segments: cuts, what crosses them, and that it says what the check of whole models says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from onnx_net2net import Expansion, ModelError, RequestError, deepen, expand, io, verify, widen
from onnx_net2net.checking import segments
from onnx_net2net.checking import verify as verifying
from onnx_net2net.checking.segments import Parts
from onnx_net2net.storage.writer import Layout
from tests.exports import DIMS, EXPORTS, export
from tests.law import fill, parse
from tests.networks import build
from tests.test_quantized import network as quantised
from tests.test_random import NAMED
from tests.test_verify import FAULTS, edit, network, put

SMALL = 4096
"""Bytes of weights in a segment, so that even small networks have many."""
SHOWN = [name for name in EXPORTS if name.endswith(("dynamo_raw", "tf2onnx")) or name.startswith(("gpt2", "yolo"))][::2]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments.in_segments, "__defaults__", (None, SMALL))


def told(made: Expansion, student: ModelProto | None = None) -> tuple[bool, int]:
    verdict = verify(made.teacher, student or made.exact, plan=made.plan, dims=DIMS, scope="sample")
    assert verdict.notices[0].endswith("activations")
    return bool(verdict), int(verdict.notices[0].split()[2])


@pytest.mark.parametrize("name", SHOWN)
def test_students_of_real_exporters_pass(name: str) -> None:
    assert told(widen(export(name), factor=2))[0]


IDLE = {"GroupNormalization of a dynamic batch": (0, 1, 2), "an axis that only a reduction reads": (1,)}
"""Networks in which steps have nothing to do, and which."""


@pytest.mark.parametrize("name", NAMED)
def test_networks_of_many_shapes_pass(name: str) -> None:
    teacher = build(NAMED[name][0])
    steps = [{"do": "widen", "factor": 1.5}, {"do": "deepen", "after": "every"}, {"do": "widen", "factor": 2}]
    assert told(widen(teacher, factor=1.5))[0]
    for idle in reversed(IDLE.get(name, ())):
        with pytest.raises(RequestError, match=r"it changes nothing"):
            expand(teacher, {"seed": 1, "steps": [steps.pop(idle)]})
    assert not steps or told(expand(teacher, {"seed": 1, "steps": steps}))[0]


def test_integers_pass() -> None:
    assert told(widen(quantised(), factor=2)) == (True, 1)


@pytest.mark.parametrize(("name", "change"), FAULTS.values(), ids=FAULTS.keys())
def test_damage_is_found_where_it_is(name: str, change: object) -> None:
    made = widen(network(), factor=2)
    verdict = verify(
        made.teacher,
        edit(made.exact, name, change),  # type: ignore[arg-type]
        plan=made.plan,
        scope="sample",
    )
    assert not verdict
    assert "it differs by" in verdict.reason or "is the same" in verdict.reason


DEEP = """(float[n,8] x) => (float[n,3] y) <float[8,64] a, float[64,64] b, float[64,64] c, float[64,3] d> {
    k = MatMul(x, a) l = Tanh(k) m = MatMul(l, b) o = Add(m, l) p = Tanh(o) q = MatMul(p, c) r = Add(q, o)
    s = Tanh(r) y = MatMul(s, d) }"""


def test_cuts_lie_where_least_crosses() -> None:
    parts = Parts(fill(parse(DEEP)))
    cuts = parts.cut(20_000)
    assert [list(cut.nodes) for cut in cuts] == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
    assert [cut.makes for cut in cuts] == [("o",), ("y",)]
    assert [len(cut.nodes) for cut in parts.cut(1)] == [2, 2, 4, 1]
    assert len(parts.cut(10**9)) == 1


def test_an_error_in_one_segment_is_named_there_and_not_carried_on() -> None:
    made = widen(fill(parse(DEEP)), factor=2)
    wrong = edit(made.exact, "b", put((0, 0), lambda value: value[0, 0] + 1))
    verdict = verify(made.teacher, wrong, plan=made.plan, scope="sample")
    assert verdict.layers is not None
    assert verdict.layers.first is not None
    assert [tensor.name for tensor in verdict.layers.tensors if tensor.failure] == [verdict.layers.first.name]
    assert verdict.layers.first.name in "mo"


def test_deeper_students_are_cut_where_their_teachers_are() -> None:
    assert told(deepen(network(), after="every"))[0]


def test_a_wider_student_without_a_plan_is_run_on_its_own_values() -> None:
    made = widen(fill(parse(DEEP)), factor=2)
    verdict = verify(made.teacher, made.exact, scope="sample")
    assert verdict.layers is not None
    assert verdict.layers.skipped["the shapes differ"] > 0
    assert verdict


def test_large_models_are_run_in_segments_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    made = widen(network(), factor=2)
    assert not made.verify().notices
    assert made.verify(max_memory=10**10).layers is None
    monkeypatch.setattr(verifying, "weigh", lambda model: 10**15)
    assert "segments" in made.verify().notices[0]
    assert not made.verify(scope="full").notices


def test_weights_in_files_stay_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = widen(fill(parse(DEEP)), factor=2)
    for name, model in (("t", made.teacher), ("s", made.exact)):
        io.save(model, tmp_path / f"{name}.onnx", Layout(external=True))
    monkeypatch.setattr(io, "LARGE", 0)
    assert verify(tmp_path / "t.onnx", tmp_path / "s.onnx", plan=made.plan, scope="sample")


def test_a_student_that_lacks_what_is_needed_is_refused() -> None:
    teacher = fill(parse(DEEP))
    student = fill(parse(DEEP.replace("y = MatMul(s, d)", "y = MatMul(z, d)").replace("s = Tanh(r)", "z = Tanh(r)")))
    assert verify(teacher, student, scope="sample")
    with pytest.raises(ModelError):
        Parts(teacher).leading_to(["nothing"], {})
    assert np.all([len(cut.makes) for cut in Parts(student).cut(SMALL)])
