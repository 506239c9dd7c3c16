"""Recipes: several steps as one plan, targets for sizes, families, and the baseline of random units."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_net2net import Plan, RequestError, UsageError, deepen, expand, explore, widen
from onnx_net2net.io import digest
from onnx_net2net.planning.budget import Size, find_factor, size_of, target
from onnx_net2net.recipe import read
from tests.law import fill, parse
from tests.zoo import parameters

CNN = """(float[n,3,8,8] x) => (float[n,5] y)
    <float[6,3,3,3] w1, float[6] b1, float[8,6,3,3] w2, float[8,5] w3>
    { a = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(a) c = Conv<strides=[2,2], pads=[1,1,1,1]>(r, w2) s = Sigmoid(c)
      g = GlobalAveragePool(s) f = Flatten(g) y = MatMul(f, w3) }"""
NORM = """(float[2,6] x) => (float[2,4] y) <float[6,8] w, float[8] g, float[8] b, float[8,4] v>
    { h = MatMul(x, w) n = LayerNormalization(h, g, b) y = MatMul(n, v) }"""
TEACHER = fill(parse(CNN), 3, -0.7, 0.7)
WIDE: dict[str, Any] = {"do": "widen", "factor": 1.5}
DEEP: dict[str, Any] = {"do": "deepen", "after": "every"}


def recipe(*steps: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    return {"seed": seed, "steps": list(steps)}


FAMILIES = {
    "wider and deeper": (WIDE, DEEP),
    "deeper and wider": (DEEP, WIDE),
    "wider twice": (WIDE, {"do": "widen", "widths": {"w1": "+2"}}),
    "with hyphens": ({"do": "widen", "factor": 1.5, "round-to": 4}, DEEP),
    "one step": (WIDE,),
}


@pytest.mark.parametrize("steps", FAMILIES.values(), ids=FAMILIES.keys())
def test_steps_make_one_plan_that_is_applied_again(steps: tuple[dict[str, Any], ...]) -> None:
    made = expand(TEACHER, recipe(*steps, seed=2))
    assert len(made.plan.steps) == len(steps)
    assert made.verify(), made.verify().reason
    assert parameters(made.model) > parameters(TEACHER)
    again = Plan.from_json(made.plan.to_json())
    assert again == made.plan
    assert digest(expand(TEACHER, plan=again).model) == digest(made.model)


def test_steps_do_what_the_functions_do() -> None:
    one = widen(TEACHER, factor=1.5, seed=2)
    assert digest(expand(TEACHER, recipe(WIDE, DEEP, seed=2)).model) == digest(
        deepen(one.model, after="every", seed=2).model
    )


def test_an_edited_step_is_refused() -> None:
    plan = expand(TEACHER, recipe(WIDE, WIDE)).plan
    later = dataclasses.replace(plan.then[0], constants=plan.then[0].constants[1:])
    with pytest.raises(RequestError, match="does not follow from its own maps"):
        expand(TEACHER, plan=dataclasses.replace(plan, then=(later,)))


def test_a_plan_that_holds_itself_too_often_is_refused() -> None:
    text = expand(TEACHER, recipe(WIDE)).plan.to_json().rstrip().rstrip("}")
    deep = text.replace('"then": []', '"then": [' * 3000 + "]" * 3000) + "}"
    with pytest.raises(RequestError, match="not a plan of this version"):
        Plan.from_json(deep)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('seed = 2\n[[steps]]\ndo = "widen"\nfactor = 1.5\n[[steps]]\ndo = "deepen"\nafter = "every"\n')
    assert read(path) == read(recipe(WIDE, DEEP, seed=2))


MISTAKES = {
    "no steps": ({"seed": 1}, "it has no steps"),
    "steps that are none": ({"steps": [3]}, "it has no steps"),
    "another key": ({"steps": [WIDE], "sed": 1}, "there is no 'sed'; did you mean seed?"),
    "no kind": ({"steps": [{"factor": 2}]}, "does not say what to do"),
    "another kind": ({"steps": [{"do": "grow"}]}, "does not say what to do"),
    "another option": ({"steps": [{"do": "widen", "facter": 2}]}, "there is no 'facter'; did you mean factor?"),
    "a seed of its own": ({"steps": [{**WIDE, "seed": 1}]}, "there is no 'seed'"),
    "no number": ({"steps": [WIDE], "seed": "x"}, "'x' is no seed"),
    "nothing asked": ({"steps": [{"do": "widen"}]}, "nothing is asked for"),
    "two sizes": ({"steps": [{**WIDE, "target_params": "2x"}]}, "factor and target_params exclude each other"),
    "no budget": ({"steps": [{"do": "widen", "target_params": "much"}]}, "'much' is not a budget"),
    "a small budget": ({"steps": [{"do": "widen", "target_macs": 3}]}, "3 is less than the teacher's"),
}


@pytest.mark.parametrize(("given", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        expand(TEACHER, given)


def test_a_step_that_changes_nothing_is_an_error() -> None:
    with pytest.raises(RequestError, match=r"steps\.1.*it changes nothing"):
        expand(TEACHER, recipe(WIDE, {"do": "widen", "factor": 1}))


def test_sizes_are_those_of_the_student() -> None:
    before = size_of(TEACHER)
    assert before == Size(parameters(TEACHER), 6 * 3 * 9 * 64 + 8 * 6 * 9 * 16 + 8 * 5)
    made = widen(TEACHER, factor=2)
    assert size_of(made.model) == Size(parameters(made.model), 12 * 3 * 9 * 64 + 16 * 12 * 9 * 16 + 16 * 5)


@pytest.mark.parametrize("option", ["target_params", "target_macs"])
@pytest.mark.parametrize("wanted", ["1.6x", "3x", "20K"])
def test_targets_are_met(option: str, wanted: str) -> None:
    kind = {"target_params": "parameters", "target_macs": "macs"}[option]
    goal = target(
        wanted if wanted[-1] == "x" or option == "target_params" else "300K", getattr(size_of(TEACHER), kind), "t"
    )
    for made in (
        widen(TEACHER, **{option: goal}),
        expand(TEACHER, recipe({"do": "widen"}, DEEP), **{option: 2 * goal}),
    ):
        share = getattr(size_of(made.model), kind) / (2 * goal if made.plan.then else goal)
        assert 0.8 < share < 1.25, share


def test_a_target_finds_whole_multiples_under_statistics() -> None:
    teacher = fill(parse(NORM))
    assert [(axis.old, axis.new) for axis in widen(teacher, target_params="2x").plan.axes] == [(8, 16)]


def test_the_nearest_factor_wins() -> None:
    assert find_factor(lambda factor: round(1000 * factor**2), 2250) == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize("steps", [(WIDE,), ({"do": "widen"}, {"do": "widen"})], ids=["closed", "two open"])
def test_a_target_needs_one_open_step(steps: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(UsageError, match="leave their sizes open"):
        expand(TEACHER, recipe(*steps), target_params="2x")


def test_a_family_is_every_combination() -> None:
    results = list(explore(TEACHER, recipe(WIDE, DEEP), {"steps.0.factor": [1.5, 2], "seed": [0, 1]}))
    assert [result.chosen for result in results] == [
        {"steps.0.factor": factor, "seed": seed} for factor in (1.5, 2) for seed in (0, 1)
    ]
    assert all(result.verdict for result in results)
    assert results[0].size == results[1].size != results[2].size
    assert results[0].size == size_of(expand(TEACHER, recipe(WIDE, DEEP)).model)


@pytest.mark.parametrize("key", ["factor", "steps.2.factor", "steps.x.factor", "steps.0.much"])
def test_a_family_varies_what_there_is(key: str) -> None:
    with pytest.raises(UsageError, match=r"it has no|there is no"):
        list(explore(TEACHER, recipe(WIDE, DEEP), {key: [1]}))


def test_random_units_stand_beside_the_old_ones(tmp_path: Path) -> None:
    made = widen(TEACHER, factor=1.5, init="random-pad", seed=1)
    copied = widen(TEACHER, factor=1.5, seed=1, split="first")
    for constant in made.plan.constants:
        before, after, copy = (value(model, constant.source) for model in (TEACHER, made.model, copied.model))
        new = np.ones(after.shape, bool)
        new[tuple(slice(n) for n in before.shape)] = False
        np.testing.assert_array_equal(after[~new], before.ravel())
        assert new.any()
        assert (after[new] == copy[new]).all() if before.ndim == 1 else not np.isclose(after[new], copy[new]).any()
        assert before.ndim == 1 or 0.5 < after[new].std() / before.std() < 2
    assert not made.verify()
    with pytest.raises(UsageError, match="--no-verify"):
        made.save(tmp_path / "s.onnx")
    made.save(tmp_path / "s.onnx", verify=False)
    written = onnx.load(tmp_path / "s.onnx").metadata_props
    assert {entry.key: entry.value for entry in written}["onnx_net2net.init"] == "random"
    assert digest(widen(TEACHER, plan=made.plan.to_json()).model) == digest(made.model)


def test_random_units_share_nothing() -> None:
    with pytest.raises(UsageError, match="random units share nothing"):
        widen(TEACHER, factor=2, init="random-pad", split="even")


def value(model: onnx.ModelProto, name: str) -> np.ndarray:
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)
