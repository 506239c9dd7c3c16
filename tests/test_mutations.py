"""The check catches lies: a handful of mutants of each kind, on small models; `benchmarks/mutations.py` has them all."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_net2net import Expansion, ModelError, deepen, verify, widen
from onnx_net2net.checking.inputs import samples_for
from onnx_net2net.checking.runtime import Here, run_on
from tests.damage import KINDS, NoPlace, Patient, damaged
from tests.exports import DIMS, export
from tests.law import fill, parse
from tests.test_attention import MULTI_HEAD
from tests.test_fused import decoder
from tests.test_quantized import network as quantised
from tests.test_verify import network

MODELS = Path(__file__).parents[1] / "models"
SMALL = {
    "digits": lambda: widen(onnx.load(MODELS / "digits_cnn.onnx"), factor=1.5),
    "digits, deeper": lambda: deepen(onnx.load(MODELS / "digits_cnn.onnx"), after="every"),
    "quantised": lambda: widen(quantised(), factor=1.5),
    "network": lambda: widen(network(), factor=1.5),
    "decoder": lambda: widen(export("autoencoder.torchscript"), factor=1.5),
    "transformer": lambda: widen(export("encoder.dynamo"), factor=2),
    "groups": lambda: widen(export("shufflenet_v2.dynamo"), factor=2),
    "recurrent": lambda: widen(export("gru_both_ways.torchscript"), factor=1.5),
    "gates": lambda: widen(export("mixer.dynamo"), factor=2),
    "resize": lambda: widen(export("segformer.dynamo"), factor=2),
    "attention": lambda: widen(fill(parse(MULTI_HEAD), low=-1, high=1), widths={"head_qk": 7}),
    "generator": lambda: widen(decoder(cached=False), widths={"head": 48, "queries": 3}),
}
CPU = ["CPUExecutionProvider"]
WANTED = 2
"""Mutants of each kind that must be caught."""


@cache
def small(name: str) -> Expansion:
    return SMALL[name]()


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_caught(kind: str) -> None:
    caught = 0
    for name in SMALL:
        mutant = damaged(small(name), kind, 0)
        if mutant is None or (done := damage(small(name), mutant)) is None:
            continue
        verdict = verify(small(name).teacher, mutant, dims=DIMS)
        assert not verdict or done <= verdict.outputs[0].tolerance, f"{name}: {kind} changes outputs by {done}"
        caught += not verdict
        if caught == WANTED:
            return
    assert caught, "no student has a place for it, or it does nothing there"


def damage(made: Expansion, mutant: onnx.ModelProto) -> float | None:
    """How far a mutant is from the correct student on other inputs; None if it does not run."""
    feeds = samples_for(made.teacher, None, 20, 99, DIMS, vary=False).plain
    try:
        (mine,), (theirs,) = (run_on(Here(), model, feeds, CPU) for model in (made.exact, mutant))
    except ModelError:
        return None
    if any(a.shape != b.shape for a, b in zip(mine, theirs, strict=True)):
        return float("inf")
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("name", SMALL)
def test_correct_students_pass(name: str) -> None:
    verdict = small(name).verify(dims=DIMS)
    assert verdict, verdict.reason
    assert verdict.outputs[0].max_rel <= verdict.outputs[0].tolerance / 2


def test_damage_needs_a_place() -> None:
    relu = widen(network(), factor=2)
    assert damaged(relu, "epsilon of a batch normalisation times ten", 0) is None
    assert damaged(relu, "a Relu removed", 0) is not None
    with pytest.raises(NoPlace):
        Patient(relu.exact, relu, random.Random(0)).pick([])
