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
from onnx_net2net.expansion import Expansion
from onnx_net2net.io import Model, load

KINDS = ("widen", "deepen")
OWN = {"model", "plan", "seed"}
"""What a step may not set: the recipe says it for all steps."""


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


def expand(model: Model, recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe) -> Expansion:
    """Takes the steps of a recipe one after the other, each on the student of the one before.

    Args:
        model: The teacher: a path, a `ModelProto` or a `gs.Graph`.
        recipe: A TOML file, what such a file holds, or a `Recipe`.

    Returns:
        One `Expansion` with one plan, which is verified once.

    Raises:
        ModelError: If the teacher cannot be read.
        RequestError: If a step cannot be taken, or does nothing.
        UsageError: If it is not a recipe.
    """
    wanted = read(recipe)
    teacher = current = load(model)
    made: list[Expansion] = []
    for i, step in enumerate(wanted.steps):
        arguments = {name: value for name, value in step.items() if name != "do"}
        one: Expansion = getattr(growing, step["do"])(current, seed=wanted.seed, **arguments)
        if not one.plan.changes:
            raise RequestError("it changes nothing", "see inspect for what can grow", op="recipe", tensor=f"steps.{i}")
        made.append(one)
        current = one.exact
    return Expansion.chain(teacher, made)


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
