"""Random networks and random plans: students compute what their teachers compute, in every tensor on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from onnx_net2net import Expansion, RequestError, deepen, widen
from onnx_net2net.algebra.axes import Dim, Maps, index, touches
from onnx_net2net.checking.inputs import draw
from onnx_net2net.inference.axis_map import AxisMap
from onnx_net2net.inference.infer import infer
from onnx_net2net.io import digest
from onnx_net2net.planning.plan import SPLITS, Plan, Split
from onnx_net2net.planning.planner import certify
from tests.law import Feeds, run, without_filler
from tests.networks import Recipe, build, recipes
from tests.untouched import assert_untouched

FACTORS = (None, 1.25, 1.5, 1.75, 2, 3)
REFUSALS = ("whole multiple", "same multiple", "does not follow")
"""What a request may be refused for: copies under statistics are unequally many, halves of a chunk differ."""
WEAK = "proves nothing"
TINY = 2e-7
"""What may always differ: onnxruntime's Sigmoid is 0 or 3e-8 at -17, as its place in a vector has it."""


@dataclass(frozen=True)
class Ask:
    """What is asked of a network: a factor, single axes by number with what they grow by, a split, a seed."""

    factor: float | None = 1.5
    picks: tuple[tuple[int, int], ...] = ()
    split: Split = "uneven"
    seed: int = 0


@dataclass
class Outcome:
    """What was compared."""

    widened: int = 0
    pinned: int = 0
    tensors: int = 0
    layers: int = 0
    blocks: int = 0
    weak: int = 0


def asks() -> st.SearchStrategy[Ask]:
    picks = st.lists(st.tuples(st.integers(0, 99), st.integers(1, 7)), max_size=4).map(tuple)
    return st.builds(Ask, st.sampled_from(FACTORS), picks, st.sampled_from(SPLITS), st.integers(0, 999))


def expand(teacher: ModelProto, ask: Ask) -> Expansion | None:
    """The student asked for; without the single axes where they unbalance statistics; None if nothing grows."""
    free = [info for info in infer(teacher).axes.values() if info.status != "pinned"]
    widths: dict[str, int | str] = {}
    for place, more in ask.picks if free else ():
        info = free[place % len(free)]
        widths[info.axis.name] = info.axis.size * (1 + more % 3) if info.status == "uniform" else info.axis.size + more
    if not free or (ask.factor is None and not widths):
        return None
    try:
        made = widen(teacher, factor=ask.factor, widths=widths, split=ask.split, seed=ask.seed)
    except RequestError as error:
        if not any(reason in str(error) for reason in REFUSALS):
            raise
        made = widen(teacher, factor=ask.factor or 2, split=ask.split, seed=ask.seed)
    return made if made.plan.axes else None


def examine(teacher: ModelProto, ask: Ask) -> Outcome:
    """All properties of one widened student, and of the deeper one."""
    outcome = Outcome()
    before = teacher.SerializeToString()
    found = infer(teacher)
    outcome.pinned = sum(1 for info in found.axes.values() if info.pins and info.initializers)
    made = expand(teacher, ask)
    if made is not None:
        examine_wide(found, made, outcome)
    for deeper in (deepen(teacher, after="every"), deepen(teacher, block="every")):
        outcome.layers += len(deeper.plan.layers)
        outcome.blocks += len(deeper.plan.blocks)
        if deeper.plan.deepens:
            assert digest(deepen(teacher, plan=deeper.plan.to_json()).exact) == digest(deeper.exact)
            assert_untouched(teacher, deeper.exact, deeper.plan)
            compare(found, deeper.exact, Plan(""), outcome)
    assert teacher.SerializeToString() == before
    return outcome


def examine_wide(found: AxisMap, made: Expansion, outcome: Outcome) -> None:
    """Certificate, bytes, what is untouched, all tensors, and the program's own verification."""
    certify(found, made.plan.maps, {axis.name: axis.filler for axis in made.plan.axes if axis.filler})
    again = widen(made.teacher, plan=made.plan.to_json())
    assert digest(again.model) == digest(made.model) == digest(made.exact)
    numbered = {s.node for s in made.plan.sizes if s.instead_of}
    assert_untouched(without(made.teacher, numbered), without(made.exact, numbered), made.plan)
    outcome.widened = len(made.plan.axes)
    outcome.tensors = compare(found, made.exact, made.plan, outcome)
    verdict = made.verify(samples=2)
    assert verdict or WEAK in verdict.reason, verdict.reason


