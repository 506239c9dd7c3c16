"""Where a student breaks: every tensor on the way is compared, and the first that diverges is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from onnx_net2net import Expansion, RequestError, deepen, verify, widen
from onnx_net2net.checking import layers
from onnx_net2net.checking.layers import Layers
from tests.exports import export
from tests.law import fill, parse
from tests.networks import build
from tests.test_random import NAMED, expand
from tests.test_verify import FAULTS, edit, network, put
from tests.zoo import light

FIRST = {"w1": "a", "b1": "a", "w2": "c", "b2": "c", "w3": "y"}
"""The tensor that each weight makes wrong first."""


def compared(teacher: ModelProto, student: ModelProto, **options: object) -> Layers:
    found = verify(teacher, student, per_layer=True, **options).layers
    assert found is not None
    return found


def steps() -> Expansion:
    """Wider, deeper and wider again, in one plan."""
    wide = widen(network(), factor=1.5, seed=3)
    deep = deepen(wide.exact, after="every")
    return Expansion.chain(network(), [wide, deep, widen(deep.exact, factor=1.3, seed=5)])


def test_every_tensor_of_a_wider_student_is_where_the_plan_says() -> None:
    found = widen(network(), factor=1.5, seed=3).verify(per_layer=True).layers
    assert found is not None
    assert [tensor.name for tensor in found.tensors] == list("arcdefy")
    assert (found.by, found.first, found.skipped) == ("plan", None, {})
    assert max(tensor.max_rel for tensor in found.tensors) < 1e-5


def test_a_plan_of_several_steps_is_followed_to_its_end() -> None:
    made = steps()
    found = made.verify(per_layer=True).layers
    assert found is not None
    assert [tensor.name for tensor in found.tensors] == list("arcdefy")
    assert found.first is None
    assert made.exact.graph.initializer[0].dims[0] > 12  # both wider steps count
    assert "deeper" in next(tensor.node for tensor in found.tensors if tensor.name == "r")


@pytest.mark.parametrize(("name", "change"), FAULTS.values(), ids=FAULTS.keys())
def test_the_first_tensor_that_diverges_is_named(name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    made = widen(network(), factor=1.5, seed=3)
    wrong = edit(made.exact, name, change)
    every = compared(network(), wrong, plan=made.plan)
    assert every.first is not None
    assert every.first.name == FIRST[name]
    assert len(every.tensors) == 7
    first = verify(network(), wrong, plan=made.plan.to_json(), per_layer=None).layers
    assert first is not None
    assert first.tensors[-1] == every.first
    assert [tensor.failure for tensor in first.tensors[:-1]] == [""] * (len(first.tensors) - 1)


def test_a_few_wrong_units_are_found_in_a_real_network() -> None:
    teacher = light("squeezenet")
    made = widen(teacher, factor=1.5)
    constant = [c for c in made.plan.constants if c.splits and len(c.dims) == 4][9]
    wrong = edit(made.exact, constant.name, put((slice(None), slice(4)), lambda w: w[:, :4] * 2 + 0.1))
    found = verify(teacher, wrong, plan=made.plan, samples=1, per_layer=None).layers
    assert found is not None
    assert found.first is not None
    node = teacher.graph.node[constant.uses[0][0]]
    assert (found.first.name, found.first.op) == (node.output[0], "Conv")


def test_without_a_plan_names_and_shapes_tell() -> None:
    wrong = edit(network(), "w2", lambda w: w * 1.01)
    found = verify(network(), wrong, per_layer=None).layers
    assert found is not None
    assert str(found.first).startswith("Conv (c): it differs by 0.0")
    assert found.by == "name"
    made = compared(network(), widen(network(), factor=1.5).exact)
    assert ([t.name for t in made.tensors], made.skipped) == (["y"], {"the shapes differ": 6})


def test_nobody_asks_and_nothing_is_compared() -> None:
    wrong = edit(network(), "w2", lambda w: w * 1.01)
    assert verify(network(), wrong).layers is None
    assert verify(network(), network(), per_layer=None).layers is None


def test_a_plan_for_another_teacher_is_refused() -> None:
    with pytest.raises(RequestError, match="made for another model"):
        verify(parse("(float[2,3] x) => (float[2,3] y) { y = Neg(x) }"), network(), plan=steps().plan, per_layer=True)


def test_another_student_than_the_plan_describes_has_other_shapes() -> None:
    found = compared(network(), widen(network(), factor=2).exact, plan=widen(network(), factor=1.5).plan)
    assert str(found.first) == "Conv (a): its shape is [2, 16, 8, 8], not [2, 12, 8, 8]"


@pytest.mark.parametrize("few", [1, 3])
def test_small_batches_give_the_same(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = steps()
    whole = made.verify(per_layer=True).layers
    asked: list[int] = []

    def exposing(source: bytes | str, names: list[str]) -> bytes | str:
        asked.append(len(names))
        return original(source, names)

    original = layers.exposing
    monkeypatch.setattr(layers, "exposing", exposing)
    monkeypatch.setattr(layers, "FIRST", few)
    monkeypatch.setattr(layers, "MOST", few)
    parts = made.verify(per_layer=True).layers
    assert whole is not None
    assert parts is not None
    assert [t.name for t in parts.tensors] == [t.name for t in whole.tensors]
    assert parts.first is None
    assert max(asked) == few


def test_the_size_of_a_batch_follows_from_the_bytes_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    original = layers.exposing
    monkeypatch.setattr(layers, "exposing", lambda source, names: asked.append(len(names)) or original(source, names))
    monkeypatch.setattr(layers, "FIRST", 2)
    monkeypatch.setattr(layers, "BUDGET", 1)
    steps().verify(per_layer=True)
    assert asked[:6] == [2, 2, 2, 1, 1, 1]


def test_models_that_go_by_path_are_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("checking.runtime", "io"):
        monkeypatch.setattr(f"onnx_net2net.{module}.is_large", lambda model: True)
    monkeypatch.setattr("onnx_net2net.storage.tensors.INLINE", 16)
    sources: list[bytes | str] = []
    original = layers.exposing
    monkeypatch.setattr(layers, "exposing", lambda source, names: sources.append(source) or original(source, names))
    found = steps().verify(per_layer=True).layers
    assert found is not None
    assert (len(found.tensors), found.first) == (7, None)
    assert all(isinstance(source, str) and not Path(source).exists() for source in sources)


def test_a_tensor_that_onnxruntime_fuses_away_is_compared_without_optimisation() -> None:
    recipe, ask = NAMED["a tensor that onnxruntime fuses away"]
    teacher = build(recipe)
    made = expand(teacher, ask)
    assert made is not None
    found = made.verify(per_layer=True).layers
    assert found is not None
    assert found.first is None
    assert "onnxruntime does not give it" not in found.skipped
    assert len(found.tensors) > 3


def test_infinities_of_the_teacher_are_no_divergence() -> None:
    model = fill(parse("(float[2,4] x) => (float[2,4] y) { r = Relu(x) i = Log(r) e = Exp(i) y = Add(e, x) }"))
    found = compared(model, model)
    assert [t.name for t in found.tensors] == ["r", "i", "e", "y"]
    assert found.first is None


def test_nan_where_the_teacher_has_none_is_one() -> None:
    body = "(float[2,4] x) => (float[2,4] y) {{ a = Abs(x) {} e = Exp(r) z = Add(a, x) y = Add(z, x) }}"
    teacher = parse(body.format("s = Identity(a) r = Sqrt(s)"))
    student = parse(body.format("s = Neg(a) r = Sqrt(s)"))
    found = compared(teacher, student)
    assert str(found.first).startswith("Neg (s): it differs by")
    assert "NaN or Inf" in {t.name: t.failure for t in found.tensors}["r"]


def test_json_has_it() -> None:
    made = steps().verify(per_layer=True)
    document = made.to_dict()["layers"]
    assert (document["by"], document["first"], document["skipped"]) == ("plan", None, {})
    assert document["tensors"][0].keys() == {"name", "op", "node", "max_abs", "max_rel", "tolerance", "failure"}


def test_units_that_are_counted_over_a_dynamic_dimension_are_passed_over() -> None:
    made = widen(export("segformer.dynamo"), factor=2)
    found = made.verify(dims={"batch": 3}, per_layer=True).layers
    assert found is not None
    assert found.first is None
    assert found.skipped["its units are counted over a dynamic dimension"] > 0
    assert len(found.tensors) > 100


DEAD = """(float[n,4] x) => (float[n,3] y) <float[4,6] v, float[6] b, float[6,3] w> {
    a = MatMul(x, v) c = Add(a, b) r = Relu(c) y = MatMul(r, w) }"""


def test_what_outputs_hide_is_a_failure_where_a_plan_says_what_must_be() -> None:
    teacher = edit(fill(parse(DEAD)), "b", put((2,), lambda _: -1e4))  # a unit that is never active
    made = widen(teacher, factor=2)
    wrong = edit(made.exact, "v", put((slice(None), 2), lambda value: -value[:, 2]))
    assert verify(teacher, wrong)
    assert verify(teacher, wrong, plan=made.plan)
    assert "MatMul (a): it differs" in verify(teacher, wrong, plan=made.plan, per_layer=True).reason
    assert verify(teacher, made.exact, plan=made.plan, per_layer=True)
