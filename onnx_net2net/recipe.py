"""Recipes: a list of steps that widen and deepen, with one seed, as a file that can be committed.

seed = 0

[[steps]]
do = "widen"
factor = 1.5
skip = "head*"

[[steps]]
do = "deepen"
after = "every"
"""

from __future__ import annotations

import difflib
import itertools
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

from onnx_net2net import growing
from onnx_net2net.errors import RequestError, UsageError
from onnx_net2net.expansion import Expansion, from_plan
from onnx_net2net.io import Model, opened
from onnx_net2net.planning.budget import find_factor, size_of, target
from onnx_net2net.planning.plan import Plan
from onnx_net2net.storage.model import AnyModel, LazyModel

KINDS = ("widen", "deepen")
OWN = {"model", "plan", "seed"}
"""What a step may not set: the recipe says it for all steps."""
SIZES = {"factor", "widths", "target_params", "target_macs"}
"""What says how wide a step makes its axes."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Steps to take one after the other.

    Attributes:
        seed: Seed of all random choices.
        steps: For each step ``do`` (``widen`` or ``deepen``) and the arguments of that function.
    """

    seed: int
    steps: tuple[Mapping[str, Any], ...]


def read(given: str | os.PathLike[str] | Mapping[str, Any] | Recipe) -> Recipe:
    """A recipe from a TOML file, or from what such a file holds.

    Raises:
        UsageError: If it is not a recipe: not TOML, no steps, a key that no step has.
    """
    if isinstance(given, Recipe):
        return given
    if not isinstance(given, Mapping):
        try:
            given = tomllib.loads(Path(given).read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"it is not TOML ({error})", "see docs/cli.md", op="recipe", tensor=str(given)) from error
    _known(given, {"seed", "steps"}, "recipe")
    steps, seed = given.get("steps"), given.get("seed", 0)
    if not isinstance(steps, Sequence) or not steps or not all(isinstance(step, Mapping) for step in steps):
        raise UsageError("it has no steps", "write [[steps]] tables", op="recipe")
    if not isinstance(seed, int) or seed < 0:
        raise UsageError(f"{seed!r} is no seed", "write a whole number", op="recipe", tensor="seed")
    return Recipe(seed, tuple(_step(i, step) for i, step in enumerate(steps)))


def _step(i: int, given: Mapping[str, Any]) -> dict[str, Any]:
    step = {name.replace("-", "_"): value for name, value in given.items()}
    if step.get("do") not in KINDS:
        raise UsageError(
            "it does not say what to do", "write do = 'widen' or 'deepen'", op="recipe", tensor=f"steps.{i}"
        )
    _known(step, {"do", *_options(step["do"])}, f"steps.{i}")
    return step


def _options(do: str) -> set[str]:
    return set(signature(getattr(growing, do)).parameters) - OWN


def _known(given: Mapping[str, Any], names: set[str], where: str) -> None:
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1) or sorted(names)
            cure = f"did you mean {close[0]}?" if len(close) == 1 else f"write one of {', '.join(close)}"
            raise UsageError(f"there is no {name!r}", cure, op="recipe", tensor=where)


def expand(
    model: Model | LazyModel,
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe | None = None,
    *,
    target_params: float | str | None = None,
    target_macs: float | str | None = None,
    plan: Plan | str | None = None,
) -> Expansion:
    """Takes the steps of a recipe one after the other, each on the student of the one before.

    Args:
        model: The teacher: a path, a `ModelProto` or a `gs.Graph`.
        recipe: A TOML file, what such a file holds, or a `Recipe`.
        target_params: ``"2x"``, ``"30M"`` or a number of parameters of the student: finds the factor of the one
            widening step that says no sizes.
        target_macs: The same for multiply-accumulates.
        plan: A saved plan, of any number of steps, to apply again; excludes all else.

    Returns:
        One `Expansion` with one plan, which is verified once.

    Raises:
        ModelError: If the teacher cannot be read.
        RequestError: If a step cannot be taken, or does nothing.
        UsageError: If it is not a recipe, or a target does not say which step it is for.
    """
    goals = {"parameters": ("target_params", target_params), "macs": ("target_macs", target_macs)}
    wanted = {kind: goal for kind, goal in goals.items() if goal[1] is not None}
    if (plan is None) == (recipe is None) or (plan is not None and wanted) or len(wanted) > 1:
        raise UsageError("a recipe or a plan is needed, and at most one target", "give one of each", op="expand")
    teacher = opened(model)
    if plan is not None:
        return from_plan(teacher, plan)
    steps = read(recipe or {})
    for kind, (option, text) in wanted.items():
        steps = _aimed(teacher, steps, kind, target(str(text), getattr(size_of(teacher), kind), option))
    return _take(teacher, steps)


def _take(teacher: AnyModel, recipe: Recipe) -> Expansion:
    made: list[Expansion] = []
    for i, step in enumerate(recipe.steps):
        arguments = {name: value for name, value in step.items() if name != "do"}
        current = made[-1].lazy_exact if made else teacher
        one: Expansion = getattr(growing, step["do"])(current, seed=recipe.seed, **arguments)
        if not one.plan.changes:
            raise RequestError("it changes nothing", "inspect lists what can grow", op="recipe", tensor=f"steps.{i}")
        made.append(one)
    return Expansion.chain(teacher, made)


def _aimed(teacher: AnyModel, recipe: Recipe, kind: str, wanted: int) -> Recipe:
    """The recipe with the factor for which the student comes nearest to a size.

    Raises:
        UsageError: If not exactly one widening step leaves its sizes open.
    """
    open_ = [i for i, step in enumerate(recipe.steps) if step["do"] == "widen" and not step.keys() & SIZES]
    if len(open_) != 1:
        wrong = f"{len(open_) or 'no'} widening steps leave their sizes open"
        raise UsageError(wrong, "let one step have no factor, widths or target", op="recipe")

    def at(factor: float) -> Recipe:
        steps = [{**step, "factor": factor} if i == open_[0] else step for i, step in enumerate(recipe.steps)]
        return Recipe(recipe.seed, tuple(step for step in steps if step.get("factor") != 1.0))

    def size_at(factor: float) -> int:
        steps = at(factor)
        return int(getattr(size_of(_take(teacher, steps).lazy_exact if steps.steps else teacher), kind))

    return at(find_factor(size_at, wanted))


def variants(recipe: Recipe, choices: Mapping[str, Sequence[Any]]) -> Iterator[tuple[dict[str, Any], Recipe]]:
    """Every combination of choices for keys such as ``seed`` and ``steps.0.factor``, with its recipe.

    Raises:
        UsageError: If a key names no step, or nothing that the step has.
    """
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        changed = recipe
        for key, value in chosen.items():
            changed = _set(changed, key, value)
        yield chosen, changed


def _set(recipe: Recipe, key: str, value: Any) -> Recipe:
    if key == "seed":
        return read({"seed": value, "steps": list(recipe.steps)})
    match key.split("."):
        case ["steps", place, name] if place.isdecimal() and int(place) < len(recipe.steps):
            steps = [dict(step) for step in recipe.steps]
            steps[int(place)][name] = value
            return replace(recipe, steps=read({"seed": recipe.seed, "steps": steps}).steps)
    raise UsageError(f"it has no {key}", "name a key such as steps.0.factor", op="recipe", tensor=key)
