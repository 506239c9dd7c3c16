"""What the check is tried on: students that are correct, and what damage makes of them."""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import onnx
from onnx import ModelProto

from benchmarks.random_graphs import ask, recipe
from onnx_net2net import Expansion, deepen, expand, widen
from onnx_net2net.planning.plan import SPLITS
from tests.damage import KINDS, damaged
from tests.exports import DIMS, EXPORTS, export
from tests.networks import build
from tests.test_fused import decoder
from tests.test_quantized import network as quantised
from tests.test_random import Ask
from tests.test_random import expand as widened

ROOT = Path(__file__).parents[1]
QUICK = ("digits_cnn", "quantised", "bert.dynamo", "unet.torchscript", "lstm.torchscript")
SAMPLE = """
    autoencoder.torchscript bert.dynamo convnext.dynamo densenet.dynamo_raw gpt2.dynamo gru_both_ways.torchscript
    inception.dynamo_raw lstm.torchscript mobilenet_v3.dynamo_raw resnet.torchscript_raw resnext.torchscript
    segformer.dynamo shufflenet_v2.dynamo super_resolution.torchscript unet.torchscript vit.dynamo
""".split()
"""Files of models/exports that correct students are made of, each in five ways."""
OWN = ("digits_cnn", "digits_mlp", "quantised", "generator")


@dataclass(frozen=True)
class Subject:
    """A correct student: its name, what makes it, and sizes of dynamic dimensions."""

    name: str
    make: Callable[[], Expansion | None]
    dims: dict[str, int]


def names(quick: bool) -> list[str]:
    """Teachers for mutants: all of models/, and a quantised network and a decoder of fused operators."""
    return list(QUICK) if quick else [*OWN, *EXPORTS]


def teacher(name: str) -> ModelProto:
    if name.startswith("digits"):
        return onnx.load(ROOT / "models" / f"{name}.onnx")
    own = {"quantised": quantised, "generator": functools.partial(decoder, cached=False)}
    return own[name]() if name in own else export(name)


def dims(name: str) -> dict[str, int]:
    return DIMS if name in (*EXPORTS, "generator") else {}


def wider(name: str) -> Expansion:
    """A student that is wider by a half."""
    return widen(teacher(name), factor=1.5, seed=1)


def student(name: str) -> Expansion:
    """A student that is wider by a half, and deeper by a layer after each activation."""
    steps = [{"do": "widen", "factor": 1.5}, {"do": "deepen", "after": "every"}]
    return expand(teacher(name), {"seed": 1, "steps": steps})


def mutants(made: Expansion, seeds: int) -> Iterator[tuple[str, int, ModelProto]]:
    """Every kind of damage that the student has a place for, at different places; none twice."""
    for kind in KINDS:
        seen: set[bytes] = set()
        for seed in range(seeds):
            model = damaged(made, kind, seed)
            if model is not None and (text := model.SerializeToString(deterministic=True)) not in seen:
                seen.add(text)
                yield kind, seed, model


def correct(count: int, quick: bool) -> list[Subject]:
    """Correct students: of every network that mutants are made of, then of random networks."""
    made: list[Subject] = []
    for name in QUICK if quick else (*OWN, *SAMPLE):
        made.append(Subject(f"{name} wider and deeper", functools.partial(student, name), dims(name)))
        for split in SPLITS:
            make = functools.partial(_wider, name, split)
            made.append(Subject(f"{name} twice as wide, {split}", make, dims(name)))
    rng = random.Random(7)
    while len(made) < count:
        network, wanted = recipe(rng), ask(rng)
        label = f"random network {len(made)}"
        made.append(Subject(label, functools.partial(_random, network, wanted), {}))
        made.append(Subject(f"{label}, deeper", functools.partial(_deeper, network), {}))
    return made[:count]


def _wider(name: str, split: str) -> Expansion:
    return widen(teacher(name), factor=2, split=split, seed=2)  # type: ignore[arg-type]


def _random(network: object, wanted: Ask) -> Expansion | None:
    return widened(build(network), wanted)  # type: ignore[arg-type]


def _deeper(network: object) -> Expansion | None:
    made = deepen(build(network), after="every")  # type: ignore[arg-type]
    return made if made.plan.changes else None