def compare(found: AxisMap, student: ModelProto, plan: Plan, outcome: Outcome) -> int:
    """Compares every float tensor of the teacher with the student's; returns how many."""
    graph = found.graph
    rng = np.random.default_rng(3)
    feeds = {value.name: draw(value, rng, {}) for value in graph.inputs}
    shares = {name for name, axes in found.shared.items() if not plan.maps.keys().isdisjoint(axes)}
    names = [name for name in found.dims if name in graph.producer and graph.is_weight(name) and name not in shares]
    teacher = exposed(graph.model, names)
    plain = run(teacher, feeds, names, optimise=False)
    try:
        before = run(teacher, feeds, names)
    except RuntimeError:  # onnxruntime fuses away a tensor that it was asked for
        before = plain
    after = run(exposed(student, names), feeds, names, optimise=before is not plain)
    others = [plain, run(*nudged(teacher, feeds), names, optimise=before is not plain)]
    for name in names:
        wanted = gathered(before[name], found.dims[name], plan.maps)
        assert after[name].shape == wanted.shape, (name, after[name].shape, wanted.shape)
        wanted, after[name] = without_filler(name, wanted, after[name], found, plan)
        assert np.isfinite(wanted).all(), f"{name}: the teacher gives NaN or Inf"
        scale = float(np.abs(wanted).max(initial=0))
        noise = max(float(np.abs(other[name] - before[name]).max(initial=0)) for other in others)
        bar = max(1e-5 * scale, 20 * noise, TINY)
        outcome.weak += bar > 1e-2 * scale
        error = float(np.abs(after[name] - wanted).max(initial=0))
        assert error <= bar, f"{name}: it differs by {error:.3g}, allowed are {bar:.3g} of {scale:.3g}"
    return len(names)


def gathered(value: np.ndarray, dims: tuple[Dim, ...], maps: Maps) -> np.ndarray:
    """What the student must hold; a dynamic dimension need not have the size that was analysed."""
    for axis, dim in enumerate(dims):
        if touches(dim, maps):
            value = np.take(value, index(dim, maps), axis)
    return value


def exposed(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """The model with all these tensors as outputs."""
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    return copy


def nudged(model: ModelProto, feeds: Feeds) -> tuple[ModelProto, Feeds]:
    """The model and its inputs, every number off by its last digit: what this changes is noise, not a mistake."""
    rng = np.random.default_rng(9)
    copy = ModelProto()
    copy.CopyFrom(model)
    tensors = [*copy.graph.initializer, *(a.t for node in copy.graph.node for a in node.attribute if a.HasField("t"))]
    for tensor in tensors:
        if tensor.data_type == TensorProto.FLOAT and tensor.raw_data:
            value = np.frombuffer(tensor.raw_data, np.float32)
            if not np.array_equal(value, np.round(value)):  # scales of a Resize and their like stay
                tensor.raw_data = off(value, rng).tobytes()
    return copy, {name: off(x, rng) if x.dtype == np.float32 else x for name, x in feeds.items()}


def off(value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (value * (1 + 1e-7 * rng.standard_normal(value.shape))).astype(np.float32)


NAMED: dict[str, tuple[Recipe, Ask]] = {
    "GroupNormalization of a dynamic batch": (Recipe("image", (("group_norm", 6650),), 21, dynamic=True), Ask(2)),
    "Split by num_outputs": (Recipe("ids", (("gated", 3922),), 19, 2714), Ask(1.75, split="even")),
    "an axis that only a reduction reads": (
        Recipe("ids", (("grouped", 7330), ("vector", 4949)), 21, 962),
        Ask(None, ((25, 5),), "scatter", 357),
    ),
    "slices one unit apart": (
        Recipe(
            "image",
            (("resize", 9369), ("conv", 4850), ("flatten", 682), ("siamese", 315), ("overlapping", 2163)),
            17,
            1609,
        ),
        Ask(1.75, seed=633),
    ),
    "rounding that graph optimisations do not show": (
        Recipe("matrix", (("gated", 9267), ("gemm", 5789), ("also", 2530)), 17, 2846),
        Ask(1.5, split="even", seed=544),
    ),
    "a tensor that onnxruntime fuses away": (
        Recipe("matrix", (("from_the_left", 9627), ("gemm", 7667)), 19, 6705),
        Ask(None, ((4, 6),), "first", 109),
    ),
    "a saturated Sigmoid": (
        Recipe("matrix", (("outer", 5355), ("gated", 5819), ("split", 4094)), 16, 3566, dynamic=True),
        Ask(2, ((91, 3),), "even", 672),
    ),
}
"""What failed once, here or in the program."""


@pytest.mark.parametrize("row", NAMED)
def test_named(row: str) -> None:
    recipe, ask = NAMED[row]
    examine(build(recipe), ask)


@given(recipe=recipes(), ask=asks())
@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_random_networks(recipe: Recipe, ask: Ask) -> None:
    examine(build(recipe), ask)


@given(recipe=recipes())
@settings(max_examples=15, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_students_are_teachers_too(recipe: Recipe) -> None:
    teacher = build(recipe)
    wide = expand(teacher, Ask(1.5, seed=1))
    if wide is not None:
        deeper = deepen(wide.exact, after="every").exact
        examine(deeper, Ask(2, seed=2))


def without(model: ModelProto, nodes: set[int]) -> ModelProto:
    """The model without ``num_outputs`` in some nodes, in whose place the student has sizes."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "Split" and nodes:
            kept = [a for a in node.attribute if a.name != "num_outputs"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return copy
