"""Nine real architectures, widened and deepened; every tensor on the way is compared, not just the outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from onnx import ModelProto, helper

from onnx_net2net import Expansion, deepen, inspect, verify, widen
from onnx_net2net.checking.inputs import draw
from onnx_net2net.inference.axis_map import AxisMap
from onnx_net2net.inference.infer import infer
from onnx_net2net.io import digest
from onnx_net2net.planning.planner import certify
from tests.law import gather, run
from tests.untouched import assert_untouched
from tests.zoo import LARGE, LIGHT, bare, light, parameters

FORBIDS = ("Softmax", "LRN", "graph output", "graph input")
"""Operators and borders that really forbid widening an axis of channels."""

WIDENED = [
    pytest.param(
        (name, factor), id=f"{name}-x{factor}", marks=pytest.mark.xdist_group("large" if name in LARGE else "rest")
    )
    for name in LIGHT
    for factor in (1.5, 2)
]


@pytest.fixture(scope="module", params=WIDENED)
def expansion(request: pytest.FixtureRequest) -> Iterator[tuple[str, float, Expansion]]:
    name, factor = request.param
    made = widen(light(name), factor=factor, seed=1)
    yield name, factor, made
    light.cache_clear()


def test_students_equal_their_teachers(expansion: tuple[str, float, Expansion]) -> None:
    name, factor, made = expansion
    value = infer(made.teacher).graph.inputs[0]
    feeds = [{value.name: draw(value, np.random.default_rng(seed), {})} for seed in range(3)]
    verdict = made.verify(inputs=feeds)
    assert verdict, verdict.reason
    assert verdict.samples == 3
    growth = parameters(made.exact) / parameters(made.teacher)
    print(f"\n{name} x{factor}: {len(made.plan.axes)} axes widened, parameters x{growth:.2f}, pinned: {made.pinned}")
    assert growth >= 1.5


def test_the_same_seed_gives_the_same_bytes(expansion: tuple[str, float, Expansion]) -> None:
    name, factor, made = expansion
    assert digest(widen(light(name), factor=factor, seed=1).model) == digest(made.model)


def test_what_is_untouched_stays(expansion: tuple[str, float, Expansion]) -> None:
    assert_untouched(expansion[2].teacher, expansion[2].exact, expansion[2].plan)


def test_every_tensor_on_the_way_is_the_teachers_gathered(expansion: tuple[str, float, Expansion]) -> None:
    _, _, made = expansion
    found = infer(made.teacher)
    names = float_tensors(found)
    assert compare_tensors(found, made, names) == len(names) == expected_tensors(made.teacher, found)


def float_tensors(found: AxisMap) -> list[str]:
    """Tensors of floating point numbers that the teacher computes."""
    return [name for name in found.dims if name in found.graph.producer and found.graph.is_weight(name)]


def expected_tensors(teacher: ModelProto, found: AxisMap) -> int:
    """Outputs of all nodes that compute, but for the masks of Dropout."""
    computing = [node for i, node in enumerate(teacher.graph.node) if i not in found.graph.constant_nodes]
    return sum(1 for node in computing for name in node.output[:1] if name)


def compare_tensors(found: AxisMap, made: Expansion, names: list[str]) -> int:
    """Compares tensors in batches; returns how many."""
    rng = np.random.default_rng(4)
    value = found.graph.inputs[0]
    feeds = {value.name: rng.standard_normal(found.graph.shape(value.name)).astype(np.float32)}
    teacher = exposed(made.teacher, names)
    before, plain = run(teacher, feeds, names), run(teacher, feeds, names, optimise=False)
    after = run(exposed(made.exact, names), feeds, names)
    for name in names:
        wanted = gather(before[name], found.dims[name], made.plan.maps)
        assert after[name].shape == wanted.shape, name
        noise = np.abs(plain[name] - before[name]).max()  # a softmax multiplies the rounding of its logits
        bar = max(1e-5 * np.abs(wanted).max(), 20 * noise)
        assert np.abs(after[name] - wanted).max() <= bar <= 3e-4 * np.abs(wanted).max(), name
        assert np.ptp(wanted) > 0, name
    return len(names)


def exposed(model: ModelProto, names: list[str]) -> ModelProto:
    """The model with tensors in place of its outputs; the weights are shared, not copied twice."""
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in names)
    return copy


@pytest.mark.parametrize("name", LIGHT)
def test_pins_blame_what_really_forbids(name: str) -> None:
    found = inspect(bare(name)).found
    blamed: Counter[str] = Counter()
    for info in found.axes.values():
        channels = [pin for pin in info.pins if not pin.reason.startswith("positions")]
        if info.initializers and channels and len(channels) == len(info.pins):
            assert any(pin.node.startswith(FORBIDS) or "cannot align" in pin.reason for pin in channels), info
            blamed[channels[0].node.split()[0]] += 1
    print(f"\n{name}: {dict(blamed)}")
    assert "graph" in blamed


@pytest.mark.parametrize("name", LIGHT)
def test_the_certificate_covers_the_plan(name: str) -> None:
    model = bare(name)
    made = widen(model, factor=1.5)
    assert certify(infer(model), made.plan.maps) >= len(made.plan.axes)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [("resnet50", None), ("inception_v2", None), ("inception_v2", [(1, 7), (7, 1)])],
    ids=["resnet50", "inception_v2", "inception_v2 pairs"],
)
def test_deepened_after_every_relu(name: str, kernel: list[tuple[int, ...]] | None) -> None:
    teacher = light(name)
    relus = sum(node.op_type == "Relu" for node in teacher.graph.node)
    made = deepen(teacher, after="every", kernel=kernel)
    assert len(made.plan.layers) == relus * (len(kernel) if kernel else 1)
    verdict = verify(teacher, made.model, samples=2)
    assert verdict, verdict.reason
    assert parameters(made.model) > parameters(teacher)
    assert_untouched(teacher, made.model, made.plan)
